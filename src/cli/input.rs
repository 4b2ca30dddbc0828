//! What a person types or pipes in as a value.

use std::io::Read;

use serde_json::{Map, Value};

use crate::cli::exit::Error;

/// The largest body a node takes; more is refused here already.
const BODY_BYTES_MAX: u64 = 8 << 20;

/// A value on the command line: JSON when it is valid JSON, else a string. `5` is a number, `"5"` and `five` are not.
pub fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// A body given as an argument: JSON, or `-` to read it from stdin.
pub fn body(argument: &str) -> Result<Value, Error> {
    let read;
    let (text, place) = match argument {
        "-" => {
            read = stdin()?;
            (read.as_str(), "stdin")
        }
        text => (text, "the body"),
    };
    serde_json::from_str(text).map_err(|error| Error::Usage(format!("{place} is not valid JSON: {error}")))
}

/// A body that must be an object of fields.
pub fn fields(argument: &str) -> Result<Map<String, Value>, Error> {
    match body(argument)? {
        Value::Object(fields) => Ok(fields),
        other => Err(Error::Usage(format!(
            "the body is {}; give an object of fields, as in '{{\"status\":\"idle\"}}'",
            kind(&other)
        ))),
    }
}

/// A body that must be a list of operations.
pub fn operations(argument: &str) -> Result<Vec<Value>, Error> {
    match body(argument)? {
        Value::Array(operations) => Ok(operations),
        other => Err(Error::Usage(format!("the body is {}; give a list of operations", kind(&other)))),
    }
}

fn stdin() -> Result<String, Error> {
    let mut text = String::new();
    let read = std::io::stdin().take(BODY_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = read.map_err(|error| Error::Usage(format!("cannot read the body from stdin: {error}")))?;
    match bytes as u64 > BODY_BYTES_MAX {
        true => Err(Error::Usage(format!("the body on stdin is over {BODY_BYTES_MAX} bytes"))),
        false => Ok(text),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_json_is_json_and_the_rest_is_a_string() {
        assert_eq!(value("5"), json!(5));
        assert_eq!(value("-1.5"), json!(-1.5));
        assert_eq!(value("true"), json!(true));
        assert_eq!(value("\"5\""), json!("5"));
        assert_eq!(value("gpu"), json!("gpu"));
        assert_eq!(value(""), json!(""));
        assert_eq!(value("[1,"), json!("[1,"));
    }

    #[test]
    fn a_body_of_the_wrong_shape_says_what_it_is() {
        assert!(fields("[1]").unwrap_err().to_string().contains("an array"));
        assert!(operations("{}").unwrap_err().to_string().contains("an object"));
        assert!(body("{bad").unwrap_err().to_string().contains("line 1"));
    }
}
