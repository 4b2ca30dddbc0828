//! An acknowledged write is never lost while its acknowledged durability holds: on a disk that kept its word, it is
//! there at the next start; once all is healed, it is everywhere.

use std::collections::BTreeMap;

use super::ledger::{GlobalDot, Ledger};
use super::state::Shadow;
use super::{Verdict, wrong};

/// One disk, at one time: a disk that was tampered with counts as another.
pub type DiskEpoch = (usize, u64);

/// What clients were told.
#[derive(Debug, Default)]
pub struct Promises {
    /// The highest own seq, for each replica, that was acknowledged as being on its node's own disk.
    local: BTreeMap<u32, (u64, DiskEpoch)>,
    /// Dots acknowledged as being on several disks, with those disks.
    wide: Vec<(GlobalDot, Vec<DiskEpoch>)>,
    /// Replicas whose disk broke its word before anyone else had to have it.
    pub acknowledged: u64,
    pub unknown: u64,
}

impl Promises {
    pub fn local(&mut self, dot: GlobalDot, disk: DiskEpoch) {
        self.acknowledged += 1;
        let promise = self.local.entry(dot.0).or_insert((0, disk));
        *promise = (promise.0.max(dot.1), disk);
    }

    pub fn wide(&mut self, dot: GlobalDot, disks: Vec<DiskEpoch>) {
        self.acknowledged += 1;
        self.wide.push((dot, disks));
    }

    /// At a start: the disk has all that was acknowledged on it.
    pub fn check_start(&self, disk: DiskEpoch, shadow: &Shadow, ledger: &Ledger) -> Verdict {
        for (replica, (seq, on)) in &self.local {
            if *on == disk && !shadow.covers((*replica, *seq)) {
                let name = ledger.name((*replica, *seq));
                return wrong(
                    "durability",
                    format!("{name} was acknowledged as durable here, and is gone after a start"),
                );
            }
        }
        for (dot, disks) in &self.wide {
            if disks.contains(&disk) && !shadow.covers(*dot) {
                return wrong(
                    "durability",
                    format!("{} was acknowledged as durable here, and is gone", ledger.name(*dot)),
                );
            }
        }
        Ok(())
    }

    /// At the end: whatever some disk still in use had to keep, everyone has.
    pub fn check_end(&self, in_use: &[DiskEpoch], shadow: &Shadow, ledger: &Ledger) -> Verdict {
        let local = self.local.iter().map(|(replica, (seq, disk))| ((*replica, *seq), vec![*disk]));
        for (dot, disks) in local.chain(self.wide.iter().cloned()) {
            if disks.iter().any(|disk| in_use.contains(disk)) && !shadow.covers(dot) {
                return wrong("durability", format!("{} was acknowledged as durable, and is lost", ledger.name(dot)));
            }
        }
        Ok(())
    }
}
