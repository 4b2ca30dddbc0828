//! Many edits of one text, together: each sibling's edits of the text before them, where they were made.
//!
//! A sibling's edits are what a diff finds between the text before and its own: words first, then letters within the runs
//! of words that changed. What any sibling took out is gone, and what siblings put in at one place stands there in their
//! order, once where they say the same. Nothing hangs on a clock or on chance, so every node merges alike.

use std::collections::BTreeMap;
use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput, TokenSource};
use unicode_segmentation::{Graphemes, UWordBounds, UnicodeSegmentation};

/// Bytes of the text before and of all siblings together: the costliest texts of this size take about 0.1 s to merge.
pub const TEXT_BYTES_MAX: usize = 256 << 10;

/// Letters of a changed run, before and after, that are compared one by one. Letters repeat, so that a comparison takes
/// time up to the square of it; longer runs are replaced as a whole.
const LETTERS_MAX: usize = 512;

/// Some of the text before, by place in bytes, and what stands there instead.
struct Edit<'t> {
    before: Range<usize>,
    after: &'t str,
}

/// The text before with the edits of all, in the order in which they are given. `None` where together they are too long.
pub fn merged(base: &str, texts: &[&str]) -> Option<String> {
    let bytes = texts.iter().map(|text| text.len()).fold(base.len(), usize::saturating_add);
    if bytes > TEXT_BYTES_MAX {
        return None;
    }
    let mut gone: Vec<Range<usize>> = Vec::new();
    let mut put: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for edit in texts.iter().flat_map(|text| edits(base, text)) {
        let there = put.entry(edit.before.start).or_default();
        if !edit.after.is_empty() && !there.contains(&edit.after) {
            there.push(edit.after);
        }
        gone.push(edit.before);
    }
    gone.sort_by_key(|range| range.start);
    Some(apply(base, &gone, &put))
}

/// Writes the text anew. Whatever is gone starts at a key of `put`, so between two keys only the beginning may be gone.
fn apply(base: &str, gone: &[Range<usize>], put: &BTreeMap<usize, Vec<&str>>) -> String {
    let (mut text, mut at, mut gone_to) = (String::with_capacity(base.len()), 0, 0);
    let mut gone = gone.iter().peekable();
    for (place, pieces) in put {
        text.push_str(&base[at.max(gone_to).min(*place)..*place]);
        pieces.iter().for_each(|piece| text.push_str(piece));
        while let Some(range) = gone.next_if(|range| range.start <= *place) {
            gone_to = gone_to.max(range.end);
        }
        at = *place;
    }
    text.push_str(&base[at.max(gone_to)..]);
    text
}

fn edits<'t>(base: &str, text: &'t str) -> Vec<Edit<'t>> {
    let runs = changed(Words(base), Words(text));
    let letters = |run: Runs| {
        let (before, after) = (&base[run.before.clone()], &text[run.after.clone()]);
        let few = before.len() + after.len() <= LETTERS_MAX;
        let within = if few { changed(Letters(before), Letters(after)) } else { vec![Runs::whole(before, after)] };
        within.into_iter().map(move |small| Edit {
            before: run.before.start + small.before.start..run.before.start + small.before.end,
            after: &after[small.after],
        })
    };
    runs.into_iter().flat_map(letters).collect()
}

/// A run that changed, in bytes of the text before and of the text after.
struct Runs {
    before: Range<usize>,
    after: Range<usize>,
}

impl Runs {
    fn whole(before: &str, after: &str) -> Self {
        Self { before: 0..before.len(), after: 0..after.len() }
    }
}

fn changed<'t, S: TokenSource<Token = &'t str> + Copy>(before: S, after: S) -> Vec<Runs> {
    let input = InternedInput::new(before, after);
    let diff = Diff::compute(Algorithm::Myers, &input);
    let (before, after) = (starts(before), starts(after));
    let bytes = |starts: &[usize], run: Range<u32>| starts[run.start as usize]..starts[run.end as usize];
    diff.hunks().map(|hunk| Runs { before: bytes(&before, hunk.before), after: bytes(&after, hunk.after) }).collect()
}

