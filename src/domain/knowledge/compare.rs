//! Two texts to a verdict. A contradiction is looked for first: claims that cannot both be true share most of their
//! words, and would pass for duplicates.

use std::fmt;

use super::claim::{Claim, Reading, Sort, Term};
use super::contrast::{Alignment, Contrast, Tie, same};

/// What one item is to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Both cannot be true.
    Contradiction,
    /// Whoever knows one learns nothing from the other.
    Duplicate,
    /// A part of one is said by the other too.
    Overlap,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Class::Contradiction => "contradiction",
            Class::Duplicate => "duplicate",
            Class::Overlap => "overlap",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is looked for, and how far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Likeness from which two texts are duplicates, 0 to 1. Lower finds looser paraphrases and mistakes neighbours for
    /// them.
    pub duplicate: f64,
    /// Share of a clause that the other text must say too for an overlap, 0 to 1.
    pub overlap: f64,
    /// Cosine from which two embeddings count as alike. It depends on the model: take it from pairs you know.
    pub cosine: f64,
    /// Only items said within this time of each other are compared, ms.
    pub window_ms: u64,
    /// Most items that one check compares in full; the likeliest come first.
    pub candidates: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { duplicate: 0.85, overlap: 0.65, cosine: 0.9, window_ms: u64::MAX, candidates: 32 }
    }
}

/// What decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Why {
    /// Words both say, as the first says them.
    pub shared: Vec<String>,
    /// What stands against each other: "`8080` / `9090`".
    pub opposed: Vec<String>,
    /// Of the embeddings, when both have one.
    pub cosine: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub class: Class,
    /// 0 to 1: how alike (duplicate), how much of the shorter clause is aligned (contradiction), how much is said twice
    /// (overlap).
    pub score: f64,
    pub why: Why,
}

/// Share of the shorter, and of the longer clause that must be aligned before a difference is a contradiction: two
/// clauses that share less do not speak of the same thing.
const ALIGNED_SHORTER: f64 = 0.6;
const ALIGNED_LONGER: f64 = 0.35;

/// Least weight that must agree: one word.
const AGREEING: f64 = 0.6;

/// Least weight that an overlap shares: two words. One word in common is a topic, not a statement.
const OVERLAPPING: f64 = 2.0;

/// ... or more, when the clause says something else besides. From this share on it does not.
const OVERLAPPING_PARTLY: f64 = 2.5;
const WHOLE: f64 = 0.99;

/// `None` when the texts have nothing to do with each other. `cosine` is that of their embeddings.
pub fn compare(one: &str, other: &str, cosine: Option<f64>, options: &Options) -> Option<Verdict> {
    read_and_compare(&Reading::of(one), &Reading::of(other), one == other, cosine, options)
}

pub(super) fn read_and_compare(
    one: &Reading,
    other: &Reading,
    equal: bool,
    cosine: Option<f64>,
    options: &Options,
) -> Option<Verdict> {
    if equal {
        let shared = one.terms().map(|term| term.shown.clone()).take(SHOWN_MAX).collect();
        return Some(Verdict { class: Class::Duplicate, score: 1.0, why: Why { shared, opposed: Vec::new(), cosine } });
    }
    let (whole_one, whole_other) = (one.whole(), other.whole());
    let wholes = Pair::of(&whole_one, &whole_other);
    let found = contradiction(one, other, &wholes).or_else(|| duplicate(one, other, &wholes, cosine, options));
    found.or_else(|| overlap(one, other, &wholes, options)).map(|(class, score, mut why)| {
        why.cosine = cosine;
        Verdict { class, score, why }
    })
}

type Found = (Class, f64, Why);

/// Two claims and their alignment, which is most of the work.
struct Pair<'a> {
    one: &'a Claim,
    other: &'a Claim,
    alignment: Alignment<'a>,
}

impl<'a> Pair<'a> {
    fn of(one: &'a Claim, other: &'a Claim) -> Self {
        Self { one, other, alignment: Alignment::of(one, other) }
    }

    fn contrast(&self) -> Contrast {
        Contrast::of(self.one, self.other, &self.alignment)
    }
}

/// The pair of clauses that stand against each other most clearly.
fn contradiction(one: &Reading, other: &Reading, wholes: &Pair<'_>) -> Option<Found> {
    if let ([a], [b]) = (&one.claims[..], &other.claims[..]) {
        return share_a_word(a, b).then(|| opposed(wholes)).flatten();
    }
    let mut best: Option<Found> = None;
    for (a, b) in pairs(one, other) {
        let found = opposed(&Pair::of(a, b));
        let score = |found: &Option<Found>| found.as_ref().map_or(-1.0, |(_, score, _)| *score);
        if score(&found) > score(&best) {
            best = found;
        }
    }
    best
}

