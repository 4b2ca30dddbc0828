//! The proof after the merge: every change of every side is in the result, or the account says where it went.
//!
//! It does not trust the walk. It compares each side with the base anew, alone, and looks each change up in the finished
//! result; what is missing there must stand in the account under that side.

use std::collections::BTreeMap;

use serde_json::{Number, Value as Json};

use super::MergeError;
use super::account::{Account, Loss, Settlement, Why};
use super::members::{Elements, Entries, next_key};
use super::path::{Path, Step, Trail};
use super::rules::{ListRule, Rules, Strategy};

/// Hears of each change that the result lacks: where, and what the side made of that place.
type Tell<'t, 'a> = &'t mut dyn FnMut(&Trail<'_>, Option<&'a Json>) -> Result<(), MergeError>;

/// The changes from `base` to `side` that `result` lacks.
pub(super) fn missing<'a>(
    rules: &Rules,
    at: &Trail<'_>,
    [base, side, result]: [Option<&'a Json>; 3],
    tell: Tell<'_, 'a>,
) -> Result<(), MergeError> {
    let fields = |value: Option<&Json>| value.is_some_and(Json::is_object);
    if fields(side) && (fields(base) || fields(result)) && !rules.is_atomic(at) {
        return missing_members(rules, at, [base, side, result], tell);
    }
    if base == side || side == result {
        return Ok(());
    }
    if let (Some(Json::Array(items)), Some(Json::Array(merged))) = (side, result) {
        let rule = rules.list(at);
        let before = base.and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let elements = |items| Elements::of(items, rule);
        if let (Some(before), Some(items), Some(merged)) = (elements(before), elements(items), elements(merged)) {
            return missing_elements(rules, rule, at, &[before, items, merged], tell);
        }
    }
    tell(at, side)
}

fn missing_members<'a>(
    rules: &Rules,
    at: &Trail<'_>,
    [base, side, result]: [Option<&'a Json>; 3],
    tell: Tell<'_, 'a>,
) -> Result<(), MergeError> {
    let result = result.and_then(Json::as_object);
    let (mut before, mut after) = (Entries::of(base), [Entries::of(side)]);
    while let Some(key) = next_key(&before, &after) {
        let (before, after) = (before.take(&key), after.iter_mut().find_map(|entries| entries.take(&key)));
        let is_scalar = |value: Option<&Json>| value.is_some_and(|value| !value.is_object() && !value.is_array());
        if is_scalar(before) && before == after {
            continue;
        }
        let now = result.and_then(|result| result.get(key.name));
        missing(rules, &at.key(key.name), [before, after, now], tell)?;
    }
    Ok(())
}

fn missing_elements<'a>(
    rules: &Rules,
    rule: &ListRule,
    at: &Trail<'_>,
    [before, items, merged]: &[Elements<'a>; 3],
    tell: Tell<'_, 'a>,
) -> Result<(), MergeError> {
    let removed = before.in_order.iter().filter(|(identity, _)| !items.has(identity));
    for (identity, item) in items.in_order.iter().chain(removed) {
        let values = [before.get(identity), items.get(identity), merged.get(identity)];
        match rule {
            ListRule::Keyed(keys) => missing(rules, &at.element(keys, item), values, tell)?,
            _ if values[1].is_some() == values[0].is_some() || values[1].is_some() == values[2].is_some() => {}
            _ => tell(&at.member(item), values[1])?,
        }
    }
    Ok(())
}

/// What a merge had and what it made of it. The sides are in the order of the account.
pub(super) struct Case<'a, 'm> {
    pub rules: &'m Rules,
    pub base: Option<&'a Json>,
    pub sides: &'m [&'a Json],
    pub result: &'m Json,
    pub account: &'m Account<'a>,
}

