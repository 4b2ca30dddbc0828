//! The strategies that a decision can name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a conflict was, or may be, settled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    LastWriter,
    FirstWriter,
    KeepAll,
    Max,
    Min,
    Union,
    DeepMerge,
    Priority,
    Prioritize,
    Discard,
    ThreeWay,
    Rollback,
    Manual,
}

impl Strategy {
    pub const ALL: [Strategy; 13] = [
        Strategy::LastWriter,
        Strategy::FirstWriter,
        Strategy::KeepAll,
        Strategy::Max,
        Strategy::Min,
        Strategy::Union,
        Strategy::DeepMerge,
        Strategy::Priority,
        Strategy::Prioritize,
        Strategy::Discard,
        Strategy::ThreeWay,
        Strategy::Rollback,
        Strategy::Manual,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Strategy::LastWriter => "last_writer",
            Strategy::FirstWriter => "first_writer",
            Strategy::KeepAll => "keep_all",
            Strategy::Max => "max",
            Strategy::Min => "min",
            Strategy::Union => "union",
            Strategy::DeepMerge => "deep_merge",
            Strategy::Priority => "priority",
            Strategy::Prioritize => "prioritize",
            Strategy::Discard => "discard",
            Strategy::ThreeWay => "three_way",
            Strategy::Rollback => "rollback",
            Strategy::Manual => "manual",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no strategy of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown strategy `{0}`: use one of {names}", names = Strategy::ALL.map(Strategy::name).join(", "))]
pub struct UnknownStrategy(pub String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.name() == name);
        found.ok_or_else(|| UnknownStrategy(name.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_json_uses_it() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.name().parse(), Ok(strategy));
            assert_eq!(serde_json::to_value(strategy).unwrap(), strategy.name());
        }
        assert!("newest".parse::<Strategy>().unwrap_err().to_string().contains("last_writer"));
    }
}
