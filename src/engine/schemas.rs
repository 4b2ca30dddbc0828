//! Schemas in force: the replicated documents `schemas/<collection>`, else the built-in ones, else none.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::Event;
use super::replica::Replica;
use crate::document::builtin::builtins;
use crate::document::schema::Schema;
use crate::document::view::DocumentView;

pub const COLLECTION: &str = "schemas";
/// The field that holds a schema's definition, as JSON.
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

#[derive(Debug)]
pub struct Schemas {
    declared: BTreeMap<Box<str>, Arc<Schema>>,
    builtin: BTreeMap<&'static str, Arc<Schema>>,
    none: Arc<Schema>,
}

impl Default for Schemas {
    fn default() -> Self {
        let builtin = builtins().iter().map(|(name, schema)| (name.as_str(), Arc::new(schema.clone()))).collect();
        Self { declared: BTreeMap::new(), builtin, none: Arc::default() }
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
}

impl Replica {
    /// The schema in force for a collection.
    pub fn schema(&self, collection: &str) -> (&Arc<Schema>, Origin) {
        self.schemas.of(collection)
    }

    /// A document as it reads now; `None` when it is hidden.
    pub fn view(&self, name: &str) -> Option<DocumentView> {
        let document = self.state.document(name)?;
        let collection = name.split('/').next().unwrap_or_default();
        DocumentView::of(document, self.schemas.of(collection).0, &self.state.roster)
    }

    fn reread_schema(&mut self, name: &str) {
        let Some(collection) = name.strip_prefix("schemas/") else { return };
        let view = self.view(name);
        let definition = view.as_ref().and_then(|view| view.fields.get(DEFINITION));
        // A definition of a newer version may not parse here; then its fields replicate, and read as inferred.
        match definition.and_then(|json| Schema::from_json(&json.to_string()).ok()) {
            Some(schema) => self.schemas.declared.insert(collection.into(), Arc::new(schema)),
            None => self.schemas.declared.remove(collection),
        };
    }

    /// After a start: everything that is read out of documents.
    pub(super) fn reread_system_documents(&mut self) {
        for collection in [super::member::COLLECTION, COLLECTION] {
            let prefix = format!("{collection}/");
            let names = self.state.names_from(std::ops::Bound::Included(prefix.as_str())).map(|(name, _)| name.clone());
            let names: Vec<_> = names.take_while(|name| name.starts_with(&prefix)).collect();
            names.iter().for_each(|name| self.reread(name));
        }
    }

    fn reread(&mut self, name: &str) {
        if name.starts_with("members/") {
            self.reread_member(name);
        } else if name.starts_with("schemas/") {
            self.reread_schema(name);
        }
    }

    /// Tells which documents changed, after what the engine itself reads in them was read anew.
    pub(super) fn tell_changes(&mut self) {
        let mut changed = self.state.take_changed();
        if changed.is_empty() {
            return;
        }
        changed.iter().for_each(|name| self.reread(name));
        // One long join may touch a document many times; repeats of neighbours are gone already.
        changed.dedup();
        self.emit(Event::Changed(changed));
    }
}
