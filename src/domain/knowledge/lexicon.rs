//! What single words mean to the comparison, read from `lexicon.toml`: data, so that a word is added without code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| {
    // The text is ours and a test parses it; an empty lexicon still compares by stems.
    toml::from_str(include_str!("lexicon.toml")).map_or_else(|_| Lexicon::default(), Lexicon::of)
});

#[derive(Deserialize)]
struct File {
    stop: String,
    negators: String,
    auxiliaries: String,
    verbs: String,
    forms: Vec<String>,
    functional: String,
    roles: String,
    numbered: String,
    conditions: String,
    at_least: String,
    at_most: String,
    about: String,
    phrases: Vec<(String, String)>,
    synonyms: Vec<String>,
    antonyms: Vec<String>,
    exclusive: Vec<String>,
    units: BTreeMap<String, BTreeMap<String, f64>>,
    numbers: BTreeMap<String, f64>,
}

/// The first lists of exclusive words are of times.
const TEMPORAL_GROUPS: u16 = 2;

/// How a word bounds the number behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    AtLeast,
    AtMost,
    About,
}

/// A word's stem with its synonyms folded into one.
#[derive(Clone, Debug)]
pub struct Concept {
    pub text: String,
    /// Of the text. Equal concepts have equal keys; it is what an index looks up.
    pub key: u64,
    /// It stands in the table of antonyms, in a list of which one at a time holds.
    has_antonym: bool,
    is_exclusive: bool,
}

impl Concept {
    /// Of a name or a number, which no table knows.
    pub fn named(text: String) -> Self {
        Self { key: xxh3_64(text.as_bytes()), text, has_antonym: false, is_exclusive: false }
    }
}

impl PartialEq for Concept {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// The words behind the first, and what stands for all.
type Phrase = (Vec<String>, Vec<String>);

type Phrases = FxHashMap<String, Vec<Phrase>>;

/// Tables that are looked up, never walked.
#[derive(Debug, Default)]
pub struct Lexicon {
    stop: FxHashSet<String>,
    negators: FxHashSet<String>,
    auxiliaries: FxHashSet<String>,
    conditions: FxHashSet<String>,
    bounds: FxHashMap<String, Bound>,
    /// By their first word.
    phrases: Phrases,
    units: FxHashMap<String, (u8, f64)>,
    numbers: BTreeMap<String, f64>,
    /// Irregular forms, and the stem of their verb.
    forms: FxHashMap<String, String>,
    verbs: FxHashSet<String>,
    /// From here on by stem.
    verb_stems: FxHashSet<String>,
    functional: FxHashSet<String>,
    roles: FxHashSet<String>,
    numbered: FxHashSet<String>,
    synonyms: FxHashMap<String, String>,
    antonyms: FxHashMap<String, BTreeSet<String>>,
    exclusive: FxHashMap<String, Vec<u16>>,
}

pub fn lexicon() -> &'static Lexicon {
    &LEXICON
}

/// Light: `-ing`, `-ed`, plural. Only plain English words have a stem; others stand for themselves.
pub fn stem(word: &str) -> String {
    let word = word.strip_suffix("'s").unwrap_or(word);
    if word.len() < 3 || !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return word.to_owned();
    }
    Stemmer::create(Algorithm::English).stem(word).into_owned()
}

fn set(words: &str) -> FxHashSet<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

fn stems(words: &str) -> FxHashSet<String> {
    words.split_whitespace().map(stem).collect()
}

