//! Times in scenarios: `"2s"`, `"500ms"`, `"2m"`, `"1h"`, or a bare number of milliseconds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds of virtual time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Millis(pub u64);

impl Millis {
    pub fn us(self) -> u64 {
        self.0 * 1_000
    }
}

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time: write a number and a unit, like 500ms, 2s, 1.5m or 1h");
        let digits = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let (_, ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=1e9).contains(&number) {
            return Err(wrong());
        }
        Ok(Self((number * *ms as f64).round() as u64))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms > 0 && ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(deserializer).map_err(|_| de::Error::custom("expected a time, like \"2s\""))? {
            Either::Number(ms) => Ok(Self(ms)),
            Either::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        let parsed = |text: &str| text.parse::<Millis>().map(|ms| ms.0).ok();
        assert_eq!(["500ms", "2s", "1.5m", "1h"].map(parsed), [500, 2_000, 90_000, 3_600_000].map(Some));
        assert_eq!(["", "2", "s", "2 days", "-1s", "1e300s"].map(parsed), [None; 6]);
        assert_eq!((Millis(2_000).to_string(), Millis(1_500).to_string()), ("2s".into(), "1500ms".into()));
    }
}
