//! Schemas in force: the replicated documents `schemas/<collection>`, else the built-in ones, else none.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::fence;
use super::io::{Event, Now};
use super::replica::Replica;
use crate::conflict::advisor::Standing;
use crate::conflict::detect::across;
use crate::conflict::{Judge, Policies, Policy};
use crate::document::builtin::builtins;
use crate::document::cell::CellKey;
use crate::document::schema::Schema;
use crate::document::view::DocumentView;

pub const COLLECTION: &str = "schemas";
/// Policies: which resolver settles what.
pub const POLICIES: &str = "policies";
/// The advisor: its one document is [`ADVISOR_MODEL`].
pub const ADVISOR: &str = "advisor";
/// What the advisor learned, as `advisor/model`.
pub const ADVISOR_MODEL: &str = "model";
/// The field that holds the definition of a schema, a policy or a model, as JSON.
pub const DEFINITION: &str = "definition";

/// Where a schema comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Written by a user.
    Declared,
    Builtin,
    /// There is none: every field is inferred.
    Inferred,
}

/// What has to be judged anew.
#[derive(Debug)]
enum Anew {
    Nothing,
    Collection(String),
    Everything,
}

impl Anew {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Anew::Nothing, other) | (other, Anew::Nothing) => other,
            (Anew::Collection(a), Anew::Collection(b)) if a == b => Anew::Collection(a),
            _ => Anew::Everything,
        }
    }
}

#[derive(Debug)]
pub struct Schemas {
    declared: BTreeMap<Box<str>, Arc<Schema>>,
    builtin: BTreeMap<&'static str, Arc<Schema>>,
    none: Arc<Schema>,
    /// Of each collection that has a schema.
    judges: BTreeMap<Box<str>, Arc<Judge>>,
    no_judge: Arc<Judge>,
    pub(super) policies: Policies,
    ruled: bool,
    /// Of each declared schema.
    hashes: BTreeMap<Box<str>, u64>,
    /// `None`: no model was trained, and the advisor is off.
    advisor: Option<Arc<Standing>>,
}

impl Default for Schemas {
    fn default() -> Self {
        let builtin: BTreeMap<_, _> =
            builtins().iter().map(|(name, schema)| (name.as_str(), Arc::new(schema.clone()))).collect();
        let judge = |(name, schema): (&&str, &Arc<Schema>)| ((*name).into(), Arc::new(Judge::of(schema)));
        let judges: BTreeMap<Box<str>, Arc<Judge>> = builtin.iter().map(judge).collect();
        let ruled = judges.values().any(|judge| !judge.rules().is_empty());
        Self {
            declared: BTreeMap::new(),
            builtin,
            none: Arc::default(),
            judges,
            no_judge: Arc::default(),
            policies: Policies::default(),
            ruled,
            hashes: BTreeMap::new(),
            advisor: None,
        }
    }
}

impl Schemas {
    pub fn of(&self, collection: &str) -> (&Arc<Schema>, Origin) {
        if let Some(schema) = self.declared.get(collection) {
            return (schema, Origin::Declared);
        }
        match self.builtin.get(collection) {
            Some(schema) => (schema, Origin::Builtin),
            None => (&self.none, Origin::Inferred),
        }
    }

    pub fn judge(&self, collection: &str) -> Arc<Judge> {
        self.judges.get(collection).unwrap_or(&self.no_judge).clone()
    }

    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The judges of collections that have a schema, in order.
    pub(super) fn judges(&self) -> impl Iterator<Item = (&str, &Arc<Judge>)> {
        self.judges.iter().map(|(name, judge)| (&**name, judge))
    }

    /// Whether any schema has rules.
    pub(super) fn have_rules(&self) -> bool {
        self.ruled
    }

    pub fn advisor(&self) -> Option<&Arc<Standing>> {
        self.advisor.as_ref()
    }

    /// The collections whose rules sum over this one.
    pub(super) fn who_looks_at(&self, collection: &str) -> Vec<Box<str>> {
        let looks = |judge: &Judge| across::looks_at(judge).any(|other| other == collection);
        self.judges.iter().filter(|(_, judge)| looks(judge)).map(|(name, _)| name.clone()).collect()
    }

    fn declare(&mut self, collection: &str, schema: Option<(Schema, u64)>) {
        match schema {
            Some((schema, hash)) => {
                let schema = match self.builtin.get(collection) {
                    Some(base) => schema.over(base),
                    None => schema,
                };
                self.hashes.insert(collection.into(), hash);
                self.declared.insert(collection.into(), Arc::new(schema));
            }
            None => {
                self.hashes.remove(collection);
                self.declared.remove(collection);
            }
        }
        let schema = self.of(collection).0.clone();
        if *schema == Schema::default() {
            self.judges.remove(collection);
        } else {
            self.judges.insert(collection.into(), Arc::new(Judge::of(&schema)));
        }
        self.ruled = self.judges.values().any(|judge| !judge.rules().is_empty());
    }
}

