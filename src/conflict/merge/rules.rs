//! Rules of a merge, as a person writes them.
//!
//! ```toml
//! default = "newest"
//! removal = "loses"
//! atomic = ["spec.resources"]
//!
//! [lists]
//! "spec.ports" = { merge_key = "name" }
//! "spec.mounts" = { merge_key = ["volume", "path"] }
//! "spec.tags" = "set"
//!
//! [strategies]
//! "spec.*.replicas" = "max"
//! ```
//!
//! | key | says |
//! |---|---|
//! | `default` | the [`Strategy`] of every path that `strategies` does not cover; `newest` if absent |
//! | `strategies` | the strategy of a path and all below it; the longest pattern wins, then the one that names sooner |
//! | `removal` | what an edit against a removal of the same path comes to, see [`Removal`] |
//! | `lists` | how the list at exactly this path merges, see [`ListRule`]; one value if absent |
//! | `atomic` | objects that are one value: CPU and memory that only make sense together |

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value as Json, json};

use super::path::Trail;
use super::pattern::Pattern;

/// Patterns in one table of rules. Each is looked at for each conflict.
pub const PATTERNS_MAX: usize = 256;

/// Merge keys of one list.
const KEYS_MAX: usize = 8;

/// How different changes of one path settle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strategy {
    /// The change of the newest side.
    #[default]
    Newest,
    Oldest,
    /// The largest of the changed values, in the order of values.
    Max,
    Min,
    /// Of lists: every element that any of the changes left in. Removals yield.
    Union,
    /// None of the changes.
    KeepBase,
    /// Of numbers: the base and what each side added to it. Two sides that added the same added it twice.
    SumOfChanges,
    /// The whole merge is an error that names the path.
    Fail,
}

/// What an edit against a removal of the same path comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Removal {
    /// The edit stays.
    #[default]
    Loses,
    Wins,
    /// Whichever is newer.
    Newest,
}

/// How a list merges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ListRule {
    /// One value.
    #[default]
    Atomic,
    /// Elements are added and removed; the order means nothing.
    Set,
    /// Elements are objects, one for each value of these fields, and merge field by field.
    Keyed(Vec<String>),
}

/// Which strategy and which kind of list holds where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rules {
    default: Strategy,
    removal: Removal,
    /// Most telling first.
    strategies: Vec<(Pattern, Strategy)>,
    lists: Vec<(Pattern, ListRule)>,
    atomic: Vec<Pattern>,
}

/// What is wrong with rules. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {cause}")]
pub struct RulesError {
    pub line: usize,
    pub column: usize,
    pub cause: String,
}

impl Rules {
    /// TOML, or JSON where the text starts with `{`.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        if text.trim_start().starts_with('{') { from_json(text) } else { from_toml(text) }
    }

    /// The form that [`Rules::parse`] reads.
    pub fn to_json(&self) -> Json {
        let strategies: Map<_, _> = self.strategies.iter().map(|(at, s)| (at.to_string(), s.name().into())).collect();
        let lists: Map<_, _> = self.lists.iter().map(|(at, rule)| (at.to_string(), rule.to_json())).collect();
        let atomic: Vec<_> = self.atomic.iter().map(Pattern::to_string).collect();
        json!({
            "default": self.default.name(),
            "removal": self.removal.name(),
            "strategies": strategies,
            "lists": lists,
            "atomic": atomic,
        })
    }

    pub fn removal(&self) -> Removal {
        self.removal
    }

    pub(super) fn strategy(&self, at: &Trail<'_>) -> Strategy {
        if self.strategies.is_empty() {
            return self.default;
        }
        let names = at.names();
        self.strategies
            .iter()
            .find(|(pattern, _)| pattern.covers(&names))
            .map_or(self.default, |(_, strategy)| *strategy)
    }

    /// Whether a strategy holds anywhere at all: spares the question where it does not.
    pub(super) fn mentions(&self, strategy: Strategy) -> bool {
        self.default == strategy || self.strategies.iter().any(|(_, own)| *own == strategy)
    }

    pub(super) fn list(&self, at: &Trail<'_>) -> &ListRule {
        if self.lists.is_empty() {
            return &ListRule::Atomic;
        }
        let names = at.names();
        self.lists.iter().find(|(pattern, _)| pattern.matches(&names)).map_or(&ListRule::Atomic, |(_, rule)| rule)
    }

    /// Whether an object is one value.
    pub(super) fn is_atomic(&self, at: &Trail<'_>) -> bool {
        !self.atomic.is_empty() && {
            let names = at.names();
            self.atomic.iter().any(|pattern| pattern.matches(&names))
        }
    }
}

impl Strategy {
    pub const ALL: [Strategy; 8] = [
        Strategy::Newest,
        Strategy::Oldest,
        Strategy::Max,
        Strategy::Min,
        Strategy::Union,
        Strategy::KeepBase,
        Strategy::SumOfChanges,
        Strategy::Fail,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Strategy::Newest => "newest",
            Strategy::Oldest => "oldest",
            Strategy::Max => "max",
            Strategy::Min => "min",
            Strategy::Union => "union",
            Strategy::KeepBase => "keep_base",
            Strategy::SumOfChanges => "sum_of_changes",
            Strategy::Fail => "fail",
        }
    }

    fn read(json: &Json) -> Result<Self, String> {
        named(json, &Self::ALL.map(|strategy| (strategy.name(), strategy)), "strategy")
    }
}

