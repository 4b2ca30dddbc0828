//! `text`: collaborative text. Concurrent edits of one text both stay, each where it was made.
//! Costs kilobytes and keeps its history: for what people write, not for what churns.

use automerge::transaction::Transactable;
use automerge::{ObjType, ROOT, ReadDoc};

use super::collaborative::{EditError, KEY, edited, merged};
use super::live::{Change, Live, State};
use crate::clock::ReplicaId;

/// `None` when no live entry holds a text.
pub fn read(live: &[Live<'_>]) -> Option<String> {
    if live.is_empty() {
        return None;
    }
    let document = merged(live, ObjType::Text).ok()?;
    document.text(object(&document).ok()?).ok()
}

/// Makes the text `new`, as the smallest edit that does.
pub fn set(state: &State<'_>, me: ReplicaId, new: &str) -> Result<Option<Change>, EditError> {
    let what = [b"set:", new.as_bytes()].concat();
    edited(state, me, ObjType::Text, &what, |document| {
        let text = object(document)?;
        Ok(document.update_text(&text, new)?)
    })
}

/// Deletes `delete` characters at `at`, then inserts there. Positions count Unicode code points.
pub fn splice(
    state: &State<'_>,
    me: ReplicaId,
    at: usize,
    delete: usize,
    insert: &str,
) -> Result<Option<Change>, EditError> {
    let what = [format!("splice:{at}:{delete}:").as_bytes(), insert.as_bytes()].concat();
    edited(state, me, ObjType::Text, &what, |document| {
        let text = object(document)?;
        let len = document.length(&text);
        let inside = at.checked_add(delete).is_some_and(|end| end <= len);
        let signed = isize::try_from(delete).ok().filter(|_| inside);
        let signed = signed.ok_or(EditError::Outside { at, delete, len })?;
        Ok(document.splice_text(&text, at, signed, insert)?)
    })
}

fn object(document: &impl ReadDoc) -> Result<automerge::ObjId, EditError> {
    let found = document.get(ROOT, KEY)?;
    let text = found.filter(|(value, _)| matches!(value, automerge::Value::Object(ObjType::Text)));
    text.map(|(_, id)| id).ok_or_else(|| EditError::Automerge("the document holds no text".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Dot, HybridTime, Incarnation, NodeId, Slot};

    fn replica(n: u8) -> ReplicaId {
        ReplicaId { node: NodeId([n; 32]), incarnation: Incarnation([n; 16]) }
    }

    fn state<'a>(values: &[&'a [u8]]) -> State<'a> {
        let entry = |(i, value): (usize, &&'a [u8])| {
            let dot = Dot::new(Slot(i as u32), 1);
            Live { dot, replica: replica(i as u8), at: HybridTime(1), value }
        };
        State { live: values.iter().enumerate().map(entry).collect(), ..State::default() }
    }

    fn value(change: Result<Option<Change>, EditError>) -> Vec<u8> {
        change.unwrap().unwrap().value.unwrap()
    }

    #[test]
    fn concurrent_edits_of_one_text_both_stay() {
        let first = value(set(&state(&[]), replica(1), "the fox"));
        let a = value(splice(&state(&[&first]), replica(1), 4, 0, "quick "));
        let b = value(set(&state(&[&first]), replica(2), "the fox jumps"));
        for both in [[&a[..], &b], [&b, &a]] {
            assert_eq!(read(&state(&both).live).unwrap(), "the quick fox jumps");
        }
        let settled = value(set(&state(&[&a, &b]), replica(1), "the quick fox jumped"));
        assert_eq!(read(&state(&[&settled]).live).unwrap(), "the quick fox jumped");
    }

    #[test]
    fn texts_begun_apart_merge_into_one() {
        let (a, b) = (value(set(&state(&[]), replica(1), "left")), value(set(&state(&[]), replica(2), "right")));
        let text = read(&state(&[&a, &b]).live).unwrap();
        assert!(text == "leftright" || text == "rightleft", "{text}");
    }

    #[test]
    fn a_writer_that_removed_a_text_may_start_it_anew_beside_edits_of_the_old_one() {
        let old = value(set(&state(&[]), replica(1), "old"));
        let edited_elsewhere = value(set(&state(&[&old]), replica(2), "old and edited"));
        let anew = value(set(&state(&[]), replica(1), "new"));
        let text = read(&state(&[&edited_elsewhere, &anew]).live).unwrap();
        assert!(text.contains("old and edited") && text.contains("new"), "{text}");
    }

    #[test]
    fn the_same_edit_gives_the_same_bytes_and_no_edit_gives_none() {
        let first = value(set(&state(&[]), replica(1), "a"));
        assert_eq!(first, value(set(&state(&[]), replica(1), "a")));
        assert_eq!(set(&state(&[&first]), replica(1), "a").unwrap(), None);
        assert!(matches!(splice(&state(&[&first]), replica(1), 1, 1, ""), Err(EditError::Outside { len: 1, .. })));
    }

    #[test]
    fn bytes_that_are_no_document_are_passed_over() {
        let good = value(set(&state(&[]), replica(1), "good"));
        assert_eq!(read(&state(&[b"garbage", &good]).live).unwrap(), "good");
    }
}