/// An error names the change that was lost: a fault of this engine, or a contested path that may not lose any.
pub(super) fn verify(case: &Case<'_, '_>) -> Result<(), MergeError> {
    let guarded = case.rules.mentions(Strategy::Fail);
    let losses = Losses::of(case.account);
    for (number, side) in case.sides.iter().enumerate() {
        missing(case.rules, &Trail::root(), [case.base, Some(side), Some(case.result)], &mut |at, _| {
            let path = at.to_path();
            if guarded && case.rules.strategy(at) == Strategy::Fail {
                return Err(MergeError::Contested { path });
            }
            if losses.cover(number, &path) || case.is_combined(number, &path, &losses) {
                return Ok(());
            }
            Err(MergeError::Unaccounted { path, side: number })
        })?;
    }
    Ok(())
}

/// The overruled changes by their path in words: a side may lose as many changes as it has values, below a few entries.
struct Losses<'m>(BTreeMap<String, Vec<&'m Loss<'m>>>);

impl<'m> Losses<'m> {
    fn of(account: &'m Account<'_>) -> Self {
        let mut losses = BTreeMap::<String, Vec<&'m Loss<'m>>>::new();
        for loss in &account.overruled {
            losses.entry(loss.path.to_string()).or_default().push(loss);
        }
        Self(losses)
    }

    /// Whether an entry for this side stands at the path or above it.
    fn cover(&self, side: usize, path: &Path) -> bool {
        (0..=path.0.len()).any(|len| {
            let above = Path(path.0.iter().take(len).cloned().collect());
            let here = self.0.get(&above.to_string());
            here.is_some_and(|here| here.iter().any(|loss| loss.path == above && loss.sides.contains(&side)))
        })
    }
}

impl Case<'_, '_> {
    /// Whether the change went into a value that several sides made together, and that value adds up.
    fn is_combined(&self, side: usize, path: &Path, losses: &Losses<'_>) -> bool {
        let here = |settlement: &&Settlement| settlement.path == *path && settlement.sides.contains(&side);
        self.account.settled.iter().filter(here).any(|settlement| match settlement.why {
            Why::Strategy(Strategy::SumOfChanges) => self.adds_up(settlement),
            Why::Strategy(Strategy::Union) => self.is_united(side, path, losses),
            _ => false,
        })
    }

    /// The result less the base is what the sides added.
    fn adds_up(&self, settlement: &Settlement) -> bool {
        let number = |value: &Json| match settlement.path.resolve(value) {
            Some(Json::Number(number)) => Some(number.clone()),
            _ => None,
        };
        let zero = || Number::from(0);
        let base = self.base.and_then(number).unwrap_or_else(zero);
        let sides = settlement.sides.iter().filter_map(|side| self.sides.get(*side));
        let Some(values) = sides.map(|side| number(side)).collect::<Option<Vec<_>>>() else { return false };
        let Some(result) = number(self.result) else { return false };
        let count = values.len();
        let exact = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        let exact_sum = values.iter().map(exact).sum::<Option<i128>>();
        if let (Some(base), Some(result), Some(sum)) = (exact(&base), exact(&result), exact_sum) {
            return result + (count as i128 - 1) * base == sum;
        }
        let float = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
        let sum = values.iter().map(float).sum::<f64>() - (count as f64 - 1.0) * float(&base);
        let size = values.iter().chain([&base]).map(|value| float(value).abs()).fold(1.0, f64::max);
        // Each addition rounds; what is wrong is wrong by more than the rounding of a hundred.
        (float(&result) - sum).abs() <= size * count as f64 * 128.0 * f64::EPSILON
    }

    /// The result holds what the side added, and what it removed is gone or overruled by itself.
    fn is_united(&self, side: usize, path: &Path, losses: &Losses<'_>) -> bool {
        let list = |value| path.resolve(value).and_then(Json::as_array);
        let (Some(after), Some(now)) = (self.sides.get(side).and_then(|side| list(side)), list(self.result)) else {
            return false;
        };
        let before = self.base.and_then(list).map_or(&[][..], Vec::as_slice);
        let removed = before.iter().filter(|item| !after.contains(item));
        after.iter().all(|item| now.contains(item))
            && removed.into_iter().all(|item| {
                let mut member = path.clone();
                member.0.push(Step::Member(item.clone()));
                !now.contains(item) || losses.cover(side, &member)
            })
    }
}
