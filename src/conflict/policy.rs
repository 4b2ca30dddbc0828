//! Policies: which resolver settles what, by ordered rules. A policy is a replicated document, `policies/<name>`.
//!
//! ```toml
//! [[rules]]
//! name = "running wins on hosts that serve"
//! collections = ["vms"]
//! fields = ["power_state"]
//! when = "doc.tier == 'serving' && size(siblings) < 4"
//! resolver = "priority"
//! order = ["running", "paused", "stopped"]
//! fallback = ["manual"]
//! escalate = { to = "manual", after_ms = 600000 }
//! ```
//!
//! Policies are asked in the order of their names, rules in the order they are written. The first that fits settles; where
//! none fits, the schema does. `when` is a CEL expression over `collection`, `id`, `field`, `doc`, `siblings`, `base`,
//! `score` and `members`; a `when` that fails fits nothing, and says so in the conflict.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value as Json, json};

use super::case::{Asked, Case, Customs, Verdict};
use super::detect::score;
use super::expression::Expression;
use super::merge::Rules;
use super::resolver::{Prepared, VALUE_SEES, may_wait, resolve};
use crate::crdt::Resolver;
use crate::document::Sibling;
use crate::document::address::check_collection;
use crate::document::schema::{Named, SchemaError, from_toml, json_error};
use crate::document::settings::{Criterion, EXPRESSION_BYTES_MAX, Settings};

/// Most rules of one policy: all of them may be asked about each conflict.
pub const RULES_MAX: usize = 64;
/// Policies that are heeded, in the order of their names.
pub const POLICIES_MAX: usize = 64;

/// What a `when` sees.
const CONDITION_SEES: &[&str] = &["collection", "id", "field", "doc", "siblings", "base", "score", "members"];

/// Siblings of a sample that are looked at.
const SIBLINGS_MAX: usize = 64;

/// A policy as it is written. Holding one means that it was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// One rule. An empty list of collections or fields means all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RuleText", into = "RuleText")]
pub struct Rule {
    pub name: String,
    pub collections: Vec<String>,
    /// A field's name, or its beginning with `*` after it.
    pub fields: Vec<String>,
    pub when: Option<String>,
    pub resolver: Resolver,
    pub settings: Settings,
    pub escalate: Option<Escalate>,
}

/// What becomes of a conflict that waits for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalate {
    pub to: To,
    /// From the newest sibling's stamp on.
    pub after_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// It is told, and stays as it is.
    Notify,
    /// It waits for voters.
    Vote,
    /// It waits for a person.
    Manual,
    /// It waits for a person, and until then nobody else may write the field.
    Freeze,
}

impl To {
    pub fn name(self) -> &'static str {
        match self {
            To::Notify => "notify",
            To::Vote => "vote",
            To::Manual => "manual",
            To::Freeze => "freeze",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [To::Notify, To::Vote, To::Manual, To::Freeze].into_iter().find(|to| to.name() == name)
    }
}

/// What a condition is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub collection: &'a str,
    pub id: &'a str,
    pub field: &'a str,
    pub doc: &'a Json,
    pub siblings: &'a Json,
    pub base: &'a Json,
    pub score: u32,
}

/// The policies in force.
#[derive(Debug, Default)]
pub struct Policies {
    by_name: BTreeMap<String, Ready>,
    /// Members of the cluster, as conditions see it.
    pub members: usize,
}

#[derive(Debug)]
struct Ready {
    policy: Policy,
    version: String,
    rules: Vec<(Option<Expression>, Prepared)>,
}

/// The rule that fits.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    pub policy: &'a str,
    /// Names the definition: it changes whenever the policy does.
    pub version: &'a str,
    pub rule: &'a str,
    pub resolver: Resolver,
    pub prepared: &'a Prepared,
    pub escalate: Option<Escalate>,
}

