//! A clause as terms: what it speaks of (subject), what it says of that (predicate), and under which circumstances
//! (condition). Each term knows whether it is negated. There is no grammar here: the first verb cuts the clause.

use std::borrow::Cow;

use super::lexicon::{Bound, Concept, lexicon};
use super::quantity::{self, Kind, Quantity};
use super::verb::{self, IRREGULAR, is_be, is_labelled, is_preposition, noun_at};
use super::word::{self, Word};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Subject,
    Predicate,
    Condition,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Sort {
    Word,
    Verb,
    /// `web-03`, `task 12`, `rack B`, `Maria`: it tells one thing from others of its kind.
    Name,
    Quantity(Quantity),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    pub concept: Concept,
    pub shown: String,
    pub sort: Sort,
    pub part: Part,
    pub negated: bool,
    /// It says which one the noun before it means, as in `aisle 7 is closed`, or it is that noun.
    pub label: Label,
}

/// What a term has to do with a letter or number that tells which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Label {
    #[default]
    None,
    /// `rack` in `rack B`.
    Noun,
    /// `rack B`, the whole name, or the 7 of `aisle 7`.
    Mark,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claim {
    pub terms: Vec<Term>,
    /// `is stored`, `was reverted by`: the subject is what something was done to.
    pub passive: bool,
    /// The verb is a form of `be` alone, so that both sides of it name the same.
    pub copular: bool,
    /// The relation has one object at a time.
    pub functional: bool,
    /// Somebody plays a part that one at a time plays.
    pub role: bool,
    /// Something is more, or less, than something else.
    pub compares: bool,
    /// Words and commas that join more to what is said.
    pub joints: u32,
    /// It begins with a preposition: what stands before the verb need not be its subject.
    pub fronted: bool,
}

/// A text, ready to be compared.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub claims: Vec<Claim>,
    pub clipped: bool,
}

impl Reading {
    pub fn of(content: &str) -> Self {
        let text = word::read(content);
        let claims = text.clauses.iter().map(|words| Claim::of(&replace_phrases(words)));
        Self { claims: claims.filter(|claim| !claim.terms.is_empty()).collect(), clipped: text.clipped }
    }

    pub fn terms(&self) -> impl Iterator<Item = &Term> {
        self.claims.iter().flat_map(|claim| &claim.terms)
    }

    /// All claims as one, to compare texts that say the same in other sentences.
    pub fn whole(&self) -> Cow<'_, Claim> {
        if let [only] = &self.claims[..] {
            return Cow::Borrowed(only);
        }
        let mut whole = self.claims.first().cloned().unwrap_or_default();
        for claim in self.claims.iter().skip(1) {
            whole.terms.extend(claim.terms.iter().cloned());
            whole.functional |= claim.functional;
            whole.role |= claim.role;
            whole.joints += claim.joints;
        }
        Cow::Owned(whole)
    }
}

impl Term {
    /// How much of a claim hangs on it, in tenths of a word. Names tell things apart; a verb has many ways to be said.
    pub fn weight(&self) -> u32 {
        match self.sort {
            _ if matches!(self.shown.as_str(), "before" | "after") => 5,
            Sort::Verb => 6,
            Sort::Word | Sort::Quantity(_) => 10,
            Sort::Name => 13,
        }
    }

    pub fn is_name(&self) -> bool {
        self.sort == Sort::Name
    }

    /// `b2` of `pump B2`, which some call `B2` alone. Nobody calls rack B `B`, or task 12 `12`, without the noun before.
    pub fn bare(&self) -> Option<&str> {
        let (_, bare) = self.concept.text.rsplit_once('#').filter(|_| self.is_name() && self.label == Label::Mark)?;
        (bare.len() > 1 && bare.contains(|c: char| c.is_alphabetic())).then_some(bare)
    }

    /// What an index finds it by.
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        let bare = self.bare().map(|bare| Concept::named(bare.to_owned()).key);
        std::iter::once(self.concept.key).chain(bare)
    }
}

fn replace_phrases(words: &[Word]) -> Vec<Word> {
    // `team A day by day` has no `a day` in it.
    let lower: Vec<&str> = words.iter().map(|word| if word.label { "" } else { word.lower.as_str() }).collect();
    let (mut replaced, mut at) = (Vec::new(), 0);
    while let Some(word) = words.get(at) {
        let Some((taken, stands)) = lexicon().phrase(&lower[at..]) else {
            replaced.push(word.clone());
            at += 1;
            continue;
        };
        let then = words.get(at + taken - 1).and_then(|last| last.then);
        replaced.extend(stands.iter().map(|lower| Word { lower: lower.clone(), proper: false, label: false, then }));
        at += taken;
    }
    replaced
}

