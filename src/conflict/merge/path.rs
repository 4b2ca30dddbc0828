//! Where in a value something is: keys of objects, and elements of lists by what identifies them, never by position.
//!
//! The walk holds a [`Trail`] on the stack, which costs nothing; a [`Path`] is made of it only where there is something
//! to report.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value as Json;
use smallvec::SmallVec;

/// A place in a JSON value. The empty path is the value itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path(pub Vec<Step>);

/// One step down.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Into an object, by key.
    Key(String),
    /// Into a list with a merge key: the element whose fields have these values.
    Element(Vec<(String, Json)>),
    /// A member of a list that is a set.
    Member(Json),
}

impl Path {
    /// What `value` holds at this place.
    pub fn resolve<'a>(&self, value: &'a Json) -> Option<&'a Json> {
        self.0.iter().try_fold(value, |at, step| step.resolve(at))
    }

    /// Whether `other` is this place or below it.
    pub fn covers(&self, other: &Path) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl Step {
    fn resolve<'a>(&self, value: &'a Json) -> Option<&'a Json> {
        match self {
            Step::Key(key) => value.as_object()?.get(key),
            Step::Element(fields) => {
                let is = |item: &&Json| fields.iter().all(|(name, value)| item.get(name) == Some(value));
                value.as_array()?.iter().find(is)
            }
            Step::Member(member) => value.as_array()?.iter().find(|item| *item == member),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    f.write_str(if i > 0 { "." } else { "" })?;
                    match is_bare(key) {
                        true => f.write_str(key)?,
                        false => write!(f, "{}", Json::from(key.as_str()))?,
                    }
                }
                Step::Element(fields) => {
                    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    write!(f, "[{}]", fields.join(","))?;
                }
                Step::Member(member) => write!(f, "[{member}]")?,
            }
        }
        Ok(())
    }
}

/// Whether a key stands in a path without quotes.
pub(super) fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '/'))
}

/// A path while it is walked: each step lies in its caller's frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trail<'t> {
    above: Option<&'t Trail<'t>>,
    last: Last<'t>,
}

#[derive(Clone, Copy, Debug)]
enum Last<'t> {
    Root,
    Key(&'t str),
    Element(&'t [String], &'t Json),
    Member(&'t Json),
}

/// The names of a trail's steps, as patterns see them.
pub(super) type Names<'t> = SmallVec<[Cow<'t, str>; 8]>;

impl<'t> Trail<'t> {
    pub fn root() -> Self {
        Self { above: None, last: Last::Root }
    }

    pub fn key(&'t self, key: &'t str) -> Self {
        Self { above: Some(self), last: Last::Key(key) }
    }

    /// The element of a list with these merge keys.
    pub fn element(&'t self, keys: &'t [String], element: &'t Json) -> Self {
        Self { above: Some(self), last: Last::Element(keys, element) }
    }

    pub fn member(&'t self, member: &'t Json) -> Self {
        Self { above: Some(self), last: Last::Member(member) }
    }

    pub fn names(&self) -> Names<'_> {
        let mut names: Names<'_> = self.upwards().filter_map(|trail| trail.last.name()).collect();
        names.reverse();
        names
    }

    pub fn to_path(self) -> Path {
        let mut steps: Vec<_> = self.upwards().filter_map(|trail| trail.last.to_step()).collect();
        steps.reverse();
        Path(steps)
    }

    fn upwards(&self) -> impl Iterator<Item = &Trail<'t>> {
        std::iter::successors(Some(self), |trail| trail.above)
    }
}

impl Last<'_> {
    fn name(&self) -> Option<Cow<'_, str>> {
        match self {
            Last::Root => None,
            Last::Key(key) => Some(Cow::Borrowed(key)),
            Last::Element([only], element) => Some(text(&element[only.as_str()])),
            Last::Element(keys, element) => {
                let parts: Vec<_> = keys.iter().map(|key| text(&element[key.as_str()])).collect();
                Some(Cow::Owned(parts.join(",")))
            }
            Last::Member(member) => Some(text(member)),
        }
    }

    fn to_step(self) -> Option<Step> {
        match self {
            Last::Root => None,
            Last::Key(key) => Some(Step::Key(key.to_owned())),
            Last::Element(keys, element) => {
                Some(Step::Element(keys.iter().map(|key| (key.clone(), element[key.as_str()].clone())).collect()))
            }
            Last::Member(member) => Some(Step::Member(member.clone())),
        }
    }
}

fn text(json: &Json) -> Cow<'_, str> {
    match json {
        Json::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_reads_as_it_is_walked() {
        let value = json!({"a.b": {"ports": [{"name": "http", "port": 80}], "tags": ["x"]}});
        let keys = ["name".to_owned()];
        let element = &value["a.b"]["ports"][0];
        let root = Trail::root();
        let (list, tags) = (root.key("a.b"), root.key("a.b"));
        let (list, tags) = (list.key("ports"), tags.key("tags"));
        let element = list.element(&keys, element);
        let port = element.key("port");
        assert_eq!(port.names().to_vec(), ["a.b", "ports", "http", "port"]);
        let path = port.to_path();
        assert_eq!(path.to_string(), r#""a.b".ports[name="http"].port"#);
        assert_eq!(path.resolve(&value), Some(&json!(80)));
        let member = json!("x");
        assert_eq!(tags.member(&member).to_path().to_string(), r#""a.b".tags["x"]"#);
        assert_eq!(tags.member(&member).to_path().resolve(&value), Some(&member));
        assert_eq!(root.to_path().to_string(), ".");
    }

    #[test]
    fn a_path_covers_itself_and_what_is_below() {
        let root = Trail::root();
        let (a, b) = (root.key("a"), root.key("b"));
        let below = a.key("b");
        assert!(a.to_path().covers(&below.to_path()) && a.to_path().covers(&a.to_path()));
        assert!(!below.to_path().covers(&a.to_path()) && !b.to_path().covers(&below.to_path()));
    }
}
