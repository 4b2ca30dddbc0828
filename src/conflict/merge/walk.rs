//! The walk: down the base and all sides at once, as far as they differ and no further.
//!
//! Nothing is copied on the way: the walk says what becomes of the base, and the base is cloned once, at the end. Where
//! only one side changed, or all that did agree, their value is taken as it is.

use serde_json::{Map, Value as Json};
use smallvec::SmallVec;

use super::MergeError;
use super::account::{Account, Sides, Why};
use super::members::{Elements, Entries, next_key};
use super::path::Trail;
use super::rules::{ListRule, Removal, Rules, Strategy};
use super::settle::{pick, sum};

/// What one side holds at a path. Sides are numbered from the newest.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub side: usize,
    pub value: Option<&'a Json>,
}

pub(super) type Views<'a> = SmallVec<[View<'a>; 4]>;

/// Sides that made the same change.
#[derive(Clone, Debug)]
pub(super) struct Group<'a> {
    pub value: Option<&'a Json>,
    /// The newest first.
    pub sides: Sides,
}

pub(super) type Groups<'a> = SmallVec<[Group<'a>; 2]>;

/// What becomes of the base at a path.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    Base,
    Take(&'a Json),
    Remove,
    /// These members change, the others stay. The base is an object.
    Members(Vec<(&'a str, Outcome<'a>)>),
    Whole(Json),
}

/// How values merge with others of their type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind<'r> {
    Object,
    List(&'r ListRule),
    One,
}

#[derive(Debug)]
pub(super) struct Walk<'a, 'r> {
    rules: &'r Rules,
    /// Numbers may add up. Not without a base: the same value would count once for each side that holds it.
    sums: bool,
    pub account: Account<'a>,
}

impl<'a, 'r> Walk<'a, 'r> {
    pub fn new(rules: &'r Rules, has_base: bool) -> Self {
        Self { rules, sums: has_base && rules.mentions(Strategy::SumOfChanges), account: Account::default() }
    }

    /// `views` is in the order of the sides.
    pub fn value(
        &mut self,
        at: &Trail<'_>,
        base: Option<&'a Json>,
        views: &[View<'a>],
    ) -> Result<Outcome<'a>, MergeError> {
        // Objects are compared member by member, so that no value is looked at once for each object around it.
        let by_member =
            base.is_none_or(Json::is_object) && views.iter().all(|view| view.value.is_some_and(Json::is_object));
        if by_member && !self.rules.is_atomic(at) {
            return self.members(at, base, views);
        }
        if views.iter().all(|view| view.value == base) {
            return Ok(Outcome::Base);
        }
        let groups = groups(base, views);
        match &groups[..] {
            [only] if !self.adds_up(at, only) => Ok(only.value.map_or(Outcome::Remove, Outcome::Take)),
            _ => self.contested(at, base, groups),
        }
    }

    fn members(
        &mut self,
        at: &Trail<'_>,
        base: Option<&'a Json>,
        views: &[View<'a>],
    ) -> Result<Outcome<'a>, MergeError> {
        let mut own = Entries::of(base);
        let mut theirs: SmallVec<[Entries<'a>; 4]> = views.iter().map(|view| Entries::of(view.value)).collect();
        let mut changed = Vec::new();
        let mut row = Views::new();
        while let Some(key) = next_key(&own, &theirs) {
            let base = own.take(&key);
            row.clear();
            for (view, entries) in views.iter().zip(&mut theirs) {
                row.push(View { side: view.side, value: entries.take(&key) });
            }
            // The usual row. What is in objects is compared where the walk comes to it.
            if base.is_some_and(|base| !base.is_object()) && row.iter().all(|view| view.value == base) {
                continue;
            }
            match self.value(&at.key(key.name), base, &row)? {
                Outcome::Base => {}
                outcome => changed.push((key.name, outcome)),
            }
        }
        Ok(match base {
            Some(Json::Object(_)) if changed.is_empty() => Outcome::Base,
            Some(Json::Object(_)) => Outcome::Members(changed),
            _ => Outcome::Whole(built(changed)),
        })
    }

    /// More than one change, or one that adds up with itself.
    fn contested(
        &mut self,
        at: &Trail<'_>,
        base: Option<&'a Json>,
        mut groups: Groups<'a>,
    ) -> Result<Outcome<'a>, MergeError> {
        if let Some(removal) = groups.iter().position(|group| group.value.is_none()) {
            let strategy = self.rules.strategy(at);
            if let Some(outcome) = self.none_wins(at, strategy, &groups)? {
                return Ok(outcome);
            }
            let rule = self.rules.removal();
            let why = Why::Removal(rule);
            self.account.settle(at, all_sides(&groups), why)?;
            let removed = groups.remove(removal);
            if rule == Removal::Wins || (rule == Removal::Newest && removal == 0) {
                self.overrule(at, groups, why)?;
                return Ok(Outcome::Remove);
            }
            self.account.overrule(at, None, removed.sides, why)?;
        }
        self.edited(at, base, groups)
    }