/// What was read so far of a clause.
#[derive(Default)]
struct Reader {
    claim: Claim,
    negate: bool,
    bound: Option<Bound>,
    past_verb: bool,
    /// In a condition that ends at a comma, or with the clause.
    condition: bool,
    /// A word for `be` stood just before.
    being: bool,
    exempt: bool,
    /// What comes is no verb here, whatever it looks like.
    noun: bool,
    /// The word just before is the last term.
    adjacent: bool,
    /// ... and this one may become it.
    pushed: bool,
    /// The word just before puts what follows in time: `in 2019`.
    dated: bool,
    /// What is spoken of ends behind this word, or goes on with a preposition: a number here counts nothing.
    ends: bool,
    /// The noun of the last label, while only `and` and commas follow: `racks A, B and C`.
    series: Option<Term>,
}

/// In front of a number these count, too: `the first 3 are free`.
const ORDERING: [&str; 8] = ["first", "last", "next", "top", "other", "past", "today", "yesterday"];

impl Claim {
    fn of(words: &[Word]) -> Self {
        let mut reader = Reader::default();
        let verb_at = verb::find(words);
        reader.claim.fronted = words.first().is_some_and(|word| is_preposition(&word.lower));
        reader.claim.copular = verb_at.is_some_and(|at| is_be(&words[at].lower) || words[at].then == Some(':'));
        let mut at = 0;
        while let Some(word) = words.get(at) {
            let next = words.get(at + 1).map(|word| word.lower.as_str());
            reader.past_verb |= verb_at.is_some_and(|verb_at| at >= verb_at);
            reader.noun = noun_at(words, at) || (at == 0 && verb_at != Some(0)) || is_labelled(words, at);
            reader.ends = verb_at.is_some_and(|verb_at| at + 1 == verb_at)
                || (!reader.past_verb && next.is_some_and(|next| next == "of" || is_preposition(next)));
            at += 1 + reader.take(word, next);
            reader.dated = matches!(word.lower.as_str(), "in" | "since" | "of" | "before" | "after" | "year");
            reader.adjacent = std::mem::take(&mut reader.pushed);
            let goes_on = matches!(word.lower.as_str(), "and" | "or") && !word.label;
            let marked = reader.adjacent && reader.claim.terms.last().is_some_and(|term| term.label == Label::Mark);
            if !goes_on && !marked {
                reader.series = None;
            }
            reader.adjacent &= word.then.is_none();
            if word.then == Some(',') {
                reader.condition = false;
            }
        }
        reader.close()
    }
}

