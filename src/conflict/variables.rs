//! What expressions may see.
//!
//! To hand a document over costs more than most expressions do, so a value is made when the first expression names it, it
//! borrows its text, and those that follow share it.

use std::collections::HashMap;
use std::sync::OnceLock;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use serde_json::{Map, Number, Value as Json};
use smallvec::SmallVec;

use crate::document::Sibling;

/// Names, and what they stand for.
#[derive(Debug, Default)]
pub struct Variables<'a>(SmallVec<[Variable<'a>; 8]>);

#[derive(Debug)]
struct Variable<'a> {
    name: &'static str,
    source: Source<'a>,
    made: OnceLock<Box<dyn Val + 'a>>,
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
    pub fn with(mut self, name: &'static str, source: impl Into<Source<'a>>) -> Self {
        self.0.push(Variable { name, source: source.into(), made: OnceLock::new() });
        self
    }
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let variable = self.0.iter().find(|variable| variable.name == name)?;
        Some(CowVal::Borrowed(&**variable.made.get_or_init(|| variable.source.make())))
    }
}

impl<'a> Source<'a> {
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
