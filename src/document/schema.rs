//! Schemas: which type each field of a collection has, and how its conflicts settle.
//!
//! ```toml
//! [fields.power_state]
//! type = "contested"
//! resolver = "last_writer"
//! ```
//!
//! | key | for | says |
//! |---|---|---|
//! | `type` | all, required | how the field merges, see [`FieldKind`] |
//! | `resolver` | `contested`, `map` | what settles siblings, see [`Resolver`]; its own keys are those of [`Settings`] |
//! | `overflow` | counters, `map` | what happens at the bound, see [`Overflow`] |
//! | `disable_wins` | `flag`, `map` | which side of a concurrent pair wins; enable if absent |
//! | `inner` | `map` | the type of every key; without it each key is inferred |
//! | `keeps_base` | `contested` | writes carry the value they were made over, also where the resolver does not need it |
//! | `ttl_ms` | any | the document is expired when this field's newest entry is older |
//!
//! Beside its fields a schema holds [`Rule`]s over whole documents, see [`rule`](super::rule).

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value as Json, json};

use super::address::check_collection;
use super::cell::FIELD_BYTES_MAX;
use super::rule::{Rule, bounded_rules};
use super::settings::{Criterion, Settings};
use crate::crdt::{FieldKind, Overflow, Resolver};

/// Most fields of a schema, and of one write.
pub const FIELDS_MAX: usize = 1024;

/// The declared fields of a collection, by name. Any other field is inferred.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Schema {
    pub fields: BTreeMap<String, Field>,
    /// What the resolvers of these fields were told.
    pub settings: BTreeMap<String, Settings>,
    pub rules: Vec<Rule>,
}

/// A schema as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "bounded_fields")]
    fields: BTreeMap<String, Declared>,
    #[serde(default, deserialize_with = "bounded_rules")]
    rules: Vec<Rule>,
}

impl From<Written> for Schema {
    fn from(written: Written) -> Self {
        let mut schema = Self { rules: written.rules, ..Self::default() };
        for (name, declared) in written.fields {
            if declared.settings != Settings::default() {
                schema.settings.insert(name.clone(), declared.settings);
            }
            schema.fields.insert(name, declared.field);
        }
        schema
    }
}

/// One field and what its resolver was told.
#[derive(Deserialize)]
#[serde(try_from = "Declaration")]
struct Declared {
    field: Field,
    settings: Settings,
}

/// How one field merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub kind: FieldKind,
    pub resolver: Resolver,
    pub overflow: Overflow,
    /// Of a flag: a disable wins over a concurrent enable.
    pub disable_wins: bool,
    /// Of a map: the kind of every key; without it each key is inferred.
    pub inner: Option<FieldKind>,
    pub ttl_ms: Option<u64>,
    /// Of a contested field: each write carries the value it was made over.
    pub keeps_base: bool,
}

/// What is wrong with a schema's text. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {cause}")]
pub struct SchemaError {
    pub line: usize,
    pub column: usize,
    pub cause: String,
}

impl Schema {
    /// With what it does not say itself as `base` says it: a built-in collection keeps what its verbs rest on.
    pub fn over(mut self, base: &Self) -> Self {
        for (name, field) in &base.fields {
            if !self.fields.contains_key(name) {
                self.fields.insert(name.clone(), *field);
                let settings = base.settings.get(name).map(|settings| (name.clone(), settings.clone()));
                self.settings.extend(settings);
            }
        }
        let new = |rule: &&Rule| self.rules.iter().all(|own| own.name != rule.name);
        let inherited: Vec<Rule> = base.rules.iter().filter(new).cloned().collect();
        self.rules.extend(inherited);
        self
    }

    /// TOML, or JSON where the text starts with `{`.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        match text.trim_start().starts_with('{') {
            true => Self::from_json(text),
            false => from_toml(text).map_err(|error| blamed(text, error)),
        }
    }

    /// The form that [`Schema::to_json`] gives.
    pub fn from_json(text: &str) -> Result<Self, SchemaError> {
        serde_json::from_str(text).map_err(|error| json_error(&error))
    }

    pub fn to_json(&self) -> Json {
        let written = |(name, field): (&String, &Field)| {
            let mut json = field.to_json();
            if let Some(settings) = self.settings.get(name) {
                settings.write_into(&mut json);
            }
            (name.clone(), json)
        };
        let fields: Map<_, _> = self.fields.iter().map(written).collect();
        let mut json = json!({ "fields": fields });
        if !self.rules.is_empty() {
            json["rules"] = json!(self.rules);
        }
        json
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }
}