impl Replica {
    /// The schema in force for a collection.
    pub fn schema(&self, collection: &str) -> (&Arc<Schema>, Origin) {
        self.schemas.of(collection)
    }

    /// Names the schema that is declared for a collection; 0 where none is.
    pub fn schema_hash(&self, collection: &str) -> u64 {
        self.schemas.hashes.get(collection).copied().unwrap_or_default()
    }

    pub fn policies(&self) -> &Policies {
        &self.schemas.policies
    }

    /// What settles and judges a collection's documents.
    pub fn judge(&self, collection: &str) -> Arc<Judge> {
        self.schemas.judge(collection)
    }

    /// The advisor's model in force; `None`: it is off.
    pub fn advisor(&self) -> Option<&Arc<Standing>> {
        self.schemas.advisor()
    }

    /// A document as it reads now; `None` when it is hidden.
    pub fn view(&self, name: &str) -> Option<DocumentView> {
        self.show(name, self.state.document(name)?)
    }

    /// Whether the schema in force declares the field of a cell, or declares none; for a planted bug.
    pub(super) fn declares(&self, document: &str, key: &[u8]) -> bool {
        let schema = self.schemas.of(document.split('/').next().unwrap_or_default()).0;
        let field = CellKey::decode(key).map_or("", |key| key.field);
        field.is_empty() || schema.fields.is_empty() || schema.field(field).is_some()
    }

    fn definition(&self, name: &str) -> Option<String> {
        let view = self.view(name)?;
        view.fields.get(DEFINITION).map(|json| json.to_string())
    }

    fn reread_schema(&mut self, collection: &str, name: &str) {
        // A definition of a newer version may not parse here; then its fields replicate, and read as inferred.
        let declared = |text: String| Some((Schema::from_json(&text).ok()?, xxh3_64(text.as_bytes())));
        let schema = self.definition(name).and_then(declared);
        self.schemas.declare(collection, schema);
    }

    fn reread_policy(&mut self, policy: &str, name: &str) {
        match self.definition(name).and_then(|text| Policy::parse(&text).ok()) {
            Some(definition) => self.schemas.policies.put(policy, definition),
            None => self.schemas.policies.remove(policy),
        }
    }

    fn reread_advisor(&mut self, name: &str) {
        // A model of a newer version may not parse here; then the advisor is off at this node.
        let standing = self.definition(name).and_then(|text| Standing::parse(&text).ok());
        self.schemas.advisor = standing.map(Arc::new);
    }

    /// After a start: everything that is read out of documents.
    pub(super) fn reread_system_documents(&mut self, now: Now) {
        for collection in [super::member::COLLECTION, COLLECTION, POLICIES, ADVISOR, fence::COLLECTION] {
            let prefix = format!("{collection}/");
            let names = self.state.names_from(std::ops::Bound::Included(prefix.as_str())).map(|(name, _)| name.clone());
            let names: Vec<_> = names.take_while(|name| name.starts_with(&prefix)).collect();
            names.iter().for_each(|name| drop(self.reread(name, now)));
        }
        self.judge_everything(now);
    }

    /// Policies may ask how many members there are.
    fn recount_members(&mut self) -> Anew {
        let members = self.members.present().count();
        if std::mem::replace(&mut self.schemas.policies.members, members) == members || self.schemas.policies.is_empty()
        {
            return Anew::Nothing;
        }
        Anew::Everything
    }

    /// Gives what has to be judged anew for it.
    fn reread(&mut self, name: &str, now: Now) -> Anew {
        match name.split_once('/') {
            Some((super::member::COLLECTION, _)) => {
                self.reread_member(name, now);
                self.recount_members()
            }
            Some((fence::COLLECTION, _)) => {
                self.reread_fence(name, now);
                Anew::Nothing
            }
            Some((COLLECTION, collection)) => {
                self.reread_schema(collection, name);
                Anew::Collection(collection.to_owned())
            }
            Some((POLICIES, policy)) => {
                self.reread_policy(policy, name);
                Anew::Everything
            }
            Some((ADVISOR, ADVISOR_MODEL)) => {
                self.reread_advisor(name);
                Anew::Everything
            }
            _ => Anew::Nothing,
        }
    }

    /// Tells which documents changed, after what the engine itself reads in them was read anew.
    pub(super) fn tell_changes(&mut self, now: Now) {
        let mut changed = self.state.take_changed();
        if changed.is_empty() {
            return;
        }
        let mut anew = Anew::Nothing;
        for name in &changed {
            anew = anew.and(self.reread(name, now));
            self.record_document(name, now);
        }
        match &anew {
            Anew::Nothing => {}
            Anew::Collection(collection) => self.judge_all(Some(collection)),
            Anew::Everything => self.judge_all(None),
        }
        self.judge_changed(&changed, now);
        // One long join may touch a document many times; repeats of neighbours are gone already.
        changed.dedup();
        self.emit(Event::Changed(changed));
    }
}