    fn edited(
        &mut self,
        at: &Trail<'_>,
        base: Option<&'a Json>,
        mut groups: Groups<'a>,
    ) -> Result<Outcome<'a>, MergeError> {
        let Some(first) = groups.first() else { return Ok(Outcome::Base) };
        if groups.len() == 1 && !self.adds_up(at, first) {
            return Ok(first.value.map_or(Outcome::Remove, Outcome::Take));
        }
        let mut kind = self.kind(at, first.value);
        if groups.iter().any(|group| self.kind(at, group.value) != kind) {
            let strategy = self.rules.strategy(at);
            if let Some(outcome) = self.none_wins(at, strategy, &groups)? {
                return Ok(outcome);
            }
            let why = Why::Types(strategy);
            self.account.settle(at, all_sides(&groups), why)?;
            let (winner, _) = pick(strategy, &groups);
            kind = self.kind(at, groups.get(winner).and_then(|group| group.value));
            let (same, others): (Groups<'a>, Groups<'a>) =
                groups.into_iter().partition(|group| self.kind(at, group.value) == kind);
            self.overrule(at, others, why)?;
            groups = same;
            if let [only] = &groups[..] {
                return Ok(only.value.map_or(Outcome::Remove, Outcome::Take));
            }
        }
        let merged = match kind {
            Kind::Object => Some(self.members(at, base.filter(|base| base.is_object()), &views(&groups))?),
            Kind::List(rule) => self.list(at, rule, base, &views(&groups))?,
            Kind::One => None,
        };
        merged.map_or_else(|| self.one(at, base, groups), Ok)
    }

    /// Different values, of which at most one can stand, or what they come to together.
    fn one(
        &mut self,
        at: &Trail<'_>,
        base: Option<&'a Json>,
        mut groups: Groups<'a>,
    ) -> Result<Outcome<'a>, MergeError> {
        let strategy = self.rules.strategy(at);
        if let Some(outcome) = self.none_wins(at, strategy, &groups)? {
            return Ok(outcome);
        }
        let sides = all_sides(&groups);
        let together = match strategy {
            Strategy::SumOfChanges if self.sums => sum(base, &groups),
            Strategy::Union => self.union(at, base, &groups)?,
            _ => None,
        };
        if let Some(together) = together {
            self.account.settle(at, sides, Why::Strategy(strategy))?;
            return Ok(Outcome::Whole(together));
        }
        let (winner, why) = pick(strategy, &groups);
        self.account.settle(at, sides, why)?;
        let winner = groups.remove(winner);
        self.overrule(at, groups, why)?;
        Ok(winner.value.map_or(Outcome::Remove, Outcome::Take))
    }

    /// The strategies under which no change of a contested path stands.
    fn none_wins(
        &mut self,
        at: &Trail<'_>,
        strategy: Strategy,
        groups: &Groups<'a>,
    ) -> Result<Option<Outcome<'a>>, MergeError> {
        match strategy {
            Strategy::Fail => Err(MergeError::Contested { path: at.to_path() }),
            Strategy::KeepBase => {
                let why = Why::Strategy(strategy);
                self.account.settle(at, all_sides(groups), why)?;
                self.overrule(at, groups.clone(), why)?;
                Ok(Some(Outcome::Base))
            }
            _ => Ok(None),
        }
    }

    /// `None` where the elements of one list cannot be told apart.
    fn list(
        &mut self,
        at: &Trail<'_>,
        rule: &ListRule,
        base: Option<&'a Json>,
        views: &[View<'a>],
    ) -> Result<Option<Outcome<'a>>, MergeError> {
        let Some((own, theirs)) = lined_up(rule, base, views) else { return Ok(None) };
        // The base's order, then what the newest side added, then the next: the same wherever it is merged.
        let mut items = Vec::new();
        for (identity, item) in distinct(&own, &theirs) {
            let kept = own.get(identity);
            let ListRule::Keyed(keys) = rule else {
                let added = kept.is_none();
                if added || theirs.iter().all(|elements| elements.has(identity)) {
                    items.push(item.clone());
                }
                continue;
            };
            let row: Views<'a> = views
                .iter()
                .zip(&theirs)
                .map(|(view, elements)| View { side: view.side, value: elements.get(identity) })
                .collect();
            let outcome = self.value(&at.element(keys, item), kept, &row)?;
            items.extend(outcome.into_json(kept));
        }
        Ok(Some(Outcome::Whole(Json::Array(items))))
    }

    /// Every element that any of the changes left in. `None` where they are not lists of distinct elements.
    fn union(
        &mut self,
        at: &Trail<'_>,
        base: Option<&'a Json>,
        groups: &Groups<'a>,
    ) -> Result<Option<Json>, MergeError> {
        let views = views(groups);
        if !views.iter().all(|view| view.value.is_some_and(Json::is_array)) {
            return Ok(None);
        }
        let Some((own, theirs)) = lined_up(&ListRule::Set, base, &views) else { return Ok(None) };
        let mut items = Vec::new();
        for (identity, item) in distinct(&own, &theirs) {
            let holds = |elements: &&Elements<'_>| elements.has(identity);
            if !theirs.iter().any(|elements| holds(&elements)) {
                continue;
            }
            items.push(item.clone());
            let without = views.iter().zip(&theirs).filter(|(_, elements)| !elements.has(identity));
            let removed: Sides = without.map(|(view, _)| view.side).collect();
            if own.has(identity) && !removed.is_empty() {
                self.account.overrule(&at.member(item), None, removed, Why::Strategy(Strategy::Union))?;
            }
        }
        Ok(Some(Json::Array(items)))
    }

    fn kind(&self, at: &Trail<'_>, value: Option<&Json>) -> Kind<'r> {
        match value {
            Some(Json::Object(_)) if !self.rules.is_atomic(at) => Kind::Object,
            Some(Json::Array(_)) => match self.rules.list(at) {
                ListRule::Atomic => Kind::One,
                rule => Kind::List(rule),
            },
            _ => Kind::One,
        }
    }

    /// Whether equal changes of several sides count once for each.
    fn adds_up(&self, at: &Trail<'_>, group: &Group<'_>) -> bool {
        self.sums
            && group.sides.len() > 1
            && group.value.is_some_and(Json::is_number)
            && self.rules.strategy(at) == Strategy::SumOfChanges
    }

    fn overrule(&mut self, at: &Trail<'_>, groups: Groups<'a>, why: Why) -> Result<(), MergeError> {
        groups.into_iter().try_for_each(|group| self.account.overrule(at, group.value, group.sides, why))
    }
}

