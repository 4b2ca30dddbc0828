//! Where words go: data on stdout, everything said about it on stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::cli::exit::Error;

/// The two streams of a command, and whether the data is to be JSON.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub json: bool,
}

impl Output {
    /// One line of data.
    pub fn line(&self, text: impl AsRef<str>) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref().as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// One value on one line, as JSON.
    pub fn compact(&self, value: &impl Serialize) -> Result<(), Error> {
        self.line(serde_json::to_string(value).map_err(io::Error::other)?)
    }

    /// One value for a person: indented JSON.
    pub fn pretty(&self, value: &impl Serialize) -> Result<(), Error> {
        self.line(serde_json::to_string_pretty(value).map_err(io::Error::other)?)
    }

    /// Data of which there are two forms: JSON on one line, or the text.
    pub fn either(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Error> {
        match self.json {
            true => self.compact(value),
            false => self.line(text()),
        }
    }

    /// A word to the person at the terminal. Whether it arrives decides nothing.
    pub fn say(&self, text: impl AsRef<str>) {
        let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
    }

    pub fn stdout_is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }
}

/// So many of something: `1 rule`, `2 rules`.
pub fn many(count: impl Into<u64>, noun: &str) -> String {
    match count.into() {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_them_is_not_told_as_many() {
        let told = [0_u64, 1, 2].map(|count| many(count, "rule"));
        assert_eq!(told, ["0 rules", "1 rule", "2 rules"]);
    }
}
