//! The ops of a batch as bytes.

use std::hint::black_box;
use std::time::Instant;

use super::bench::{Bench, Case, Target};
use super::fixture::{document, field_key, value};
use crate::clock::{Dot, HybridTime, Slot};
use crate::document::batch::{Batch, Dots, OpReader, OpRef, OpWriter, OwnSlots};
use crate::engine::limits::GROUP_BYTES_MAX;
use crate::engine::message::Message;

/// Fields changed in each document: what a report of a worker touches.
const FIELDS: usize = 4;

pub fn measure(bench: &mut dyn Bench) {
    let texts: Vec<(String, Vec<u8>, Vec<u8>)> =
        (0..4_096).map(|n| (document(n / FIELDS), field_key(n % FIELDS), value(n))).collect();
    let ops: Vec<OpRef<'_>> =
        texts.iter().zip(1..).map(|((name, key, value), seq)| own_op(name, key, value, seq)).collect();
    let first = 5_000;
    let mut writer = OpWriter::new(Slot(0), OwnSlots);
    let fits = ops.iter().zip(first..).take_while(|(op, seq)| {
        let fits = writer.len() < GROUP_BYTES_MAX;
        if fits {
            writer.push(*seq, op);
        }
        fits
    });
    let count = fits.count();
    let bytes = writer.into_bytes();
    let payload: usize = texts.iter().take(count).map(|(_, _, value)| value.len()).sum();
    bench.time(Case::new("encode one op of a full frame", Target::AtMost(20.0)), &mut |n| {
        let start = Instant::now();
        let mut left = n;
        while left > 0 {
            let mut writer = OpWriter::new(Slot(0), OwnSlots);
            let now = left.min(count as u64);
            ops.iter().zip(first..).take(now as usize).for_each(|(op, seq)| writer.push(seq, black_box(op)));
            black_box(writer.into_bytes());
            left -= now;
        }
        start.elapsed()
    });
    let batch = Batch { replica: Slot(0), first, count, signature: [0; 64], ops: &bytes };
    bench.time(Case::new("decode one op of a full frame", Target::AtMost(40.0)), &mut |n| {
        let start = Instant::now();
        let mut left = n;
        while left > 0 {
            let now = left.min(count as u64);
            let read = OpReader::new(black_box(&batch), OwnSlots).take(now as usize);
            read.for_each(|op| {
                let _ = black_box(op);
            });
            left -= now;
        }
        start.elapsed()
    });
    let frame = Message::Batch { batch, prompt: false }.encode().len();
    let beside = (frame - payload) as f64 / count as f64;
    bench.value(
        Case::new(format!("bytes per op beside its value, {count} ops a frame"), Target::AtMost(28.0)),
        "B",
        beside,
    );
}

/// Rewrites a cell that this replica wrote some time ago.
fn own_op<'a>(document: &'a str, key: &'a [u8], value: &'a [u8], seq: u64) -> OpRef<'a> {
    let at = HybridTime::from_ms(1_700_000_000_000 + seq / 8);
    let supersedes = Dots::from_slice(&[Dot::new(Slot(0), seq)]);
    OpRef { document, key, value: Some(value), at, supersedes }
}
