//! Two claims aligned: which terms agree, which stand against each other, and what is left over. Whether the claims can
//! both be true is decided from that, never from a single word.

use super::claim::{Claim, Label, Part, Sort, Term};
use super::lexicon::lexicon;
use super::quantity::{Kind, Quantity};

/// How two aligned terms stand to each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tie {
    /// They say the same to this degree, of a hundred.
    Same(u32),
    Antonyms,
    /// Antonyms of which one is negated: they say the same.
    Turned,
    /// Quantities that cannot both be true, or words of which one at a time holds.
    Values,
    /// Two names in one place.
    Names,
}

#[derive(Debug)]
pub struct Alignment<'a> {
    pub ties: Vec<(&'a Term, &'a Term, Tie)>,
    pub left: Vec<&'a Term>,
    pub right: Vec<&'a Term>,
    left_weight: u32,
    right_weight: u32,
}

const ENTIRELY: u32 = 100;

/// Of a spelling that differs in one letter, or a longer form of the same word.
const SAME_ALMOST: u32 = 90;

/// Of two bounds that can both be true.
const MEETS: u32 = 60;

/// What weights and degrees are multiplied to, for one word. They are whole numbers so that a sum is the same in any order.
const WORD: f64 = 10.0 * 100.0;

impl<'a> Alignment<'a> {
    pub fn of(one: &'a Claim, other: &'a Claim) -> Self {
        let weight = |claim: &Claim| claim.terms.iter().map(Term::weight).sum::<u32>() * ENTIRELY;
        let mut aligner =
            Aligner { one, other, free: (vec![true; one.terms.len()], vec![true; other.terms.len()]), ties: vec![] };
        aligner.run();
        let left = one.terms.iter().zip(&aligner.free.0).filter(|(_, free)| **free).map(|(term, _)| term).collect();
        let right = other.terms.iter().zip(&aligner.free.1).filter(|(_, free)| **free).map(|(term, _)| term).collect();
        Self { ties: aligner.ties, left, right, left_weight: weight(one), right_weight: weight(other) }
    }

    /// Weight of what agrees, in words.
    pub fn shared(&self) -> f64 {
        f64::from(self.agreeing()) / WORD
    }

    fn agreeing(&self) -> u32 {
        let share = |(one, other, tie): &(&Term, &Term, Tie)| match tie {
            Tie::Same(degree) => degree * one.weight().min(other.weight()),
            Tie::Turned => SAME_ALMOST * one.weight().min(other.weight()),
            _ => 0,
        };
        self.ties.iter().map(share).sum()
    }

    /// Weight of what stands against each other.
    fn opposed(&self) -> u32 {
        let share = |(one, other, tie): &(&Term, &Term, Tie)| match tie {
            Tie::Same(_) | Tie::Turned => 0,
            _ => ENTIRELY * one.weight().min(other.weight()),
        };
        self.ties.iter().map(share).sum()
    }

    /// 2 × shared / both (Dice's coefficient over weights): it rises with Jaccard's and is kinder to short texts.
    pub fn similarity(&self) -> f64 {
        ratio(2 * self.agreeing(), self.left_weight + self.right_weight)
    }

    /// The same where opposites have cancelled out.
    pub fn similarity_turned(&self) -> f64 {
        ratio(2 * (self.agreeing() + self.opposed()), self.left_weight + self.right_weight)
    }

    /// How much of the left claim the right one says too.
    pub fn contained(&self) -> f64 {
        ratio(self.agreeing(), self.left_weight)
    }

    /// How much of the lighter, and of the heavier claim takes part in the alignment.
    pub fn coverage(&self) -> (f64, f64) {
        let aligned = self.agreeing() + self.opposed();
        let (low, high) = (self.left_weight.min(self.right_weight), self.left_weight.max(self.right_weight));
        (ratio(aligned, low), ratio(aligned, high))
    }
}

fn ratio(part: u32, whole: u32) -> f64 {
    if whole > 0 { (f64::from(part) / f64::from(whole)).min(1.0) } else { 0.0 }
}

struct Aligner<'a> {
    one: &'a Claim,
    other: &'a Claim,
    free: (Vec<bool>, Vec<bool>),
    ties: Vec<(&'a Term, &'a Term, Tie)>,
}

/// What may tie two terms, from the surest to the loosest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bond {
    AgreeInPart,
    AgreeInPlace,
    DifferInPlace,
    Agree,
    Opposite,
    Almost,
    DifferInPart,
    Differ,
    Meet,
    NamesInPart,
    Names,
}

impl Bond {
    const ALL: [Bond; 11] = [
        Bond::AgreeInPart,
        Bond::AgreeInPlace,
        Bond::DifferInPlace,
        Bond::Agree,
        Bond::Opposite,
        Bond::Almost,
        Bond::DifferInPart,
        Bond::Differ,
        Bond::Meet,
        Bond::NamesInPart,
        Bond::Names,
    ];