/// The changes, those of the newest sides first.
fn groups<'a>(base: Option<&'a Json>, views: &[View<'a>]) -> Groups<'a> {
    let mut groups = Groups::new();
    for view in views.iter().filter(|view| view.value != base) {
        match groups.iter_mut().find(|group| group.value == view.value) {
            Some(group) => group.sides.push(view.side),
            None => groups.push(Group { value: view.value, sides: Sides::from_slice(&[view.side]) }),
        }
    }
    groups
}

fn views<'a>(groups: &Groups<'a>) -> Views<'a> {
    let each = |group: &Group<'a>| {
        let value = group.value;
        group.sides.iter().map(move |side| View { side: *side, value }).collect::<Views<'a>>()
    };
    let mut views: Views<'a> = groups.iter().flat_map(each).collect();
    views.sort_unstable_by_key(|view| view.side);
    views
}

fn all_sides(groups: &Groups<'_>) -> Sides {
    groups.iter().flat_map(|group| group.sides.iter().copied()).collect()
}

type LinedUp<'a> = (Elements<'a>, Vec<Elements<'a>>);

/// A base that is no list counts as an empty one.
fn lined_up<'a>(rule: &ListRule, base: Option<&'a Json>, views: &[View<'a>]) -> Option<LinedUp<'a>> {
    let of = |value: Option<&'a Json>| match value {
        Some(Json::Array(items)) => Elements::of(items, rule),
        _ => Some(Elements::default()),
    };
    let theirs: Option<Vec<_>> = views.iter().map(|view| of(view.value)).collect();
    Some((of(base)?, theirs?))
}

/// Each element once: the base's in its order, then the others, those of the newest side first.
fn distinct<'s, 'a>(
    own: &'s Elements<'a>,
    theirs: &'s [Elements<'a>],
) -> impl Iterator<Item = (&'s [u8], &'a Json)> + 's {
    let is_new = move |side: usize, identity: &[u8]| {
        !own.has(identity) && !theirs.iter().take(side).any(|newer| newer.has(identity))
    };
    let added = theirs
        .iter()
        .enumerate()
        .flat_map(move |(side, elements)| elements.in_order.iter().filter(move |(identity, _)| is_new(side, identity)));
    own.in_order.iter().chain(added).map(|(identity, item)| (&identity[..], *item))
}

impl Outcome<'_> {
    /// `None` where nothing is left.
    pub fn into_json(self, base: Option<&Json>) -> Option<Json> {
        match self {
            Outcome::Base => base.cloned(),
            Outcome::Take(value) => Some(value.clone()),
            Outcome::Remove => None,
            Outcome::Whole(value) => Some(value),
            Outcome::Members(changed) => {
                let mut map = base.and_then(Json::as_object).cloned().unwrap_or_default();
                apply(changed, &mut map);
                Some(Json::Object(map))
            }
        }
    }
}

fn built(changed: Vec<(&str, Outcome<'_>)>) -> Json {
    let entries = changed.into_iter().filter_map(|(key, outcome)| Some((key.to_owned(), outcome.into_json(None)?)));
    Json::Object(entries.collect())
}

fn apply(changed: Vec<(&str, Outcome<'_>)>, map: &mut Map<String, Json>) {
    for (key, outcome) in changed {
        match (outcome, map.get_mut(key)) {
            (Outcome::Base, _) => {}
            (Outcome::Remove, _) => {
                map.remove(key);
            }
            (Outcome::Members(changed), Some(Json::Object(inner))) => apply(changed, inner),
            (outcome, Some(place)) => {
                if let Some(value) = outcome.into_json(None) {
                    *place = value;
                }
            }
            (outcome, None) => {
                map.extend(outcome.into_json(None).map(|value| (key.to_owned(), value)));
            }
        }
    }
}
