//! Query parameters: each operation declares the ones it takes; everything else is refused by name.

use std::collections::BTreeMap;

use super::problem::{Kind, Problem};
use crate::node::Durability;

/// A query parameter as the API documents and checks it.
#[derive(Debug)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub takes: Takes,
    pub says: &'static str,
}

/// What a parameter's value may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Takes {
    Text { bytes_max: usize },
    Integer { min: u64, max: u64 },
    Flag,
    OneOf(&'static [&'static str]),
    Durability,
}

/// The parameters of one request, checked. Values that were not given are `None`.
#[derive(Debug, Default)]
pub(super) struct Params {
    values: BTreeMap<&'static str, String>,
}

impl Params {
    pub fn parse(query: Option<&str>, allowed: &[&'static Parameter]) -> Result<Self, Problem> {
        let mut values = BTreeMap::new();
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name, true).ok_or_else(|| undecodable(name))?;
            let Some(parameter) = allowed.iter().find(|parameter| parameter.name == name) else {
                return Err(unknown(&name, allowed));
            };
            let value = decoded(value, true).ok_or_else(|| undecodable(parameter.name))?;
            parameter.check(&value)?;
            if values.insert(parameter.name, value).is_some() {
                let detail = format!("the parameter `{name}` is given twice: give it once");
                return Err(Problem::new(Kind::BadParameter, detail).with("parameter", name));
            }
        }
        Ok(Self { values })
    }

    pub fn text(&self, parameter: &Parameter) -> Option<&str> {
        self.values.get(parameter.name).map(String::as_str)
    }

    pub fn integer(&self, parameter: &Parameter) -> Option<u64> {
        self.text(parameter)?.parse().ok()
    }

    pub fn flag(&self, parameter: &Parameter) -> bool {
        self.text(parameter) == Some("true")
    }

    pub fn durability(&self, parameter: &Parameter) -> Option<Durability> {
        self.text(parameter)?.parse().ok()
    }
}

impl Parameter {
    fn check(&self, value: &str) -> Result<(), Problem> {
        let wrong = match self.takes {
            Takes::Text { bytes_max } => (value.len() > bytes_max).then(|| format!("at most {bytes_max} bytes")),
            Takes::Integer { min, max } => {
                let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                let fits = digits && value.parse::<u64>().is_ok_and(|n| (min..=max).contains(&n));
                (!fits).then(|| format!("an integer from {min} to {max}"))
            }
            Takes::Flag => (!matches!(value, "true" | "false")).then(|| "true or false".to_owned()),
            Takes::OneOf(words) => (!words.contains(&value)).then(|| words.join(" or ")),
            Takes::Durability => {
                value.parse::<Durability>().is_err().then(|| "memory, local or replicas:N with N from 1".to_owned())
            }
        };
        let Some(takes) = wrong else { return Ok(()) };
        let shown: String = value.chars().take(80).collect();
        let detail = format!("the parameter `{}` is `{shown}`: it takes {takes}", self.name);
        Err(Problem::new(Kind::BadParameter, detail).with("parameter", self.name))
    }
}

fn unknown(name: &str, allowed: &[&'static Parameter]) -> Problem {
    let shown: String = name.chars().take(80).collect();
    let names: Vec<_> = allowed.iter().map(|parameter| parameter.name).collect();
    let allowed = if names.is_empty() { "no parameters".to_owned() } else { names.join(", ") };
    let detail = format!("the parameter `{shown}` is unknown here: this operation takes {allowed}");
    Problem::new(Kind::BadParameter, detail).with("parameter", shown).with("allowed", names)
}

fn undecodable(name: &str) -> Problem {
    let shown: String = name.chars().take(80).collect();
    Problem::new(Kind::BadParameter, format!("`{shown}` holds percent-escapes that are not UTF-8: encode it as UTF-8"))
}

/// Percent-decoded text, or `None` where an escape is broken or the bytes are not UTF-8.
pub(super) fn decoded(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'%' => {
                let (high, low) = (hex(*rest.first()?)?, hex(*rest.get(1)?)?);
                bytes.push(high << 4 | low);
                rest = &rest[2..];
            }
            b'+' if plus_is_space => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    static LIMIT: Parameter = Parameter { name: "limit", takes: Takes::Integer { min: 1, max: 1000 }, says: "" };
    static PREFIX: Parameter = Parameter { name: "prefix", takes: Takes::Text { bytes_max: 8 }, says: "" };

    fn parse(query: &str) -> Result<Params, String> {
        Params::parse(Some(query), &[&LIMIT, &PREFIX])
            .map_err(|problem| String::from_utf8_lossy(format!("{problem:?}").as_bytes()).into_owned())
    }

    #[test]
    fn values_are_decoded_and_checked() {
        let params = parse("limit=7&prefix=a%2Fb+c").unwrap();
        assert_eq!((params.integer(&LIMIT), params.text(&PREFIX)), (Some(7), Some("a/b c")));
        assert_eq!(Params::parse(None, &[]).unwrap().integer(&LIMIT), None);
    }

    #[test]
    fn unknown_repeated_and_malformed_parameters_are_refused_by_name() {
        assert!(parse("limits=1").unwrap_err().contains("takes limit, prefix"));
        assert!(parse("limit=1&limit=1").unwrap_err().contains("`limit` is given twice"));
        for wrong in ["limit=0", "limit=1001", "limit=-1", "limit=+1", "limit=", "limit", "limit=99999999999999999999"]
        {
            assert!(parse(wrong).unwrap_err().contains("from 1 to 1000"), "{wrong}");
        }
        assert!(parse("prefix=123456789").unwrap_err().contains("at most 8 bytes"));
        assert!(parse("prefix=%ff").unwrap_err().contains("UTF-8"));
        assert!(parse("prefix=%f").unwrap_err().contains("UTF-8"));
    }
}