    fn tie(self, a: &Term, b: &Term) -> Tie {
        match self {
            Bond::AgreeInPart | Bond::AgreeInPlace | Bond::Agree => Tie::Same(ENTIRELY),
            Bond::DifferInPlace | Bond::DifferInPart | Bond::Differ => Tie::Values,
            Bond::Opposite if a.negated == b.negated => Tie::Antonyms,
            Bond::Opposite => Tie::Turned,
            Bond::Almost => Tie::Same(SAME_ALMOST),
            Bond::Meet => Tie::Same(MEETS),
            Bond::NamesInPart | Bond::Names => Tie::Names,
        }
    }

    /// All bonds of two terms, as bits. Most pairs of words have none.
    fn of(a: &Spot<'_>, b: &Spot<'_>) -> u16 {
        let same_part = a.term.part == b.term.part;
        let mut bonds = 0;
        let mut add = |bond: Bond, holds: bool| bonds |= u16::from(holds) << bond as u16;
        if agree(a.term, b.term) {
            let in_place = counts_the_same(a, b);
            add(Bond::AgreeInPart, in_place && same_part);
            add(Bond::AgreeInPlace, in_place);
            add(Bond::Agree, true);
        }
        if differ(a.term, b.term) {
            add(Bond::DifferInPlace, counts_the_same(a, b));
            add(Bond::DifferInPart, same_part);
            add(Bond::Differ, true);
        }
        add(Bond::Opposite, opposite(a.term, b.term));
        add(Bond::Almost, almost(a.term, b.term));
        add(Bond::Meet, meet(a.term, b.term));
        if names(a, b) {
            add(Bond::NamesInPart, same_part);
            add(Bond::Names, true);
        }
        bonds
    }
}

impl<'a> Aligner<'a> {
    /// Ties by the surest bonds first, and of those the ones nearest to both beginnings; each term is tied once. Two
    /// pairs that share a term differ in `i + j`, so it does not matter which claim is the first.
    fn run(&mut self) {
        let mut bonds = Vec::new();
        for (i, one) in self.one.terms.iter().enumerate() {
            let one = Spot::of(self.one, i, one);
            for (j, other) in self.other.terms.iter().enumerate() {
                let found = Bond::of(&one, &Spot::of(self.other, j, other));
                if found != 0 {
                    bonds.push((i, j, found));
                }
            }
        }
        bonds.sort_by_key(|(i, j, _)| i + j);
        for bond in Bond::ALL {
            for (i, j, found) in &bonds {
                if found >> bond as u16 & 1 == 1 && self.free.0[*i] && self.free.1[*j] {
                    let (one, other) = (&self.one.terms[*i], &self.other.terms[*j]);
                    self.ties.push((one, other, bond.tie(one, other)));
                    (self.free.0[*i], self.free.1[*j]) = (false, false);
                }
            }
        }
    }
}

/// A term and its neighbours.
struct Spot<'a> {
    term: &'a Term,
    before: Option<&'a Term>,
    after: Option<&'a Term>,
}

impl<'a> Spot<'a> {
    fn of(claim: &'a Claim, at: usize, term: &'a Term) -> Self {
        Self { term, before: at.checked_sub(1).and_then(|at| claim.terms.get(at)), after: claim.terms.get(at + 1) }
    }
}

/// Two names that stand in one place, or anywhere when not both are said of something.
fn names(a: &Spot<'_>, b: &Spot<'_>) -> bool {
    let both_said = a.term.part == Part::Predicate && b.term.part == Part::Predicate;
    let alike = || matches!((a.before, b.before), (Some(a), Some(b)) if a.concept == b.concept);
    a.term.is_name() && b.term.is_name() && (!both_said || alike())
}

fn quantity(term: &Term) -> Option<&Quantity> {
    match &term.sort {
        Sort::Quantity(quantity) => Some(quantity),
        _ => None,
    }
}

/// Not two quantities, or two that stand at the same word: `3 nodes`, `port 80`.
fn counts_the_same(a: &Spot<'_>, b: &Spot<'_>) -> bool {
    if quantity(a.term).is_none() || quantity(b.term).is_none() {
        return true;
    }
    let alike = |a: Option<&Term>, b: Option<&Term>| matches!((a, b), (Some(a), Some(b)) if a.concept == b.concept);
    alike(a.after, b.after) || alike(a.before, b.before)
}

fn agree(a: &Term, b: &Term) -> bool {
    match (quantity(a), quantity(b)) {
        (Some(a), Some(b)) => a.agrees(b),
        (None, None) => same(a, b),
        _ => false,
    }
}

/// They stand for the same.
pub(super) fn same(a: &Term, b: &Term) -> bool {
    a.concept == b.concept || bare(a, b) || bare(b, a)
}