impl Policy {
    /// TOML, or JSON where the text starts with `{`. An error names the line.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let json = text.trim_start().starts_with('{');
        let policy: Policy =
            if json { serde_json::from_str(text).map_err(|error| json_error(&error))? } else { from_toml(text)? };
        policy.check(text)?;
        Ok(policy)
    }

    fn check(&self, text: &str) -> Result<(), SchemaError> {
        let at = |what: &str, cause: String| {
            let written = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'));
            let line = written.into_iter().find(|(_, line)| line.contains(what)).map_or(1, |(line, _)| line + 1);
            SchemaError { line, column: 1, cause }
        };
        if self.rules.len() > RULES_MAX {
            return Err(at("[[rules]]", format!("a policy takes at most {RULES_MAX} rules")));
        }
        for rule in &self.rules {
            rule.check().map_err(|(what, cause)| at(&what, format!("rule `{}`: {cause}", rule.name)))?;
            let when = rule.when.iter().map(|text| (text, CONDITION_SEES));
            let expr = rule.settings.expr.iter().map(|text| (text, VALUE_SEES));
            for (expression, sees) in when.chain(expr) {
                let parsed = Expression::parse_over(expression, sees);
                let first = expression.lines().next().unwrap_or_default();
                parsed.map_err(|error| at(first, format!("rule `{}`: {error}", rule.name)))?;
            }
            if let Some(merge) = &rule.settings.merge {
                let parsed = Rules::parse(&merge.to_string());
                parsed.map_err(|error| at("merge", format!("rule `{}`, `merge`: {}", rule.name, error.cause)))?;
            }
        }
        Ok(())
    }
}

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
        let (collection, id) = sample.document.split_once('/').unwrap_or((&sample.document, ""));
        let mut policies = Policies::default();
        policies.put("tried", self.clone());
        let (choice, failed) = policies.choose(Question {
            collection,
            id,
            field: &sample.field,
            doc: &Json::Object(fields.clone()),
            siblings: &case.siblings_json(),
            base: case.base().unwrap_or(&Json::Null),
            score: score(&case, 1, false),
        });
        let done = choice.map(|choice| (choice.rule.to_owned(), resolve(&case, choice.resolver, choice.prepared)));
        let (value, cause) = match &done {
            Some((_, (_, Verdict::Settled(value) | Verdict::Merged(value, _)))) => (Some(value.clone()), None),
            Some((_, (_, Verdict::Unable(cause)))) => (None, Some(cause.clone())),
            Some((_, (_, Verdict::Waits(_)))) => (None, Some("it waits for somebody".to_owned())),
            None => (None, Some("no rule fits".to_owned())),
        };
        let rule = done.as_ref().map(|(rule, _)| rule.clone());
        let resolver = done.as_ref().map(|(_, (resolver, _))| resolver.name());
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

impl Policies {
    /// These and one more, asked before them.
    pub fn with_first(&self, policy: Policy) -> Self {
        let mut all = Self { members: self.members, ..Self::default() };
        self.iter().for_each(|(name, _, policy)| all.put(name, policy.clone()));
        // No document is called so: it sorts before all names that are.
        all.put("", policy);
        all
    }

    /// Takes a policy into force, or changes it.
    pub fn put(&mut self, name: &str, policy: Policy) {
        let bytes = json!(policy).to_string();
        let version = blake3::hash(bytes.as_bytes()).to_hex()[..12].to_owned();
        let ready = |rule: &Rule| {
            let when = rule.when.as_deref().and_then(|text| Expression::parse(text).ok());
            (when, Prepared::of(&rule.settings))
        };
        let rules = policy.rules.iter().map(ready).collect();
        self.by_name.insert(name.to_owned(), Ready { policy, version, rules });
    }

    pub fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The policies in force: name, version, definition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Policy)> {
        self.by_name.iter().map(|(name, ready)| (name.as_str(), ready.version.as_str(), &ready.policy))
    }

    /// The first rule that fits, and what went wrong with conditions before it.
    pub fn choose(&self, question: Question<'_>) -> (Option<Choice<'_>>, Vec<String>) {
        let mut failed = Vec::new();
        for (policy, ready) in self.by_name.iter().take(POLICIES_MAX) {
            for (rule, (when, prepared)) in ready.policy.rules.iter().zip(&ready.rules) {
                if !rule.is_about(question.collection, question.field) {
                    continue;
                }
                let fits = match (&rule.when, when) {
                    (None, _) => Ok(true),
                    (Some(_), Some(when)) => self.holds(when, question),
                    (Some(_), None) => Err("does not parse in this version of the program".to_owned()),
                };
                match fits {
                    Ok(true) => {
                        let (version, escalate, resolver) = (&ready.version, rule.escalate, rule.resolver);
                        let rule = &rule.name;
                        return (Some(Choice { policy, version, rule, resolver, prepared, escalate }), failed);
                    }
                    Ok(false) => {}
                    Err(cause) => failed.push(format!("policy {policy}, rule `{}`: {cause}", rule.name)),
                }
            }
        }
        (None, failed)
    }

    fn holds(&self, when: &Expression, question: Question<'_>) -> Result<bool, String> {
        let Question { collection, id, field, doc, siblings, base, score } = question;
        let (collection, id, field) = (Json::from(collection), Json::from(id), Json::from(field));
        let (score, members) = (Json::from(score), Json::from(self.members));
        when.holds(&[
            ("collection", &collection),
            ("id", &id),
            ("field", &field),
            ("doc", doc),
            ("siblings", siblings),
            ("base", base),
            ("score", &score),
            ("members", &members),
        ])
    }
}

