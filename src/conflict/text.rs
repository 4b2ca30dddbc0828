//! Many edits of one text, together: each sibling's edits of the text before them, where they were made.
//!
//! A sibling's edits are what a diff finds between the text before and its own: lines first, then words within the runs of
//! lines that changed. Where two siblings changed the same words differently there is nothing to merge, as there is not
//! for a number: `100` that became `150` and `200` is no `250`. What several put in at one place stands there in their
//! order, once where they say the same. Nothing hangs on a clock or on chance, so every node merges alike.

use std::collections::BTreeMap;
use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput, TokenSource};
use unicode_segmentation::{UWordBounds, UnicodeSegmentation};

/// Bytes of the text before and of all siblings together.
pub const TEXT_BYTES_MAX: usize = 256 << 10;

/// A diff takes time up to the square of the words that it compares: 0.4 ns for each of theirs, so 50 ms in all.
const WORK_MAX: u64 = 1 << 27;

/// Why texts do not merge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmerged {
    #[error("the texts are longer than {} KiB together", TEXT_BYTES_MAX >> 10)]
    TooLong,
    #[error("the texts differ in too much to be compared word by word: break them into lines")]
    TooDifferent,
    #[error("two of them changed the same words: `{0}`")]
    SameWords(String),
}

/// Some of the text before, by place in bytes, and what stands there instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edit<'t> {
    start: usize,
    end: usize,
    after: &'t str,
}

/// The text before with the edits of all, in the order in which they are given.
pub fn merged(base: &str, texts: &[&str]) -> Result<String, Unmerged> {
    let bytes = texts.iter().map(|text| text.len()).fold(base.len(), usize::saturating_add);
    if bytes > TEXT_BYTES_MAX {
        return Err(Unmerged::TooLong);
    }
    let mut work = WORK_MAX;
    let (mut put, mut gone) = (BTreeMap::<usize, Vec<&str>>::new(), Vec::new());
    for text in texts {
        for edit in edits(base, text, &mut work)? {
            match edit.start == edit.end {
                true => {
                    let there = put.entry(edit.start).or_default();
                    if !there.contains(&edit.after) {
                        there.push(edit.after);
                    }
                }
                false => gone.push(edit),
            }
        }
    }
    gone.sort();
    // Siblings that did the same did it once.
    gone.dedup();
    if let Some(pair) = gone.windows(2).find(|pair| pair[1].start < pair[0].end) {
        return Err(Unmerged::SameWords(base[pair[1].start..pair[0].end].trim().chars().take(40).collect()));
    }
    Ok(apply(base, &gone, put))
}

/// Writes the text anew. No two of `gone` overlap, and both come in the order of the text.
fn apply(base: &str, gone: &[Edit<'_>], mut put: BTreeMap<usize, Vec<&str>>) -> String {
    let (mut text, mut at) = (String::with_capacity(base.len()), 0);
    // What was put in where another took something out stands before what took its place.
    let mut until = |to: usize, text: &mut String, at: &mut usize| {
        let later = put.split_off(&(to + 1));
        for (place, pieces) in std::mem::replace(&mut put, later) {
            if place > *at {
                text.push_str(&base[*at..place]);
                *at = place;
            }
            pieces.iter().for_each(|piece| text.push_str(piece));
        }
    };
    for edit in gone {
        until(edit.start, &mut text, &mut at);
        if edit.start > at {
            text.push_str(&base[at..edit.start]);
        }
        text.push_str(edit.after);
        at = edit.end;
    }
    until(base.len(), &mut text, &mut at);
    text.push_str(&base[at..]);
    text
}

fn edits<'t>(base: &str, text: &'t str, work: &mut u64) -> Result<Vec<Edit<'t>>, Unmerged> {
    let mut edits = Vec::new();
    for lines in changed(Lines(base), Lines(text), work)? {
        let (before, after) = (&base[lines.before.clone()], &text[lines.after]);
        for words in changed(Words(before), Words(after), work)? {
            let (start, end) = (lines.before.start + words.before.start, lines.before.start + words.before.end);
            edits.push(Edit { start, end, after: &after[words.after] });
        }
    }
    Ok(edits)
}

/// A run that changed, in bytes of the text before and of the text after.
struct Run {
    before: Range<usize>,
    after: Range<usize>,
}