/// Where each token starts, and where the last one ends.
fn starts<'t>(source: impl TokenSource<Token = &'t str>) -> Vec<usize> {
    let mut end = 0;
    let ends = source.tokenize().map(|token| {
        end += token.len();
        end
    });
    std::iter::once(0).chain(ends).collect()
}

#[derive(Clone, Copy)]
struct Words<'t>(&'t str);

impl<'t> TokenSource for Words<'t> {
    type Token = &'t str;
    type Tokenizer = UWordBounds<'t>;

    fn tokenize(&self) -> Self::Tokenizer {
        self.0.split_word_bounds()
    }

    fn estimate_tokens(&self) -> u32 {
        (self.0.len() / 4) as u32
    }
}

/// Letters as people see them.
#[derive(Clone, Copy)]
struct Letters<'t>(&'t str);

impl<'t> TokenSource for Letters<'t> {
    type Token = &'t str;
    type Tokenizer = Graphemes<'t>;

    fn tokenize(&self) -> Self::Tokenizer {
        self.0.graphemes(true)
    }

    fn estimate_tokens(&self) -> u32 {
        self.0.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn merges(base: &str, texts: &[&str], expected: &str) {
        assert_eq!(merged(base, texts).as_deref(), Some(expected));
    }

    #[test]
    fn edits_at_different_places_are_all_there() {
        merges("the fox", &["the quick fox", "the fox jumps"], "the quick fox jumps");
        merges("a b c d", &["b c d", "a b c", "a b, c d"], "b, c");
        merges("colour of snow", &["color of snow", "colour of snows"], "color of snows");
        merges("", &["one", "two"], "onetwo");
        merges("gone", &["", "gone too"], " too");
    }

    #[test]
    fn what_siblings_say_alike_is_said_once() {
        merges("teh fox", &["the fox", "the fox", "teh foxes"], "the foxes");
        merges("x", &["x y", "x y"], "x y");
    }

    #[test]
    fn what_was_put_within_what_another_took_out_stays() {
        merges("one two three four", &["one four", "one two and three four"], "one and four");
    }

    #[test]
    fn letters_of_several_bytes_are_never_cut() {
        merges("näive 👩‍👩‍👧 end", &["naive 👩‍👩‍👧 end", "näive 👩‍👩‍👦 ends"], "naive 👩‍👩‍👦 ends");
    }

    #[test]
    fn texts_too_long_together_are_not_merged() {
        let long = "a".repeat(TEXT_BYTES_MAX / 2);
        assert_eq!(merged(&long, &[&long]).as_deref(), Some(long.as_str()));
        assert_eq!(merged(&long, &[&long, "a"]), None);
    }

    proptest! {
        /// Identity: who changed nothing adds nothing, and one who changed alone gets what they wrote.
        #[test]
        fn one_edit_alone_is_that_edit(base in "[ab é\\n👩‍👧]{0,24}", text in "[ab é\\n👩‍👧]{0,24}") {
            prop_assert_eq!(merged(&base, &[&text]), Some(text.clone()));
            prop_assert_eq!(merged(&base, &[&base, &text, &base]), Some(text.clone()));
            prop_assert_eq!(merged(&base, &[&text, &text]), Some(text));
        }

        /// No letter comes from nowhere, and none that all kept is lost.
        #[test]
        fn nothing_is_made_up_and_nothing_that_all_kept_is_lost(
            base in "[a-c ]{0,20}", one in "[a-c ]{0,20}", two in "[a-c ]{0,20}",
        ) {
            let merged = merged(&base, &[&one, &two]).unwrap();
            for letter in 'a'..='c' {
                let count = |text: &str| text.matches(letter).count();
                prop_assert!(count(&merged) <= count(&base) + count(&one) + count(&two));
            }
            let tail = format!("{base}#");
            let kept = super::merged(&tail, &[&format!("{one}#"), &format!("{two}#")]).unwrap();
            prop_assert!(kept.ends_with('#'), "{kept}");
        }
    }
}