impl Removal {
    pub const ALL: [Removal; 3] = [Removal::Loses, Removal::Wins, Removal::Newest];

    pub fn name(self) -> &'static str {
        match self {
            Removal::Loses => "loses",
            Removal::Wins => "wins",
            Removal::Newest => "newest",
        }
    }
}

impl ListRule {
    fn to_json(&self) -> Json {
        match self {
            ListRule::Atomic => "atomic".into(),
            ListRule::Set => "set".into(),
            ListRule::Keyed(keys) => json!({ "merge_key": keys }),
        }
    }

    fn read(json: &Json) -> Result<Self, String> {
        let Json::Object(table) = json else {
            return named(json, &[("atomic", ListRule::Atomic), ("set", ListRule::Set)], "kind of list")
                .map_err(|cause| format!("{cause}, or {{ merge_key = \"name\" }}"));
        };
        if let Some(unknown) = table.keys().find(|key| *key != "merge_key") {
            return Err(format!("unknown key `{unknown}`: only `merge_key` is known"));
        }
        let keys: Vec<String> = match table.get("merge_key") {
            Some(Json::String(key)) => vec![key.clone()],
            Some(Json::Array(keys)) => keys.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let given = table.get("merge_key").and_then(Json::as_array).map_or(keys.len(), Vec::len);
        let twice = keys.iter().enumerate().any(|(i, key)| keys[..i].contains(key));
        if keys.is_empty() || keys.len() != given || keys.len() > KEYS_MAX || twice {
            return Err(format!("`merge_key` takes the name of a field, or a list of 1 to {KEYS_MAX} different names"));
        }
        Ok(ListRule::Keyed(keys))
    }
}

fn named<T: Clone>(json: &Json, choices: &[(&str, T)], what: &str) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| json.as_str() == Some(name));
    let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let given: String = json.to_string().chars().take(40).collect();
    found.map(|(_, choice)| choice.clone()).ok_or_else(|| format!("unknown {what} {given}: use one of {}", names()))
}

/// Rules as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Written {
    default: Option<Json>,
    removal: Option<Json>,
    strategies: Table,
    lists: Table,
    atomic: Vec<String>,
}

impl TryFrom<Written> for Rules {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let default = written.default.as_ref().map_or(Ok(Strategy::default()), Strategy::read);
        let removals = Removal::ALL.map(|removal| (removal.name(), removal));
        let removal = written.removal.as_ref().map_or(Ok(Removal::default()), |name| named(name, &removals, "choice"));
        if written.atomic.len() > PATTERNS_MAX {
            return Err(format!("`atomic`: more than {PATTERNS_MAX} patterns"));
        }
        let atomic = written
            .atomic
            .iter()
            .map(|text| Pattern::parse(text).map_err(|cause| format!("`atomic`, pattern `{text}`: {cause}")));
        let mut rules = Rules {
            default: default.map_err(|cause| format!("`default`: {cause}"))?,
            removal: removal.map_err(|cause| format!("`removal`: {cause}"))?,
            strategies: written.strategies.compile("strategies", Strategy::read)?,
            lists: written.lists.compile("lists", ListRule::read)?,
            atomic: atomic.collect::<Result<_, _>>()?,
        };
        rules.atomic.sort();
        rules.atomic.dedup();
        Ok(rules)
    }
}

/// A table of patterns, each with its rule not yet read.
#[derive(Default)]
struct Table(BTreeMap<String, Json>);

impl Table {
    fn compile<T>(self, table: &str, read: fn(&Json) -> Result<T, String>) -> Result<Vec<(Pattern, T)>, String> {
        let mut compiled: Vec<(Pattern, T)> = Vec::new();
        for (text, json) in self.0 {
            let named = |cause| format!("`{table}`, rule `{text}`: {cause}");
            let pattern = Pattern::parse(&text).map_err(named)?;
            if compiled.iter().any(|(other, _)| *other == pattern) {
                return Err(named("the same pattern stands there in other words".to_owned()));
            }
            compiled.push((pattern, read(&json).map_err(named)?));
        }
        compiled.sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(compiled)
    }
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows;
        impl<'de> Visitor<'de> for Rows {
            type Value = Table;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of patterns, each with its rule")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
                let mut rows = BTreeMap::new();
                while let Some((pattern, rule)) = map.next_entry::<String, Json>()? {
                    if rows.len() == PATTERNS_MAX {
                        return Err(de::Error::custom(format!("more than {PATTERNS_MAX} patterns in one table")));
                    }
                    if rows.contains_key(&pattern) {
                        return Err(de::Error::custom(format!("rule `{pattern}` is written twice")));
                    }
                    rows.insert(pattern, rule);
                }
                Ok(Table(rows))
            }
        }
        deserializer.deserialize_map(Rows)
    }
}