impl Rule {
    /// What would never do what it seems to say: the text to find its line by, and the cause.
    fn check(&self) -> Result<(), (String, String)> {
        for name in &self.collections {
            let refuse =
                |_| format!("`collections` takes names as they are, and `{name}` is none: name each, or none for all");
            check_collection(name).map_err(|error| (format!("\"{name}\""), refuse(error)))?;
        }
        for pattern in &self.fields {
            if let Some((start, _)) = pattern.split_once('*').filter(|(_, rest)| !rest.is_empty()) {
                let cause = format!(
                    "the field pattern `{pattern}` has `*` before its end, where it would stand for nothing: write \
                     `{start}*`, or name the fields one by one"
                );
                return Err((format!("\"{pattern}\""), cause));
            }
        }
        if self.escalate.is_some() && !may_wait(self.resolver, &self.settings) {
            let chain = std::iter::once(self.resolver).chain(self.settings.fallback.iter().copied());
            let chain: Vec<_> = chain.map(Resolver::name).collect();
            let cause = format!(
                "`escalate` is for what waits, and {} always settles: leave `escalate` out, or name a resolver or a \
                 fallback that may wait, as `manual` does",
                chain.join(", then ")
            );
            return Err(("escalate".to_owned(), cause));
        }
        Ok(())
    }

    fn is_about(&self, collection: &str, field: &str) -> bool {
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => field.starts_with(start),
            None => field == pattern,
        };
        let here = self.collections.is_empty() || self.collections.iter().any(|name| name == collection);
        here && (self.fields.is_empty() || self.fields.iter().any(named))
    }
}

/// A rule as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    collections: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when: Option<String>,
    resolver: Named<Resolver>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    order: Vec<Json>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    by: Vec<Criterion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    custom: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    merge: Option<Json>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fallback: Vec<Named<Resolver>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    escalate: Option<Escalate>,
}

impl TryFrom<RuleText> for Rule {
    type Error = String;

    fn try_from(text: RuleText) -> Result<Self, String> {
        let RuleText { name, collections, fields, when, resolver, order, by, expr, custom, merge, fallback, escalate } =
            text;
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return Err("the name of a rule takes 1 to 128 bytes without control characters".to_owned());
        }
        if when.as_ref().is_some_and(|when| when.len() > EXPRESSION_BYTES_MAX) {
            return Err(format!("`when` takes at most {EXPRESSION_BYTES_MAX} bytes"));
        }
        let fallback = fallback.into_iter().map(|resolver| resolver.0).collect();
        let settings = Settings { order, by, expr, custom, merge, fallback };
        settings.check(resolver.0)?;
        Ok(Self { name, collections, fields, when, resolver: resolver.0, settings, escalate })
    }
}

