//! Local writes at the replica, with a disk that answers after a millisecond: planned, applied, grouped, signed, and
//! handed to the disk, all included.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::bench::{Bench, Case, Target};
use super::fixture::{self, Disk, Jumps, Time, document, field};
use crate::document::{Address, Edit, Write};
use crate::engine::Replica;

const DOCUMENTS: usize = 50_000;
const FIELDS: usize = 20;

pub fn measure(bench: &mut dyn Bench) {
    let time = Time::start();
    let mut replica = fixture::replica(1, fixture::state(DOCUMENTS, FIELDS), time.now());
    let (mut disk, mut jumps) = (Disk::default(), Jumps::default());
    // The fixture's own rows go to the disk first.
    if let [write] = &writes(1, &mut |n| set_one(&mut jumps, n))[..] {
        let _ = replica.write(std::slice::from_ref(write), false, time.now());
    }
    disk.serve(&mut replica, time.now(), drop);
    // No value is set twice: that would write nothing.
    let mut set = 0;
    bench.time(Case::new("write `memory`: set one field of one of 50 k documents", Target::AtMost(500.0)), &mut |n| {
        let writes = writes(n, &mut |_| {
            set += 1;
            set_one(&mut jumps, set)
        });
        write_all(&mut replica, &mut disk, &time, &writes)
    });
    bench.time(Case::new("write `memory`: increment a counter", Target::AtMost(500.0)), &mut |n| {
        let writes = writes(n, &mut |_| {
            let edit = Edit::Incr { field: "restarts".to_owned(), by: 1 };
            (document(jumps.below(DOCUMENTS)), Write::Upsert(vec![edit]))
        });
        write_all(&mut replica, &mut disk, &time, &writes)
    });
    bench.time(Case::new("write `memory`: put a new document of 3 fields", Target::None), &mut |n| {
        let writes = writes(n, &mut |n| {
            let fields = json!({ "state": "running", "side": "west", "n": n });
            let fields = if let Json::Object(fields) = fields { fields } else { Default::default() };
            (format!("bench/new-{n}-{}", jumps.below(usize::MAX)), Write::Put(fields))
        });
        write_all(&mut replica, &mut disk, &time, &writes)
    });
}

fn set_one(jumps: &mut Jumps, n: u64) -> (String, Write) {
    let edit = Edit::Set { field: field(jumps.below(FIELDS)), value: json!(format!("stopped-{n:06}")) };
    (document(jumps.below(DOCUMENTS)), Write::Upsert(vec![edit]))
}

fn writes(n: u64, write: &mut dyn FnMut(u64) -> (String, Write)) -> Vec<(Address, Write)> {
    let write = |n| {
        let (name, write) = write(n);
        Address::parse(&name).ok().map(|address| (address, write))
    };
    (0..n).filter_map(write).collect()
}

fn write_all(replica: &mut Replica, disk: &mut Disk, time: &Time, writes: &[(Address, Write)]) -> Duration {
    let start = Instant::now();
    for write in writes {
        let now = time.now();
        let written = replica.write(std::slice::from_ref(write), false, now);
        assert!(written.is_ok_and(|written| written.seq.is_some()), "every write writes");
        disk.serve(replica, now, drop);
    }
    start.elapsed()
}
