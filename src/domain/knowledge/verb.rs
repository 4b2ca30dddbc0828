//! Where the verb of a clause stands, told by the words around it. Many words are verbs here and nouns there: `build
//! the index`, `the build failed`, `build 412 failed`.

use super::lexicon::lexicon;
use super::word::Word;

/// Participles that do not end in `ed` or `en`.
pub const IRREGULAR: [&str; 20] = [
    "built", "made", "kept", "held", "sent", "run", "set", "put", "lost", "done", "found", "sold", "read", "shut",
    "bought", "paid", "led", "cut", "split", "bound",
];

pub fn is_be(word: &str) -> bool {
    matches!(word, "is" | "are" | "was" | "were" | "be" | "been" | "being" | "isn't" | "aren't" | "wasn't" | "weren't")
}

pub fn is_preposition(word: &str) -> bool {
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
pub fn noun_at(words: &[Word], at: usize) -> bool {
    const BEFORE: [&str; 21] = [
        "the", "a", "an", "each", "every", "of", "no", "our", "its", "in", "for", "by", "after", "before", "than",
        "on", "through", "from", "with", "into", "at",
    ];
    at.checked_sub(1).is_some_and(|before| BEFORE.contains(&words[before].lower.as_str()))
}

/// A word that might be a verb has a label, and then the verb: `build 412 failed`, `process B is stuck`.
pub fn is_labelled(words: &[Word], at: usize) -> bool {
    let (Some(label), Some(then)) = (words.get(at + 1), words.get(at + 2)) else {
        return false;
    };
    let (known, number) = (lexicon(), label.lower.bytes().all(|byte| byte.is_ascii_digit()));
    let joined = words[at].then.is_none() && label.then.is_none();
    // `run 3 checks` is a command.
    let finite = known.is_verb(&then.lower) && !known.is_base(&then.lower) && !(number && then.lower.ends_with('s'));
    known.is_base(&words[at].lower) && joined && (label.label || number) && (known.is_auxiliary(&then.lower) || finite)
}

/// Where what is spoken of ends: the first auxiliary or verb that is no noun here, or else a colon. A verb at the very
/// beginning is a command.
pub fn find(words: &[Word]) -> Option<usize> {
    let known = lexicon();
    let mut condition = false;
    for (at, word) in words.iter().enumerate() {
        condition |= known.opens_condition(&word.lower);
        if condition {
            condition = word.then != Some(',');
            continue;
        }
        let text = word.lower.as_str();
        let noun = noun_at(words, at) || is_labelled(words, at);
        let verb = known.is_verb(text) && !noun && (at > 0 || known.is_base(text));
        if known.is_auxiliary(text) || verb || (word.then == Some(':') && at + 1 < words.len()) {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::word;
    use super::*;

    fn check(content: &str, expected: Option<&str>) {
        let text = word::read(content);
        let words = &text.clauses[0];
        assert_eq!(find(words).map(|at| words[at].lower.as_str()), expected, "{content}");
    }

    #[test]
    fn a_word_with_a_label_or_a_determiner_before_it_is_no_verb() {
        check("Build the index", Some("build"));
        check("The build failed", Some("failed"));
        check("Build 412 failed", Some("failed"));
        check("Process B is stuck", Some("is"));
        check("Run 3 checks", Some("run"));
        check("When hosts fail, jobs move", Some("move"));
        check("Port: 8080", Some("port"));
        check("No verb at all", None);
    }
}