impl Reader {
    /// Takes a word; says how many of those behind it were taken too.
    fn take(&mut self, word: &Word, next: Option<&str>) -> usize {
        let (text, known) = (word.lower.as_str(), lexicon());
        let count =
            text == "once" && next.is_none_or(|next| matches!(next, "per" | "a" | "an" | "every" | "each" | "in"));
        if known.opens_condition(text) && !count {
            self.condition = true;
            self.negate ^= text == "unless";
            return 0;
        }
        if known.is_negator(text) || text.ends_with("n't") {
            self.negate ^= true;
            return 0;
        }
        if let Some(bound) = known.bound(text) {
            let counted =
                next.is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit()) || known.number(next).is_some());
            if counted {
                self.bound = Some(bound);
                return 0;
            }
        }
        if text == "except" || text == "besides" {
            self.exempt = true;
            return 0;
        }
        if matches!(text, "on" | "off") && next.is_none() {
            self.push(known.concept(if text == "on" { "enable" } else { "disable" }), text.to_owned(), Sort::Word);
            return 0;
        }
        if word.label && self.take_label(text, word.then.is_some(), next) {
            return 0;
        }
        let was_being = self.being;
        self.being = is_be(text) || (was_being && !text.ends_with("ed"));
        self.claim.compares |= text == "than";
        self.claim.joints += u32::from(matches!(text, "and" | "or" | "plus" | "with") || word.then == Some(','));
        if known.is_stop(text) && !word.proper {
            self.claim.passive |= text == "by" && was_being;
            return 0;
        }
        if let Some(taken) = self.take_number(text, next) {
            return taken;
        }
        let concept = known.concept(text);
        let in_passive = was_being && (text.ends_with("ed") || text.ends_with("en") || IRREGULAR.contains(&text));
        self.claim.passive |= in_passive && !self.condition;
        // A verb in the passive says what it is, not what something is.
        self.claim.copular &= !in_passive && !text.ends_with("ing");
        self.claim.role |= known.is_role(&concept);
        let sort = match () {
            () if word.proper && !known.is_role(&concept) => Sort::Name,
            () if text.contains(|c: char| c.is_ascii_digit() || c == '-') => Sort::Name,
            () if known.is_verb(text) && !self.noun => Sort::Verb,
            () => Sort::Word,
        };
        self.claim.functional |= sort == Sort::Verb && known.is_functional(&concept);
        self.push(concept, text.to_owned(), sort);
        0
    }

    /// `rack B`; or a letter that is all that is said, as in `the grade is A`. An article has a noun behind it.
    fn take_label(&mut self, text: &str, ends: bool, next: Option<&str>) -> bool {
        let noun = self.noun();
        let alone = ends || next.is_none_or(|next| matches!(next, "and" | "or") || is_preposition(next));
        match noun {
            Some(noun) => self.push_mark(noun, text),
            None if alone && text.len() == 1 && self.past_verb => {
                self.push(lexicon().concept(text), text.to_uppercase(), Sort::Name);
            }
            None => return false,
        }
        true
    }

    /// What a label here would tell from others of its kind.
    fn noun(&self) -> Option<Term> {
        let plain = |term: &&Term| {
            matches!(term.sort, Sort::Word | Sort::Name)
                && term.label == Label::None
                && !term.shown.contains(|c: char| c.is_ascii_digit())
        };
        let behind = self.claim.terms.last().filter(|_| self.adjacent).filter(plain);
        behind.cloned().or_else(|| self.series.clone())
    }

    fn push_mark(&mut self, noun: Term, text: &str) {
        let concept = Concept::named(format!("{}#{text}", noun.concept.text));
        let shown = format!("{} {}", noun.shown, text.to_uppercase());
        self.mark_noun();
        self.push(concept, shown, Sort::Name);
        self.mark();
        self.series = Some(noun);
    }

    fn mark_noun(&mut self) {
        if let Some(noun) = self.claim.terms.last_mut().filter(|term| self.adjacent && term.label == Label::None) {
            noun.label = Label::Noun;
        }
    }

    fn mark(&mut self) {
        if let Some(last) = self.claim.terms.last_mut() {
            last.label = Label::Mark;
        }
    }

    fn take_number(&mut self, text: &str, next: Option<&str>) -> Option<usize> {
        let (quantity, taken) = match lexicon().number(text) {
            Some(value) => quantity::spelled(text, value, next),
            None if self.dated && quantity::year(text).is_some() => (quantity::year(text)?, 0),
            None if text.starts_with(|c: char| c.is_ascii_digit() || c == 'v') => quantity::read(text, next)?,
            None => return None,
        };
        let digits = lexicon().number(text).is_none();
        let plain = digits && quantity.kind == Kind::Plain && taken == 0 && self.bound.is_none();
        let noun = self.noun().filter(|_| plain);
        // `task 12` is a name, unless what follows shows that 12 counts something.
        let counts = !self.adjacent && !self.ends && next.is_some_and(|next| !lexicon().is_stop(next));
        if let Some(noun) = noun.as_ref().filter(|noun| lexicon().is_numbered(&noun.concept) && !counts) {
            self.push_mark(noun.clone(), text);
            return Some(taken);
        }
        // What is spoken of is told from others by a number, `version 5 needs a key`; what is said of it has a value,
        // `it runs version 5`.
        let tells = self.adjacent && self.ends && noun.is_some_and(|noun| !ORDERING.contains(&noun.shown.as_str()));
        // Two of the disks: there may be more.
        let partitive = (next == Some("of") && taken == 0 && !tells).then_some(Bound::AtLeast);
        let (bound, shown) = (self.bound.take().or(partitive), quantity.shown.clone());
        let quantity = bound.map_or(quantity.clone(), |bound| quantity.bounded(bound));
        let concept = Concept::named(format!("{:?} {} {}", quantity.kind, quantity.low, quantity.shown_if_exact()));
        if tells {
            self.mark_noun();
        }
        self.push(concept, shown, Sort::Quantity(quantity));
        if tells {
            self.mark();
        }
        Some(taken)
    }

    fn push(&mut self, concept: Concept, shown: String, sort: Sort) {
        let part = match (self.condition, self.past_verb) {
            (true, _) => Part::Condition,
            (false, true) => Part::Predicate,
            (false, false) => Part::Subject,
        };
        let negated = std::mem::take(&mut self.negate);
        self.bound = None;
        self.pushed = true;
        self.claim.terms.push(Term { concept, shown, sort, part, negated, label: Label::None });
    }

    /// A negator with nothing behind it belongs to what stood before; `nobody except` is no negation.
    fn close(mut self) -> Claim {
        if self.exempt
            && let Some(term) = self.claim.terms.iter_mut().find(|term| term.negated)
        {
            term.negated = false;
        }
        if let Some(last) = self.claim.terms.last_mut() {
            last.negated ^= self.negate;
        }
        self.claim
    }
}