/// `B2` is `pump B2` where nothing else is told.
fn bare(whole: &Term, label: &Term) -> bool {
    label.is_name() && label.label == Label::None && whole.bare() == Some(label.concept.text.as_str())
}

fn meet(a: &Term, b: &Term) -> bool {
    matches!((quantity(a), quantity(b)), (Some(a), Some(b)) if a.kind == b.kind && a.meets(b))
}

fn differ(a: &Term, b: &Term) -> bool {
    match (quantity(a), quantity(b)) {
        (Some(a), Some(b)) => a.kind == b.kind && !a.meets(b),
        (None, None) => lexicon().exclude_each_other(&a.concept, &b.concept),
        _ => false,
    }
}

fn opposite(a: &Term, b: &Term) -> bool {
    lexicon().are_antonyms(&a.concept, &b.concept)
}

/// A typing error in a long word, or the longer form of one.
fn almost(a: &Term, b: &Term) -> bool {
    const LONG: usize = 6;
    let (one, other) = (a.concept.text.as_str(), b.concept.text.as_str());
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let plain = |term: &Term| matches!(term.sort, Sort::Word | Sort::Verb) && term.concept.text.is_ascii();
    if short.len() + 3 < long.len() || short.len() < LONG - 1 || !plain(a) || !plain(b) {
        return false;
    }
    let longer_form = short.len() >= LONG - 1 && long.starts_with(short) && long.len() - short.len() <= 3;
    longer_form || (short.len() >= LONG && long.len() - short.len() <= 1 && one_edit_apart(short, long))
}