impl From<Rule> for RuleText {
    fn from(rule: Rule) -> Self {
        let Rule { name, collections, fields, when, resolver, settings, escalate } = rule;
        let Settings { order, by, expr, custom, merge, fallback } = settings;
        let fallback = fallback.into_iter().map(Named).collect();
        let resolver = Named(resolver);
        Self { name, collections, fields, when, resolver, order, by, expr, custom, merge, fallback, escalate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
[[rules]]
name = \"few\"
collections = [\"vms\"]
fields = [\"power_*\"]
when = \"size(siblings) < 3 && doc.tier == 'serving'\"
resolver = \"priority\"
order = [\"running\", \"stopped\"]

[[rules]]
name = \"rest\"
resolver = \"first_writer\"
";

    fn choose<'p>(policies: &'p Policies, field: &str, doc: &Json) -> (Option<Choice<'p>>, Vec<String>) {
        let siblings = json!([{"value": 1}, {"value": 2}]);
        let question =
            Question { collection: "vms", id: "1", field, doc, siblings: &siblings, base: &Json::Null, score: 4 };
        policies.choose(question)
    }

    #[test]
    fn the_first_rule_that_fits_is_chosen_and_names_its_version() {
        let mut policies = Policies::default();
        policies.put("b", Policy::parse(TEXT).unwrap());
        let rule = |field, doc: Json| choose(&policies, field, &doc).0.map(|choice| choice.rule.to_owned());
        assert_eq!(rule("power_state", json!({"tier": "serving"})).as_deref(), Some("few"));
        assert_eq!(rule("power_state", json!({"tier": "batch"})).as_deref(), Some("rest"));
        assert_eq!(rule("host", json!({"tier": "serving"})).as_deref(), Some("rest"));
        let version = policies.iter().next().unwrap().1.to_owned();
        policies.put("b", Policy::parse(&TEXT.replace("few", "some")).unwrap());
        assert_ne!(policies.iter().next().unwrap().1, version);
        policies.put("a", Policy::parse("[[rules]]\nname = \"all\"\nresolver = \"max\"").unwrap());
        assert_eq!(choose(&policies, "host", &json!({})).0.unwrap().rule, "all", "policies go by name");
    }

    #[test]
    fn what_becomes_of_what_waits_is_said_by_the_rule() {
        let text = "[[rules]]\nname = \"p\"\nresolver = \"manual\"\nescalate = { to = \"freeze\", after_ms = 60000 }";
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.rules[0].escalate, Some(Escalate { to: To::Freeze, after_ms: 60_000 }));
        assert_eq!(Policy::parse(&json!(policy).to_string()), Ok(policy));
        assert!(Policy::parse(&text.replace("freeze", "burn")).unwrap_err().cause.contains("burn"));
    }

    #[test]
    fn a_star_stands_at_the_end_of_a_field_pattern_and_nowhere_else() {
        for pattern in ["power_*state", "*_state", "power_**"] {
            let error = Policy::parse(&TEXT.replace("power_*", pattern)).unwrap_err();
            assert_eq!(error.line, 4, "{error}");
            assert!(error.cause.contains("one by one"), "{error}");
        }
        assert!(Policy::parse(&TEXT.replace("power_*", "*")).is_ok());
        let error = Policy::parse(&TEXT.replace("\"vms\"", "\"vm*\"")).unwrap_err();
        assert_eq!((error.line, error.cause.contains("`vm*`")), (3, true), "{error}");
    }

    #[test]
    fn what_always_settles_is_not_escalated() {
        let rule = |resolver: &str| {
            let escalate = "escalate = { to = \"manual\", after_ms = 1 }";
            Policy::parse(&format!("[[rules]]\nname = \"r\"\nresolver = {resolver}\n{escalate}"))
        };
        for settles in ["\"last_writer\"", "\"max\"", "\"discard\"\nfallback = [\"last_writer\", \"manual\"]"] {
            let error = rule(settles).unwrap_err();
            assert!(error.cause.contains("always settles") && error.line >= 4, "{error}");
        }
        for waits in
            ["\"manual\"", "\"advisor\"\nfallback = [\"max\"]", "\"three_way\"", "\"discard\"\nfallback = [\"vote\"]"]
        {
            assert!(rule(waits).is_ok(), "{waits}");
        }
    }

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

    #[test]
    fn a_condition_that_fails_fits_nothing_and_says_so() {
        let mut policies = Policies::default();
        policies.put("p", Policy::parse(TEXT).unwrap());
        let (choice, failed) = choose(&policies, "power_state", &json!({}));
        assert_eq!(choice.unwrap().rule, "rest");
        assert!(failed[0].starts_with("policy p, rule `few`: "), "{failed:?}");
    }

    #[test]
    fn a_policy_survives_being_written_down_and_a_bad_one_is_refused_with_its_line() {
        let policy = Policy::parse(TEXT).unwrap();
        assert_eq!(Policy::parse(&json!(policy).to_string()), Ok(policy));
        let error = Policy::parse(&TEXT.replace("size(siblings) <", "size( <")).unwrap_err();
        assert_eq!(error.line, 5, "{error}");
        let error = Policy::parse(&TEXT.replace("\"first_writer\"", "\"dice\"")).unwrap_err();
        assert!(error.line >= 9 && error.cause.contains("`dice`"), "{error}");
        assert!(Policy::parse(&TEXT.replace("order = ", "ordre = ")).is_err());
        assert!(Policy::parse("[[rules]]\nname = \"x\"\nresolver = \"priority\"").is_err());
    }
}
