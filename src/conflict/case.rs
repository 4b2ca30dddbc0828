//! One contested register as a resolver sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::advice::Contested;
use super::advisor::Standing;
use super::variables::Spent;
use crate::document::Sibling;

/// The siblings of one register and what stands around them. All of it is replicated state: two nodes with equal clocks
/// see the same case.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// `collection/id`.
    pub document: &'a str,
    /// The field, or `field.key` of a map.
    pub field: &'a str,
    /// The newest first; at least two.
    pub siblings: &'a [Sibling],
    /// The other fields as they read, each contested one as its last writer has it.
    pub fields: &'a Map<String, Json>,
    /// Whether the schema's invariants hold with this value in the field.
    pub holds: &'a dyn Fn(&Json) -> Result<(), String>,
    pub customs: &'a Customs,
    pub asks: Asked<'a>,
}

/// Whom the resolver `advisor` asks, and what else is told there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The model in force; `None`: the advisor is off.
    pub standing: Option<&'a Standing>,
    /// Registers of the document that have siblings, this one included.
    pub contested: usize,
    pub score: u32,
    /// What expressions about the document have spent; `None`: each has all there is.
    pub spent: Option<&'a Spent>,
}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("document", &self.document).field("field", &self.field).finish_non_exhaustive()
    }
}

impl<'a> Case<'a> {
    /// What all siblings were written over, where they know it and agree.
    pub fn base(&self) -> Option<&'a Json> {
        let first = self.siblings.first()?.base.as_ref()?;
        self.siblings.iter().all(|sibling| sibling.base.as_ref() == Some(first)).then_some(first)
    }

    pub fn values(&self) -> impl Iterator<Item = &'a Json> {
        self.siblings.iter().map(|sibling| &sibling.value)
    }

    /// As the advisor is told of it.
    pub fn contested(&self) -> Contested<'a> {
        let Self { document, field, siblings, asks: Asked { contested, score, .. }, .. } = *self;
        Contested { document, field, siblings, contested, score }
    }

    pub fn newest(&self) -> Option<&'a Json> {
        self.siblings.first().map(|sibling| &sibling.value)
    }
}

/// What came of a resolver.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Settled(Json),
    /// Made of several; what each sibling changed is in it, or listed as lost.
    Merged(Json, Vec<Lost>),
    /// Someone has to settle it.
    Waits(For),
    /// It cannot settle this, and why.
    Unable(String),
}

impl Verdict {
    /// The value, where there is one.
    pub fn value(&self) -> Option<&Json> {
        match self {
            Verdict::Settled(value) | Verdict::Merged(value, _) => Some(value),
            Verdict::Waits(_) | Verdict::Unable(_) => None,
        }
    }
}

/// A change within a value that a merge overruled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Where in the value, as in `spec.ports[name=http].port`.
    pub path: String,
    /// What is there instead; `None`: nothing.
    pub kept: Option<Json>,
    /// What was to be there; `None`: it was removed.
    pub lost: Option<Json>,
    /// The siblings that changed it so, the newest first.
    pub dots: Vec<String>,
    pub why: String,
}

/// Whom a conflict waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum For {
    Person,
    Voters,
}

/// A function of the embedding program. It must give the same for the same case on every node.
pub type Custom = Arc<dyn Fn(&Case<'_>) -> Result<Json, String> + Send + Sync>;

/// The functions an embedding program registered, by name.
#[derive(Clone, Default)]
pub struct Customs(BTreeMap<String, Custom>);

impl Customs {
    pub fn register(&mut self, name: impl Into<String>, custom: Custom) {
        self.0.insert(name.into(), custom);
    }

    pub fn get(&self, name: &str) -> Option<&Custom> {
        self.0.get(name)
    }
}

impl fmt::Debug for Customs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
