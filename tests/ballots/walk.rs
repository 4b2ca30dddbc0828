//! Drawn runs of a model whose states are too many to be tried one and all.

use folkmoot::sim::chance::Chance;
use stateright::{Expectation, Model};

/// Draws a run of at most so many steps, and gives whether all that always has to hold did, and its last state.
pub fn walk<M: Model>(model: &M, seed: u64, steps: usize) -> (bool, M::State)
where
    M::Action: Clone,
{
    let mut draw = Chance::new(seed);
    let mut state = model.init_states().remove(0);
    for _ in 0..steps {
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        if actions.is_empty() {
            break;
        }
        let after = |at: usize| model.next_state(&state, actions[at].clone());
        let at = draw.index(actions.len());
        let Some(next) = (at..actions.len()).chain(0..at).find_map(after) else { break };
        state = next;
        let mut always = model.properties().into_iter().filter(|property| property.expectation == Expectation::Always);
        if always.any(|property| !(property.condition)(model, &state)) {
            return (false, state);
        }
    }
    (true, state)
}

/// So many runs that CI has the time for them; with `FOLKMOOT_LONG=1` a hundred times as many.
pub fn runs() -> u64 {
    if std::env::var_os("FOLKMOOT_LONG").is_some() { 2_000_000 } else { 20_000 }
}
