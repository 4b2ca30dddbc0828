//! Rules of a schema: what must hold of a document although every field of it merged.
//!
//! ```toml
//! [[rules]]
//! name = "a stopped vm does not migrate"
//! check = "!(doc.power_state == 'stopped' && doc.migration == 'running')"
//!
//! [[rules]]
//! name = "a host holds its vms"
//! class = "invariant"
//! severity = "critical"
//! over = { collection = "vms", where = "item.host == id", sum = "memory_mb" }
//! check = "total <= doc.memory_mb"
//!
//! [[rules]]
//! name = "one vm for each address"
//! exclusive = "address"
//! ```
//!
//! `check` and `where` are CEL expressions. A `check` sees `doc` and `id`, and with `over` also `total` and `count`: the
//! sum of a field, and the number, of the documents of another collection that `where` holds for. An `exclusive` field
//! has another value in every document of the collection.

use serde::{Deserialize, Deserializer, Serialize, de};

use super::address::check_collection;
use super::schema::check_field_name;
use super::settings::check_length;

/// Most rules of a schema: each is looked at whenever a document of the collection changes.
pub const RULES_MAX: usize = 64;
/// Most of them over many documents: each goes through the whole collection when one of its documents changed.
pub const OVER_MANY_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// False: the document breaks the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    /// A field that no two documents share a value of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
}

/// Documents of another collection, summed up for each document of this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Over {
    pub collection: String,
    /// Sees `item`, `item_id`, `doc` and `id`.
    #[serde(rename = "where")]
    pub condition: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<String>,
}

/// What a broken rule is a conflict of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Fields that merged contradict each other.
    Semantic,
    /// A bound is broken.
    Invariant,
    /// One exclusive resource is claimed twice.
    Contention,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    #[default]
    Warning,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl Rule {
    /// What the rule is about: as declared, else as its form says.
    pub fn class(&self) -> Class {
        let by_form = match (&self.exclusive, &self.over) {
            (Some(_), _) => Class::Contention,
            (None, Some(_)) => Class::Invariant,
            (None, None) => Class::Semantic,
        };
        self.class.unwrap_or(by_form)
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(format!("the name of a rule takes 1 to {NAME_BYTES_MAX} bytes without control characters"));
        }
        match (&self.check, &self.exclusive) {
            (Some(text), None) => check_length("check", text)?,
            (None, Some(field)) if self.over.is_none() => check_field_name(field).map_err(|error| error.to_string())?,
            _ => return Err(format!("the rule `{name}` needs `check`, or `exclusive` alone")),
        }
        if let Some(over) = &self.over {
            check_collection(&over.collection).map_err(|error| error.to_string())?;
            check_length("where", &over.condition)?;
            over.sum.as_deref().map_or(Ok(()), check_field_name).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

pub(super) fn bounded_rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    let rules = Vec::<Rule>::deserialize(deserializer)?;
    let over_many = rules.iter().filter(|rule| rule.over.is_some() || rule.exclusive.is_some()).count();
    if over_many > OVER_MANY_MAX {
        let says = format!("a schema takes at most {OVER_MANY_MAX} rules over many documents (`over`, `exclusive`)");
        return Err(de::Error::custom(says));
    }
    if rules.len() > RULES_MAX {
        return Err(de::Error::custom(format!("a schema takes at most {RULES_MAX} rules")));
    }
    let mut names = std::collections::BTreeSet::new();
    for rule in &rules {
        rule.check().map_err(de::Error::custom)?;
        if !names.insert(&rule.name) {
            return Err(de::Error::custom(format!("the rule `{}` is declared twice", rule.name)));
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Schema;

    #[test]
    fn a_rule_survives_being_written_down_and_its_form_says_what_it_is_about() {
        let text = "[[rules]]\nname = \"a\"\ncheck = \"doc.x < 3\"\n[[rules]]\nname = \"b\"\nexclusive = \"ip\"\n\
                    [[rules]]\nname = \"c\"\nseverity = \"critical\"\ncheck = \"total < doc.m\"\n\
                    over = { collection = \"vms\", where = \"item.host == id\", sum = \"m\" }\n";
        let schema = Schema::parse(text).unwrap();
        let classes: Vec<Class> = schema.rules.iter().map(Rule::class).collect();
        assert_eq!(classes, [Class::Semantic, Class::Contention, Class::Invariant]);
        assert_eq!(Schema::parse(&schema.to_json().to_string()), Ok(schema));
    }

    #[test]
    fn a_rule_that_says_nothing_or_two_things_is_refused() {
        let refused = |rule: &str| Schema::parse(&format!("[[rules]]\n{rule}\n")).unwrap_err().cause;
        assert!(refused("name = \"a\"").contains("needs `check`"));
        assert!(refused("name = \"a\"\ncheck = \"true\"\nexclusive = \"ip\"").contains("alone"));
        assert!(refused("name = \"a\"\nchekc = \"true\"").contains("chekc"));
        assert!(refused("name = \"a\"\ncheck = \"true\"\n[[rules]]\nname = \"a\"\ncheck = \"true\"").contains("twice"));
    }
}