/// One letter replaced, added, left out, or swapped with its neighbour.
fn one_edit_apart(short: &str, long: &str) -> bool {
    let (short, long) = (short.as_bytes(), long.as_bytes());
    let begin = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    let end = short[begin..].iter().rev().zip(long[begin..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (short, long) = (&short[begin..short.len() - end], &long[begin..long.len() - end]);
    long.len() <= 1 || (long.len() == 2 && short.len() == 2 && short[0] == long[1] && short[1] == long[0])
}

/// What two claims have to do with each other, beside how alike they are.
#[derive(Debug, Default)]
pub struct Contrast {
    /// They speak of different things, or of different circumstances.
    pub apart: Option<String>,
    /// What turns one into the opposite of the other; an even number cancels out.
    pub flips: Vec<String>,
    /// Values of one slot that cannot both hold.
    pub values: Vec<String>,
    paraphrased: bool,
    /// Some of the values are days or times.
    temporal: usize,
}

impl Contrast {
    pub fn of(one: &Claim, other: &Claim, alignment: &Alignment<'_>) -> Self {
        // `never deploy`, `do not run a deploy`: the negation of a verb that only one of them uses.
        let paraphrased = alignment.left.iter().chain(&alignment.right).any(|term| term.negated && !term.is_name());
        let mut contrast = Self { paraphrased, ..Self::default() };
        for (a, b, tie) in &alignment.ties {
            contrast.look_at(one, other, a, b, *tie);
        }
        if swapped(one, other, alignment) {
            contrast.flips.push("the two sides are swapped".to_owned());
        }
        contrast.look_at_subjects(plays(one, other), alignment);
        let said = |terms: &[&Term]| terms.iter().any(|term| term.part == Part::Predicate && term.sort != Sort::Verb);
        // What differs together with a time may differ because of it.
        if contrast.temporal > 0 && contrast.values.len() + contrast.flips.len() > contrast.temporal {
            contrast.part("other times".to_owned());
        }
        if !contrast.values.is_empty() && said(&alignment.left) && said(&alignment.right) {
            contrast.part("other circumstances".to_owned());
        }
        contrast
    }

    /// The claims cannot both be true.
    pub fn is_opposed(&self) -> bool {
        let (turned, excluded) = (!self.flips.len().is_multiple_of(2), !self.values.is_empty());
        self.apart.is_none() && turned != excluded
    }

    /// Nothing stands against anything.
    pub fn is_agreement(&self) -> bool {
        self.apart.is_none() && self.values.is_empty() && self.flips.len().is_multiple_of(2)
    }

    fn look_at(&mut self, one: &Claim, other: &Claim, a: &Term, b: &Term, tie: Tie) {
        let pair = format!("`{}` / `{}`", a.shown, b.shown);
        let circumstance = a.part == Part::Condition || b.part == Part::Condition;
        let in_subject = a.part == Part::Subject && b.part == Part::Subject;
        if a.negated != b.negated && tie != Tie::Turned && !self.paraphrased {
            self.flips.push(format!("`{}` is negated in one", a.shown));
        }
        match tie {
            Tie::Same(_) | Tie::Turned => {}
            _ if circumstance => self.part(format!("other circumstances: {pair}")),
            Tie::Antonyms if in_subject => self.part(format!("other subjects: {pair}")),
            Tie::Antonyms => self.flips.push(pair),
            Tie::Values if in_subject && (identifies(a) || (labelled(a, b) && !held(one, other))) => {
                self.part(format!("other subjects: {pair}"))
            }
            Tie::Values => {
                self.temporal += usize::from(is_temporal(a));
                self.values.push(pair);
            }
            Tie::Names if in_subject && !plays(one, other) => self.part(format!("other subjects: {pair}")),
            Tie::Names if labelled(a, b) && has_role(one, a.part) && has_role(other, b.part) => {
                self.part(format!("parts in other things: {pair}"));
            }
            Tie::Names if one.functional || other.functional || one.copular || other.copular => self.values.push(pair),
            Tie::Names if one.role || other.role => self.values.push(pair),
            Tie::Names => self.part(format!("other objects: {pair}")),
        }
    }

    fn look_at_subjects(&mut self, role: bool, alignment: &Alignment<'_>) {
        let subject = |terms: &[&Term]| {
            let tells = |term: &Term| matches!(term.sort, Sort::Word | Sort::Name) || term.label == Label::Mark;
            let noun = |term: &&&Term| term.part == Part::Subject && tells(term);
            terms.iter().find(noun).map(|term| term.shown.clone())
        };
        if let (Some(a), Some(b)) = (subject(&alignment.left), subject(&alignment.right)) {
            match role {
                true => self.values.push(format!("`{a}` / `{b}`")),
                false => self.part(format!("other subjects: `{a}` / `{b}`")),
            }
        }
    }

    fn part(&mut self, why: String) {
        self.apart.get_or_insert(why);
    }
}

fn is_temporal(term: &Term) -> bool {
    match quantity(term) {
        Some(quantity) => matches!(quantity.kind, Kind::Date | Kind::TimeOfDay),
        None => lexicon().is_temporal(&term.concept),
    }
}

/// Before the verb, a date or a word of a group says which; a plain number counts.
fn identifies(term: &Term) -> bool {
    !matches!(&term.sort, Sort::Quantity(quantity) if matches!(quantity.kind, Kind::Plain | Kind::Measured(_)))
}

/// Both numbers tell which: `aisle 7`, `aisle 8`.
fn labelled(a: &Term, b: &Term) -> bool {
    a.label == Label::Mark && b.label == Label::Mark
}

/// ... but one at a time has the place: `port 80 is used by the proxy`, `version 5 is the default`.
fn held(one: &Claim, other: &Claim) -> bool {
    let said = |claim: &Claim| claim.terms.iter().any(|term| term.part == Part::Predicate && term.sort != Sort::Verb);
    let passive = |claim: &Claim| claim.passive && claim.functional && said(claim);
    plays(one, other) || (passive(one) && passive(other))
}

/// Both say who plays a part. `The leader of rack B` is spoken of as the one who plays it.
fn plays(one: &Claim, other: &Claim) -> bool {
    one.role && other.role && !(has_role(one, Part::Subject) && has_role(other, Part::Subject))
}

fn has_role(claim: &Claim, part: Part) -> bool {
    claim.role && claim.terms.iter().any(|term| term.part == part && lexicon().is_role(&term.concept))
}

/// Both are active and what one speaks of is what the other says of it: `a calls b`, `b calls a`.
fn swapped(one: &Claim, other: &Claim, alignment: &Alignment<'_>) -> bool {
    let plain = |claim: &Claim| !claim.fronted && !claim.passive && !claim.copular;
    let ordered_by = |claim: &Claim| claim.terms.iter().any(|term| is_comparison(term, claim));
    let ordered = ordered_by(one) && ordered_by(other);
    let fronted = one.fronted || other.fronted;
    let active = plain(one) && plain(other);
    if fronted || !(ordered || active) {
        return false;
    }
    let same = || alignment.ties.iter().filter(|(_, _, tie)| matches!(tie, Tie::Same(_)));
    let noun = |term: &Term| term.sort != Sort::Verb && term.label != Label::Noun;
    let nouns = || same().filter(|(a, b, _)| noun(a) && noun(b) && !is_comparison(a, one) && !is_comparison(b, other));
    let crossing = |from: Part, to: Part| nouns().any(|(a, b, _)| a.part == from && b.part == to);
    let staying = nouns().any(|(a, b, _)| a.part == Part::Subject && b.part == Part::Subject);
    crossing(Part::Subject, Part::Predicate) && crossing(Part::Predicate, Part::Subject) && !staying
}

/// A relation that cannot hold both ways.
fn is_comparison(term: &Term, claim: &Claim) -> bool {
    matches!(term.shown.as_str(), "before" | "after") || (claim.compares && term.shown.ends_with("er"))
}
