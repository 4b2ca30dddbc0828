//! One piece of knowledge: the document `knowledge/<id>`.

use serde_json::{Map, Value, json};

/// The longest content: what is longer is a file, and belongs beside the item, not in it.
pub const CONTENT_BYTES_MAX: usize = 64 << 10;

/// The longest type, source and id: names, not texts.
pub const NAME_BYTES_MAX: usize = 256;

/// The most dimensions of an embedding; the large public models give 3072.
pub const EMBEDDING_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub id: String,
    /// Only items of one kind are compared: `fact`, `warning`, `runbook`. `type` in JSON.
    pub kind: String,
    pub content: String,
    /// Who says so.
    pub source: String,
    /// 0 is a guess, 1 is certain.
    pub confidence: f64,
    /// How soon others should hear of it, and how much it matters: larger is more.
    pub urgency: i64,
    pub priority: i64,
    pub embedding: Option<Vec<f32>>,
    /// When it was said, milliseconds since 1970. It comes from the caller, not from the document.
    pub at_ms: u64,
}

/// Why a document is no item. Nothing was changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Invalid {
    #[error("a knowledge document must be a JSON object, with `type` and `content`")]
    NotAnObject,
    #[error("`{0}` is missing: a knowledge document needs `type` and `content`")]
    Missing(&'static str),
    #[error("`{field}` must be {expected}")]
    WrongType { field: &'static str, expected: &'static str },
    #[error("`{0}` is empty: give it a text")]
    Empty(&'static str),
    #[error("`{field}` has {bytes} bytes and may have {max}: shorten it")]
    TooLong { field: &'static str, bytes: usize, max: usize },
    #[error("`confidence` is {0}: it must be a number from 0 to 1")]
    Confidence(f64),
    #[error("`confidence` is null, as a NaN is written in JSON: give a number from 0 to 1, or leave it out")]
    NoConfidence,
    #[error("`embedding` has {0} dimensions: it must have 1 to {EMBEDDING_MAX}, or be left out")]
    Dimensions(usize),
    #[error("`embedding[{0}]` is not a finite number within the range of a 32-bit float")]
    NotFinite(usize),
}

impl Item {
    /// Fields that are absent or null take their defaults: source empty, confidence 1, urgency and priority 0. A confidence
    /// that is null is refused.
    pub fn from_json(id: &str, at_ms: u64, document: &Value) -> Result<Self, Invalid> {
        let fields = document.as_object().ok_or(Invalid::NotAnObject)?;
        let item = Self {
            id: id.to_owned(),
            kind: text(fields, "type")?.ok_or(Invalid::Missing("type"))?,
            content: text(fields, "content")?.ok_or(Invalid::Missing("content"))?,
            source: text(fields, "source")?.unwrap_or_default(),
            confidence: confidence(fields)?,
            urgency: level(fields, "urgency")?,
            priority: level(fields, "priority")?,
            embedding: embedding(fields)?,
            at_ms,
        };
        item.check()?;
        Ok(item)
    }

    /// The fields of the document; the id is its key.
    pub fn to_json(&self) -> Value {
        let mut document = json!({
            "type": self.kind,
            "content": self.content,
            "source": self.source,
            "confidence": self.confidence,
            "urgency": self.urgency,
            "priority": self.priority,
        });
        if let (Some(embedding), Some(fields)) = (&self.embedding, document.as_object_mut()) {
            fields.insert("embedding".to_owned(), json!(embedding));
        }
        document
    }

    /// The bounds, for an item that was put together by hand.
    pub fn check(&self) -> Result<(), Invalid> {
        let names = [("id", &self.id), ("type", &self.kind), ("source", &self.source)];
        for (field, text) in names {
            within(field, text, NAME_BYTES_MAX)?;
        }
        within("content", &self.content, CONTENT_BYTES_MAX)?;
        for (field, text) in [("id", &self.id), ("type", &self.kind), ("content", &self.content)] {
            if text.trim().is_empty() {
                return Err(Invalid::Empty(field));
            }
        }
        if !(0.0..=1.0).contains(&self.confidence) {
            return Err(Invalid::Confidence(self.confidence));
        }
        let Some(embedding) = &self.embedding else { return Ok(()) };
        if embedding.is_empty() || embedding.len() > EMBEDDING_MAX {
            return Err(Invalid::Dimensions(embedding.len()));
        }
        match embedding.iter().position(|x| !x.is_finite()) {
            Some(at) => Err(Invalid::NotFinite(at)),
            None => Ok(()),
        }
    }
}

fn within(field: &'static str, text: &str, max: usize) -> Result<(), Invalid> {
    if text.len() > max {
        return Err(Invalid::TooLong { field, bytes: text.len(), max });
    }
    Ok(())
}

fn present<'a>(fields: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    fields.get(field).filter(|value| !value.is_null())
}

fn text(fields: &Map<String, Value>, field: &'static str) -> Result<Option<String>, Invalid> {
    let wrong = Invalid::WrongType { field, expected: "a text" };
    present(fields, field).map(|value| value.as_str().map(str::to_owned).ok_or(wrong)).transpose()
}

fn confidence(fields: &Map<String, Value>) -> Result<f64, Invalid> {
    let Some(value) = fields.get("confidence") else { return Ok(1.0) };
    // JSON has no NaN, and many writers put null in its place: taken for the default, it would be a certainty.
    if value.is_null() {
        return Err(Invalid::NoConfidence);
    }
    value.as_f64().ok_or(Invalid::WrongType { field: "confidence", expected: "a number from 0 to 1" })
}

fn level(fields: &Map<String, Value>, field: &'static str) -> Result<i64, Invalid> {
    let Some(value) = present(fields, field) else { return Ok(0) };
    value.as_i64().ok_or(Invalid::WrongType { field, expected: "a whole number" })
}

fn embedding(fields: &Map<String, Value>) -> Result<Option<Vec<f32>>, Invalid> {
    let wrong = Invalid::WrongType { field: "embedding", expected: "an array of numbers" };
    let Some(value) = present(fields, "embedding") else { return Ok(None) };
    let values = value.as_array().ok_or(wrong.clone())?;
    if values.len() > EMBEDDING_MAX {
        return Err(Invalid::Dimensions(values.len()));
    }
    let number = |value: &Value| value.as_f64().map(|x| x as f32).ok_or(wrong.clone());
    values.iter().map(number).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: Value) -> Result<Item, Invalid> {
        Item::from_json("k1", 5, &document)
    }

    #[test]
    fn a_document_is_read_and_written_alike() {
        let document = json!({
            "type": "fact", "content": "web-01 is up", "source": "agent-3", "confidence": 0.7, "urgency": 2,
            "priority": -1, "embedding": [0.5, -0.25],
        });
        let item = read(document.clone()).unwrap();
        assert_eq!((item.at_ms, item.embedding.as_deref()), (5, Some(&[0.5f32, -0.25][..])));
        assert_eq!(item.to_json(), document);
        let least = read(json!({"type": "fact", "content": "x", "embedding": null})).unwrap();
        assert_eq!((least.confidence, least.urgency, least.embedding), (1.0, 0, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let says = |document: Value| read(document).unwrap_err().to_string();
        let with = |field: &str, value: Value| {
            let mut document = json!({"type": "fact", "content": "x"});
            document[field] = value;
            says(document)
        };
        assert!(says(json!([1])).contains("must be a JSON object"));
        assert!(says(json!({"type": "fact"})).contains("`content` is missing"));
        assert!(with("content", json!(" \n")).contains("`content` is empty"));
        assert!(with("content", json!("x".repeat(CONTENT_BYTES_MAX + 1))).contains("may have 65536"));
        assert!(with("confidence", json!(1.5)).contains("from 0 to 1"));
        for no_number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(with("confidence", json!(no_number)).contains("leave it out"));
        }
        assert!(with("urgency", json!("high")).contains("`urgency` must be a whole number"));
        assert!(with("embedding", json!([])).contains("0 dimensions"));
        assert!(with("embedding", json!(vec![0; EMBEDDING_MAX + 1])).contains("4097 dimensions"));
        assert!(with("embedding", json!([0.0, 1e300])).contains("`embedding[1]`"));
        assert!(with("embedding", json!([0.0, "1"])).contains("array of numbers"));
        let item = read(json!({"type": "fact", "content": "x"})).unwrap();
        assert!(Item { confidence: f64::NAN, ..item }.check().is_err());
    }
}