impl Lexicon {
    fn of(file: File) -> Self {
        let mut synonyms = FxHashMap::default();
        for line in &file.synonyms {
            let mut words = line.split_whitespace().map(stem);
            let Some(head) = words.next() else { continue };
            for word in words.filter(|word| *word != head) {
                synonyms.entry(word).or_insert_with(|| head.clone());
            }
        }
        let mut forms = FxHashMap::default();
        for line in &file.forms {
            let mut words = line.split_whitespace();
            let Some(base) = words.next() else { continue };
            forms.extend(words.map(|word| (word.to_owned(), stem(base))));
        }
        let fold = |word: &str| folded(&synonyms, base(&forms, word));
        let folds = |words: &str| words.split_whitespace().map(fold).collect::<FxHashSet<String>>();
        let mut antonyms: FxHashMap<String, BTreeSet<String>> = FxHashMap::default();
        for line in &file.antonyms {
            if let Some((one, other)) = line.split_once(' ') {
                let (one, other) = (fold(one), fold(other));
                antonyms.entry(one.clone()).or_default().insert(other.clone());
                antonyms.entry(other).or_default().insert(one);
            }
        }
        let mut exclusive: FxHashMap<String, Vec<u16>> = FxHashMap::default();
        for (group, line) in (0u16..).zip(&file.exclusive) {
            for word in line.split_whitespace().map(fold) {
                exclusive.entry(word).or_default().push(group);
            }
        }
        let mut bounds = FxHashMap::default();
        for (words, bound) in
            [(&file.at_least, Bound::AtLeast), (&file.at_most, Bound::AtMost), (&file.about, Bound::About)]
        {
            bounds.extend(words.split_whitespace().map(|word| (word.to_owned(), bound)));
        }
        let mut units = FxHashMap::default();
        for (dimension, (_, names)) in (1u8..).zip(&file.units) {
            units.extend(names.iter().map(|(name, size)| (name.clone(), (dimension, *size))));
        }
        let (functional, roles, numbered) = (folds(&file.functional), folds(&file.roles), folds(&file.numbered));
        Self {
            stop: set(&file.stop),
            negators: set(&file.negators),
            auxiliaries: set(&file.auxiliaries),
            conditions: set(&file.conditions),
            bounds,
            phrases: phrases(&file.phrases),
            units,
            numbers: file.numbers,
            verb_stems: stems(&file.verbs),
            verbs: set(&file.verbs),
            forms,
            functional,
            roles,
            numbered,
            antonyms,
            exclusive,
            synonyms,
        }
    }

    pub fn concept(&self, word: &str) -> Concept {
        let text = folded(&self.synonyms, base(&self.forms, word));
        let (has_antonym, is_exclusive) = (self.antonyms.contains_key(&text), self.exclusive.contains_key(&text));
        Concept { has_antonym, is_exclusive, ..Concept::named(text) }
    }

    pub fn is_stop(&self, word: &str) -> bool {
        self.stop.contains(word)
    }

    pub fn is_negator(&self, word: &str) -> bool {
        self.negators.contains(word)
    }

    pub fn is_auxiliary(&self, word: &str) -> bool {
        self.auxiliaries.contains(word)
    }

    /// A form of a verb: `replicates`, not `replication`.
    pub fn is_verb(&self, word: &str) -> bool {
        let inflected = ["s", "ed", "ing"].iter().any(|ending| word.ends_with(ending));
        let regular = || inflected && self.verb_stems.contains(&stem(word));
        self.is_base(word) || regular() || self.forms.get(word).is_some_and(|base| self.verb_stems.contains(base))
    }

    /// The form that commands: `drain`.
    pub fn is_base(&self, word: &str) -> bool {
        self.verbs.contains(word)
    }

    pub fn opens_condition(&self, word: &str) -> bool {
        self.conditions.contains(word)
    }

    pub fn bound(&self, word: &str) -> Option<Bound> {
        self.bounds.get(word).copied()
    }

    /// What a unit measures, and its size. Plurals count.
    pub fn unit(&self, word: &str) -> Option<(u8, f64)> {
        let singular = || self.units.get(word.strip_suffix('s').filter(|word| word.len() > 1)?);
        self.units.get(word).or_else(singular).copied()
    }

    pub fn number(&self, word: &str) -> Option<f64> {
        self.numbers.get(word).copied()
    }

    pub fn is_functional(&self, concept: &Concept) -> bool {
        self.functional.contains(&concept.text)
    }

    pub fn is_role(&self, concept: &Concept) -> bool {
        self.roles.contains(&concept.text)
    }

    pub fn is_numbered(&self, concept: &Concept) -> bool {
        self.numbered.contains(&concept.text)
    }

    pub fn are_antonyms(&self, one: &Concept, other: &Concept) -> bool {
        let in_table = || self.antonyms.get(&one.text).is_some_and(|others| others.contains(&other.text));
        let by_table = one.has_antonym && other.has_antonym && in_table();
        by_table || negates(&one.text, &other.text) || negates(&other.text, &one.text)
    }

