//! Patterns of paths: `spec.*.replicas`, `spec."a.b"`. A star stands for exactly one step; elements of lists go by the
//! value of their merge key.

use std::fmt;

use serde_json::Value as Json;

use super::path::is_bare;

/// Steps of one pattern: as deep as a value may be.
const SEGMENTS_MAX: usize = super::bounds::DEPTH_MAX;

/// Orders by length, then names before stars from the left: of two patterns that match one path, the larger says more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Any,
    Name(String),
}

impl Pattern {
    /// What is wrong, in words, where it is no pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut segments = Vec::new();
        let mut rest = text;
        loop {
            let (segment, after) = first_segment(rest)?;
            segments.push(segment);
            if segments.len() > SEGMENTS_MAX {
                return Err(format!("more than {SEGMENTS_MAX} steps"));
            }
            if after.is_empty() {
                return Ok(Self(segments));
            }
            rest = after.strip_prefix('.').ok_or_else(|| format!("a `.` is missing before `{after}`"))?;
        }
    }

    pub fn matches<S: AsRef<str>>(&self, names: &[S]) -> bool {
        self.0.len() == names.len() && self.covers(names)
    }

    /// Whether the path, or one above it, matches.
    pub fn covers<S: AsRef<str>>(&self, names: &[S]) -> bool {
        let fits = |(segment, name): (&Segment, &S)| match segment {
            Segment::Any => true,
            Segment::Name(own) => own == name.as_ref(),
        };
        self.0.len() <= names.len() && self.0.iter().zip(names).all(fits)
    }

    fn weight(&self) -> (usize, &[Segment]) {
        (self.0.len(), &self.0)
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.weight().cmp(&other.weight())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { "." } else { "" })?;
            match segment {
                Segment::Any => f.write_str("*")?,
                Segment::Name(name) if is_bare(name) => f.write_str(name)?,
                Segment::Name(name) => write!(f, "{}", Json::from(name.as_str()))?,
            }
        }
        Ok(())
    }
}

/// The first segment and what follows it. A quoted one is a JSON string.
fn first_segment(text: &str) -> Result<(Segment, &str), String> {
    if text.starts_with('"') {
        let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let name = strings.next().and_then(Result::ok).ok_or("a quote is not closed")?;
        return Ok((Segment::Name(name), text.get(strings.byte_offset()..).unwrap_or_default()));
    }
    let end = text.find('.').unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    match name {
        "" => Err("an empty step: write `a.b`, or `\"\"` for an empty key".to_owned()),
        "*" => Ok((Segment::Any, after)),
        name if name.contains(['*', '"', '[', ']']) => {
            Err(format!("`{name}`: a star stands alone; quote a key that holds one of * \" [ ]"))
        }
        name => Ok((Segment::Name(name.to_owned()), after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_star_is_exactly_one_step() {
        let star = pattern("spec.*.replicas");
        assert!(star.matches(&["spec", "web", "replicas"]));
        assert!(!star.matches(&["spec", "replicas"]));
        assert!(!star.matches(&["spec", "web", "replicas", "max"]));
        assert!(star.covers(&["spec", "web", "replicas", "max"]));
    }

    #[test]
    fn a_quoted_step_may_hold_dots_and_stars() {
        let quoted = pattern(r#"labels."app.kubernetes.io/name".*"#);
        assert!(quoted.matches(&["labels", "app.kubernetes.io/name", "x"]));
        assert_eq!(quoted.to_string(), r#"labels."app.kubernetes.io/name".*"#);
        assert!(!pattern(r#""*""#).matches(&["x"]));
    }

    #[test]
    fn the_longer_pattern_says_more_then_the_one_that_names_first() {
        let mut patterns = [pattern("*.b"), pattern("a"), pattern("a.*"), pattern("a.*.c"), pattern("a.b")];
        patterns.sort();
        let texts: Vec<_> = patterns.iter().map(Pattern::to_string).collect();
        assert_eq!(texts, ["a", "*.b", "a.*", "a.b", "a.*.c"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "a.", ".a", "a..b", "a*", "\"a", "\"a\"b", "ports[0]"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
