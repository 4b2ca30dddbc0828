//! What lies beyond a fence is taken in by nobody who knows of the fence, unless another member had it before that heard of
//! it: such a member's state is taken over whole.

use std::collections::BTreeMap;

use super::{Verdict, wrong};
use crate::clock::{Incarnation, ReplicaId};
use crate::engine::Replica;
use crate::engine::fence::{Fence, FenceState};

/// How far replicas that clients fence came at members other than their own.
#[derive(Debug, Default)]
pub struct Reach {
    replicas: BTreeMap<ReplicaId, Course>,
}

#[derive(Debug, Default)]
struct Course {
    highest: u64,
    /// For each fence, the last seq that anybody had who did not know it.
    unaware: Vec<(Fence, u64)>,
    /// What each process knew after its last step.
    knows: BTreeMap<Incarnation, Fence>,
}

impl Reach {
    /// From now on this replica is looked at; `seq`: the most that any member but its own has of it.
    pub fn follow(&mut self, replica: ReplicaId, seq: u64) {
        self.replicas.entry(replica).or_insert(Course { highest: seq, ..Course::default() });
    }

    pub fn replicas(&self) -> Vec<ReplicaId> {
        self.replicas.keys().copied().collect()
    }

    /// After every step of a node.
    pub fn check(&mut self, at: &Replica) -> Verdict {
        let me = at.id();
        for (replica, course) in self.replicas.iter_mut().filter(|(replica, _)| replica.node != me.node) {
            let Some(slot) = at.state().roster.slot(replica) else { continue };
            let seq = at.state().clock.get(slot);
            if let Err(most) = course.step(me.incarnation, at.fence(slot), seq) {
                let text = format!(
                    "took in {replica:?} up to {seq}, beyond its fence; nobody who had not heard of that had more than {most}"
                );
                return wrong("fences", text);
            }
        }
        Ok(())
    }
}

impl Course {
    /// What comes in one step with the news of a fence came before it.
    fn step(&mut self, at: Incarnation, fence: Option<&Fence>, seq: u64) -> Result<(), u64> {
        let fence = fence.filter(|fence| fence.state != FenceState::Released);
        let knew = self.knows.get(&at).filter(|knew| Some(*knew) == fence).is_some();
        if !knew {
            let highest = self.highest;
            let new = fence.filter(|fence| !self.unaware.iter().any(|(known, _)| known == *fence));
            self.unaware.extend(new.map(|fence| (fence.clone(), highest)));
            match fence {
                Some(fence) => drop(self.knows.insert(at, fence.clone())),
                None => drop(self.knows.remove(&at)),
            }
        }
        self.highest = self.highest.max(seq);
        for (of, most) in &mut self.unaware {
            if knew && Some(&*of) == fence {
                if seq > of.seq.max(*most) {
                    return Err(*most);
                }
            } else {
                *most = seq.max(*most);
            }
        }
        Ok(())
    }
}
