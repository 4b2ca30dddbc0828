//! The policies in force: asked in the order of their names, rules in the order they are written.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::case::Case;
use super::expression::Expression;
use super::judge::id_of;
use super::policy::{Escalate, Policy, Rule};
use super::resolver::Prepared;
use super::variables::{Spent, Variables};
use crate::crdt::Resolver;

/// Rules that are heeded, over all policies: each may be asked about each conflict, at about 5 µs. Whoever writes a policy
/// beyond is refused; where two were written at once, the last by name give way, each as a whole.
pub const HEEDED_MAX: usize = 256;

/// What a policy is called that is only asked about: it has no document, so no name.
pub const PREVIEWED: &str = "previewed";

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

    /// Rules of all policies but this one.
    pub fn rules_beside(&self, name: &str) -> usize {
        self.by_name.iter().filter(|(other, _)| *other != name).map(|(_, ready)| ready.rules.len()).sum()
    }

    /// The first rule that fits a contested register, and what went wrong with conditions before it.
    pub fn choose(&self, case: &Case<'_>, score: u32) -> (Option<Choice<'_>>, Vec<String>) {
        let mut failed = Vec::new();
        if self.is_empty() {
            return (None, failed);
        }
        let collection = case.document.split('/').next().unwrap_or_default();
        let own = Spent::default();
        let variables = Variables::new(case.asks.spent.unwrap_or(&own))
            .with("collection", collection)
            .with("id", id_of(case.document))
            .with("field", case.field)
            .with("doc", case.fields)
            .with("siblings", case.siblings)
            .with("base", case.base().unwrap_or(&Json::Null))
            .with("score", u64::from(score))
            .with("members", self.members as u64);
        for (policy, ready) in self.heeded() {
            for (rule, (when, prepared)) in ready.policy.rules.iter().zip(&ready.rules) {
                if !is_about(rule, collection, case.field) {
                    continue;
                }
                let fits = match (&rule.when, when) {
                    (None, _) => Ok(true),
                    (Some(_), Some(when)) => when.holds(&variables),
                    (Some(_), None) => Err("does not parse in this version of the program".to_owned()),
                };
                match fits {
                    Ok(true) => {
                        let (version, escalate, resolver) = (&ready.version, rule.escalate, rule.resolver);
                        let rule = &rule.name;
                        return (Some(Choice { policy, version, rule, resolver, prepared, escalate }), failed);
                    }
                    Ok(false) => {}
                    Err(cause) => {
                        let policy = if policy.is_empty() { PREVIEWED } else { policy.as_str() };
                        failed.push(format!("policy {policy}, rule `{}`: {cause}", rule.name));
                    }
                }
            }
        }
        (None, failed)
    }

    fn heeded(&self) -> impl Iterator<Item = (&String, &Ready)> {
        let mut rules = 0;
        self.by_name.iter().take_while(move |(_, ready)| {
            rules += ready.rules.len();
            rules <= HEEDED_MAX
        })
    }
}

fn is_about(rule: &Rule, collection: &str, field: &str) -> bool {
    let named = |pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => field.starts_with(start),
        None => field == pattern,
    };
    let here = rule.collections.is_empty() || rule.collections.iter().any(|name| name == collection);
    here && (rule.fields.is_empty() || rule.fields.iter().any(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conflict::case::{Asked, Customs};
    use crate::document::Sibling;

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

    /// The rule chosen for a field of `vms/1` that two wrote, and what failed.
    fn chosen(policies: &Policies, field: &str, doc: &Json) -> (Option<String>, Vec<String>) {
        let sibling = |n: u64| Sibling {
            value: json!(n),
            dot: format!("r{n}:1"),
            replica: format!("r{n}"),
            at: 9 - n,
            base: None,
        };
        let (siblings, fields, customs) = ([sibling(1), sibling(2)], doc.as_object().unwrap(), Customs::default());
        let (document, holds, asks) = ("vms/1", &|_: &Json| Ok(()), Asked::default());
        let case = Case { document, field, siblings: &siblings, fields, holds, customs: &customs, asks };
        let (choice, failed) = policies.choose(&case, 4);
        (choice.map(|choice| choice.rule.to_owned()), failed)
    }

    #[test]
    fn the_first_rule_that_fits_is_chosen_and_names_its_version() {
        let mut policies = Policies::default();
        policies.put("b", Policy::parse(TEXT).unwrap());
        let rule = |field, doc: Json| chosen(&policies, field, &doc).0;
        assert_eq!(rule("power_state", json!({"tier": "serving"})).as_deref(), Some("few"));
        assert_eq!(rule("power_state", json!({"tier": "batch"})).as_deref(), Some("rest"));
        assert_eq!(rule("host", json!({"tier": "serving"})).as_deref(), Some("rest"));
        let version = policies.iter().next().unwrap().1.to_owned();
        policies.put("b", Policy::parse(&TEXT.replace("few", "some")).unwrap());
        assert_ne!(policies.iter().next().unwrap().1, version);
        policies.put("a", Policy::parse("[[rules]]\nname = \"all\"\nresolver = \"max\"").unwrap());
        assert_eq!(chosen(&policies, "host", &json!({})).0.unwrap(), "all", "policies go by name");
    }

    #[test]
    fn a_condition_that_fails_fits_nothing_and_says_so() {
        let mut policies = Policies::default();
        policies.put("p", Policy::parse(TEXT).unwrap());
        let (rule, failed) = chosen(&policies, "power_state", &json!({}));
        assert_eq!(rule.unwrap(), "rest");
        assert!(failed[0].starts_with("policy p, rule `few`: "), "{failed:?}");
    }

    #[test]
    fn policies_beyond_the_bound_are_not_heeded_the_last_by_name_first() {
        let rule = |n: usize| format!("[[rules]]\nname = \"{n}\"\nfields = [\"f{n}\"]\nresolver = \"max\"\n");
        let full = Policy::parse(&(0..64).map(rule).collect::<String>()).unwrap();
        let mut policies = Policies::default();
        ["a", "b", "c", "d"].iter().for_each(|name| policies.put(name, full.clone()));
        policies.put("e", Policy::parse(TEXT).unwrap());
        assert_eq!(chosen(&policies, "host", &json!({})).0, None);
        assert_eq!((policies.rules_beside("e"), policies.rules_beside("a")), (HEEDED_MAX, 194));
        policies.remove("b");
        assert_eq!(chosen(&policies, "host", &json!({})).0.as_deref(), Some("rest"));
    }
}
