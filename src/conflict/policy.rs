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

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::expression::Expression;
use super::merge::Rules;
use super::resolver::{VALUE_SEES, may_wait};
use crate::crdt::Resolver;
use crate::document::address::check_collection;
use crate::document::schema::{Named, SchemaError, from_toml, json_error};
use crate::document::settings::{Criterion, EXPRESSION_BYTES_MAX, Settings};

/// Most rules of one policy: all of them may be asked about each conflict.
pub const RULES_MAX: usize = 64;

/// What a `when` sees.
pub(super) const CONDITION_SEES: &[&str] =
    &["collection", "id", "field", "doc", "siblings", "base", "score", "members"];

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
    use serde_json::json;

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
