//! Where a task stands, and where it may go from there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Nobody is at it. It waits for its first attempt, or for another.
    Pending,
    /// A worker has it.
    Claimed,
    /// A worker has it, and has begun.
    Running,
    Done,
    /// All its attempts failed: a dead letter.
    Failed,
    Cancelled,
}

impl TaskState {
    pub const ALL: [Self; 6] = [Self::Pending, Self::Claimed, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Claimed => "claimed",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether one decision may lead from this to that.
    pub fn may_become(self, next: Self) -> bool {
        use TaskState::{Cancelled, Claimed, Done, Failed, Pending, Running};
        match (self, next) {
            (Pending, Claimed | Cancelled) => true,
            (Claimed, Running) => true,
            // It ended; or it is given back, failed and is tried again, or its worker is gone.
            (Claimed | Running, Done | Failed | Cancelled | Pending) => true,
            // Somebody has it tried again.
            (Failed, Pending) => true,
            _ => false,
        }
    }

    /// Whether a worker has it.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Claimed | Self::Running)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no state of a task: use pending, claimed, running, done, failed or cancelled")]
pub struct ParseTaskStateError(String);

impl FromStr for TaskState {
    type Err = ParseTaskStateError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|state| state.name() == name);
        known.ok_or_else(|| ParseTaskStateError(name.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_or_cancelled_stays_so_and_nothing_is_done_that_nobody_claimed() {
        for state in TaskState::ALL {
            assert!(!TaskState::Done.may_become(state) && !TaskState::Cancelled.may_become(state));
            assert!(!state.may_become(state), "{state}");
            assert_eq!(state.may_become(TaskState::Done), state.is_held());
            assert_eq!(state.name().parse(), Ok(state));
        }
        assert!("dead".parse::<TaskState>().unwrap_err().to_string().contains("`dead`"));
    }
}
