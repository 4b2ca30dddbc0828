//! What a record is about.

use std::fmt;
use std::str::FromStr;

/// One sort of event. Its code is on disk and under the hash: never renumber, only add.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A process start; names the incarnation. What an older process had not yet made durable may be missing before it.
    Started,
    /// A conflict was found.
    Detected,
    /// A conflict was settled.
    Resolved,
    /// A ballot ended, or a vote was cast. Ballots come with coordinated resolution: nothing else is recorded so.
    Voted,
    /// A settled value gave way to somebody's decision.
    Overruled,
    /// A resolver settled a conflict with none of the values that met, but with the one from before them.
    RolledBack,
    PolicyChanged,
    MemberChanged,
    /// A settled conflict is open again.
    Reopened,
    /// A decision was taken back.
    Undone,
    /// An alarm: damage, a fork, a clock that is wrong.
    Damage,
    /// Old records were dropped up to an anchor.
    Retained,
    /// A conflict waited for too long, and its policy says what is done about that.
    Escalated,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::Started,
        Kind::Detected,
        Kind::Resolved,
        Kind::Voted,
        Kind::Overruled,
        Kind::RolledBack,
        Kind::PolicyChanged,
        Kind::MemberChanged,
        Kind::Reopened,
        Kind::Undone,
        Kind::Damage,
        Kind::Retained,
        Kind::Escalated,
    ];

    pub fn code(self) -> u8 {
        match self {
            Kind::Started => 1,
            Kind::Detected => 2,
            Kind::Resolved => 3,
            Kind::Voted => 4,
            Kind::Overruled => 5,
            Kind::RolledBack => 6,
            Kind::PolicyChanged => 7,
            Kind::MemberChanged => 8,
            Kind::Reopened => 9,
            Kind::Undone => 10,
            Kind::Damage => 11,
            Kind::Retained => 12,
            Kind::Escalated => 13,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        let place = usize::from(code).checked_sub(1)?;
        Self::ALL.get(place).copied()
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Started => "started",
            Kind::Detected => "detected",
            Kind::Resolved => "resolved",
            Kind::Voted => "voted",
            Kind::Overruled => "overruled",
            Kind::RolledBack => "rolled_back",
            Kind::PolicyChanged => "policy_changed",
            Kind::MemberChanged => "member_changed",
            Kind::Reopened => "reopened",
            Kind::Undone => "undone",
            Kind::Damage => "damage",
            Kind::Retained => "retained",
            Kind::Escalated => "escalated",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no kind of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind `{0}`: use one of {names}", names = Kind::ALL.map(Kind::name).join(", "))]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| UnknownKind(name.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_lead_back_to_their_kind() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert_eq!(Kind::from_code(0), None);
        assert_eq!(Kind::from_code(14), None);
        assert!("solved".parse::<Kind>().is_err());
    }
}
