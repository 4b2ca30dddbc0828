//! Set difference at the cost of the difference: a rateless IBLT (Yang, Gilad, Alizadeh, "Practical Rateless Set
//! Reconciliation", SIGCOMM 2024).
//!
//! Each item takes part in the symbols of an endless sequence, ever more seldom: in symbol `i` with probability
//! `2 / (2 + i)` (section 4.1). One side sends its symbols block by block; the other subtracts its own, and peels: a
//! symbol that holds a single item gives that item away, which is then taken out of all others. Symbol 0 holds every
//! item, so once it is empty the difference is known whole. About 1.35 symbols are needed for each difference.
//!
//! Items are 64-bit hashes salted for each session, so nobody can prepare items that do not peel, and two entries that
//! share a hash in one session do not in the next. With blocks that grow by half and 1 M items on each side, a difference
//! of 1 / 100 / 10,000 items takes 57 B / 2.8 KB / 205 KB.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::document::codec::{DecodeError, Reader, Writer};

/// Symbols of the first block, and the most that one block holds.
const BLOCK_MIN: usize = 4;
const BLOCK_MAX: usize = 4096;

/// Symbols after which a comparison is given up: enough for a difference of 190,000 items, 3.6 MB.
pub const SYMBOLS_MAX: usize = 1 << 18;

/// How many symbols come after the first `have`.
pub fn next_block(have: usize) -> usize {
    (have / 2).clamp(BLOCK_MIN, BLOCK_MAX).min(SYMBOLS_MAX.saturating_sub(have))
}

/// The xor of the items in it, the xor of their checks, and how many there are (more on one side: below zero).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    items: u64,
    checks: u32,
    count: i64,
}