fn changed<'t, S: TokenSource<Token = &'t str> + Copy>(
    before: S,
    after: S,
    work: &mut u64,
) -> Result<Vec<Run>, Unmerged> {
    let input = InternedInput::new(before, after);
    // What begins and ends alike is set aside before anything is compared.
    let shorter = input.before.len().min(input.after.len());
    let alike = |pairs: &mut dyn Iterator<Item = bool>| pairs.take_while(|alike| *alike).count();
    let start = alike(&mut input.before.iter().zip(&input.after).map(|(a, b)| a == b));
    let end = alike(&mut input.before.iter().rev().zip(input.after.iter().rev()).map(|(a, b)| a == b));
    let differ = input.before.len() + input.after.len() - 2 * (start + end).min(shorter);
    *work = work.checked_sub((differ * differ) as u64).ok_or(Unmerged::TooDifferent)?;
    let diff = Diff::compute(Algorithm::Myers, &input);
    let (before, after) = (starts(before), starts(after));
    let bytes = |starts: &[usize], run: Range<u32>| starts[run.start as usize]..starts[run.end as usize];
    Ok(diff.hunks().map(|hunk| Run { before: bytes(&before, hunk.before), after: bytes(&after, hunk.after) }).collect())
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
struct Lines<'t>(&'t str);

impl<'t> TokenSource for Lines<'t> {
    type Token = &'t str;
    type Tokenizer = std::str::SplitInclusive<'t, char>;

    fn tokenize(&self) -> Self::Tokenizer {
        self.0.split_inclusive('\n')
    }

    fn estimate_tokens(&self) -> u32 {
        (self.0.len() / 32) as u32
    }
}

/// Words, and what stands between them.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn merges(base: &str, texts: &[&str], expected: &str) {
        assert_eq!(merged(base, texts).as_deref(), Ok(expected));
    }

    #[test]
    fn edits_at_different_places_are_all_there() {
        merges("the fox", &["the quick fox", "the fox jumps"], "the quick fox jumps");
        merges("a b c d", &["b c d", "a b c", "a b, c d"], "b, c");
        merges("one\ntwo\nthree\n", &["one\n2\nthree\n", "one\ntwo\nthree\nfour\n"], "one\n2\nthree\nfour\n");
        merges("", &["one", "two"], "onetwo");
        merges("the colour of snow", &["the color of snow", "the colour of the snow"], "the color of the snow");
    }

    #[test]
    fn what_siblings_say_alike_is_said_once() {
        merges("teh fox", &["the fox", "the fox", "teh quick fox"], "the quick fox");
        merges("x", &["x y", "x y"], "x y");
    }

    #[test]
    fn two_who_changed_the_same_words_do_not_merge() {
        for (base, one, two) in [
            ("100", "150", "200"),
            ("retry 3 times", "retry 10 times", "retry 5 times"),
            ("one two three four", "one four", "one two and 3 four"),
            ("gone", "", "still here"),
        ] {
            assert!(matches!(merged(base, &[one, two]), Err(Unmerged::SameWords(_))), "{base}");
        }
        assert_eq!(merged("a big red fox", &["a fox", "a big blue fox"]), Err(Unmerged::SameWords("red".into())));
    }

    #[test]
    fn letters_of_several_bytes_are_never_cut() {
        merges("näive 👩‍👩‍👧 end", &["naive 👩‍👩‍👧 end", "näive 👩‍👩‍👦 end"], "naive 👩‍👩‍👦 end");
    }

    #[test]
    fn texts_too_long_or_too_different_are_not_merged() {
        let long = "a\n".repeat(TEXT_BYTES_MAX / 4);
        assert_eq!(merged(&long, &[&long]).as_deref(), Ok(long.as_str()));
        assert_eq!(merged(&long, &[&long, "a"]), Err(Unmerged::TooLong));
        let words = |seed: u32| {
            let word = |n: u32| ["a ", "b ", "c ", "d "][(n.wrapping_mul(seed) >> 7) as usize % 4];
            (0..20_000).map(word).collect::<String>()
        };
        assert_eq!(merged(&words(2_654_435_761), &[&words(40_503)]), Err(Unmerged::TooDifferent));
        // A change in the middle of a long line is none such.
        let prose = words(2_654_435_761);
        assert!(merged(&prose, &[&format!("{prose}and more")]).is_ok());
    }

    proptest! {
        /// Identity: who changed nothing adds nothing, and one who changed alone gets what they wrote.
        #[test]
        fn one_edit_alone_is_that_edit(base in "[ab é\\n👩‍👧]{0,24}", text in "[ab é\\n👩‍👧]{0,24}") {
            prop_assert_eq!(merged(&base, &[&text]), Ok(text.clone()));
            prop_assert_eq!(merged(&base, &[&base, &text, &base]), Ok(text.clone()));
            prop_assert_eq!(merged(&base, &[&text, &text]), Ok(text));
        }

        /// Edits on two sides of what all kept merge to both; the middle is longer than any word of them.
        #[test]
        fn what_is_apart_merges_to_both(
            head in "[ab ]{0,12}", tail in "[ab ]{0,12}", one in "[ab ]{0,12}", two in "[ab ]{0,12}",
        ) {
            let text = |head: &str, tail: &str| format!("{head}\n#\n{tail}");
            let merged = merged(&text(&head, &tail), &[&text(&one, &tail), &text(&head, &two)]);
            prop_assert_eq!(merged, Ok(text(&one, &two)));
        }
    }
}