    pub fn exclude_each_other(&self, one: &Concept, other: &Concept) -> bool {
        if !one.is_exclusive || !other.is_exclusive || one == other {
            return false;
        }
        let (Some(one), Some(other)) = (self.exclusive.get(&one.text), self.exclusive.get(&other.text)) else {
            return false;
        };
        one.iter().any(|group| other.contains(group))
    }

    /// A day of the week or a month.
    pub fn is_temporal(&self, concept: &Concept) -> bool {
        let groups = self.exclusive.get(&concept.text);
        groups.is_some_and(|groups| groups.iter().any(|group| *group < TEMPORAL_GROUPS))
    }

    /// The longest phrase that `words` begin with: how many words it takes, and what stands for them.
    pub fn phrase(&self, words: &[&str]) -> Option<(usize, &[String])> {
        let candidates = self.phrases.get(*words.first()?)?;
        let fits = |rest: &[String]| rest.len() < words.len() && rest.iter().zip(&words[1..]).all(|(a, b)| a == b);
        let (rest, stands) = candidates.iter().find(|(rest, _)| fits(rest))?;
        Some((rest.len() + 1, stands))
    }
}

fn base(forms: &FxHashMap<String, String>, word: &str) -> String {
    forms.get(word).cloned().unwrap_or_else(|| stem(word))
}

fn folded(synonyms: &FxHashMap<String, String>, stem: String) -> String {
    synonyms.get(&stem).cloned().unwrap_or(stem)
}

/// `unstable` of `stable`: a prefix that turns a word of some length around.
fn negates(long: &str, short: &str) -> bool {
    const PREFIXES: [&str; 8] = ["un", "in", "im", "ir", "il", "non", "dis", "a"];
    let rest = |prefix: &&str| long.strip_prefix(*prefix) == Some(short);
    short.len() >= 4
        && long.ends_with(short)
        && PREFIXES.iter().any(|prefix| rest(prefix) && (*prefix != "a" || short.len() >= 6))
}

/// By first word; the longest of each first.
fn phrases(pairs: &[(String, String)]) -> Phrases {
    let mut by_first: BTreeMap<String, Vec<Phrase>> = BTreeMap::new();
    for (phrase, stands) in pairs {
        let mut words = phrase.split_whitespace().map(str::to_owned);
        let Some(first) = words.next() else { continue };
        let stands = stands.split_whitespace().map(str::to_owned).collect();
        by_first.entry(first).or_default().push((words.collect(), stands));
    }
    for candidates in by_first.values_mut() {
        candidates.sort_by_key(|(rest, _)| std::cmp::Reverse(rest.len()));
    }
    by_first.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_parses_and_forms_of_a_word_are_one_concept() {
        toml::from_str::<File>(include_str!("lexicon.toml")).unwrap();
        let same = |a: &str, b: &str| lexicon().concept(a) == lexicon().concept(b);
        assert!(same("restarting", "reboots") && same("servers", "host") && same("queues", "queue"));
        assert!(!same("queue", "host") && !same("universal", "host"));
    }

    #[test]
    fn antonyms_come_from_the_table_and_from_prefixes() {
        let opposed = |a: &str, b: &str| lexicon().are_antonyms(&lexicon().concept(a), &lexicon().concept(b));
        assert!(opposed("enabled", "disabling") && opposed("increases", "decrease"));
        assert!(opposed("supported", "unsupported") && opposed("reversible", "irreversible"));
        assert!(!opposed("fast", "quick") && !opposed("host", "port"));
    }

    #[test]
    fn a_phrase_stands_for_a_word() {
        assert_eq!(lexicon().phrase(&["no", "longer", "runs"]), Some((2, &["not".to_owned()][..])));
        assert_eq!(lexicon().phrase(&["no", "long"]), None);
        assert_eq!(lexicon().phrase(&[]), None);
    }

    #[test]
    fn units_are_known_in_the_plural() {
        assert_eq!(lexicon().unit("minutes"), lexicon().unit("min"));
        assert!(lexicon().unit("s").is_some() && lexicon().unit("hosts").is_none());
    }
}
