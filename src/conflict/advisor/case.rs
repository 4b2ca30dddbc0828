//! What the advisor is told of a conflict, and how such conflicts were decided.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::strategy::Strategy;

/// Siblings told of one case. A field with more is settled by a rule, not by advice.
pub const SIBLINGS_MAX: usize = 256;
/// Bytes of a collection's or a source's name. With [`FIELD_BYTES_MAX`] this bounds a model's text, see `model`.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a field's path.
pub const FIELD_BYTES_MAX: usize = 128;

/// What the siblings hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Number,
    String,
    Bool,
    Object,
    Array,
    /// Siblings of more than one kind, or null.
    Mixed,
}

impl Kind {
    /// The kind of a conflict between `values`.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a Json>) -> Self {
        let mut kinds = values.into_iter().map(|value| match value {
            Json::Number(_) => Kind::Number,
            Json::String(_) => Kind::String,
            Json::Bool(_) => Kind::Bool,
            Json::Object(_) => Kind::Object,
            Json::Array(_) => Kind::Array,
            Json::Null => Kind::Mixed,
        });
        let first = kinds.next().unwrap_or(Kind::Mixed);
        if kinds.all(|kind| kind == first) { first } else { Kind::Mixed }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Bool => "bool",
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::Mixed => "mixed",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// One conflict, as far as the advisor looks at it. Lists are over the siblings, the newest first.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Case {
    pub collection: String,
    pub field: String,
    pub kind: Kind,
    pub siblings: u32,
    /// Fields of the same document that are in conflict, this one included.
    pub conflicting_fields: u32,
    /// Of the values, by tokens or by structure: 0 is nothing in common, 1 is equal.
    pub similarity: f64,
    /// Between the oldest and the newest sibling.
    pub apart_ms: u64,
    /// Of each sibling: the share of its leaves that are filled.
    #[serde(default)]
    pub completeness: Vec<f64>,
    /// Who wrote each sibling: a node's or a source's name.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Of each sibling, where the values carry one. Empty when they do not.
    #[serde(default)]
    pub confidence: Vec<f64>,
    pub severity: Severity,
    /// What the last decider of this field chose before, as shares of one: [`super::Habits::before`].
    #[serde(default)]
    pub habit: BTreeMap<Strategy, f64>,
}

/// A case that someone settled.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Decision {
    pub case: Case,
    pub strategy: Strategy,
    pub decider: String,
    pub at_ms: u64,
}

/// A case or decision that cannot be used. Nothing was kept of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("not a decision of this version: {0}")]
    Shape(String),
    #[error("`{name}` has {bytes} bytes: use 1 to {max}")]
    Name { name: &'static str, bytes: usize, max: usize },
    #[error("`{name}` is not between 0 and 1: give it as a share")]
    Share { name: &'static str },
    #[error("`{name}` tells of {told} siblings: give at least 2, at most {max}", max = SIBLINGS_MAX)]
    Siblings { name: &'static str, told: usize },
}

impl Case {
    pub fn from_json(json: &Json) -> Result<Self, Malformed> {
        let case = Self::deserialize(json).map_err(|error| Malformed::Shape(error.to_string()))?;
        case.check()?;
        Ok(case)
    }

    pub fn to_json(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What a hand-built case must hold, too. Features of one that fails are finite all the same.
    pub fn check(&self) -> Result<(), Malformed> {
        name("collection", &self.collection, NAME_BYTES_MAX)?;
        name("field", &self.field, FIELD_BYTES_MAX)?;
        for source in &self.sources {
            name("sources", source, NAME_BYTES_MAX)?;
        }
        if !(2..=SIBLINGS_MAX).contains(&(self.siblings as usize)) {
            return Err(Malformed::Siblings { name: "siblings", told: self.siblings as usize });
        }
        let lists = [
            ("completeness", self.completeness.len()),
            ("sources", self.sources.len()),
            ("confidence", self.confidence.len()),
        ];
        if let Some((name, told)) = lists.into_iter().find(|(_, len)| *len > self.siblings as usize) {
            return Err(Malformed::Siblings { name, told });
        }
        shares("similarity", [&self.similarity])?;
        shares("completeness", &self.completeness)?;
        shares("confidence", &self.confidence)?;
        shares("habit", self.habit.values())
    }

    /// Names the field among all collections'.
    pub fn place(&self) -> String {
        format!("{}.{}", self.collection, self.field)
    }
}

impl Decision {
    pub fn from_json(json: &Json) -> Result<Self, Malformed> {
        let decision = Self::deserialize(json).map_err(|error| Malformed::Shape(error.to_string()))?;
        name("decider", &decision.decider, FIELD_BYTES_MAX)?;
        decision.case.check()?;
        Ok(decision)
    }

    pub fn to_json(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }
}

fn name(name: &'static str, text: &str, max: usize) -> Result<(), Malformed> {
    let bytes = text.len();
    if (1..=max).contains(&bytes) { Ok(()) } else { Err(Malformed::Name { name, bytes, max }) }
}

fn shares<'a>(name: &'static str, shares: impl IntoIterator<Item = &'a f64>) -> Result<(), Malformed> {
    let fine = shares.into_iter().all(|share| (0.0..=1.0).contains(share));
    if fine { Ok(()) } else { Err(Malformed::Share { name }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decision() -> Json {
        json!({
            "case": {
                "collection": "vms", "field": "status", "kind": "string", "siblings": 2, "conflicting_fields": 1,
                "similarity": 0.5, "apart_ms": 1200, "completeness": [1.0, 0.5], "sources": ["node-1", "node-2"],
                "severity": "high", "habit": {"last_writer": 1.0}
            },
            "strategy": "last_writer", "decider": "ann", "at_ms": 5
        })
    }

    #[test]
    fn a_decision_is_read_back_as_it_was_written() {
        let read = Decision::from_json(&decision()).unwrap();
        assert_eq!(Decision::from_json(&read.to_json()), Ok(read));
    }

    #[test]
    fn what_cannot_be_a_case_is_refused_by_name() {
        for (path, value, said) in [
            ("/case/collection", json!(""), "`collection` has 0 bytes"),
            ("/case/field", json!("x".repeat(200)), "`field` has 200 bytes"),
            ("/case/similarity", json!(1.5), "`similarity` is not between"),
            ("/case/completeness", json!([0.1, -0.1]), "`completeness` is not between"),
            ("/case/siblings", json!(1), "`siblings` tells of 1"),
            ("/case/sources", json!(["a", "b", "c"]), "`sources` tells of 3"),
            ("/strategy", json!("guess"), "not a decision of this version"),
            ("/decider", json!(""), "`decider` has 0 bytes"),
        ] {
            let mut json = decision();
            *json.pointer_mut(path).unwrap() = value;
            let error = Decision::from_json(&json).unwrap_err().to_string();
            assert!(error.contains(said), "{path}: {error}");
        }
    }

    #[test]
    fn siblings_of_two_kinds_are_mixed() {
        assert_eq!(Kind::of(&[json!(1), json!(2.5)]), Kind::Number);
        assert_eq!(Kind::of(&[json!(1), json!("1")]), Kind::Mixed);
        assert_eq!(Kind::of(&[json!({}), json!({"a": 1})]), Kind::Object);
    }
}
