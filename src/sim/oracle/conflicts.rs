//! Conflicts follow from the state alone: nodes with equal clocks list the same ones, under the same ids, settled alike; the
//! list that is kept in step is the list made anew; and no value is overruled that the ledger does not hold.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Verdict, wrong};
use crate::conflict::Conflict;
use crate::document::{Document, DocumentView};
use crate::engine::Replica;

/// All conflicts of a node, by id. Two under one id are a finding of their own.
fn listed(replica: &Replica) -> Result<BTreeMap<&str, &Conflict>, String> {
    let mut by_id = BTreeMap::new();
    for conflict in replica.conflicts().iter() {
        if by_id.insert(conflict.id.as_str(), conflict).is_some() {
            return Err(format!("two conflicts are called {}", conflict.id));
        }
    }
    Ok(by_id)
}

/// Holds nodes with equal clocks to equal conflicts and equal answers.
pub fn check_alike<'a>(replicas: impl IntoIterator<Item = &'a Replica>) -> Verdict {
    let mut replicas = replicas.into_iter();
    let Some(first) = replicas.next() else { return Ok(()) };
    let expected = listed(first).or_else(|text| wrong("conflicts", text).map(|()| BTreeMap::new()))?;
    for other in replicas {
        let found = listed(other).or_else(|text| wrong("conflicts", text).map(|()| BTreeMap::new()))?;
        if found == expected {
            continue;
        }
        let differs = |(id, conflict): &(&&str, &&Conflict)| expected.get(**id) != Some(*conflict);
        let lacks = expected.iter().find(|(id, _)| !found.contains_key(**id)).map(|(_, conflict)| *conflict);
        let text = match (found.iter().find(differs), lacks) {
            (Some((id, conflict)), _) => format!("{conflict:?} at one node, {:?} at another", expected.get(*id)),
            (None, lacks) => format!("one node lists {lacks:?}, another does not"),
        };
        return wrong("conflicts", text);
    }
    Ok(())
}

/// Holds the list that a node keeps to the one that its state gives, and what it kept for readers to what it would say.
pub fn check_list(replica: &Replica) -> Verdict {
    for (name, document) in replica.state().names_from(Bound::Unbounded) {
        let (kept, anew) = (replica.conflicts().of(name), replica.judged(name));
        if kept != anew {
            return wrong("conflicts", format!("{name}: the list says {kept:?}, the state {anew:?}"));
        }
        check_read(replica, name, document)?;
    }
    Ok(())
}

/// The same, for the documents that have conflicts. While some wait to be judged, only reads are held to the state.
pub fn check_open(replica: &Replica) -> Verdict {
    for conflict in replica.conflicts().within() {
        let anew = replica.judged(&conflict.document);
        if !replica.conflicts().is_behind() && !anew.iter().any(|other| **other == *conflict) {
            return wrong("conflicts", format!("the list says {conflict:?}, the state says {anew:?}"));
        }
        if let Some(document) = replica.state().document(&conflict.document) {
            check_read(replica, &conflict.document, document)?;
        }
    }
    Ok(())
}

fn check_read(replica: &Replica, name: &str, document: &Document) -> Verdict {
    let (read, anew) = (replica.show(name, document), replica.show_anew(name, document));
    let fields = |view: &Option<DocumentView>| view.as_ref().map(|view| view.fields.clone());
    match (fields(&read), fields(&anew)) {
        (read, anew) if read == anew => Ok(()),
        (read, anew) => wrong("conflicts", format!("{name} reads {read:?}, settled anew it is {anew:?}")),
    }
}

/// Every value that stands beside another now is in the ledger.
pub fn check_ledger(replica: &Replica, names: &[std::sync::Arc<str>]) -> Verdict {
    let ledger = replica.conflicts().ledger();
    for conflict in names.iter().flat_map(|name| replica.conflicts().of(name)) {
        let field = conflict.field.as_deref().unwrap_or_default();
        if let Some(sibling) = conflict.siblings.iter().find(|sibling| !ledger.knows(&sibling.dot, field)) {
            let text =
                format!("{} {field}: {} is a sibling, and the ledger does not know it", conflict.document, sibling.dot);
            return wrong("ledger", text);
        }
    }
    Ok(())
}