fn from_json(text: &str) -> Result<Rules, RulesError> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line().max(1), error.column().max(1));
        let cause = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        RulesError { line, column, cause: cause.strip_suffix(&place).unwrap_or(&cause).to_owned() }
    })
}

fn from_toml(text: &str) -> Result<Rules, RulesError> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..offset).unwrap_or_default();
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        RulesError { line: before.matches('\n').count() + 1, column, cause: error.message().to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "\
default = \"oldest\"
removal = \"wins\"
atomic = [\"spec.resources\"]

[lists]
\"spec.ports\" = { merge_key = \"name\" }
\"spec.mounts\" = { merge_key = [\"volume\", \"path\"] }
\"spec.tags\" = \"set\"

[strategies]
\"spec.*.replicas\" = \"max\"
\"spec.web\" = \"fail\"
";

    fn at<T>(keys: &[&str], ask: impl FnOnce(&Trail<'_>) -> T) -> T {
        fn down<T>(trail: &Trail<'_>, keys: &[&str], ask: impl FnOnce(&Trail<'_>) -> T) -> T {
            match keys {
                [] => ask(trail),
                [first, rest @ ..] => down(&trail.key(first), rest, ask),
            }
        }
        down(&Trail::root(), keys, ask)
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let rules = Rules::parse(TOML).unwrap();
        assert_eq!(rules.removal(), Removal::Wins);
        assert_eq!(Rules::parse(&rules.to_json().to_string()), Ok(rules));
        assert_eq!(Rules::parse(""), Ok(Rules::default()));
        assert_eq!(Rules::parse("{}"), Ok(Rules::default()));
    }

    #[test]
    fn the_longest_pattern_rules_its_path_and_what_is_below() {
        let rules = Rules::parse(TOML).unwrap();
        let strategy = |keys: &[&str]| at(keys, |trail| rules.strategy(trail));
        assert_eq!(strategy(&["spec", "web", "replicas"]), Strategy::Max);
        assert_eq!(strategy(&["spec", "web", "image"]), Strategy::Fail);
        assert_eq!(strategy(&["spec", "db"]), Strategy::Oldest);
        assert!(rules.mentions(Strategy::Fail) && !rules.mentions(Strategy::Newest));
    }

    #[test]
    fn a_list_rule_and_an_atomic_one_hold_for_exactly_their_path() {
        let rules = Rules::parse(TOML).unwrap();
        assert_eq!(at(&["spec", "tags"], |trail| rules.list(trail).clone()), ListRule::Set);
        assert_eq!(at(&["spec", "tags", "x"], |trail| rules.list(trail).clone()), ListRule::Atomic);
        let keys = vec!["volume".to_owned(), "path".to_owned()];
        assert_eq!(at(&["spec", "mounts"], |trail| rules.list(trail).clone()), ListRule::Keyed(keys));
        assert!(at(&["spec", "resources"], |trail| rules.is_atomic(trail)));
        assert!(!at(&["spec"], |trail| rules.is_atomic(trail)));
    }

    #[track_caller]
    fn refused(text: &str, words: &[&str]) {
        let error = Rules::parse(text).unwrap_err();
        words.iter().for_each(|word| assert!(error.to_string().contains(word), "{error}"));
    }

    #[test]
    fn a_wrong_rule_is_named() {
        refused("[strategies]\n\"a.b\" = \"newst\"", &["`strategies`", "`a.b`", "newst", "newest", "sum_of_changes"]);
        refused("{\"strategies\": {\"a.b\": 5}}", &["line 1", "`a.b`", "5"]);
        refused("[strategies]\n\"a..b\" = \"newest\"", &["`a..b`", "empty step"]);
        refused("[lists]\n\"a\" = \"sett\"", &["`lists`", "`a`", "sett", "merge_key"]);
        refused("[lists]\n\"a\" = { merge_kye = \"name\" }", &["`a`", "merge_kye"]);
        refused("[lists]\n\"a\" = { merge_key = [] }", &["`a`", "merge_key"]);
        refused("[lists]\n\"a\" = { merge_key = [\"x\", \"x\"] }", &["different"]);
        refused("{\"lists\": {\"a\": {\"merge_key\": [\"x\", 1]}}}", &["`a`"]);
        refused("removal = \"win\"", &["`removal`", "win", "wins"]);
        refused("default = 1", &["`default`"]);
        refused("atomic = [\"a*\"]", &["`atomic`", "`a*`"]);
        refused("\nstrategy = \"max\"", &["line 2", "strategy"]);
        refused("{\"lists\": {\"a\": \"set\", \"a\": \"set\"}}", &["`a`", "twice"]);
        refused("[lists]\n\"a\" = \"set\"\n'\"a\"' = \"set\"", &["other words"]);
    }

    #[test]
    fn rules_are_bounded() {
        let rows = |n: usize| (0..n).map(|i| format!("f{i} = \"max\"\n")).collect::<String>();
        assert!(Rules::parse(&format!("[strategies]\n{}", rows(PATTERNS_MAX))).is_ok());
        refused(&format!("[strategies]\n{}", rows(PATTERNS_MAX + 1)), &["256"]);
    }
}