/// Several collections in one text: `[collections.vms.fields.power_state]`.
pub fn parse_file(text: &str) -> Result<BTreeMap<String, Schema>, SchemaError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        collections: BTreeMap<CollectionName, Schema>,
    }
    let file: File = from_toml(text)?;
    Ok(file.collections.into_iter().map(|(name, schema)| (name.0, schema)).collect())
}

/// Names the field that is at fault, and its line where the parser knew none.
fn blamed(text: &str, error: SchemaError) -> SchemaError {
    let read: Option<Json> = toml::from_str(text).ok();
    let fields = read.as_ref().and_then(|read| read["fields"].as_object());
    let faulty = |field: &Json| serde_json::from_value::<Declared>(field.clone()).is_err();
    let Some(name) = fields.and_then(|fields| Some(fields.iter().find(|(_, field)| faulty(field))?.0)) else {
        return error;
    };
    let (line, column) = match (error.line, error.column) {
        (1, 1) => (line_of(text, name).unwrap_or(1), 1),
        known => known,
    };
    SchemaError { line, column, cause: format!("field `{name}`: {}", error.cause) }
}

/// The line, from 1, on which a field is declared: its header, or its name before `=`.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let quoted = Json::from(name).to_string();
    let declares = |line: &str| {
        let line = line.trim();
        let header = line.strip_prefix("[fields.").and_then(|rest| rest.split_once(']')).map(|(named, _)| named.trim());
        let key = line.split_once('=').map(|(key, _)| key.trim());
        let dotted = key.and_then(|key| key.strip_prefix("fields.")).or(key);
        [header, dotted].into_iter().flatten().any(|found| found == name || found == quoted)
    };
    text.lines().position(declares).map(|at| at + 1)
}

/// What is wrong with a field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldNameError {
    #[error("a field name of {0} bytes: it takes 1 to {FIELD_BYTES_MAX}")]
    Length(usize),
    #[error("the field name {0:?} holds a control character: it takes UTF-8 without them")]
    Control(String),
}

pub fn check_field_name(name: &str) -> Result<(), FieldNameError> {
    if name.is_empty() || name.len() > FIELD_BYTES_MAX {
        return Err(FieldNameError::Length(name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err(FieldNameError::Control(name.to_owned()));
    }
    Ok(())
}

impl Field {
    /// A field of this kind with everything else at its default.
    pub fn of(kind: FieldKind) -> Self {
        Self {
            kind,
            resolver: Resolver::default(),
            overflow: Overflow::default(),
            disable_wins: false,
            inner: None,
            ttl_ms: None,
            keeps_base: false,
        }
    }

    /// Of a map: how each key merges, if that is declared.
    pub fn of_key(&self) -> Option<Field> {
        self.inner.map(|kind| self.with_kind(kind))
    }

    /// The same rules for another kind.
    pub fn with_kind(&self, kind: FieldKind) -> Field {
        Field { kind, inner: None, ..*self }
    }

    fn to_json(self) -> Json {
        let mut json = json!({ "type": self.kind.name() });
        if self.kind == FieldKind::Contested || self.resolver != Resolver::default() {
            json["resolver"] = self.resolver.name().into();
        }
        if self.overflow != Overflow::default() {
            json["overflow"] = self.overflow.name().into();
        }
        if self.disable_wins {
            json["disable_wins"] = true.into();
        }
        if let Some(inner) = self.inner {
            json["inner"] = inner.name().into();
        }
        if let Some(ttl_ms) = self.ttl_ms {
            json["ttl_ms"] = ttl_ms.into();
        }
        if self.keeps_base && !self.resolver.needs_base() {
            json["keeps_base"] = true.into();
        }
        json
    }
}

/// What is wrong with JSON, and where.
pub(crate) fn json_error(error: &serde_json::Error) -> SchemaError {
    let (line, column) = (error.line(), error.column());
    let cause = error.to_string();
    let place = format!(" at line {line} column {column}");
    SchemaError { line, column, cause: cause.strip_suffix(&place).unwrap_or(&cause).to_owned() }
}

pub(crate) fn from_toml<T: de::DeserializeOwned>(text: &str) -> Result<T, SchemaError> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..offset).unwrap_or_default();
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        SchemaError { line: before.matches('\n').count() + 1, column, cause: error.message().to_owned() }
    })
}

/// A field as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declaration {
    #[serde(rename = "type")]
    kind: Named<FieldKind>,
    resolver: Option<Named<Resolver>>,
    overflow: Option<Named<Overflow>>,
    disable_wins: Option<bool>,
    inner: Option<Named<FieldKind>>,
    ttl_ms: Option<u64>,
    #[serde(default)]
    order: Vec<Json>,
    #[serde(default)]
    by: Vec<Criterion>,
    expr: Option<String>,
    custom: Option<String>,
    merge: Option<Json>,
    #[serde(default)]
    fallback: Vec<Named<Resolver>>,
    keeps_base: Option<bool>,
}