fn opposed(pair: &Pair<'_>) -> Option<Found> {
    let (shorter, longer) = pair.alignment.coverage();
    if shorter < ALIGNED_SHORTER || longer < ALIGNED_LONGER || pair.alignment.shared() < AGREEING {
        return None;
    }
    let contrast = pair.contrast();
    if !contrast.is_opposed() {
        return None;
    }
    let opposed = contrast.values.into_iter().chain(contrast.flips).collect();
    Some((Class::Contradiction, (shorter + longer) / 2.0, Why { opposed, ..why(&pair.alignment) }))
}

fn duplicate(
    one: &Reading,
    other: &Reading,
    wholes: &Pair<'_>,
    cosine: Option<f64>,
    options: &Options,
) -> Option<Found> {
    let contrast = wholes.contrast();
    if one.clipped || other.clipped || !contrast.is_agreement() {
        return None;
    }
    let alignment = &wholes.alignment;
    let alike = if contrast.flips.is_empty() { alignment.similarity() } else { alignment.similarity_turned() };
    let near = cosine.filter(|cosine| *cosine >= options.cosine);
    let is_duplicate =
        (alike >= options.duplicate && !says_more(wholes.one, wholes.other, alignment)) || near.is_some();
    let score = near.map_or(alike, |cosine| cosine.max(alike));
    is_duplicate.then(|| (Class::Duplicate, score, why(alignment)))
}

/// One joins something to what the other says: `efficient`, `efficient and quiet`.
fn says_more(one: &Claim, other: &Claim, alignment: &Alignment<'_>) -> bool {
    let more = |terms: &[&Term]| terms.iter().any(|term| term.sort != Sort::Verb);
    (one.joints > other.joints && more(&alignment.left)) || (other.joints > one.joints && more(&alignment.right))
}

/// The clause of either text that the other one says most of.
fn overlap(one: &Reading, other: &Reading, wholes: &Pair<'_>, options: &Options) -> Option<Found> {
    let mut best: Option<Found> = None;
    let mut look_at = |pair: &Pair<'_>| {
        let share = pair.alignment.contained();
        let least = if share < WHOLE { OVERLAPPING_PARTLY } else { OVERLAPPING };
        if share < options.overlap || pair.alignment.shared() < least {
            return;
        }
        let better = best.as_ref().is_none_or(|(_, found, _)| share > *found);
        if better && pair.contrast().apart.is_none() {
            best = Some((Class::Overlap, share, why(&pair.alignment)));
        }
    };
    match &one.claims[..] {
        [_] => look_at(wholes),
        claims => claims.iter().for_each(|claim| look_at(&Pair::of(claim, wholes.other))),
    }
    other.claims.iter().for_each(|claim| look_at(&Pair::of(claim, wholes.one)));
    best
}

/// Clauses of both that share a word. Others cannot be told apart from unrelated ones.
fn pairs<'a>(one: &'a Reading, other: &'a Reading) -> impl Iterator<Item = (&'a Claim, &'a Claim)> {
    let all = one.claims.iter().flat_map(move |a| other.claims.iter().map(move |b| (a, b)));
    all.filter(|(a, b)| share_a_word(a, b))
}

fn share_a_word(a: &Claim, b: &Claim) -> bool {
    a.terms.iter().any(|x| b.terms.iter().any(|y| same(x, y)))
}

/// Words named as a reason. More than these nobody reads.
const SHOWN_MAX: usize = 16;