impl Quantity {
    /// Versions and addresses have no value but their spelling.
    fn shown_if_exact(&self) -> &str {
        if matches!(self.kind, Kind::Version | Kind::Address) { &self.shown } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Terms as `concept`, with `!` when negated and `?` in a condition; `|` where the predicate begins.
    fn check(content: &str, expected: &str) {
        let reading = Reading::of(content);
        let mut shown = String::new();
        let mut part = Part::Subject;
        for term in reading.terms() {
            if part != Part::Predicate && term.part == Part::Predicate {
                shown += "| ";
            }
            part = term.part;
            let mark = if term.part == Part::Condition { "?" } else { "" };
            shown += &format!("{}{}{} ", if term.negated { "!" } else { "" }, term.shown, mark);
        }
        assert_eq!(shown.trim(), expected);
    }

    #[test]
    fn a_clause_is_cut_at_its_verb() {
        check("The API server listens on port 8080.", "api server | listens port 8080");
        check("web-01 is not reachable", "web-01 | !reachable");
        check("If the load is high, add a worker", "load? high? | add worker");
        check("Drain the node before you reboot it", "| drain node before reboot");
    }

    #[test]
    fn negation_falls_on_the_next_term() {
        check("No lock can be taken", "!lock");
        check("It is no longer supported", "| !supported");
        check("The disk is neither full nor slow", "disk | !full !slow");
        check("Nobody except Anna may write", "anna | write");
    }

    #[test]
    fn a_number_behind_a_noun_that_is_numbered_names_it() {
        let names = |content: &str| Reading::of(content).terms().filter(|term| term.is_name()).count();
        assert_eq!((names("task 12 failed"), names("12 tasks failed"), names("port 12 is open")), (1, 0, 0));
    }

    fn names(content: &str) -> Vec<String> {
        Reading::of(content).terms().filter(|term| term.is_name()).map(|term| term.shown.clone()).collect()
    }

    #[test]
    fn a_letter_behind_a_noun_names_it() {
        assert_eq!(names("The gateway of rack A is down"), ["rack A"]);
        assert_eq!(names("Racks A, B and C are full"), ["racks A", "racks B", "racks C"]);
        assert_eq!(names("Pump B2 feeds tank 7"), ["pump B2"]);
        assert_eq!(names("Process B is stuck"), ["process B"]);
        assert_eq!(names("Zone B's key was replaced"), ["zone B"]);
        assert_eq!(names("The grade of the wheat is A"), ["A"]);
    }

    #[test]
    fn an_article_or_a_unit_names_nothing() {
        for content in ["A host is down", "Give the host a disk", "It is 5 C here", "HOST A IS DOWN", "It has 5 GB"] {
            assert!(names(content).is_empty(), "{content}");
        }
    }

    #[test]
    fn a_number_names_what_is_spoken_of_and_is_a_value_of_what_is_said() {
        let marked = |content: &str| Reading::of(content).terms().any(|term| term.label == Label::Mark);
        for content in ["Version 5 needs a key", "Aisle 7 is closed", "Aisle 7 of the store has no light"] {
            assert!(marked(content), "{content}");
        }
        for content in ["It runs version 5", "The limit is 7", "The first 3 are free", "Friday 5 hosts are off"] {
            assert!(!marked(content), "{content}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(content in "\\PC{0,200}") {
            let _ = Reading::of(&content).whole();
        }
    }
}