impl TryFrom<Declaration> for Declared {
    type Error = String;

    fn try_from(declared: Declaration) -> Result<Self, String> {
        let kind = declared.kind.0;
        let inner = declared.inner.map(|inner| inner.0);
        let only_for = |key: &str, given: bool, right: bool, kinds: &str| {
            if given && !right { Err(format!("`{key}` is for {kinds}: a {kind} field has none")) } else { Ok(()) }
        };
        let is_map = kind == FieldKind::Map;
        only_for("resolver", declared.resolver.is_some(), is_map || kind == FieldKind::Contested, "contested and map")?;
        only_for("overflow", declared.overflow.is_some(), is_map || kind.is_counter(), "gcounter, pncounter and map")?;
        only_for("disable_wins", declared.disable_wins.is_some(), is_map || kind == FieldKind::Flag, "flag and map")?;
        only_for("inner", inner.is_some(), is_map, "map")?;
        if let Some(inner) = inner.filter(|inner| !inner.fits_map()) {
            return Err(format!(
                "the keys of a map cannot be of type {inner}: use a counter, flag, max, min, lww, fww, mv or contested"
            ));
        }
        if declared.ttl_ms == Some(0) {
            return Err("`ttl_ms` must be at least 1: 0 would expire every document at once".to_owned());
        }
        let resolver = declared.resolver.map_or_else(Resolver::default, |resolver| resolver.0);
        let settings = Settings {
            order: declared.order,
            by: declared.by,
            expr: declared.expr,
            custom: declared.custom,
            merge: declared.merge,
            fallback: declared.fallback.into_iter().map(|resolver| resolver.0).collect(),
        };
        settings.check(resolver)?;
        let contested = kind == FieldKind::Contested;
        only_for("keeps_base", declared.keeps_base.is_some(), contested, "contested")?;
        let needs_base = std::iter::once(&resolver).chain(&settings.fallback).any(|resolver| resolver.needs_base());
        let field = Field {
            kind,
            resolver,
            overflow: declared.overflow.map_or_else(Overflow::default, |overflow| overflow.0),
            disable_wins: declared.disable_wins.unwrap_or(false),
            inner,
            ttl_ms: declared.ttl_ms,
            keeps_base: (contested || is_map) && (needs_base || declared.keeps_base == Some(true)),
        };
        Ok(Declared { field, settings })
    }
}

/// A choice written by its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<T>(pub T);

impl<T: fmt::Display> serde::Serialize for Named<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name<T>(PhantomData<T>);
        impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Name<T> {
            type Value = Named<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name in quotes")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Named<T>, E> {
                name.parse().map(Named).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Name(PhantomData))
    }
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct CollectionName(String);

impl TryFrom<String> for CollectionName {
    type Error = super::AddressError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        check_collection(&name).map(|()| Self(name))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct FieldName(String);

impl TryFrom<String> for FieldName {
    type Error = FieldNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        check_field_name(&name).map(|()| Self(name))
    }
}

