//! What was acknowledged, and what may not be after it. Every answer of a node comes by here; what contradicts an earlier one
//! is wrong, and so is a node that holds anything else at the end.
//!
//! What a host holds is counted from when a placement was acknowledged until its release was asked for: it surely was there
//! for so long. Whoever has a task has it until its lease ran out, counted from before it was asked for, or until it was asked
//! to be let go. Nothing here knows of nodes or waits; the time is told.

use std::time::{Duration, Instant};

use crate::cli::chaos::{Fence, Said, Word as Written};
use crate::cli::replay::tight::crew::Crew;

/// So many of what is wrong are told in words; the rest is counted.
const TOLD_MAX: usize = 20;

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Done {
        token: u64,
        by: String,
    },
    /// For good.
    Failed {
        token: u64,
    },
    /// Cancelled, or asked to be while nobody had it.
    Cancelled,
}

#[derive(Debug)]
pub struct Story {
    pub id: String,
    pub created: bool,
    /// The highest token that was given out.
    pub token: u64,
    pub end: Option<End>,
    /// Under which token, and until when nobody else may have it.
    held: Option<(u64, Instant)>,
    /// What its work writes to.
    fence: Fence,
    /// The highest token of a write.
    wrote: u64,
}

#[derive(Debug)]
pub struct Host {
    pub id: String,
    pub limit_mib: u64,
    pub held_mib: u64,
    pub peak_mib: u64,
}

#[derive(Debug)]
pub struct Truth {
    pub stories: Vec<Story>,
    pub hosts: Vec<Host>,
    /// The most that all hosts held at once.
    pub peak_mib: u64,
    pub wrong: Vec<String>,
    pub wrongs: u64,
    begin: Instant,
}

impl Truth {
    pub fn new(ids: impl Iterator<Item = String>, crew: &Crew, begin: Instant) -> Self {
        let story =
            |id| Story { id, created: false, token: 0, end: None, held: None, fence: Fence::default(), wrote: 0 };
        let hosts = crew.hosts.iter().map(|host| Host {
            id: host.id.clone(),
            limit_mib: host.limit_mib,
            held_mib: 0,
            peak_mib: 0,
        });
        Self {
            stories: ids.map(story).collect(),
            hosts: hosts.collect(),
            peak_mib: 0,
            wrong: Vec::new(),
            wrongs: 0,
            begin,
        }
    }

    pub fn wrong(&mut self, what: String) {
        self.wrongs += 1;
        if self.wrong.len() < TOLD_MAX {
            self.wrong.push(what);
        }
    }

    pub fn created(&mut self, task: usize) {
        self.stories[task].created = true;
    }

    pub fn claimed(&mut self, task: usize, token: u64, asked: Instant, answered: Instant, lease: Duration) {
        let story = &mut self.stories[task];
        let (id, before) = (story.id.clone(), story.token);
        let (ended, held) = (story.end.clone(), story.held);
        story.token = before.max(token);
        story.held = Some((token, asked + lease));
        if let Some(end) = ended {
            self.wrong(format!("task {id} was handed out again after it was told {end:?}"));
        }
        if token <= before {
            self.wrong(format!("task {id} was handed out under the token {token} after {before}"));
        }
        if let Some((other, until)) = held.filter(|(_, until)| answered < *until) {
            let early = (until - answered).as_millis();
            self.wrong(format!(
                "task {id} was given to two: under {token}, {early} ms before the lease of {other} ended"
            ));
        }
    }

    pub fn extended(&mut self, task: usize, token: u64, asked: Instant, lease: Duration) {
        let story = &mut self.stories[task];
        if token < story.token {
            let words = format!("task {} was extended under {token} after {} was given out", story.id, story.token);
            return self.wrong(words);
        }
        story.held = Some((token, asked + lease));
    }

    /// Before it is asked for: from now on another may get it.
    pub fn lets_go(&mut self, task: usize, token: u64) {
        let story = &mut self.stories[task];
        story.held = story.held.filter(|(held, _)| *held != token);
    }

    pub fn ended(&mut self, task: usize, end: End) {
        let story = &mut self.stories[task];
        let (id, latest) = (story.id.clone(), story.token);
        let before = story.end.replace(end.clone());
        if let Some(before) = before.filter(|before| *before != end) {
            self.wrong(format!("task {id} was told {end:?} after it was told {before:?}"));
        }
        if let End::Done { token, .. } | End::Failed { token } = end
            && token < latest
        {
            self.wrong(format!("task {id} was ended under {token} after {latest} was given out"));
        }
    }

    pub fn placed(&mut self, host: usize, need_mib: u64) {
        let at = &mut self.hosts[host];
        at.held_mib += need_mib;
        at.peak_mib = at.peak_mib.max(at.held_mib);
        let beyond = at.held_mib > at.limit_mib;
        let words = format!("host {} holds {} of {} MiB", at.id, at.held_mib, at.limit_mib);
        self.peak_mib = self.peak_mib.max(self.hosts.iter().map(|host| host.held_mib).sum());
        if beyond {
            self.wrong(words);
        }
    }

