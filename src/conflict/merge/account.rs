//! What a merge tells beside its value: which paths were contested, by what they were settled, and which changes lost.

use std::fmt;

use serde_json::Value as Json;
use smallvec::SmallVec;

use super::MergeError;
use super::bounds::ENTRIES_MAX;
use super::path::{Path, Trail};
use super::rules::{Removal, Strategy};

/// What a side made of a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Set(Json),
    Removed,
}

impl Change {
    pub(super) fn of(value: Option<&Json>) -> Self {
        value.map_or(Change::Removed, |value| Change::Set(value.clone()))
    }
}

/// What settled a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The path's strategy chose, or combined.
    Strategy(Strategy),
    /// The path's strategy means nothing for these values, so the newest stands.
    Misfit(Strategy),
    /// Values of different types: the strategy chose one, and those of its type merged.
    Types(Strategy),
    /// An edit against a removal.
    Removal(Removal),
    /// The merged value did not pass the check, so the newest side stands alone.
    Refused,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Strategy(strategy) => write!(f, "settled by `{}`", strategy.name()),
            Why::Misfit(strategy) => {
                write!(f, "`{}` means nothing for these values: the newest stands", strategy.name())
            }
            Why::Types(strategy) => write!(f, "values of different types, settled by `{}`", strategy.name()),
            Why::Removal(removal) => write!(f, "an edit against a removal, which `{}`", removal.name()),
            Why::Refused => f.write_str("the merged value did not pass the check: the newest side stands alone"),
        }
    }
}

/// A change that is not in the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Overruled {
    pub path: Path,
    /// What the result holds there.
    pub kept: Change,
    pub lost: Change,
    /// Who made the change: places in the list of sides, the newest first.
    pub sides: Vec<usize>,
    pub why: Why,
}

/// A path that several sides changed differently.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    pub path: Path,
    /// Who changed it: places in the list of sides, the newest first.
    pub sides: Vec<usize>,
    pub why: Why,
}

/// Places in the order of the walk, which is newest first.
pub(super) type Sides = SmallVec<[usize; 4]>;

/// The account while it is written: the walk's places of sides, and values where they lie.
#[derive(Debug, Default)]
pub(super) struct Account<'a> {
    pub overruled: Vec<Loss<'a>>,
    pub settled: Vec<Settlement>,
}

#[derive(Debug)]
pub(super) struct Loss<'a> {
    pub path: Path,
    pub lost: Option<&'a Json>,
    pub sides: Sides,
    pub why: Why,
}

#[derive(Debug)]
pub(super) struct Settlement {
    pub path: Path,
    pub sides: Sides,
    pub why: Why,
}

impl<'a> Account<'a> {
    pub fn overrule(
        &mut self,
        at: &Trail<'_>,
        lost: Option<&'a Json>,
        sides: Sides,
        why: Why,
    ) -> Result<(), MergeError> {
        if self.overruled.len() == ENTRIES_MAX {
            return Err(MergeError::TooManyChanges { path: at.to_path() });
        }
        self.overruled.push(Loss { path: at.to_path(), lost, sides, why });
        Ok(())
    }

    pub fn settle(&mut self, at: &Trail<'_>, mut sides: Sides, why: Why) -> Result<(), MergeError> {
        if self.settled.len() == ENTRIES_MAX {
            return Err(MergeError::TooManyChanges { path: at.to_path() });
        }
        sides.sort_unstable();
        self.settled.push(Settlement { path: at.to_path(), sides, why });
        Ok(())
    }

    /// As the caller sees it: its own places of sides, `places`, and what `result` holds instead.
    pub fn close(self, places: &[usize], result: &Json) -> (Vec<Overruled>, Vec<Settled>) {
        let named = |sides: &Sides| sides.iter().filter_map(|side| places.get(*side).copied()).collect();
        let overruled = self.overruled.into_iter().map(|loss| Overruled {
            kept: Change::of(loss.path.resolve(result)),
            lost: Change::of(loss.lost),
            sides: named(&loss.sides),
            why: loss.why,
            path: loss.path,
        });
        let settled = self.settled.into_iter().map(|settlement| Settled {
            sides: named(&settlement.sides),
            why: settlement.why,
            path: settlement.path,
        });
        (overruled.collect(), settled.collect())
    }
}
