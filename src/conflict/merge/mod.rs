//! Three-way merge: several values that grew from one base become one, and nothing is lost without being named.
//!
//! Each side is compared with the base. What one side changed is taken; what several changed alike is one change; what
//! they changed differently is settled by the rules of that path, and whoever lost is listed. Objects merge by key at any
//! depth, lists as one value, as a set, or by a merge key (the list types of Kubernetes' server-side apply). There may be
//! up to 64 sides, and only their ranks matter, not their places.
//!
//! ```
//! use folkmoot::conflict::merge::{Rules, Side, merge};
//! use serde_json::json;
//!
//! let base = json!({"replicas": 2, "image": "web:1"});
//! let (scaled, upgraded) = (json!({"replicas": 5, "image": "web:1"}), json!({"replicas": 2, "image": "web:2"}));
//! let sides = [Side { value: &scaled, rank: 1 }, Side { value: &upgraded, rank: 2 }];
//! let merged = merge(Some(&base), &sides, &Rules::default(), &|_| Ok(())).unwrap();
//! assert_eq!(merged.value, json!({"replicas": 5, "image": "web:2"}));
//! assert!(merged.overruled.is_empty());
//! ```
//!
//! # Laws
//!
//! With `m(b, …)` for the merged value, where the check passes:
//!
//! - *Identity*: `m(b, b, …, b) = b`, and `m(b, b, …, s, …, b) = s`, under every rule.
//! - *Symmetry*: `m` and its account do not depend on the order of the sides, only on their ranks. Of equal ranks the
//!   larger value is the newer.
//! - *Nothing is lost silently*: every change from the base to a side is in the result, is part of a sum or union there,
//!   or is listed as overruled. [`merge`] proves this of each result before it gives it away.
//! - *Idempotence*: `m(b, r, s) = r` for `r = m(b, …, s, …)` as the newest side. It holds for `newest`, `max`, `min`, all
//!   list rules and all removal rules; for `oldest` with `r` as the oldest side. It cannot hold for `sum_of_changes`
//!   (which counts `s` again), for `keep_base` (where `r` changed nothing, so `s` is the only change), nor for `union`
//!   (the same, where the union is the base). Lists with a rule must fit it on all sides: where one does not, they merge
//!   as one value, and without that side perhaps no more. And where sets or lists with a merge key were only reordered,
//!   `r` has the same elements in another order.
//!
//! Merging is not associative, and need not be: all siblings are merged at once.
//!
//! # Where to start
//!
//! `rules` is what a person writes, `walk` merges, `settle` decides between different values, `account` is what is told
//! beside the value, `verify` proves it. `path`, `pattern`, `members` and `bounds` serve them.

mod account;
mod bounds;
#[cfg(test)]
mod laws;
mod members;
mod path;
mod pattern;
mod rules;
mod settle;
#[cfg(test)]
mod tests;
mod verify;
mod walk;

use serde_json::Value as Json;
use smallvec::SmallVec;

pub use account::{Change, Overruled, Settled, Why};
pub use bounds::{DEPTH_MAX, ENTRIES_MAX, NODES_MAX, SIDES_MAX};
pub use path::{Path, Step};
pub use pattern::Pattern;
pub use rules::{ListRule, PATTERNS_MAX, Removal, Rules, RulesError, Strategy};

use account::{Account, Sides};
use bounds::{Excess, measure};
use path::Trail;
use verify::{Case, missing, verify};
use walk::{View, Views, Walk};

use crate::crdt::Value;

/// One of the values to merge.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    pub value: &'a Json,
    /// The higher, the newer. Of equal ranks the larger value is the newer.
    pub rank: u64,
}

/// What the sides come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    pub value: Json,
    /// The changes that are not in the value, in the order of their paths.
    pub overruled: Vec<Overruled>,
    /// The paths that several sides changed differently, and what settled each.
    pub settled: Vec<Settled>,
    /// Why the check did not pass the merged value, where the newest side stands alone instead.
    pub refused: Option<String>,
}

/// Why there is no merged value. Sides are counted from 0, in the order in which they were given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MergeError {
    #[error("{0} sides: a merge takes 1 to {SIDES_MAX}")]
    Sides(usize),
    #[error("{which} nests deeper than {DEPTH_MAX}: flatten it")]
    TooDeep { which: String },
    #[error("the base and the sides hold more than {NODES_MAX} values: split the document")]
    TooLarge,
    #[error("more than {ENTRIES_MAX} contested changes, the last at `{path}`: declare a part of the value atomic")]
    TooManyChanges { path: Path },
    #[error("the changes at `{path}` differ, and its strategy is `fail`: settle it by hand")]
    Contested { path: Path },
    #[error("every side is overruled and there is no base to keep: use another strategy than `keep_base`")]
    NothingLeft,
    #[error("neither the merged value nor the newest side passes the check: {merged}; {newest}")]
    Refused { merged: String, newest: String },
    #[error(
        "the change of side {side} at `{path}` was lost: a fault of the merge, nothing was merged; please report it"
    )]
    Unaccounted { path: Path, side: usize },
}

