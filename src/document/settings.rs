//! What a field's resolver is told beside its name.
//!
//! | key | for | says |
//! |---|---|---|
//! | `order` | `priority`, required; `advisor` | values, the one that wins first; any other value ranks below them |
//! | `by` | `prioritize`, `advisor` | criteria, the most important first: `recency` (default), `confidence`, `sources` |
//! | `expr` | `expr`, required | a CEL expression over `siblings`, `base`, `doc`, `id`, `field` |
//! | `custom` | `custom`, required | the name under which the embedding program registered its function |
//! | `merge` | `three_way`, `deep_merge`, `advisor` | how paths within the value merge |
//! | `fallback` | any | resolvers to try in turn where the first does not settle |

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::crdt::Resolver;

/// Longest CEL expression, in bytes. Parsing and evaluating one take time that grows with it.
pub const EXPRESSION_BYTES_MAX: usize = 1024;
/// Most values of an `order`.
const ORDER_MAX: usize = 256;
/// Most resolvers of a `fallback`.
const FALLBACK_MAX: usize = 8;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub order: Vec<Json>,
    pub by: Vec<Criterion>,
    pub expr: Option<String>,
    pub custom: Option<String>,
    /// As it was written; read by whoever merges.
    pub merge: Option<Json>,
    pub fallback: Vec<Resolver>,
}

/// What makes one sibling better than another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// The later write.
    Recency,
    /// The greater number in the value's `confidence`.
    Confidence,
    /// More names in the value's `sources`; without them, more nodes that wrote the same value.
    Sources,
}

impl Settings {
    /// Whether these settings are those of `resolver`.
    pub fn check(&self, resolver: Resolver) -> Result<(), String> {
        let tried = || std::iter::once(resolver).chain(self.fallback.iter().copied());
        let uses = |wanted: &[Resolver]| tried().any(|resolver| wanted.contains(&resolver));
        let owned = |key: &str, given: bool, owners: &[Resolver]| match given && !uses(owners) {
            true => Err(format!("`{key}` is for the resolver {}: {resolver} has none", owners[0])),
            false => Ok(()),
        };
        owned("order", !self.order.is_empty(), &[Resolver::Priority, Resolver::Advisor])?;
        owned("by", !self.by.is_empty(), &[Resolver::Prioritize, Resolver::Advisor])?;
        owned("expr", self.expr.is_some(), &[Resolver::Expr])?;
        owned("custom", self.custom.is_some(), &[Resolver::Custom])?;
        owned("merge", self.merge.is_some(), &[Resolver::ThreeWay, Resolver::DeepMerge, Resolver::Advisor])?;
        tried().try_for_each(|resolver| self.suffice(resolver))?;
        if self.order.len() > ORDER_MAX {
            return Err(format!("`order` takes at most {ORDER_MAX} values"));
        }
        if self.fallback.len() > FALLBACK_MAX {
            return Err(format!("`fallback` takes at most {FALLBACK_MAX} resolvers"));
        }
        self.expr.as_deref().map_or(Ok(()), |text| check_length("expr", text))
    }

    /// Whether they tell `resolver` all it needs.
    pub fn suffice(&self, resolver: Resolver) -> Result<(), String> {
        let (key, given) = match resolver {
            Resolver::Priority => ("order", !self.order.is_empty()),
            Resolver::Expr => ("expr", self.expr.is_some()),
            Resolver::Custom => ("custom", self.custom.is_some()),
            _ => return Ok(()),
        };
        if given { Ok(()) } else { Err(format!("the resolver {resolver} needs `{key}`")) }
    }

    /// Adds what is set to a field as it is written.
    pub fn write_into(&self, field: &mut Json) {
        let Json::Object(members) = field else { return };
        let mut put = |key: &str, value: Option<Json>| {
            members.extend(value.map(|value| (key.to_owned(), value)));
        };
        put("order", (!self.order.is_empty()).then(|| self.order.clone().into()));
        put("by", (!self.by.is_empty()).then(|| serde_json::json!(self.by)));
        put("expr", self.expr.clone().map(Json::from));
        put("custom", self.custom.clone().map(Json::from));
        put("merge", self.merge.clone());
        let names = || self.fallback.iter().map(|resolver| Json::from(resolver.name())).collect();
        put("fallback", (!self.fallback.is_empty()).then(names));
    }
}

pub(super) fn check_length(key: &str, text: &str) -> Result<(), String> {
    match text.len() > EXPRESSION_BYTES_MAX {
        true => Err(format!("`{key}` is {} bytes long: it takes {EXPRESSION_BYTES_MAX}", text.len())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::document::Schema;

    #[track_caller]
    fn refused(field: &str, words: &str) {
        let error = Schema::parse(&format!("[fields.a]\ntype = \"contested\"\n{field}\n")).unwrap_err();
        assert!(error.cause.contains(words), "{error}");
    }

    #[test]
    fn a_resolver_is_told_what_it_needs_and_nothing_else() {
        refused("resolver = \"priority\"", "the resolver priority needs `order`");
        refused("resolver = \"expr\"", "the resolver expr needs `expr`");
        refused("resolver = \"max\"\norder = [1]", "`order` is for the resolver priority");
        refused("resolver = \"vote\"\nfallback = [\"expr\"]", "needs `expr`");
        refused("resolver = \"prioritize\"\nby = [\"beauty\"]", "beauty");
        refused(&format!("resolver = \"expr\"\nexpr = \"{}\"", "x".repeat(5_000)), "5000 bytes");
    }

    #[test]
    fn settings_survive_being_written_down() {
        let text = r#"{"fields": {
            "a": {"type": "contested", "resolver": "priority", "order": ["running", "paused"], "fallback": ["max"]},
            "b": {"type": "contested", "resolver": "three_way", "merge": {"removal": "wins"}},
            "c": {"type": "contested", "resolver": "prioritize", "by": ["confidence", "recency"]}}}"#;
        let schema = Schema::parse(text).unwrap();
        assert_eq!(Schema::parse(&schema.to_json().to_string()), Ok(schema.clone()));
        assert_eq!(schema.settings["a"].order.len(), 2);
    }
}
