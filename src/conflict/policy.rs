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

use std::ops::Range;

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
        let parsed: Result<Policy, SchemaError> =
            if json { serde_json::from_str(text).map_err(|error| json_error(&error)) } else { from_toml(text) };
        let policy = parsed.map_err(|error| blamed(text, error))?;
        policy.check(text)?;
        Ok(policy)
    }

    fn check(&self, text: &str) -> Result<(), SchemaError> {
        let at = |rule: usize, what: &str, cause: String| {
            let lines = lines_of(text, rule);
            let line = line_with(text, &lines, what).unwrap_or(lines.start);
            SchemaError { line, column: 1, cause }
        };
        if self.rules.is_empty() {
            let cause = "a policy has at least one rule: `policy rm` takes one out of force".to_owned();
            return Err(SchemaError { line: 1, column: 1, cause });
        }
        if self.rules.len() > RULES_MAX {
            let cause = format!("a policy takes at most {RULES_MAX} rules: this one has {}", self.rules.len());
            return Err(at(RULES_MAX, "[[rules]]", cause));
        }
        for (n, rule) in self.rules.iter().enumerate() {
            let refuse = |what: &str, cause: String| at(n, what, format!("rule `{}`: {cause}", rule.name));
            if self.rules[..n].iter().any(|earlier| earlier.name == rule.name) {
                let cause = "another rule before it has this name: conflicts and cases tell rules apart by it";
                return Err(refuse("name", cause.to_owned()));
            }
            rule.check().map_err(|(what, cause)| refuse(&what, cause))?;
            let when = rule.when.iter().map(|text| (text, CONDITION_SEES));
            let expr = rule.settings.expr.iter().map(|text| (text, VALUE_SEES));
            for (expression, sees) in when.chain(expr) {
                let parsed = Expression::parse_over(expression, sees);
                let first = expression.lines().next().unwrap_or_default();
                parsed.map_err(|error| refuse(first, error.to_string()))?;
            }
            if let Some(merge) = &rule.settings.merge {
                let parsed = Rules::parse(&merge.to_string());
                parsed.map_err(|error| refuse("merge", format!("`merge`: {}", error.cause)))?;
            }
        }
        Ok(())
    }
}

/// Names the rule that is at fault, and its line where the parser knew none.
fn blamed(text: &str, error: SchemaError) -> SchemaError {
    let json = text.trim_start().starts_with('{');
    let read: Option<Json> = if json { serde_json::from_str(text).ok() } else { toml::from_str(text).ok() };
    let written = read.as_ref().and_then(|read| read["rules"].as_array());
    let faulty = |rule: &Json| serde_json::from_value::<Rule>(rule.clone()).is_err();
    let Some((n, rule)) = written.and_then(|rules| rules.iter().enumerate().find(|(_, rule)| faulty(rule))) else {
        return error;
    };
    let name = rule["name"].as_str().map_or_else(|| format!("rule {}", n + 1), |name| format!("rule `{name}`"));
    let lines = lines_of(text, n);
    let known = json || lines.contains(&error.line) && (error.line, error.column) != (1, 1);
    let (line, column) = if known { (error.line, error.column) } else { (lines.start, 1) };
    SchemaError { line, column, cause: format!("{name}: {}", error.cause) }
}

/// The lines, from 1, on which a rule stands: from its header to the next. Where rules have none, the whole text.
fn lines_of(text: &str, rule: usize) -> Range<usize> {
    let mut headers = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("[[rules]]"));
    let end = text.lines().count() + 1;
    match headers.nth(rule) {
        Some((start, _)) => start + 1..headers.next().map_or(end, |(next, _)| next + 1),
        None => 1..end.max(2),
    }
}

/// The first of these lines that holds `what`, outside of comments.
fn line_with(text: &str, lines: &Range<usize>, what: &str) -> Option<usize> {
    let written = text.lines().zip(1..).skip(lines.start - 1).take(lines.len());
    let mut written = written.filter(|(line, _)| !line.trim_start().starts_with('#'));
    written.find(|(line, _)| line.contains(what)).map(|(_, number)| number)
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
    fn what_is_wrong_with_a_rule_names_the_rule_and_its_line() {
        let refused = |text: &str, line: usize, words: &str| {
            let error = Policy::parse(text).unwrap_err();
            assert_eq!((error.line, error.cause.contains(words)), (line, true), "{error}");
        };
        refused("", 1, "at least one rule");
        refused("{\"rules\": []}", 1, "at least one rule");
        refused(&TEXT.replace("\"rest\"", "\"few\""), 10, "rule `few`: another rule before it");
        let last = "\n[[rules]]\nname = \"last\"\n";
        refused(
            &format!("{TEXT}{last}resolver = \"priority\""),
            13,
            "rule `last`: the resolver priority needs `order`",
        );
        refused(&format!("{TEXT}{last}resolver = \"expr\""), 13, "rule `last`: the resolver expr needs `expr`");
        refused(&format!("{TEXT}{last}"), 13, "rule `last`: missing field `resolver`");
        refused(&format!("{TEXT}\n[[rules]]\nresolver = \"max\""), 13, "rule 3: missing field `name`");
        // The same words stand in an earlier rule, which is right.
        let when = format!("{TEXT}{last}when = \"size(\"\nresolver = \"max\"");
        refused(&when, 15, "rule `last`: ");
        let json =
            "{\"rules\": [{\"name\": \"a\", \"resolver\": \"max\"},\n{\"name\": \"b\", \"resolver\": \"priority\"}]}";
        refused(json, 2, "rule `b`: the resolver priority needs `order`");
        let rules = |n: usize| (0..n).map(|n| format!("[[rules]]\nname = \"{n}\"\nresolver = \"max\"\n"));
        assert!(Policy::parse(&rules(RULES_MAX).collect::<String>()).is_ok());
        refused(&rules(66).collect::<String>(), 193, "at most 64 rules: this one has 66");
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
