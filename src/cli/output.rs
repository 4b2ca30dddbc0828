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
