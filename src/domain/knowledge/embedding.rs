//! Embeddings: their cosine, and a signature of 256 bits by which near ones are found without looking at all numbers.
//!
//! Each bit is the side of a plane on which the vector lies; two vectors at angle α differ in a share α/π of the bits
//! (Charikar, "Similarity Estimation Techniques from Rounding Algorithms", STOC 2002). The planes come from a fixed
//! seed, so every node has the same.

use xxhash_rust::xxh3::xxh3_64_with_seed;

const WORDS: usize = 4;

/// Bits of a signature.
pub const BITS: u32 = 64 * WORDS as u32;

const SEED: u64 = 0x6b6e_6f77;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u64; WORDS]);

impl Signature {
    pub fn of(vector: &[f32]) -> Self {
        let mut sums = [0.0f64; BITS as usize];
        for (dimension, x) in (0u64..).zip(vector) {
            let x = f64::from(*x);
            for (word, sums) in (0u64..).zip(sums.chunks_exact_mut(64)) {
                let signs = xxh3_64_with_seed(&dimension.to_le_bytes(), SEED + word);
                for (bit, sum) in sums.iter_mut().enumerate() {
                    *sum += if signs >> bit & 1 == 1 { x } else { -x };
                }
            }
        }
        let mut words = [0u64; WORDS];
        for (word, sums) in words.iter_mut().zip(sums.chunks_exact(64)) {
            *word = sums.iter().rev().fold(0, |bits, sum| bits << 1 | u64::from(*sum > 0.0));
        }
        Self(words)
    }

    pub fn distance(&self, other: &Self) -> u32 {
        self.0.iter().zip(&other.0).map(|(a, b)| (a ^ b).count_ones()).sum()
    }
}

/// Bits in which vectors of at least this cosine differ, but for one in a thousand: the mean and three deviations.
pub fn distance_max(cosine: f64) -> u32 {
    let share = cosine.clamp(-1.0, 1.0).acos() / std::f64::consts::PI;
    let bits = f64::from(BITS);
    (bits * share + 3.0 * (bits * share * (1.0 - share)).sqrt()).ceil() as u32
}

/// `None` for vectors of different lengths or without a direction. Sums in order, so every node gets the same.
pub fn cosine(one: &[f32], other: &[f32]) -> Option<f64> {
    if one.len() != other.len() {
        return None;
    }
    let (mut dot, mut ones, mut others) = (0.0f64, 0.0f64, 0.0f64);
    for (a, b) in one.iter().zip(other) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        (dot, ones, others) = (dot + a * b, ones + a * a, others + b * b);
    }
    let cosine = dot / (ones.sqrt() * others.sqrt());
    cosine.is_finite().then_some(cosine.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(seed: u64) -> Vec<f32> {
        let at = |n: u64| xxh3_64_with_seed(&n.to_le_bytes(), seed) as f64 / u64::MAX as f64 - 0.5;
        (0..384).map(|n| at(n) as f32).collect()
    }

    fn between(one: &[f32], other: &[f32], share: f32) -> Vec<f32> {
        one.iter().zip(other).map(|(a, b)| a * (1.0 - share) + b * share).collect()
    }

    #[test]
    fn near_vectors_have_near_signatures_and_others_do_not() {
        for seed in 0..40 {
            let (one, stranger) = (vector(2 * seed), vector(2 * seed + 1));
            let near = between(&one, &stranger, 0.2);
            let (cos, distance) = (cosine(&one, &near).unwrap(), Signature::of(&one).distance(&Signature::of(&near)));
            assert!(distance <= distance_max(cos), "cosine {cos}: {distance} bits");
            let far = Signature::of(&one).distance(&Signature::of(&stranger));
            assert!(far > distance_max(0.9), "a stranger differs in {far} bits only");
        }
    }

    #[test]
    fn cosine_is_of_directions() {
        assert_eq!(cosine(&[2.0, 0.0], &[5.0, 0.0]), Some(1.0));
        assert_eq!(cosine(&[1.0, 0.0], &[-1.0, 0.0]), Some(-1.0));
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 0.0]), None);
        assert_eq!(cosine(&[1.0], &[1.0, 0.0]), None);
        assert_eq!(cosine(&[f32::MAX; 9], &[f32::MAX; 9]).map(|cosine| cosine > 0.999), Some(true));
    }
}