/// Merges what grew from `base`. Where the result does not pass `check`, the newest side stands alone, if it passes.
/// Without a base, whatever differs is contested; objects still merge by key.
pub fn merge(
    base: Option<&Json>,
    sides: &[Side<'_>],
    rules: &Rules,
    check: &dyn Fn(&Json) -> Result<(), String>,
) -> Result<Merged, MergeError> {
    within_bounds(base, sides)?;
    let places = newest_first(sides);
    let values: SmallVec<[&Json; 4]> =
        places.iter().filter_map(|place| sides.get(*place)).map(|side| side.value).collect();
    let views: Views<'_> = values.iter().enumerate().map(|(side, value)| View { side, value: Some(value) }).collect();
    let mut walk = Walk::new(rules, base.is_some());
    let outcome = walk.value(&Trail::root(), base, &views).map_err(|error| error.named(&places))?;
    let account = walk.account;
    let value = outcome.into_json(base).ok_or(MergeError::NothingLeft)?;
    verify(&Case { rules, base, sides: &values, result: &value, account: &account })
        .map_err(|error| error.named(&places))?;
    match check(&value) {
        Ok(()) => Ok(report(account, &places, value, None)),
        Err(merged) => newest_alone(base, &values, rules, check, merged, &places).map_err(|error| error.named(&places)),
    }
}

fn report(account: Account<'_>, places: &[usize], value: Json, refused: Option<String>) -> Merged {
    let (overruled, settled) = account.close(places, &value);
    Merged { value, overruled, settled, refused }
}

fn within_bounds(base: Option<&Json>, sides: &[Side<'_>]) -> Result<(), MergeError> {
    if sides.is_empty() || sides.len() > SIDES_MAX {
        return Err(MergeError::Sides(sides.len()));
    }
    let mut nodes = NODES_MAX;
    let mut within = |json: &Json, which: &dyn Fn() -> String| {
        measure(json, &mut nodes).map_err(|excess| match excess {
            Excess::Depth => MergeError::TooDeep { which: which() },
            Excess::Nodes => MergeError::TooLarge,
        })
    };
    if let Some(base) = base {
        within(base, &|| "the base".to_owned())?;
    }
    sides.iter().enumerate().try_for_each(|(at, side)| within(side.value, &|| format!("side {at}")))
}

/// The places of the sides, the newest first.
fn newest_first(sides: &[Side<'_>]) -> Sides {
    let mut places: Sides = (0..sides.len()).collect();
    places.sort_by(|a, b| match (sides.get(*a), sides.get(*b)) {
        (Some(a), Some(b)) => b.rank.cmp(&a.rank).then_with(|| {
            let value = |side: &Side<'_>| Value::from_json(side.value);
            Value::compare(&value(b), &value(a))
        }),
        _ => a.cmp(b),
    });
    places
}

/// The way back where the merged value is refused: the newest side, and every change it lacks overruled.
fn newest_alone(
    base: Option<&Json>,
    sides: &[&Json],
    rules: &Rules,
    check: &dyn Fn(&Json) -> Result<(), String>,
    merged: String,
    places: &[usize],
) -> Result<Merged, MergeError> {
    let Some((newest, others)) = sides.split_first() else { return Err(MergeError::Sides(0)) };
    if let Err(newest) = check(newest) {
        return Err(MergeError::Refused { merged, newest });
    }
    let mut account = Account::default();
    for (side, value) in (1..).zip(others) {
        missing(rules, &Trail::root(), [base, Some(value), Some(newest)], &mut |at, lost| {
            if rules.strategy(at) == Strategy::Fail {
                return Err(MergeError::Contested { path: at.to_path() });
            }
            account.overrule(at, lost, Sides::from_slice(&[side]), Why::Refused)
        })?;
    }
    account.settle(&Trail::root(), (0..sides.len()).collect(), Why::Refused)?;
    let value = Json::clone(newest);
    verify(&Case { rules, base, sides, result: &value, account: &account })?;
    Ok(report(account, places, value, Some(merged)))
}

impl MergeError {
    /// With the side's own place instead of its place among the newest.
    fn named(self, places: &[usize]) -> Self {
        match self {
            MergeError::Unaccounted { path, side } => {
                MergeError::Unaccounted { path, side: places.get(side).copied().unwrap_or(side) }
            }
            other => other,
        }
    }
}
