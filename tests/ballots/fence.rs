//! A lock over a register, holders who pause for as long as they like, and a resource that checks tokens. No clock is trusted:
//! a lease may run out at any moment as far as the others are concerned, while its holder knows nothing of it.

use folkmoot::engine::ballot::Lock;
use folkmoot::engine::ballot::lock::{LockChange, LockVerdict, RequestId, Waiter};
use stateright::{Checker, Model, Property};

#[derive(Clone, Debug)]
struct Fenced {
    holders: u8,
    /// Times that each tries to get the lock.
    attempts: u8,
    /// The resource refuses tokens below the highest that it saw.
    checks: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct State {
    lock: Lock,
    holders: Vec<Holder>,
    /// Writes on their way to the resource, which arrive in any order.
    writes: Vec<(u8, u64)>,
    /// The tokens of the writes that it took, in order.
    taken: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Holder {
    attempts: u8,
    /// The token it believes to hold the lock with.
    token: Option<u64>,
    wrote: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// Asks for the lock; `impatient`: as one who takes the lease for run out.
    Acquire {
        holder: u8,
        impatient: bool,
    },
    Release(u8),
    Write(u8),
    Arrive(usize),
}

impl State {
    fn ask(&mut self, change: &LockChange) -> LockVerdict {
        change.apply(&mut self.lock)
    }
}

impl Model for Fenced {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { holders: vec![Holder::default(); usize::from(self.holders)], ..State::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (n, holder) in (0..).zip(&state.holders) {
            if holder.token.is_none() && holder.attempts < self.attempts {
                actions.push(Action::Acquire { holder: n, impatient: false });
                actions.push(Action::Acquire { holder: n, impatient: true });
            }
            if holder.token.is_some() {
                actions.push(Action::Release(n));
                if !holder.wrote {
                    actions.push(Action::Write(n));
                }
            }
        }
        actions.extend((0..state.writes.len()).map(Action::Arrive));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Acquire { holder, impatient } => {
                let lock = state.lock.clone();
                let attempts = state.holders[usize::from(holder)].attempts;
                let request = RequestId(u128::from(holder) * 100 + u128::from(attempts));
                let waiter = Waiter { holder: format!("h{holder}"), request, lease_ms: 1_000 };
                let out = |held: &folkmoot::engine::ballot::lock::Holding| held.expired(lock.token);
                let expired = lock.held.as_ref().filter(|_| impatient).map(out);
                let verdict = state.ask(&LockChange::Acquire { waiter, waits: false, expired });
                let at = &mut state.holders[usize::from(holder)];
                at.attempts += 1;
                if let LockVerdict::Granted(lock) = verdict {
                    (at.token, at.wrote) = (Some(lock.token), false);
                }
            }
            Action::Release(holder) => {
                let token = state.holders[usize::from(holder)].token.take()?;
                state.ask(&LockChange::Release { token });
            }
            Action::Write(holder) => {
                let at = &mut state.holders[usize::from(holder)];
                at.wrote = true;
                state.writes.push((holder, at.token?));
            }
            Action::Arrive(at) => {
                let (_, token) = state.writes.remove(at);
                let highest = state.taken.iter().max().copied().unwrap_or_default();
                if !self.checks || token >= highest {
                    state.taken.push(token);
                }
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "the resource takes no write of a holder after one of a later holder",
                |_, state: &State| state.taken.is_sorted(),
            ),
            Property::always("no two hold the lock under one token", |_, state: &State| {
                let mut tokens: Vec<u64> = state.holders.iter().filter_map(|holder| holder.token).collect();
                let all = tokens.len();
                tokens.sort_unstable();
                tokens.dedup();
                tokens.len() == all
            }),
            Property::sometimes("a holder is overtaken", |_, state: &State| {
                state.holders.iter().filter(|holder| holder.token.is_some()).count() > 1
            }),
        ]
    }
}

#[test]
fn tokens_keep_the_writes_of_holders_apart_whatever_the_clocks_do() {
    let checker = Fenced { holders: 3, attempts: 2, checks: true }.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    println!("{} states", checker.unique_state_count());
}

#[test]
fn a_resource_that_does_not_check_takes_a_stale_write() {
    let model = Fenced { holders: 2, attempts: 1, checks: false };
    let name = "the resource takes no write of a holder after one of a later holder";
    model.checker().spawn_bfs().join().assert_any_discovery(name);
}
