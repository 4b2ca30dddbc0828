//! What nodes are asked to have decided, and who is told what came of it.

use super::trace::What;
use super::world::World;
use crate::engine::ballot::{AskId, Outcome};
use crate::engine::hooks::Mutant;
use crate::engine::{Now, Replica};

impl World {
    /// Has a node ask about a document, and takes down what it writes by that: a node that is told at once writes at once. What
    /// it was told so is given back, since nobody knew under which id to wait for it.
    pub(super) fn ask_at(
        &mut self,
        host: usize,
        document: &str,
        ask: impl FnOnce(&mut Replica, Now) -> AskId,
    ) -> Option<(AskId, Option<Outcome>)> {
        let mut id = None;
        self.early = Some(Vec::new());
        self.locally(host, &[document.to_owned()], |replica, now| id = Some(ask(replica, now)));
        let early = self.early.take().unwrap_or_default();
        let id = id?;
        self.trace.step(self.now_us, host, What::Write, id.0);
        Some((id, early.into_iter().find(|(told, _)| *told == id).map(|(_, outcome)| outcome)))
    }

    /// A node tells what came of something that it was asked.
    pub(super) fn told(&mut self, host: usize, id: AskId, outcome: Outcome) {
        let known = self.decision_told(host, id, &outcome)
            || self.task_told(host, id, &outcome)
            || self.placement_told(host, id, &outcome)
            || self.vm_told(host, id, &outcome)
            || self.fence_told(host, id, &outcome)
            || self.eviction_told(host, id, &outcome);
        match &mut self.early {
            _ if known => {}
            Some(early) => early.push((id, outcome)),
            None => self.lock_told(host, id, outcome),
        }
    }

    /// What a process has to do by now of what it was told. One that stands still does it when it goes on.
    pub(super) fn tend_host(&mut self, host: usize) {
        if self.hosts[host].process.is_some() && !self.hosts[host].paused {
            self.follow_evictions(host);
            self.tend_vms(host);
        }
    }

    pub(super) fn planted(&self, host: usize, mutant: Mutant) -> bool {
        self.hosts[host].replica().is_some_and(|replica| replica.config().hooks.planted(mutant))
    }
}
