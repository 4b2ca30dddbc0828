//! Seeds spread over threads, their outcomes handed back in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

/// Outcomes that may wait for an earlier one, for each thread: a seed that takes long does not stop the others.
const AHEAD_MAX: usize = 64;

/// Runs `work` for each number of `range` on `jobs` threads; gives `take` the results in order until it says `false`.
pub fn in_order<T: Send>(
    range: std::ops::RangeInclusive<u64>,
    jobs: usize,
    work: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(T) -> bool,
) {
    let (next, stop) = (AtomicU64::new(*range.start()), AtomicBool::new(false));
    let (sender, receiver) = sync_channel(jobs * AHEAD_MAX);
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next, stop, work, last) = (sender.clone(), &next, &stop, &work, *range.end());
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at > last || stop.load(Ordering::Relaxed) || sender.send((at, work(at))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut due, mut early) = (*range.start(), BTreeMap::new());
        while let Ok((at, result)) = receiver.recv() {
            early.insert(at, result);
            while let Some(result) = early.remove(&due) {
                due += 1;
                if !stop.load(Ordering::Relaxed) && !take(result) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_stop_when_told() {
        let mut taken = Vec::new();
        in_order(
            1..=500,
            4,
            |n| n * 2,
            |n| {
                taken.push(n);
                taken.len() < 300
            },
        );
        assert_eq!(taken, (1..=300).map(|n| n * 2).collect::<Vec<_>>());
    }
}
