//! Conflicts made up to try a policy on, and what ought to come of them.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value as Json, json};

use super::case::{Asked, Case, Customs, Verdict};
use super::detect::score;
use super::policies::Policies;
use super::policy::Policy;
use super::resolver::resolve;
use crate::crdt::Resolver;
use crate::document::Sibling;
use crate::document::schema::Named;

/// Siblings of a sample that are looked at.
const SIBLINGS_MAX: usize = 64;

/// A conflict made up to try a policy on, and what ought to come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// `collection/id`.
    pub document: String,
    pub field: String,
    /// The values of the siblings, the newest first; at least two.
    pub siblings: Vec<Json>,
    #[serde(default)]
    pub base: Option<Json>,
    /// The other fields.
    #[serde(default)]
    pub fields: serde_json::Map<String, Json>,
    /// The value that ought to come out; whatever comes out passes where it is left out.
    #[serde(default)]
    pub expect: Option<Json>,
    /// The rule that ought to fit; empty where none ought to.
    #[serde(default)]
    pub rule: Option<String>,
    /// The resolver that ought to settle it, or to wait for somebody.
    #[serde(default, deserialize_with = "named")]
    pub resolver: Option<Resolver>,
}

fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Resolver>, D::Error> {
    Option::<Named<Resolver>>::deserialize(deserializer).map(|named| named.map(|named| named.0))
}

/// What a policy made of a sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    pub document: String,
    pub field: String,
    /// `None`: no rule fits.
    pub rule: Option<String>,
    pub resolver: Option<&'static str>,
    pub value: Option<Json>,
    /// Why there is no value, or which conditions failed.
    pub cause: Option<String>,
    pub passed: bool,
    /// What was expected and did not come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<Missed>,
}

/// One expectation of a sample that was not met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Missed {
    /// `value`, `rule` or `resolver`.
    pub what: &'static str,
    pub expected: Json,
    /// Null: nothing came.
    pub came: Json,
}

impl Policy {
    /// Tries the policy on a conflict that is not there, with no invariants in force.
    pub fn try_on(&self, sample: &Sample) -> Tried {
        let sibling = |(n, value): (usize, &Json)| Sibling {
            value: value.clone(),
            dot: format!("sample:{n}"),
            replica: format!("sample-{n}"),
            at: 1_000_000 - n as u64,
            base: sample.base.clone(),
        };
        let siblings: Vec<Sibling> = sample.siblings.iter().take(SIBLINGS_MAX).enumerate().map(sibling).collect();
        let mut fields = sample.fields.clone();
        fields.insert(sample.field.clone(), sample.siblings.first().cloned().unwrap_or(Json::Null));
        let customs = Customs::default();
        if siblings.len() < 2 {
            return Tried {
                document: sample.document.clone(),
                field: sample.field.clone(),
                rule: None,
                resolver: None,
                value: None,
                cause: Some("a conflict has two siblings or more".to_owned()),
                passed: false,
                missed: Vec::new(),
            };
        }
        let case = Case {
            document: &sample.document,
            field: &sample.field,
            siblings: &siblings,
            fields: &fields,
            holds: &|_| Ok(()),
            customs: &customs,
            asks: Asked::default(),
        };
        let mut policies = Policies::default();
        policies.put("tried", self.clone());
        let (choice, mut failed) = policies.choose(&case, score(&case, 1, false));
        let done = choice.map(|choice| (choice.rule.to_owned(), resolve(&case, choice.resolver, choice.prepared)));
        let (value, cause) = match done.as_ref().map(|(_, resolved)| &resolved.verdict) {
            Some(Verdict::Settled(value) | Verdict::Merged(value, _)) => (Some(value.clone()), None),
            Some(Verdict::Unable(cause)) => (None, Some(cause.clone())),
            Some(Verdict::Waits(_)) => (None, Some("it waits for somebody".to_owned())),
            None => (None, Some("no rule fits".to_owned())),
        };
        failed.extend(done.iter().flat_map(|(_, resolved)| resolved.unable.iter().cloned()));
        let rule = done.as_ref().map(|(rule, _)| rule.clone());
        let resolver = done.as_ref().map(|(_, resolved)| resolved.resolver.name());
        let missed = sample.missed(value.as_ref(), rule.as_deref(), resolver);
        Tried {
            document: sample.document.clone(),
            field: sample.field.clone(),
            resolver,
            rule,
            value,
            cause: cause.or_else(|| failed.first().cloned()),
            passed: missed.is_empty(),
            missed,
        }
    }
}

impl Sample {
    /// The expectations that are not met.
    fn missed(&self, value: Option<&Json>, rule: Option<&str>, resolver: Option<&str>) -> Vec<Missed> {
        let mut missed = Vec::new();
        let mut compare = |what: &'static str, expected: Option<Json>, came: Json| {
            missed.extend(expected.filter(|expected| *expected != came).map(|expected| Missed {
                what,
                expected,
                came,
            }));
        };
        // A `null` that is expected and a value that is none are told apart by the cause.
        compare("value", self.expect.clone(), value.cloned().unwrap_or(Json::Null));
        compare("rule", self.rule.clone().map(Json::from), rule.unwrap_or_default().into());
        compare("resolver", self.resolver.map(|wanted| wanted.name().into()), json!(resolver));
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_fails_says_what_was_expected_and_what_came() {
        let policy = Policy::parse("[[rules]]\nname = \"most\"\nresolver = \"max\"").unwrap();
        let sample = |extra: Json| {
            let mut sample = json!({"document": "vms/1", "field": "cpus", "siblings": [2, 4]});
            sample.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            policy.try_on(&serde_json::from_value(sample).unwrap())
        };
        assert!(sample(json!({"expect": 4, "rule": "most", "resolver": "max"})).missed.is_empty());
        let tried = sample(json!({"expect": 2, "rule": "", "resolver": "min"}));
        let missed: Vec<_> = tried.missed.iter().map(|m| (m.what, m.expected.clone(), m.came.clone())).collect();
        let expected = [
            ("value", json!(2), json!(4)),
            ("rule", json!(""), json!("most")),
            ("resolver", json!("min"), json!("max")),
        ];
        assert_eq!((tried.passed, missed), (false, expected.to_vec()));
    }
}
