//! Entity tags and the conditions made of them (RFC 9110, sections 8.8.3 and 13.1).

use axum::http::{HeaderMap, HeaderName, header};

use super::problem::{Kind, Problem};
use crate::node::IfMatch;

/// Tags in one condition.
const TAGS_MAX: usize = 64;

pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// A parsed `If-Match` or `If-None-Match`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Any,
    Tags(Vec<Tag>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tag {
    weak: bool,
    text: String,
}

impl Condition {
    pub fn parse(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Problem> {
        let malformed = || {
            let detail =
                format!("the header {name} is malformed: it takes `*` or at most {TAGS_MAX} tags like \"abc\"");
            Problem::new(Kind::BadRequest, detail)
        };
        let mut tags = Vec::new();
        let mut any = false;
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| malformed())?.trim();
            if text == "*" {
                any = true;
            } else {
                tags_of(text, &mut tags).ok_or_else(malformed)?;
            }
        }
        match (any, tags.is_empty()) {
            (false, true) => Ok(None),
            (true, true) => Ok(Some(Self::Any)),
            (false, false) if tags.len() <= TAGS_MAX => Ok(Some(Self::Tags(tags))),
            _ => Err(malformed()),
        }
    }

    /// Does a document with `etag` meet an `If-Match`? A weak tag never does.
    pub fn matches_strongly(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| !tag.weak && tag.text == etag),
        }
    }

    /// Does it meet one of the tags of an `If-None-Match`? Weakness does not count there.
    pub fn matches_weakly(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| tag.text == etag),
        }
    }
}

/// The conditions of a write: what must match, and whether the document must not exist yet.
pub(super) fn of_write(headers: &HeaderMap) -> Result<(Option<IfMatch>, bool), Problem> {
    let if_match = Condition::parse(headers, &header::IF_MATCH)?.map(|condition| match condition {
        Condition::Any => IfMatch::Any,
        Condition::Tags(tags) => IfMatch::Tags(tags.into_iter().filter(|tag| !tag.weak).map(|tag| tag.text).collect()),
    });
    match Condition::parse(headers, &header::IF_NONE_MATCH)? {
        None => Ok((if_match, false)),
        Some(Condition::Any) => Ok((if_match, true)),
        Some(Condition::Tags(_)) => {
            let detail = "If-None-Match takes only `*` on a write (create, never replace): use If-Match for tags";
            Err(Problem::new(Kind::BadRequest, detail))
        }
    }
}

/// One tag as a batch carries it: `*`, or with or without its quotes.
pub(super) fn of_batch(text: &str) -> IfMatch {
    match text {
        "*" => IfMatch::Any,
        text => IfMatch::Tags(vec![text.trim_matches('"').to_owned()]),
    }
}

fn tags_of(text: &str, tags: &mut Vec<Tag>) -> Option<()> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let weak = rest.starts_with("W/");
        let opened = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let (tag, after) = opened.split_once('"')?;
        tags.push(Tag { weak, text: tag.to_owned() });
        rest = after.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return Some(());
        }
        rest = rest.strip_prefix(',')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Condition>, Kind> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, text.parse().unwrap());
        Condition::parse(&headers, &header::IF_MATCH).map_err(|problem| problem.kind())
    }

    #[test]
    fn lists_of_tags_are_read_and_a_weak_tag_never_matches_strongly() {
        let condition = parse("\"a\", W/\"b\" ,\"c,d\"").unwrap().unwrap();
        assert!(condition.matches_strongly("a") && condition.matches_strongly("c,d"));
        assert!(!condition.matches_strongly("b") && condition.matches_weakly("b"));
        assert_eq!(parse("*"), Ok(Some(Condition::Any)));
    }

    #[test]
    fn malformed_conditions_are_refused() {
        for text in ["a", "\"a", "\"a\" \"b\"", "\"a\",", "*, \"a\"", "w/\"a\""] {
            assert_eq!(parse(text), Err(Kind::BadRequest), "{text}");
        }
    }
}
