//! Which event becomes which record.
//!
//! | event | record |
//! |---|---|
//! | a conflict that waits for somebody, or is critical | `detected`, always |
//! | a conflict that a resolver settles | `detected` and `resolved`; grouped when there are many |
//! | ... with the value from before the writes that met | `detected` and `rolled_back` |
//! | a conflict over many documents | `detected`, and `resolved` when it ends; grouped when there are many |
//! | a conflict that waited and is over | `resolved`, by whoever wrote over it |
//! | a decision, `conflicts/<id>`, of whatever node | `resolved`, `reopened` or `undone`, by whom it says |
//! | a conflict that waited for too long, `conflicts/<id>` too | `escalated`, by the node that says so |
//! | a settled conflict whose value a decision changed | `overruled` |
//! | `policies/…`, `schemas/…` | `policy_changed` |
//! | `members/…` | `member_changed`: joined, left, evicted, back |
//! | an alarm, a store that was rebuilt | `damage` |
//!
//! `voted` is for ballots, which nothing holds yet.

use serde_json::{Map, Value as Json, json};

use super::decisions::decision_name;
use super::log::brief;
use crate::clock::NodeId;
use crate::conflict::Conflict;
use crate::document::Sibling;
use crate::document::rule::Severity;
use crate::engine::alarm::Alarm;
use crate::engine::ballot::Voters;
use crate::engine::io::Now;
use crate::engine::member::Member;
use crate::engine::replica::Replica;
use crate::history::audit::detail::{BEFORE, NODES, STRATEGY, VALUE};
use crate::history::audit::{Entry, Kind};

/// The strategy that is a person.
pub(super) const MANUAL: &str = "manual";
/// The strategy that is no decision: somebody wrote over the siblings.
const WRITE: &str = "write";
/// Resolvers that may show the value from before the writes that met.
const GOING_BACK: [&str; 2] = ["rollback", "discard"];
/// Nodes named in one record.
const NODES_MAX: usize = 16;

impl Replica {
    pub(super) fn entry(&self, kind: Kind, now: Now) -> Entry {
        Entry::new(kind, self.id.node.to_string(), now.wall_ms)
    }

    pub(super) fn record_detected(&mut self, conflict: &Conflict, now: Now) {
        self.record_found(conflict, conflict.status.waits() || conflict.severity == Severity::Critical, now);
    }

    /// One of those that a rule over many documents found: it may be one of thousands, whatever it is about.
    pub(super) fn record_one_of_many(&mut self, conflict: &Conflict, now: Now) {
        self.record_found(conflict, false, now);
    }

    /// `always`: however many there are.
    fn record_found(&mut self, conflict: &Conflict, always: bool, now: Now) {
        if !self.audit.awake {
            return;
        }
        self.audit.counts.detected(conflict);
        let settled = !conflict.status.waits();
        let strategy = conflict.resolver.unwrap_or("none");
        self.audit.counts.resolved(strategy, if settled { "settled" } else { "waits" });
        let mono_ms = now.mono_ms();
        if !always && !self.audit.flood.takes(1 + u64::from(settled), mono_ms) {
            return self.audit.flood.group(Kind::Detected, conflict, strategy, mono_ms);
        }
        let detail = json!({
            NODES: nodes_of(conflict), "class": conflict.class, "severity": conflict.severity, "status": conflict.status,
            "resolver": conflict.resolver, "policy": conflict.policy, "rule": conflict.rule, "cause": conflict.cause,
            "others": conflict.others.iter().take(NODES_MAX).collect::<Vec<_>>(),
        });
        self.record(about(self.entry(Kind::Detected, now), conflict).detail(present(detail)));
        if settled {
            self.record_settled(conflict, now);
        }
    }

    fn record_settled(&mut self, conflict: &Conflict, now: Now) {
        let value = conflict.value.as_ref().map(brief);
        let detail = json!({ STRATEGY: conflict.resolver, VALUE: value, "policy": conflict.policy });
        let kind = if went_back(conflict) { Kind::RolledBack } else { Kind::Resolved };
        let mut entry = about(self.entry(kind, now), conflict).detail(present(detail));
        if let Some(policy) = &conflict.policy {
            entry.actor = format!("policy/{policy}");
        }
        self.record(entry);
    }

    /// It stands otherwise than before: settled by what changed around it, or not any more.
    pub(super) fn record_turned(&mut self, before: &Conflict, conflict: &Conflict, now: Now) {
        match (before.status.waits(), conflict.status.waits()) {
            (_, false) if before.stands_otherwise(conflict) => {
                let (strategy, mono_ms) = (conflict.resolver.unwrap_or("none"), now.mono_ms());
                self.audit.counts.resolved(strategy, "settled");
                self.audit.counts.applied(conflict);
                // A policy may turn thousands in one step.
                match self.audit.flood.takes(1, mono_ms) {
                    true => self.record_settled(conflict, now),
                    false => self.audit.flood.group(Kind::Resolved, conflict, strategy, mono_ms),
                }
            }
            (false, true) => {
                let detail =
                    json!({ "status": conflict.status, "resolver": conflict.resolver, "cause": conflict.cause });
                self.record(about(self.entry(Kind::Reopened, now), conflict).detail(present(detail)));
            }
            _ => {}
        }
    }