impl Symbol {
    fn fold(&mut self, item: u64, check: u32, count: i64) {
        self.items ^= item;
        self.checks ^= check;
        self.count = self.count.wrapping_add(count);
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The symbols that one item takes part in, in rising order. The first is 0.
#[derive(Clone, Copy, Debug)]
struct Course {
    next: u64,
    random: u64,
}

impl Course {
    fn of(item: u64) -> Self {
        // An odd state never reaches zero under the multiplier below.
        Self { next: 0, random: item | 1 }
    }

    /// Leaves one symbol for the next (section 4.2: the gap's distribution function, inverted).
    fn step(&mut self) {
        self.random = self.random.wrapping_mul(0xda94_2042_e4dd_58b5);
        // 53 bits make a double in (0, 1] exactly; square root, division and rounding are exact in IEEE 754, so every
        // machine walks the same course.
        let uniform = ((self.random >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let gap = ((self.next as f64 + 1.5) * (1.0 / uniform.sqrt() - 1.0)).ceil();
        // A gap beyond the last symbol anyone makes is as good as none.
        self.next += (gap as u64).clamp(1, 1 << 40);
    }
}

fn check_of(item: u64) -> u32 {
    (xxh3_64_with_seed(&item.to_le_bytes(), 0x1b17) >> 32) as u32
}

/// A set whose symbols are made block by block.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    items: Vec<(u64, Course)>,
    made: usize,
}

impl Encoder {
    pub fn new(items: impl IntoIterator<Item = u64>) -> Self {
        Self { items: items.into_iter().map(|item| (item, Course::of(item))).collect(), made: 0 }
    }

    /// Items in the set.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Symbols made so far.
    pub fn made(&self) -> usize {
        self.made
    }

    /// The next `count` symbols. Passes over all items once, so blocks should not stay small.
    pub fn block(&mut self, count: usize) -> Vec<Symbol> {
        let (start, end) = (self.made as u64, (self.made + count) as u64);
        let mut symbols = vec![Symbol::default(); count];
        for (item, course) in &mut self.items {
            while course.next < end {
                symbols[(course.next - start) as usize].fold(*item, check_of(*item), 1);
                course.step();
            }
        }
        self.made += count;
        symbols
    }
}

/// What two sets do not share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// In the set of the side that sent symbols only.
    pub theirs: Vec<u64>,
    /// In this side's set only.
    pub ours: Vec<u64>,
}

/// Takes the other side's symbols until the difference is known.
#[derive(Debug)]
pub struct Decoder {
    own: Encoder,
    symbols: Vec<Symbol>,
    /// Items of the difference: which side has it (1 theirs, -1 ours), and where it goes on.
    found: BTreeMap<u64, (i64, Course)>,
}

/// The symbols contradict each other or will not end: nothing can be said of the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hopeless;

impl Decoder {
    pub fn new(items: impl IntoIterator<Item = u64>) -> Self {
        Self { own: Encoder::new(items), symbols: Vec::new(), found: BTreeMap::new() }
    }

    /// Symbols taken so far.
    pub fn taken(&self) -> usize {
        self.symbols.len()
    }

    /// Takes the next symbols of the other side. `Some` once everything is known.
    pub fn take(&mut self, block: &[Symbol]) -> Result<Option<Difference>, Hopeless> {
        if self.symbols.len() + block.len() > SYMBOLS_MAX {
            return Err(Hopeless);
        }
        let start = self.symbols.len();
        let own = self.own.block(block.len());
        for (theirs, ours) in block.iter().zip(own) {
            let mut symbol = *theirs;
            symbol.fold(ours.items, ours.checks, ours.count.wrapping_neg());
            self.symbols.push(symbol);
        }
        let end = self.symbols.len() as u64;
        for (item, (side, course)) in &mut self.found {
            while course.next < end {
                self.symbols[course.next as usize].fold(*item, check_of(*item), -*side);
                course.step();
            }
        }
        self.peel((start..self.symbols.len()).collect())?;
        let known = self.symbols.first().is_some_and(Symbol::is_empty);
        Ok(known.then(|| self.difference()))
    }

    /// Takes single items out of all symbols until none is left alone. Each finding leaves one difference fewer, so
    /// honest symbols end it; those that do not are given up.
    fn peel(&mut self, mut look_at: Vec<usize>) -> Result<(), Hopeless> {
        while let Some(at) = look_at.pop() {
            let symbol = self.symbols[at];
            let alone = matches!(symbol.count, 1 | -1) && check_of(symbol.items) == symbol.checks;
            if !alone {
                continue;
            }
            let (item, side) = (symbol.items, symbol.count);
            // An item turns up once. Again, or more items than symbols, and the symbols are not those of two sets.
            if self.found.contains_key(&item) || self.found.len() >= self.symbols.len() {
                return Err(Hopeless);
            }
            let mut course = Course::of(item);
            while course.next < self.symbols.len() as u64 {
                let at = course.next as usize;
                self.symbols[at].fold(item, check_of(item), -side);
                look_at.push(at);
                course.step();
            }
            self.found.insert(item, (side, course));
        }
        Ok(())
    }

    fn difference(&self) -> Difference {
        let of = |side: i64| self.found.iter().filter(|(_, found)| found.0 == side).map(|(item, _)| *item).collect();
        Difference { theirs: of(1), ours: of(-1) }
    }
}

/// Writes symbols `start..` of a set of `items`: 12 bytes each, and how far the count is off what was to be expected.
pub fn write_symbols(w: &mut Writer, symbols: &[Symbol], start: usize, items: usize) {
    for (at, symbol) in symbols.iter().enumerate() {
        let off = symbol.count.wrapping_sub(expected(start + at, items));
        w.varint(((off << 1) ^ (off >> 63)) as u64);
        w.u64(symbol.items);
        w.raw(&symbol.checks.to_le_bytes());
    }
}

/// Reads symbols to the end of the input.
pub fn read_symbols(r: &mut Reader<'_>, start: usize, items: usize) -> Result<Vec<Symbol>, DecodeError> {
    let mut symbols = Vec::new();
    while !r.is_empty() {
        if symbols.len() == BLOCK_MAX {
            return Err(DecodeError::Bounds("the symbols of a block"));
        }
        let zigzag = r.varint()?;
        let off = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let count = expected(start + symbols.len(), items).wrapping_add(off);
        symbols.push(Symbol { count, items: r.u64()?, checks: u32::from_le_bytes(r.array()?) });
    }
    Ok(symbols)
}

fn expected(at: usize, items: usize) -> i64 {
    (2 * items as i64) / (2 + at as i64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn hash(n: u64) -> u64 {
        xxh3_64_with_seed(&n.to_le_bytes(), 7)
    }

    /// The difference as found over the wire form, and the bytes that took.
    fn compare(theirs: &[u64], ours: &[u64]) -> (Difference, usize) {
        let (mut encoder, mut decoder) = (Encoder::new(theirs.iter().copied()), Decoder::new(ours.iter().copied()));
        let mut bytes = 0;
        loop {
            let start = encoder.made();
            let block = encoder.block(next_block(start));
            let mut w = Writer::new();
            write_symbols(&mut w, &block, start, theirs.len());
            bytes += w.bytes.len();
            let read = read_symbols(&mut Reader::new(&w.bytes), start, theirs.len()).unwrap();
            assert_eq!(read, block);
            if let Some(difference) = decoder.take(&read).unwrap() {
                return (difference, bytes);
            }
        }
    }

    fn check(common: u64, only_theirs: u64, only_ours: u64, seed: u64) {
        let range = |from: u64, count: u64| (from..from + count).map(move |n| hash(n ^ (seed << 40)));
        let theirs: Vec<u64> = range(0, common + only_theirs).collect();
        let ours: Vec<u64> = range(0, common).chain(range(1 << 32, only_ours)).collect();
        let (difference, _) = compare(&theirs, &ours);
        let sets = (theirs.iter().copied().collect::<BTreeSet<_>>(), ours.iter().copied().collect::<BTreeSet<_>>());
        assert_eq!(difference.theirs, sets.0.difference(&sets.1).copied().collect::<Vec<_>>());
        assert_eq!(difference.ours, sets.1.difference(&sets.0).copied().collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn it_finds_what_brute_force_finds(common in 0u64..400, theirs in 0u64..80, ours in 0u64..80, seed: u32) {
            check(common, theirs, ours, u64::from(seed));
        }

        #[test]
        fn hostile_symbols_end(noise: Vec<(u64, u32, i8)>, ours in 0u64..20) {
            let mut decoder = Decoder::new((0..ours).map(hash));
            let symbol = |(items, checks, count): (u64, u32, i8)| Symbol { items, checks, count: count.into() };
            let noise: Vec<Symbol> = noise.into_iter().map(symbol).collect();
            let _ = decoder.take(&noise);
            // Single items that are all genuine, in symbols where they do not belong.
            let single = |n| Symbol { items: hash(n), checks: check_of(hash(n)), count: 1 };
            let _ = decoder.take(&(0..50).map(|n| single(n % 5)).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(noise: Vec<u8>, start: u32, items: u32) {
            let _ = read_symbols(&mut Reader::new(&noise), start as usize, items as usize);
        }
    }

    #[test]
    fn large_differences_are_found_too() {
        check(20_000, 5_000, 5_000, 1);
        check(0, 100_000, 0, 2);
        check(1_000, 0, 100_000, 3);
    }

    #[test]
    fn more_than_the_bound_is_given_up() {
        let mut encoder = Encoder::new((0..2_000_000).map(hash));
        let mut decoder = Decoder::new([]);
        let ended = loop {
            let block = encoder.block(BLOCK_MAX);
            match decoder.take(&block) {
                Ok(None) => {}
                other => break other,
            }
        };
        assert_eq!((ended, decoder.taken()), (Err(Hopeless), SYMBOLS_MAX));
    }

    #[test]
    fn the_cost_is_that_of_the_difference() {
        let million: Vec<u64> = (0..1_000_000).map(hash).collect();
        for (differences, bytes_max) in [(1, 102), (100, 7_000), (10_000, 259_000)] {
            let (difference, bytes) = compare(&million, &million[differences..]);
            assert_eq!((difference.theirs.len(), difference.ours.len()), (differences, 0));
            println!("{differences} differences: {bytes} bytes");
            assert!(bytes <= bytes_max, "{differences} differences took {bytes} bytes");
        }
    }
}