fn bounded_fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Declared>, D::Error> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = BTreeMap<String, Declared>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of fields, each with its type")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = BTreeMap::new();
            while let Some(FieldName(name)) = map.next_key()? {
                if fields.len() == FIELDS_MAX {
                    return Err(de::Error::custom(format!(
                        "more than {FIELDS_MAX} fields: declare fewer, or use a map"
                    )));
                }
                if fields.contains_key(&name) {
                    return Err(de::Error::custom(format!("field `{name}` is declared twice")));
                }
                fields.insert(name, map.next_value()?);
            }
            Ok(fields)
        }
    }
    deserializer.deserialize_map(Fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "\
[fields.power_state]
type = \"contested\"
resolver = \"first_writer\"

[fields.restarts]
type = \"pncounter\"
overflow = \"error\"

[fields.usage]
type = \"map\"
inner = \"max\"

[fields.heartbeat]
type = \"lww\"
ttl_ms = 15000
";

    #[test]
    fn what_a_schema_of_ones_own_does_not_say_is_as_the_built_in_one_says() {
        let base = crate::document::builtin("vms").unwrap();
        let own = Schema::parse("[fields.host]\ntype = \"lww\"\n[fields.note]\ntype = \"mv\"\n").unwrap().over(base);
        let kind = |name: &str| own.field(name).map(|field| field.kind);
        assert_eq!((kind("host"), kind("note")), (Some(FieldKind::Lww), Some(FieldKind::Mv)));
        assert_eq!(kind("migration"), Some(FieldKind::Quorum));
        assert_eq!((own.rules.len(), own.settings.len()), (base.rules.len(), base.settings.len()));
    }

    #[track_caller]
    fn refused(text: &str, line: usize, words: &[&str]) {
        let error = Schema::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{error}");
        words.iter().for_each(|word| assert!(error.cause.contains(word), "{error}"));
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let schema = Schema::parse(TOML).unwrap();
        assert_eq!(schema.fields.len(), 4);
        assert_eq!(schema.fields["restarts"].overflow, Overflow::Error);
        assert_eq!(schema.fields["usage"].of_key().unwrap().kind, FieldKind::Max);
        let pretty = serde_json::to_string_pretty(&schema.to_json()).unwrap();
        assert_eq!(Schema::parse(&pretty), Ok(schema));
        assert_eq!(Schema::parse(""), Ok(Schema::default()));
    }

    #[test]
    fn an_error_names_the_line_the_cause_and_the_choices() {
        refused("[fields.a]\ntype = \"countr\"", 2, &["`countr`", "pncounter", "contested"]);
        refused("[fields.a]\ntype = \"lww\"\n\n[fields.b]\ntpye = \"lww\"", 5, &["`tpye`", "`type`"]);
        refused("[fields.a]\ntype = \"contested\"\nresolver = \"dice\"", 3, &["`dice`", "last_writer", "manual"]);
        refused("[fields.a]\nttl_ms = 5", 1, &["type"]);
        refused("[fields.a]\ntype = \"lww\"\ntype = \"lww\"", 3, &["duplicate"]);
        refused("[fields.a]\ntype = lww", 2, &[]);
        refused("[fields.\"a\\n\"]\ntype = \"lww\"", 1, &["control"]);
        refused("{\"fields\": {\n  \"a\": {\"type\": \"countr\"}}}", 2, &["`countr`", "pncounter"]);
        refused("{\"fields\": {\n\"a\": {\"type\": \"lww\"},\n\"a\": {\"type\": \"lww\"}}}", 3, &["twice"]);
        refused("{\"fields\": {},\n\"more\": 1}", 2, &["`more`"]);
        refused("{\"fields\":", 1, &["EOF"]);
    }

    #[test]
    fn a_setting_that_means_nothing_for_the_type_is_refused() {
        refused("[fields.a]\ntype = \"lww\"\nresolver = \"max\"", 1, &["`resolver`", "contested"]);
        refused("[fields.a]\ntype = \"lww\"\noverflow = \"reset\"", 1, &["`overflow`"]);
        refused("[fields.a]\ntype = \"map\"\ninner = \"map\"", 1, &["keys of a map"]);
        refused("[fields.a]\ntype = \"lww\"\nttl_ms = 0", 1, &["ttl_ms"]);
    }

    #[test]
    fn what_is_wrong_with_a_field_names_the_field_and_its_line() {
        let before = "[fields.a]\ntype = \"lww\"\n\n";
        let needs = "type = \"contested\"\nresolver = \"priority\"";
        refused(&format!("{before}[fields.b]\n{needs}"), 4, &["field `b`", "needs `order`"]);
        refused(&format!("{before}[fields.\"b c\"]\n{needs}"), 4, &["field `b c`", "needs `order`"]);
        refused("[fields]\na = { type = \"lww\" }\nb = { ttl_ms = 5 }", 3, &["field `b`", "type"]);
        refused(&format!("{before}[fields.b]\nttl_ms = 5"), 4, &["field `b`", "missing field `type`"]);
    }

    #[test]
    fn a_schema_is_bounded() {
        let fields = |n: usize| (0..n).map(|i| format!("[fields.f{i}]\ntype = \"lww\"\n")).collect::<String>();
        assert!(Schema::parse(&fields(FIELDS_MAX)).is_ok());
        assert!(Schema::parse(&fields(FIELDS_MAX + 1)).unwrap_err().cause.contains("1024"));
        assert!(Schema::parse(&format!("[fields.{}]\ntype = \"lww\"", "x".repeat(129))).is_err());
    }

    #[test]
    fn one_file_may_hold_several_collections() {
        let file = "[collections.vms.fields.host]\ntype = \"lww\"\n[collections.tasks.fields.state]\ntype = \"lww\"\n";
        assert_eq!(parse_file(file).unwrap().into_keys().collect::<Vec<_>>(), ["tasks", "vms"]);
        let error = parse_file("[collections.Vms.fields.host]\ntype = \"lww\"\n").unwrap_err();
        assert!(error.cause.contains("`Vms`"), "{error}");
    }
}
