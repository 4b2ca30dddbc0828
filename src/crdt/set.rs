//! Sets: `gset` and `orset`. Each element is a cell of its own, named by the element's encoded value; the element is in
//! the set while the cell has a live entry. A remove supersedes the entries it saw, so a concurrent add, whose entry it
//! did not see, wins.

use super::live::{Change, State};

/// An add of its own, also of an element that is there: only a fresh entry survives a concurrent remove.
pub fn add(state: &State<'_>) -> Change {
    state.replace(Vec::new())
}

/// Makes sure the element is there; writes nothing when it is. What a grow-only set needs, and a replacing write.
pub fn ensure(state: &State<'_>) -> Option<Change> {
    state.live.is_empty().then(|| add(state))
}

/// `None` when the element is not there.
pub fn remove(state: &State<'_>) -> Option<Change> {
    state.remove()
}
