//! What a register of a name holds: a lock, and the fields of the document of that name which a quorum decides. Both are
//! one register, so that a write under a token and the lock's going to another come one after the other.

use serde::{Deserialize, Serialize};

use super::acceptor::Value;
use super::fields::{Fields, FieldsChange, FieldsOutcome};
use super::lock::Lock;
use super::message::VALUE_MAX;
use super::proposal::Applied;
use crate::document::codec::{decode_serde, encode_serde};

/// How a guard is written, in its first byte.
const FORMAT: u8 = 1;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Guard {
    pub lock: Lock,
    pub fields: Fields,
}

/// A later version of this program wrote it: nobody who cannot read it may change it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable;

impl Guard {
    pub fn encode(&self) -> Value {
        [&[FORMAT][..], &encode_serde(self)].concat()
    }

    pub fn decode(value: Option<&[u8]>) -> Result<Self, Unreadable> {
        match value.map(<[u8]>::split_first) {
            None => Ok(Self::default()),
            Some(Some((&FORMAT, rest))) => decode_serde(rest).map_err(|_| Unreadable),
            Some(_) => Err(Unreadable),
        }
    }

    /// Applies a change to what the register holds, whose tokens and versions are above `floor` from then on.
    pub fn change<V>(
        current: Option<&[u8]>,
        floor: u64,
        change: impl FnOnce(&mut Self) -> V,
    ) -> Result<Applied<V>, Unreadable> {
        let before = Self::decode(current)?;
        let mut guard = before.clone();
        guard.lock.floor = guard.lock.floor.max(floor);
        guard.fields.version = guard.fields.version.max(floor);
        let verdict = change(&mut guard);
        Ok(if guard == before { Applied::Keep(verdict) } else { Applied::Write(guard.encode(), verdict) })
    }

    /// Applies a change of fields as a whole, or not at all.
    pub fn ask(&mut self, change: &FieldsChange) -> FieldsOutcome {
        let mut after = self.clone();
        match change.apply(&mut after) {
            FieldsOutcome::Done if after.encode().len() > VALUE_MAX => FieldsOutcome::TooLarge,
            FieldsOutcome::Done => {
                *self = after;
                FieldsOutcome::Done
            }
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_wrote_is_left_as_it_is() {
        let guard = Guard { lock: Lock { token: 7, ..Lock::default() }, ..Guard::default() };
        let written = guard.encode();
        assert_eq!(Guard::decode(Some(&written)), Ok(guard));
        assert_eq!(Guard::decode(None), Ok(Guard::default()));
        for other in [&[][..], &[2, 0, 0], &written[..written.len() - 1]] {
            let changed = Guard::change(Some(other), 0, |guard| guard.lock.token += 1);
            assert_eq!(changed, Err(Unreadable), "{other:?}");
        }
    }
}
