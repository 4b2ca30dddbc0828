//! What the workers of a contest write to, and what they say of themselves meanwhile.
//!
//! The fence is the check of a protected thing: it refuses a token below the highest that it has seen. What it let through
//! is looked at apart from that check, so that a check that is missing is found. All times are the lab's, in µs; a worker
//! converts its own before it tells them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Of late writes so many are told; the rest is counted.
const LATE_MAX: usize = 100;

/// A line from a worker. Each is answered by a [`Reply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub worker: usize,
    #[serde(flatten)]
    pub word: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "kebab-case")]
pub enum Word {
    /// What time is it?
    Clock,
    /// It asks for the thing from now on.
    Asks,
    /// It has it since `at_us`; by its own count until `until_us`, from before it asked.
    Granted {
        token: u64,
        at_us: u64,
        until_us: u64,
    },
    /// It asks to begin the lease anew.
    Renews {
        token: u64,
        at_us: u64,
    },
    /// It may: until then, by its own count.
    Renewed {
        token: u64,
        until_us: u64,
    },
    /// It knows that it does not have it any more, or that it is about to lose it, and stops.
    Told {
        token: u64,
        at_us: u64,
    },
    Write {
        token: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub now_us: u64,
    /// Of a write: whether it was let through.
    pub taken: bool,
}

/// The time during which a worker had the thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    pub worker: usize,
    pub token: u64,
    /// Since when it knew.
    pub from_us: u64,
    /// Until then nobody else may have it, by its own count.
    pub until_us: u64,
    /// When it asked for each renewal.
    pub renews_us: Vec<u64>,
    pub told_us: Option<u64>,
}

/// A write under a token that is not the highest any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    pub at_us: u64,
    pub worker: usize,
    pub token: u64,
}

#[derive(Debug, Default)]
pub struct Fence {
    /// The highest token that was seen: what is checked.
    seen: u64,
    /// The highest token of a write that was let through, with who wrote: what it is held to.
    let_through: u64,
    pub writes: usize,
    pub refused: usize,
    pub late: Vec<Late>,
    /// Writes that were let through after one under a higher token.
    pub stale: Vec<String>,
    /// In order of their tokens.
    pub tenures: BTreeMap<u64, Tenure>,
    /// Tokens that were given out twice.
    pub twice: Vec<String>,
    pub asking: BTreeSet<usize>,
    /// Who wrote last.
    pub writer: Option<usize>,
}

impl Fence {
    pub fn hear(&mut self, said: &Said, now_us: u64) -> Reply {
        let worker = said.worker;
        let mut taken = false;
        match said.word {
            Word::Clock => {}
            Word::Asks => drop(self.asking.insert(worker)),
            Word::Granted { token, at_us, until_us } => self.grant(worker, token, at_us, until_us),
            Word::Renews { token, at_us } => self.of(token, |tenure| tenure.renews_us.push(at_us)),
            Word::Renewed { token, until_us } => {
                self.of(token, |tenure| tenure.until_us = tenure.until_us.max(until_us));
            }
            Word::Told { token, at_us } => self.of(token, |tenure| tenure.told_us = tenure.told_us.or(Some(at_us))),
            Word::Write { token } => taken = self.write(worker, token, now_us),
        }
        Reply { now_us, taken }
    }

    fn grant(&mut self, worker: usize, token: u64, from_us: u64, until_us: u64) {
        match self.tenures.get(&token) {
            // Asked again, it comes to the same grant.
            Some(known) if known.worker == worker => {}
            Some(other) => {
                self.twice.push(format!("w{worker} and w{} were both given the token {token}", other.worker))
            }
            None => {
                let tenure = Tenure { worker, token, from_us, until_us, renews_us: Vec::new(), told_us: None };
                self.tenures.insert(token, tenure);
            }
        }
    }

    fn of(&mut self, token: u64, change: impl FnOnce(&mut Tenure)) {
        if let Some(tenure) = self.tenures.get_mut(&token) {
            change(tenure);
        }
    }

    /// Whether it is let through.
    fn write(&mut self, worker: usize, token: u64, at_us: u64) -> bool {
        self.writer = Some(worker);
        let known = self.seen.max(self.let_through);
        let taken = self.passes(token);
        if taken && token < self.let_through {
            self.stale.push(format!(
                "a write of w{worker} under the token {token} was let through after one under {}",
                self.let_through
            ));
        }
        match taken {
            true => (self.writes, self.let_through) = (self.writes + 1, self.let_through.max(token)),
            false => self.refused += 1,
        }
        if token < known && self.late.len() < LATE_MAX {
            self.late.push(Late { at_us, worker, token });
        }
        taken
    }

    /// The check.
    fn passes(&mut self, token: u64) -> bool {
        let passes = token >= self.seen;
        self.seen = self.seen.max(token);
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(worker: usize, token: u64) -> Said {
        Said { worker, word: Word::Write { token } }
    }

    #[test]
    fn a_write_under_an_older_token_is_refused_and_kept_account_of() {
        let mut fence = Fence::default();
        assert!(fence.hear(&write(0, 1), 10).taken);
        assert!(fence.hear(&write(1, 2), 20).taken);
        assert!(!fence.hear(&write(0, 1), 30).taken);
        assert!(fence.hear(&write(1, 2), 40).taken);
        assert_eq!((fence.writes, fence.refused, fence.stale.len()), (3, 1, 0));
        assert_eq!(fence.late, [Late { at_us: 30, worker: 0, token: 1 }]);
    }

    /// What a missing check lets through is found by looking at what was let through.
    #[test]
    fn what_was_let_through_is_looked_at_apart_from_the_check() {
        let mut fence = Fence { let_through: 2, ..Fence::default() };
        assert!(fence.hear(&write(0, 1), 10).taken, "nothing was seen yet");
        assert_eq!(fence.stale.len(), 1);
    }

    #[test]
    fn lines_read_back_to_what_was_said() {
        let said = Said { worker: 3, word: Word::Granted { token: 7, at_us: 1, until_us: 2 } };
        let line = serde_json::to_string(&said).unwrap();
        assert_eq!(line, r#"{"worker":3,"says":"granted","token":7,"at_us":1,"until_us":2}"#);
        assert_eq!(serde_json::from_str::<Said>(&line).unwrap(), said);
    }

    #[test]
    fn a_token_that_two_were_given_is_told() {
        let mut fence = Fence::default();
        for worker in 0..2 {
            fence.hear(&Said { worker, word: Word::Granted { token: 4, at_us: 1, until_us: 9 } }, 1);
        }
        assert_eq!(fence.twice, ["w1 and w0 were both given the token 4"]);
        fence.hear(&Said { worker: 0, word: Word::Granted { token: 4, at_us: 5, until_us: 99 } }, 5);
        assert_eq!((fence.twice.len(), fence.tenures[&4].until_us), (1, 9), "asked again, it is the first grant");
    }
}
