//! What documents say that the audit reads: decisions and other notes about conflicts, policies, schemas. Each is on record
//! at every node it reaches, by whom it says, with the clock that one could go back to.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::events::{MANUAL, nodes, present, text};
use super::log::brief;
use crate::clock::{Dot, HybridTime, NodeId};
use crate::conflict::policy::To;
use crate::engine::escalation::{COLLECTION, ESCALATED};
use crate::engine::io::Now;
use crate::engine::replica::Replica;
use crate::history::audit::detail::{BEFORE, NODES, STRATEGY, VALUE};
use crate::history::audit::{Kind, Mark};

impl Replica {
    /// What a changed document means by itself: a decision, a policy, a schema.
    pub(in crate::engine) fn record_document(&mut self, name: &Arc<str>, now: Now) {
        if !self.audit.awake {
            return;
        }
        match name.split_once('/') {
            Some((COLLECTION, id)) => self.record_decision(id, name, now),
            Some(("policies" | "schemas", _)) => self.record_definition(name, now),
            _ => {}
        }
    }

    fn record_decision(&mut self, id: &str, name: &Arc<str>, now: Now) {
        let Some(decision) = self.decision(id) else { return };
        let kind = match decision.get("status").and_then(Json::as_str) {
            Some("resolved") => Kind::Resolved,
            Some("reopened") => Kind::Reopened,
            Some("undone") => Kind::Undone,
            Some(ESCALATED) => return self.record_escalated(id, name, &decision, now),
            _ => return,
        };
        // A note keeps who decided first beside who took it back.
        let by = match kind {
            Kind::Reopened => text(&decision, "reopened_by"),
            Kind::Undone => text(&decision, "undone_by").or_else(|| text(&decision, "by")),
            _ => text(&decision, "by"),
        };
        let writer = self.writer_of(name).map(|node| node.to_string());
        let (document, field) = (text(&decision, "document"), text(&decision, "field"));
        let before = self.mark_before(&[name, document.as_deref().unwrap_or_default()]);
        let outcome = match kind {
            Kind::Resolved => "decided",
            Kind::Reopened => "reopened",
            _ => "undone",
        };
        self.audit.counts.resolved(MANUAL, outcome);
        let siblings = decision.get("siblings").and_then(Json::as_array);
        let replicas = siblings.into_iter().flatten().filter_map(|sibling| sibling["replica"].as_str());
        let detail = json!({
            STRATEGY: MANUAL, VALUE: decision.get("value").map(brief), "how": decision.get("how").map(brief),
            NODES: nodes(replicas), "dot": decision.get("dot"), "written_at": writer,
            BEFORE: before.map(|mark| mark.to_value()),
        });
        let mut entry = self.entry(kind, now).conflict(id);
        (entry.document, entry.field) = (document, field);
        entry.actor = by.or(writer).unwrap_or(entry.actor);
        self.record(entry.detail(present(detail)));
    }

    /// Who waited is in the siblings; what is done about it, and by which policy, is in the note.
    fn record_escalated(&mut self, id: &str, name: &Arc<str>, note: &Map<String, Json>, now: Now) {
        let Some(to) = text(note, "to").and_then(|to| To::named(&to)) else { return };
        let writer = self.writer_of(name).map(|node| node.to_string());
        self.audit.counts.resolved(to.name(), ESCALATED);
        let mut entry = self.entry(Kind::Escalated, now).conflict(id);
        (entry.document, entry.field) = (text(note, "document"), text(note, "field"));
        entry.actor = text(note, "by").or_else(|| writer.clone()).unwrap_or(entry.actor);
        let detail = json!({
            "to": to.name(), "policy": note.get("policy"), "noted_ms": note.get("at_ms"), "written_at": writer,
        });
        self.record(entry.detail(present(detail)));
    }

    fn record_definition(&mut self, name: &Arc<str>, now: Now) {
        let view = self.view(name);
        let definition = view.as_ref().and_then(|view| view.fields.get(crate::engine::schemas::DEFINITION));
        let hash = definition.map(|json| blake3::hash(json.to_string().as_bytes()).to_hex()[..32].to_owned());
        let before = self.mark_before(&[name]).map(|mark| mark.to_value());
        let mut entry = self.entry(Kind::PolicyChanged, now).document(&**name);
        entry.actor = self.writer_of(name).map_or(entry.actor, |node| node.to_string());
        let detail = json!({
            "definition": definition.map(brief), "hash": hash, "removed": definition.is_none(), BEFORE: before,
        });
        self.record(entry.detail(present(detail)));
    }

    pub(super) fn decision(&self, id: &str) -> Option<Map<String, Json>> {
        Some(self.view(&decision_name(id))?.fields)
    }

    /// The newest op of a document.
    fn newest_of(&self, name: &str) -> Option<(Dot, HybridTime)> {
        let entries = self.state.document(name)?.cells().flat_map(|cell| cell.entries());
        let rank = |entry: &crate::document::cell::EntryRef<'_>| {
            (entry.at, *self.state.roster.id(entry.dot.slot()), entry.dot.seq())
        };
        entries.max_by_key(rank).map(|entry| (entry.dot, entry.at))
    }

    /// The node that wrote it last.
    pub(super) fn writer_of(&self, name: &str) -> Option<NodeId> {
        self.newest_of(name).map(|(dot, _)| self.state.roster.id(dot.slot()).node)
    }

    /// Where the state stood before the transaction that wrote the first of these documents last: one transaction has
    /// one stamp, so its first op is the lowest of that stamp in any of them.
    pub(super) fn mark_before(&self, names: &[&str]) -> Option<Mark> {
        let (newest, at) = self.newest_of(names.first()?)?;
        let documents = names.iter().filter_map(|name| self.state.document(name));
        let entries = documents.flat_map(|document| document.cells()).flat_map(|cell| cell.entries());
        let same = entries.filter(|entry| entry.at == at && entry.dot.slot() == newest.slot());
        let first = same.map(|entry| entry.dot.seq()).min()?;
        let clock = self.state.clock.iter().map(|(slot, seq)| {
            let seq = if slot == newest.slot() { seq.min(first - 1) } else { seq };
            (*self.state.roster.id(slot), seq)
        });
        Some(Mark::new(HybridTime(at.0.saturating_sub(1)), clock.filter(|(_, seq)| *seq > 0).collect()))
    }
}

pub(super) fn decision_name(id: &str) -> String {
    format!("{COLLECTION}/{id}")
}
