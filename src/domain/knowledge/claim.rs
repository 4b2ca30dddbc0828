//! A clause as terms: what it speaks of (subject), what it says of that (predicate), and under which circumstances
//! (condition). Each term knows whether it is negated. There is no grammar here: the first verb cuts the clause.

use std::borrow::Cow;

use super::lexicon::{Bound, Concept, lexicon};
use super::quantity::{self, Kind, Quantity};
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
    /// `web-03`, `task 12`, `Maria`: it tells one thing from others of its kind.
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
    /// How much of a claim hangs on it. Names tell things apart; a verb has many ways to be said.
    pub fn weight(&self) -> f64 {
        match self.sort {
            _ if matches!(self.shown.as_str(), "before" | "after") => 0.5,
            Sort::Verb => 0.6,
            Sort::Word | Sort::Quantity(_) => 1.0,
            Sort::Name => 1.3,
        }
    }

    pub fn is_name(&self) -> bool {
        self.sort == Sort::Name
    }
}

fn replace_phrases(words: &[Word]) -> Vec<Word> {
    let lower: Vec<&str> = words.iter().map(|word| word.lower.as_str()).collect();
    let (mut replaced, mut at) = (Vec::new(), 0);
    while let Some(word) = words.get(at) {
        let Some((taken, stands)) = lexicon().phrase(&lower[at..]) else {
            replaced.push(word.clone());
            at += 1;
            continue;
        };
        let then = words.get(at + taken - 1).and_then(|last| last.then);
        replaced.extend(stands.iter().map(|lower| Word { lower: lower.clone(), proper: false, then }));
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
}

impl Claim {
    fn of(words: &[Word]) -> Self {
        let mut reader = Reader::default();
        let verb_at = verb(words);
        reader.claim.fronted = words.first().is_some_and(|word| is_preposition(&word.lower));
        reader.claim.copular = verb_at.is_some_and(|at| is_be(&words[at].lower) || words[at].then == Some(':'));
        let mut at = 0;
        while let Some(word) = words.get(at) {
            let next = words.get(at + 1).map(|word| word.lower.as_str());
            reader.past_verb |= verb_at.is_some_and(|verb_at| at >= verb_at);
            reader.noun = noun_at(words, at) || (at == 0 && verb_at != Some(0));
            at += 1 + reader.take(word, next);
            reader.dated = matches!(word.lower.as_str(), "in" | "since" | "of" | "before" | "after" | "year");
            reader.adjacent = std::mem::take(&mut reader.pushed);
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

    fn take_number(&mut self, text: &str, next: Option<&str>) -> Option<usize> {
        let (quantity, taken) = match lexicon().number(text) {
            Some(value) => quantity::spelled(text, value, next),
            None if self.dated && quantity::year(text).is_some() => (quantity::year(text)?, 0),
            None if text.starts_with(|c: char| c.is_ascii_digit() || c == 'v') => quantity::read(text, next)?,
            None => return None,
        };
        // Two of the disks: there may be more.
        let partitive = (next == Some("of") && taken == 0).then_some(Bound::AtLeast);
        self.bound = self.bound.or(partitive);
        let digits = lexicon().number(text).is_none();
        let (bound, shown) = (self.bound.take(), quantity.shown.clone());
        // `task 12` is a name, unless what follows shows that 12 counts something.
        let behind = self.claim.terms.last().filter(|_| quantity.kind == Kind::Plain && bound.is_none());
        if let Some(noun) =
            behind.filter(|noun| digits && self.adjacent && lexicon().is_numbered(&noun.concept) && taken == 0)
        {
            let concept = Concept::named(format!("{}#{text}", noun.concept.text));
            self.push(concept, format!("{} {shown}", noun.shown), Sort::Name);
            return Some(taken);
        }
        let quantity = bound.map_or(quantity.clone(), |bound| quantity.bounded(bound));
        let concept = Concept::named(format!("{:?} {} {}", quantity.kind, quantity.low, quantity.shown_if_exact()));
        self.push(concept, shown, Sort::Quantity(quantity));
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
        self.claim.terms.push(Term { concept, shown, sort, part, negated });
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

const IRREGULAR: [&str; 20] = [
    "built", "made", "kept", "held", "sent", "run", "set", "put", "lost", "done", "found", "sold", "read", "shut",
    "bought", "paid", "led", "cut", "split", "bound",
];

fn is_be(word: &str) -> bool {
    matches!(word, "is" | "are" | "was" | "were" | "be" | "been" | "being" | "isn't" | "aren't" | "wasn't" | "weren't")
}

fn is_preposition(word: &str) -> bool {
    matches!(
        word,
        "on" | "in"
            | "at"
            | "from"
            | "for"
            | "with"
            | "without"
            | "by"
            | "after"
            | "before"
            | "during"
            | "to"
            | "under"
    )
}

/// A determiner or a preposition stands before it.
fn noun_at(words: &[Word], at: usize) -> bool {
    const BEFORE: [&str; 21] = [
        "the", "a", "an", "each", "every", "of", "no", "our", "its", "in", "for", "by", "after", "before", "than",
        "on", "through", "from", "with", "into", "at",
    ];
    at.checked_sub(1).is_some_and(|before| BEFORE.contains(&words[before].lower.as_str()))
}

/// Where what is spoken of ends: the first auxiliary or verb that is no noun here, or else a colon. A verb at the very
/// beginning is a command.
fn verb(words: &[Word]) -> Option<usize> {
    let known = lexicon();
    let mut condition = false;
    for (at, word) in words.iter().enumerate() {
        condition |= known.opens_condition(&word.lower);
        if condition {
            condition = word.then != Some(',');
            continue;
        }
        let text = word.lower.as_str();
        let verb = known.is_verb(text) && !noun_at(words, at) && (at > 0 || known.is_base(text));
        if known.is_auxiliary(text) || verb || (word.then == Some(':') && at + 1 < words.len()) {
            return Some(at);
        }
    }
    None
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

    proptest! {
        #[test]
        fn no_text_makes_it_panic(content in "\\PC{0,200}") {
            let _ = Reading::of(&content).whole();
        }
    }
}
