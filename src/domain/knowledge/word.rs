//! Text to clauses of words. A word keeps its spelling for people and a normal form for comparison.

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// Words read of one text: two or three pages. A longer text is compared by its beginning, and says so.
pub const WORDS_MAX: usize = 2048;

/// Clauses read of one text, and words of one clause. Together they bound the cost of comparing two texts.
pub const CLAUSES_MAX: usize = 32;
pub const CLAUSE_WORDS_MAX: usize = 48;

/// Words that open a clause of their own after a comma.
const OPENERS: [&str; 12] =
    ["and", "but", "which", "so", "because", "while", "where", "then", "whereas", "who", "or", "yet"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Lower case, compatibility forms folded.
    pub lower: String,
    /// It began with a capital letter, and was not the first of its sentence.
    pub proper: bool,
    /// One capital letter, or letters and digits: `B`, `B2`. Behind a noun it says which one.
    pub label: bool,
    /// What followed it: `,`, `:` or nothing.
    pub then: Option<char>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    pub clauses: Vec<Vec<Word>>,
    /// There was more than is read.
    pub clipped: bool,
}

/// Cuts at the ends of sentences, at semicolons, at line ends, and at commas before an opener.
pub fn read(content: &str) -> Text {
    let folded: String = content.nfkc().map(plain).collect();
    // In capitals throughout, `A` is an article as often as a label.
    let shouted = !folded.contains(char::is_lowercase);
    let (mut text, mut clause, mut first, mut count) = (Text::default(), Vec::new(), true, 0);
    for line in folded.lines() {
        for chunk in line.split_whitespace() {
            if count >= WORDS_MAX {
                text.clipped = true;
                break;
            }
            let body =
                chunk.trim_matches(|c: char| !c.is_alphanumeric() && c != '%' && c != '-' && c != '<' && c != '>');
            let after = &chunk[chunk.rfind(body).map_or(chunk.len(), |at| at + body.len())..];
            if body.eq_ignore_ascii_case("but") {
                text.close(&mut clause);
            }
            let opens = clause.last().is_some_and(|word: &Word| word.then == Some(','));
            if opens && OPENERS.contains(&body.to_lowercase().as_str()) {
                text.close(&mut clause);
            }
            let before = clause.len();
            split(body, first, &mut clause);
            count += clause.len() - before;
            clause[before..].iter_mut().for_each(|word| word.label &= !shouted);
            first &= clause.is_empty();
            if let Some(word) = clause.last_mut() {
                word.then = after.chars().find(|c| matches!(c, ',' | ':'));
            }
            if after.contains(['.', '!', '?', ';']) {
                text.close(&mut clause);
                first = true;
            }
        }
        text.close(&mut clause);
        first = true;
    }
    text
}

impl Text {
    fn close(&mut self, clause: &mut Vec<Word>) {
        if clause.is_empty() {
            return;
        }
        if self.clauses.len() == CLAUSES_MAX || clause.len() > CLAUSE_WORDS_MAX {
            self.clipped = true;
        }
        if self.clauses.len() < CLAUSES_MAX {
            clause.truncate(CLAUSE_WORDS_MAX);
            self.clauses.push(std::mem::take(clause));
        }
        clause.clear();
    }
}

/// One spelling for the characters that people and editors use alike.
fn plain(c: char) -> char {
    match c {
        '\u{2018}' | '\u{2019}' | '\u{2032}' => '\'',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        other => other,
    }
}

/// A chunk with a digit stays whole (`web-03`, `10.0.0.1`, `512MB`); others fall apart at what joins words.
fn split(body: &str, first: bool, into: &mut Vec<Word>) {
    let mut push = |part: &str, proper: bool| {
        if !part.is_empty() {
            let label = label(part);
            let lower = label.unwrap_or(part).to_lowercase();
            into.push(Word { lower, proper, label: label.is_some(), then: None });
        }
    };
    if body.contains(|c: char| c.is_ascii_digit()) || matches!(body, "%" | "<" | ">") {
        let body = body.trim_matches('-');
        // `32-core` is a number and a word, `web-03` is a name.
        match body.split_once('-') {
            Some((count, rest))
                if count.bytes().all(|byte| byte.is_ascii_digit()) && rest.chars().all(char::is_alphabetic) =>
            {
                push(count, false);
                push(rest, false);
            }
            _ => push(body, false),
        }
        return;
    }
    // `host-b`, too.
    let lettered = body
        .rsplit_once('-')
        .is_some_and(|(_, last)| last.chars().count() == 1 && last.chars().all(char::is_alphabetic));
    if lettered {
        push(body, false);
        return;
    }
    for part in body.split(['-', '/', '_', '.']) {
        for word in part.unicode_words() {
            let mut letters = word.chars();
            let capital = letters.next().is_some_and(char::is_uppercase) && letters.all(|c| !c.is_uppercase());
            push(word, capital && !first && word.chars().count() > 1);
        }
    }
}

/// `B`, `B2`, and what `B's` belongs to. `I` is somebody, `v5` a version.
fn label(part: &str) -> Option<&str> {
    let bare = part.strip_suffix("'s").unwrap_or(part);
    let digits = bare.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let letters = bare.len() - digits.len();
    let numbered = digits.bytes().all(|byte| byte.is_ascii_digit()) && (!digits.is_empty() || letters == 1);
    let fits = (1..=LABEL_LETTERS_MAX).contains(&letters) && numbered && bare != "I" && !bare.starts_with('V');
    (fits || bare == "V").then_some(bare)
}

/// `AB12` is a label; longer ones are names whatever stands before them.
const LABEL_LETTERS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str, expected: &[&str]) {
        let joined = |clause: &Vec<Word>| clause.iter().map(|word| word.lower.as_str()).collect::<Vec<_>>().join(" ");
        let clauses: Vec<String> = read(content).clauses.iter().map(joined).collect();
        assert_eq!(clauses, expected);
    }

    #[test]
    fn sentences_and_joined_clauses_are_cut_apart_and_names_are_not() {
        check("It runs 1.4.2 on web-03. Then; stop!", &["it runs 1.4.2 on web-03", "then", "stop"]);
        check("Redis is a cache, but Postgres isn\u{2019}t.", &["redis is a cache", "but postgres isn't"]);
        check("hash-chained log/trace", &["hash chained log trace"]);
        check("  \n \u{3000} ...", &[]);
    }

    #[test]
    fn a_capital_inside_a_sentence_marks_a_name() {
        let text = read("Ask Maria about DNS");
        let proper: Vec<bool> = text.clauses[0].iter().map(|word| word.proper).collect();
        assert_eq!(proper, [false, true, false, false]);
    }

    #[test]
    fn a_capital_letter_alone_or_with_digits_is_a_label() {
        let labels = |content: &str| {
            let text = read(content);
            let labels = text.clauses.iter().flatten().filter(|word| word.label);
            labels.map(|word| word.lower.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels("Rack B, zone C4 and team A's jobs"), "b c4 a");
        assert_eq!(labels("If I run web-01 on V5, a host in IT has DNS at 12"), "");
        assert_eq!(labels("GIVE HOST A NEW DISK"), "");
    }

    #[test]
    fn a_long_text_is_read_up_to_its_bounds() {
        let text = read(&"word ".repeat(10_000));
        assert!(text.clipped && text.clauses[0].len() == CLAUSE_WORDS_MAX);
        let text = read(&"a word. ".repeat(100));
        assert!(text.clipped && text.clauses.len() == CLAUSES_MAX);
    }
}