    /// Before its release is asked for: from now on another may be placed there.
    pub fn leaves(&mut self, host: usize, need_mib: u64) {
        let at = &mut self.hosts[host];
        at.held_mib = at.held_mib.saturating_sub(need_mib);
    }

    /// A step of the work writes. Whether it was let through.
    pub fn writes(&mut self, task: usize, worker: u64, token: u64) -> bool {
        let now_us = self.begin.elapsed().as_micros() as u64;
        let story = &mut self.stories[task];
        story.wrote = story.wrote.max(token);
        let said = Said { worker: worker as usize, word: Written::Write { token } };
        let taken = story.fence.hear(&said, now_us).taken;
        let stale = std::mem::take(&mut story.fence.stale);
        let id = story.id.clone();
        for stale in stale {
            self.wrong(format!("task {id}: {stale}"));
        }
        taken
    }

    /// Whether somebody wrote under a higher token than this.
    pub fn is_overtaken(&self, task: usize, token: u64) -> bool {
        self.stories[task].wrote > token
    }

    pub fn ended_count(&self) -> usize {
        self.stories.iter().filter(|story| story.end.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::replay::tight::crew;

    const LEASE: Duration = Duration::from_secs(10);

    fn truth() -> (Truth, Instant) {
        let host = crew::Host { id: "h".into(), limit_mib: 100 };
        let crew = Crew { hosts: vec![host], peak_mib: 100, mean_mib: 1, factor: 1.0 };
        let now = Instant::now();
        (Truth::new(["a".to_owned()].into_iter(), &crew, now), now)
    }

    fn done(token: u64) -> End {
        End::Done { token, by: format!("w{token}") }
    }

    #[test]
    fn what_agrees_is_not_wrong() {
        let (mut truth, now) = truth();
        truth.created(0);
        truth.claimed(0, 3, now, now, LEASE);
        truth.extended(0, 3, now + LEASE / 2, LEASE);
        truth.placed(0, 100);
        assert!(truth.writes(0, 1, 3));
        truth.leaves(0, 100);
        truth.placed(0, 40);
        truth.claimed(0, 5, now + LEASE, now + LEASE * 2, LEASE);
        assert!(truth.writes(0, 2, 5));
        assert!(truth.is_overtaken(0, 3) && !truth.is_overtaken(0, 5));
        truth.ended(0, done(5));
        truth.ended(0, done(5));
        assert_eq!((truth.wrong.as_slice(), truth.hosts[0].peak_mib, truth.peak_mib), (&[][..], 100, 100));
    }

    #[test]
    fn a_host_beyond_its_memory_is_wrong() {
        let (mut truth, _) = truth();
        truth.placed(0, 60);
        truth.placed(0, 41);
        assert_eq!(truth.wrong, ["host h holds 101 of 100 MiB"]);
    }

    #[test]
    fn two_at_once_are_wrong_and_after_a_lease_or_a_word_they_are_not_two() {
        let (mut truth, now) = truth();
        truth.claimed(0, 1, now, now, LEASE);
        truth.claimed(0, 2, now, now + LEASE / 2, LEASE);
        assert!(truth.wrong[0].contains("given to two"), "{:?}", truth.wrong);
        truth.lets_go(0, 2);
        truth.claimed(0, 3, now, now + LEASE / 2, LEASE);
        assert_eq!(truth.wrongs, 1);
        truth.claimed(0, 3, now, now + LEASE, LEASE);
        assert!(truth.wrong[1].contains("under the token 3 after 3"), "{:?}", truth.wrong);
    }

    #[test]
    fn an_end_that_another_contradicts_is_wrong() {
        let (mut truth, now) = truth();
        truth.claimed(0, 1, now, now, LEASE);
        truth.ended(0, done(1));
        truth.claimed(0, 2, now, now + LEASE, LEASE);
        assert!(truth.wrong[0].contains("after it was told Done"), "{:?}", truth.wrong);
        truth.ended(0, End::Cancelled);
        truth.ended(0, done(1));
        assert!(truth.wrong.iter().any(|words| words.contains("ended under 1 after 2")), "{:?}", truth.wrong);
        assert_eq!(truth.wrongs, 4);
    }

    /// The check is the lab's; that it is asked, and heard, is seen here.
    #[test]
    fn an_old_token_does_not_pass_the_fence() {
        let (mut truth, _) = truth();
        assert!(truth.writes(0, 1, 7));
        assert!(!truth.writes(0, 2, 6));
        assert_eq!(truth.wrongs, 0);
    }

    #[test]
    fn no_more_is_told_than_can_be_read() {
        let (mut truth, _) = truth();
        (0..100).for_each(|n| truth.wrong(n.to_string()));
        assert_eq!((truth.wrong.len(), truth.wrongs), (TOLD_MAX, 100));
    }
}
