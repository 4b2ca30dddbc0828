//! Which documents have values that rival each other, and which of them wait to be judged.

use std::ops::Bound;
use std::sync::Arc;

use super::State;
use crate::clock::{Dot, HybridTime};
use crate::crdt::{FieldKind, map};
use crate::document::Document;
use crate::document::cell::{CellKey, CellRef};

/// One of several values that a register had at once.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Rival {
    pub document: Arc<str>,
    pub key: Box<[u8]>,
    pub dot: Dot,
    pub at: HybridTime,
    pub value: Vec<u8>,
}

/// What is known of one document.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dispute {
    /// Contested registers that have siblings now.
    contested: u32,
    /// What it was judged to be is kept.
    judged: bool,
    /// It changed since, and was told among the disputed, or is to be judged by something else.
    stale: bool,
}

impl State {
    /// Counts the contested registers with siblings, and takes down the values that rival each other.
    pub(super) fn note_siblings(&mut self, at: u32, old: CellRef<'_>, new: CellRef<'_>, (had, has): (bool, bool)) {
        let Some(kind) = CellKey::decode(new.key).and_then(|key| register_kind(&key)) else { return };
        let stored = &mut self.stored[at as usize];
        if kind == FieldKind::Contested {
            let before = stored.dispute.contested;
            stored.dispute.contested = (before + u32::from(has)).saturating_sub(u32::from(had));
            match (before, stored.dispute.contested) {
                (0, 1..) => _ = self.contested.insert(stored.name.clone()),
                (1.., 0) => _ = self.contested.remove(&stored.name),
                _ => {}
            }
        }
        if has {
            // Those that stood beside others before were taken down then.
            let told = |dot: Dot| had && old.entries().any(|entry| entry.dot == dot);
            let rivals = new.entries().filter(|entry| !told(entry.dot)).filter_map(|entry| {
                let value = entry.value?.to_vec();
                let (document, key) = (stored.name.clone(), new.key.into());
                Some(Rival { document, key, dot: entry.dot, at: entry.at, value })
            });
            self.siblings.extend(rivals);
        }
    }

    /// A cell of the document changed: what was judged of it holds no more.
    pub(super) fn note_dispute(&mut self, at: u32) {
        let stored = &mut self.stored[at as usize];
        let dispute = &mut stored.dispute;
        if (dispute.contested > 0 || dispute.judged) && !std::mem::replace(&mut dispute.stale, true) {
            self.disputed.push(stored.name.clone());
        }
    }

    /// The values that came to stand beside others since this was last asked.
    pub(in crate::engine) fn take_siblings(&mut self) -> Vec<Rival> {
        std::mem::take(&mut self.siblings)
    }

    /// Documents that changed since this was last asked and have siblings, or were judged to.
    pub(in crate::engine) fn take_disputed(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.disputed)
    }

    /// Notes that the document is judged as it is, and whether anything is kept of it: then it is told when it changes.
    pub(in crate::engine) fn set_judged(&mut self, name: &str, kept: bool) {
        if let Some(at) = self.find(name) {
            let dispute = &mut self.stored[at as usize].dispute;
            (dispute.judged, dispute.stale) = (kept, false);
        }
    }

    /// What judges the document is another now.
    pub(in crate::engine) fn set_stale(&mut self, name: &str) {
        if let Some(at) = self.find(name) {
            self.stored[at as usize].dispute.stale = true;
        }
    }

    /// Whether this is the document of that name, and judged as it is.
    pub(in crate::engine) fn is_judged(&self, name: &str, document: &Document) -> bool {
        let stored = self.find(name).map(|at| &self.stored[at as usize]);
        stored.is_some_and(|stored| {
            stored.dispute.judged && !stored.dispute.stale && std::ptr::eq(&raw const stored.document, document)
        })
    }

    /// Every document with a contested register that has siblings, whatever its schema says of it; in order of names.
    pub(in crate::engine) fn contested<'a>(&'a self, collection: Option<&str>) -> impl Iterator<Item = &'a Arc<str>> {
        let prefix = collection.map(|collection| format!("{collection}/")).unwrap_or_default();
        let names = self.contested.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        names.take_while(move |name| name.starts_with(&prefix))
    }
}

/// The kind of a cell in which one value overrules others: a register, or one key of a map.
fn register_kind(key: &CellKey<'_>) -> Option<FieldKind> {
    let kind = match FieldKind::from_tag(key.tag)? {
        FieldKind::Map => map::decode_key(key.sub)?.0,
        kind => kind,
    };
    let overrules = matches!(kind, FieldKind::Lww | FieldKind::Fww | FieldKind::Max | FieldKind::Min);
    (overrules || matches!(kind, FieldKind::Contested | FieldKind::Mv)).then_some(kind)
}