fn why(alignment: &Alignment<'_>) -> Why {
    let same = alignment.ties.iter().filter(|(_, _, tie)| matches!(tie, Tie::Same(_)));
    Why { shared: same.map(|(term, _, _)| term.shown.clone()).take(SHOWN_MAX).collect(), ..Why::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn class(one: &str, other: &str) -> Option<Class> {
        compare(one, other, None, &Options::default()).map(|verdict| verdict.class)
    }

    #[test]
    fn why_names_what_decided() {
        let verdict = compare("The port is 8080", "The port is 9090", None, &Options::default()).unwrap();
        assert_eq!(verdict.class, Class::Contradiction);
        assert_eq!((verdict.why.shared, verdict.why.opposed), (vec!["port".into()], vec!["`8080` / `9090`".into()]));
    }

    #[test]
    fn two_negations_cancel_out() {
        assert_eq!(class("The cache is enabled", "The cache is not disabled"), Some(Class::Duplicate));
        assert_eq!(class("The cache is enabled", "The cache is not enabled"), Some(Class::Contradiction));
    }

    #[test]
    fn another_host_is_another_matter() {
        assert_eq!(class("web-01 is down", "web-02 is up"), None);
    }

    #[test]
    fn a_noun_with_a_letter_or_a_number_is_one_of_its_kind() {
        let gateway = |of: &str, is: &str| format!("The gateway of {of} is {is}");
        for other in ["rack B", "rack D", "rack 7", "rack B2", "zone A"] {
            assert_eq!(class(&gateway("rack A", "10.0.0.1"), &gateway(other, "10.0.0.9")), None, "{other}");
        }
        let same = class(&gateway("rack A", "10.0.0.1"), &gateway("rack A", "10.0.0.2"));
        assert_eq!(same, Some(Class::Contradiction));
        for (one, other) in [
            ("Host A runs version 5", "Host B runs version 6"),
            ("Zone B has 4 hosts", "Host B runs version 6"),
            ("Aisle 7 is closed", "Aisle 8 is closed"),
            ("Version 5 of the agent needs a key", "Version 6 of the agent needs no key"),
            ("Build 412 failed", "Build 413 failed"),
            ("The leader of rack A is Maria", "The leader of rack B is Tom"),
            ("Maria is the leader of rack A", "Maria is the leader of rack B"),
            ("The leader of the queue service is web-01", "The leader of the cache service is web-02"),
            ("Process B is stuck", "Process C is stuck"),
            ("Reactor 2 was shut down", "Reactor 3 was shut down"),
        ] {
            assert_eq!(class(one, other), None, "{one} / {other}");
        }
    }

    #[test]
    fn a_value_behind_the_verb_is_contradicted_by_another() {
        for (one, other) in [
            ("Host A runs version 5", "Host A runs version 6"),
            ("Rack A is in zone B", "Rack A is in zone C"),
            ("The grade of the wheat is A", "The grade of the wheat is B"),
            ("Port 80 is used by the proxy", "Port 81 is used by the proxy"),
            ("Cell A7 is locked", "A7 is unlocked"),
            ("Pump B calls pump C", "Pump C calls pump B"),
            ("The owner of the queue is team A", "The owner of the queue is team B"),
        ] {
            assert_eq!(class(one, other), Some(Class::Contradiction), "{one} / {other}");
        }
    }

    #[test]
    fn near_embeddings_join_what_shares_no_word_and_never_what_is_opposed() {
        let near =
            |one: &str, other: &str| compare(one, other, Some(0.97), &Options::default()).map(|verdict| verdict.class);
        assert_eq!(near("The box died", "Our machine has passed away"), Some(Class::Duplicate));
        assert_eq!(near("The cache is enabled", "The cache is not enabled"), Some(Class::Contradiction));
    }

    proptest! {
        #[test]
        fn it_never_panics_and_scores_stay_within_bounds(one in "\\PC{0,120}", other in "\\PC{0,120}") {
            if let Some(verdict) = compare(&one, &other, None, &Options::default()) {
                prop_assert!((0.0..=1.0).contains(&verdict.score));
            }
        }

        #[test]
        fn a_text_of_known_words_is_a_duplicate_of_itself_and_the_order_of_two_does_not_matter(
            one in proptest::sample::subsequence(WORDS, 0..WORDS.len()).prop_shuffle(),
            other in proptest::sample::subsequence(WORDS, 0..WORDS.len()).prop_shuffle(),
        ) {
            let (one, other) = (one.join(" "), other.join(" "));
            prop_assert_eq!(class(&one, &one), Some(Class::Duplicate));
            prop_assert_eq!(class(&one, &other), class(&other, &one));
        }
    }

    const WORDS: &[&str] = &[
        "the",
        "api",
        "is",
        "not",
        "stable",
        "unstable",
        "port",
        "8080",
        "9090",
        "if",
        "never",
        "web-01",
        "web-02",
        "5",
        "minutes",
        ",",
        ";",
        "and",
        "in",
        "Frankfurt",
        "before",
        "faster",
        "than",
        "task",
        "12",
        "about",
        "at",
        "least",
        "%",
    ];
}
