//! What expressions may see.
//!
//! To hand a document over costs more than most expressions do, so a value is made when the first expression names it, it
//! borrows its text, and those that follow share it.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use serde_json::{Map, Number, Value as Json};
use smallvec::SmallVec;

use crate::document::Sibling;

/// Names, and what they stand for.
#[derive(Debug)]
pub struct Variables<'a> {
    given: SmallVec<[Variable<'a>; 8]>,
    /// What those who were asked about them have spent.
    pub(super) spent: &'a Spent,
}

#[derive(Debug)]
struct Variable<'a> {
    name: &'static str,
    source: Source<'a>,
    made: OnceLock<(Box<dyn Val + 'a>, Size)>,
}

/// How large a value is: what an expression over it may cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// Elements of its longest list or object.
    pub width: u64,
    pub bytes: u64,
}

/// Steps that all expressions about one document may take. A step takes about 0.2 µs: 50 ms.
pub const STEPS_MAX: u64 = 1 << 18;

/// Steps that expressions took, counted before they take them. All about one document share one.
#[derive(Debug)]
pub struct Spent {
    steps: AtomicU64,
    most: u64,
}

impl Default for Spent {
    fn default() -> Self {
        Self::of(STEPS_MAX)
    }
}

impl Spent {
    /// Of at most so many.
    pub fn of(most: u64) -> Self {
        Self { steps: AtomicU64::new(0), most }
    }

    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Takes some steps, or says how many are left where those are fewer.
    pub(super) fn take(&self, steps: u64) -> Result<(), u64> {
        let left = self.most.saturating_sub(self.steps());
        if steps > left {
            return Err(left);
        }
        self.steps.fetch_add(steps, Ordering::Relaxed);
        Ok(())
    }
}

/// What a variable is made of.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    Json(&'a Json),
    Object(&'a Map<String, Json>),
    /// As objects of `value`, `at` and `replica`.
    Siblings(&'a [Sibling]),
    Text(&'a str),
    Number(u64),
}

impl<'a> Variables<'a> {
    pub fn new(spent: &'a Spent) -> Self {
        Self { given: SmallVec::new(), spent }
    }

    pub fn with(mut self, name: &'static str, source: impl Into<Source<'a>>) -> Self {
        self.given.push(Variable { name, source: source.into(), made: OnceLock::new() });
        self
    }

    fn made(&self, name: &str) -> Option<&(Box<dyn Val + 'a>, Size)> {
        let variable = self.given.iter().find(|variable| variable.name == name)?;
        Some(variable.made.get_or_init(|| (variable.source.make(), variable.source.size())))
    }

    /// The longest list in any of these, and the bytes of all.
    pub(super) fn size<'n>(&self, names: impl Iterator<Item = &'n str>) -> Size {
        let sizes = names.filter_map(|name| Some(self.made(name)?.1));
        sizes.fold(Size::default(), Size::and)
    }
}

impl Size {
    fn and(self, other: Self) -> Self {
        Self { width: self.width.max(other.width), bytes: self.bytes + other.bytes }
    }

    fn list(items: impl ExactSizeIterator<Item = Size>) -> Self {
        let own = Self { width: items.len() as u64, bytes: 32 * items.len() as u64 };
        items.fold(own, Self::and)
    }

    fn of(json: &Json) -> Self {
        match json {
            Json::Null | Json::Bool(_) | Json::Number(_) => Self { width: 0, bytes: 16 },
            Json::String(text) => Self { width: 0, bytes: text.len() as u64 },
            Json::Array(items) => Self::list(items.iter().map(Self::of)),
            Json::Object(members) => Self::list(members.values().map(Self::of)),
        }
    }
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        Some(CowVal::Borrowed(&*self.made(name)?.0))
    }
}

impl<'a> Source<'a> {
    fn size(self) -> Size {
        match self {
            Source::Json(json) => Size::of(json),
            Source::Object(members) => Size::list(members.values().map(Size::of)),
            Source::Siblings(siblings) => Size::list(siblings.iter().map(|sibling| Size::of(&sibling.value))),
            Source::Text(text) => Size { width: 0, bytes: text.len() as u64 },
            Source::Number(_) => Size::default(),
        }
    }

    fn make(self) -> Box<dyn Val + 'a> {
        match self {
            Source::Json(json) => of_json(json),
            Source::Object(members) => of_members(members),
            Source::Siblings(siblings) => list(siblings.iter().map(of_sibling)),
            Source::Text(text) => Box::new(CelString::from(text)),
            Source::Number(number) => of_number(&number.into()),
        }
    }
}

/// Whole numbers are CEL's signed integers, so that `x == 5` means what it says.
fn of_json(json: &Json) -> Box<dyn Val + '_> {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(on) => Box::new(CelBool::from(*on)),
        Json::String(text) => Box::new(CelString::from(text.as_str())),
        Json::Number(number) => of_number(number),
        Json::Array(items) => list(items.iter().map(of_json)),
        Json::Object(members) => of_members(members),
    }
}

fn of_members(members: &Map<String, Json>) -> Box<dyn Val + '_> {
    map(members.iter().map(|(key, value)| (key.as_str(), of_json(value))))
}

fn of_sibling(sibling: &Sibling) -> Box<dyn Val + '_> {
    map([
        ("value", of_json(&sibling.value)),
        ("at", of_number(&sibling.at.into())),
        ("replica", Box::new(CelString::from(sibling.replica.as_str()))),
    ])
}

fn of_number<'a>(number: &Number) -> Box<dyn Val + 'a> {
    match (number.as_i64(), number.as_u64()) {
        (Some(int), _) => Box::new(CelInt::from(int)),
        (None, Some(large)) => Box::new(CelUInt::from(large)),
        _ => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
    }
}

fn list<'a>(items: impl Iterator<Item = Box<dyn Val + 'a>>) -> Box<dyn Val + 'a> {
    Box::new(CelList::from(items.collect::<Vec<_>>()))
}

fn map<'a>(members: impl IntoIterator<Item = (&'a str, Box<dyn Val + 'a>)>) -> Box<dyn Val + 'a> {
    let members = members.into_iter().map(|(key, value)| (CelMapKey::from(key), value));
    Box::new(CelMap::from(members.collect::<HashMap<_, _>>()))
}

impl<'a> From<&'a Json> for Source<'a> {
    fn from(json: &'a Json) -> Self {
        Source::Json(json)
    }
}

impl<'a> From<&'a Map<String, Json>> for Source<'a> {
    fn from(members: &'a Map<String, Json>) -> Self {
        Source::Object(members)
    }
}

impl<'a> From<&'a [Sibling]> for Source<'a> {
    fn from(siblings: &'a [Sibling]) -> Self {
        Source::Siblings(siblings)
    }
}

impl<'a> From<&'a str> for Source<'a> {
    fn from(text: &'a str) -> Self {
        Source::Text(text)
    }
}

impl From<u64> for Source<'_> {
    fn from(number: u64) -> Self {
        Source::Number(number)
    }
}