    pub(super) fn record_ended(&mut self, conflict: &Conflict, now: Now) {
        if !self.audit.awake {
            return;
        }
        let decision = self.decision(&conflict.id).filter(by_somebody);
        match (conflict.status.waits(), decision) {
            // The decision is a record of its own.
            (true, Some(_)) => {}
            (true, None) => {
                self.audit.counts.resolved(WRITE, "settled");
                let mut entry = about(self.entry(Kind::Resolved, now), conflict);
                entry.actor = self.writer_of(&conflict.document).map_or(entry.actor, |node| node.to_string());
                let field = conflict.field.as_deref().unwrap_or_default();
                let view = self.view(&conflict.document);
                let value = view.as_ref().and_then(|view| view.fields.get(field)).map(brief);
                self.record(entry.detail(present(json!({ STRATEGY: WRITE, VALUE: value }))));
            }
            (false, Some(decision)) if conflict.value.as_ref() != decision.get("value") => {
                let mut entry = about(self.entry(Kind::Overruled, now), conflict);
                entry.actor = text(&decision, "by").unwrap_or(entry.actor);
                let shown = conflict.value.as_ref().map(brief);
                let value = decision.get("value").map(brief);
                let before = self.mark_before(&[&decision_name(&conflict.id), &conflict.document]);
                let before = before.map(|mark| mark.to_value());
                self.audit.counts.resolved(MANUAL, "overruled");
                self.record(entry.detail(present(json!({ "shown": shown, VALUE: value, BEFORE: before }))));
            }
            (false, _) => {}
        }
    }

    /// The end of one of many. `missed`: while no process was there to see who ended it.
    pub(super) fn record_end_of_many(&mut self, conflict: &Conflict, missed: bool, now: Now) {
        // The decision is a record of its own.
        if missed && self.decision(&conflict.id).is_some_and(|decision| by_somebody(&decision)) {
            return;
        }
        let mono_ms = now.mono_ms();
        if !self.audit.flood.takes(1, mono_ms) {
            self.audit.counts.resolved(WRITE, "settled");
            return self.audit.flood.group(Kind::Resolved, conflict, WRITE, mono_ms);
        }
        if !missed {
            return self.record_ended(conflict, now);
        }
        self.audit.counts.resolved(WRITE, "settled");
        let detail = json!({ STRATEGY: WRITE, "rule": conflict.rule, "missed": true });
        self.record(about(self.entry(Kind::Resolved, now), conflict).detail(present(detail)));
    }

    pub(in crate::engine) fn record_member(
        &mut self,
        node: &NodeId,
        before: Option<&Member>,
        after: Option<&Member>,
        now: Now,
    ) {
        if !self.audit.awake {
            return;
        }
        let is_in = |member: Option<&Member>| member.is_some_and(|member| !member.left);
        let name = format!("members/{node}");
        let by = self.writer_of(&name);
        let change = match (before, is_in(before), is_in(after)) {
            (None, _, true) => "joined",
            (Some(_), false, true) => "back",
            (_, true, false) if by == Some(*node) => "left",
            (_, true, false) => "evicted",
            _ => return,
        };
        let called = after.or(before).map(|member| member.name.clone());
        let mut entry = self.entry(Kind::MemberChanged, now).document(name);
        entry.actor = by.map_or(entry.actor, |node| node.to_string());
        self.record(entry.detail(present(json!({ "change": change, "name": called }))));
    }

    /// Voters were given up for lost, here.
    pub(in crate::engine) fn record_recovery(&mut self, voters: &Voters, now: Now) {
        let entry = self.entry(Kind::MemberChanged, now);
        self.record(entry.detail(json!({ "change": "voters_recovered", "version": voters.version })));
    }

    pub(in crate::engine) fn record_alarm(&mut self, alarm: &Alarm, now: Now) {
        let entry = self.entry(Kind::Damage, now);
        self.record(entry.detail(json!({ "alarm": alarm.kind(), "text": alarm.to_string() })));
    }

    pub(super) fn close_flood(&mut self, now: Now) {
        while let Some((kind, detail)) = self.audit.flood.close(now.mono_ms()) {
            let entry = self.entry(kind, now);
            self.record(entry.detail(detail));
        }
    }
}

/// Whether what holds is none of the values that met, but the one before them.
fn went_back(conflict: &Conflict) -> bool {
    let is_shown = |sibling: &Sibling| Some(&sibling.value) == conflict.value.as_ref();
    let back = conflict.resolver.is_some_and(|resolver| GOING_BACK.contains(&resolver));
    back && !conflict.siblings.is_empty() && !conflict.siblings.iter().any(is_shown)
}

/// Whether a note says that somebody ended the conflict.
fn by_somebody(decision: &Map<String, Json>) -> bool {
    decision["status"] == "resolved" || decision["status"] == "undone"
}

fn about(entry: Entry, conflict: &Conflict) -> Entry {
    let entry = entry.conflict(conflict.id.as_str()).document(conflict.document.as_str());
    match &conflict.field {
        Some(field) => entry.field(field.as_str()),
        None => entry,
    }
}

/// The nodes whose writes met.
fn nodes_of(conflict: &Conflict) -> Vec<String> {
    nodes(conflict.siblings.iter().map(|sibling| sibling.replica.as_str()))
}

pub(super) fn nodes<'a>(replicas: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut nodes: Vec<String> = replicas.filter_map(|id| Some(id.split('/').next()?.to_owned())).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.truncate(NODES_MAX);
    nodes
}

pub(super) fn text(fields: &Map<String, Json>, name: &str) -> Option<String> {
    fields.get(name).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Without the members that say nothing.
pub(super) fn present(mut detail: Json) -> Json {
    if let Json::Object(members) = &mut detail {
        members.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()));
    }
    detail
}
