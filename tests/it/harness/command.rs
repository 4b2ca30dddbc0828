//! One run of the program to its end.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::wait::until;

/// What a process left behind.
#[derive(Debug)]
pub struct Ended {
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// stdout of a success.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// stdout of a success, as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// stderr of a failure with this exit code.
    #[track_caller]
    pub fn failed(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.stderr.trim().is_empty(), "a failure without a word");
        &self.stderr
    }
}

/// The program with nothing of this shell's settings.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_folkmoot"));
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FOLKMOOT_")) {
        command.env_remove(variable);
    }
    command.current_dir(std::env::temp_dir());
    command
}

/// Runs `folkmoot <args>` to its end.
pub async fn run(args: &[&str], limit: Duration) -> Ended {
    run_with_input(args, &[], "", limit).await
}

/// The same, with variables and with what is to be read from stdin.
pub async fn run_with_input(args: &[&str], variables: &[(&str, &str)], input: &str, limit: Duration) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let stream = |name: &str| std::fs::File::create(dir.path().join(name)).unwrap();
    let mut command = program();
    command.args(args).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(stream("out")).stderr(stream("err"));
    let mut child = Reaped(command.spawn().unwrap());
    // Small enough for a pipe's buffer; a process that ended already does not read it.
    let mut stdin = child.0.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes());
    // A node that watches its parent must not see it go before its time.
    let _held = (!args.contains(&"-")).then_some(stdin);
    let status = until("the end of a command", limit, async || {
        child.0.try_wait().unwrap().ok_or_else(|| format!("{args:?}: {}", read(dir.path(), "err")))
    })
    .await;
    Ended { code: status.code(), stdout: read(dir.path(), "out"), stderr: read(dir.path(), "err") }
}

fn read(dir: &Path, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(dir.join(name)).unwrap()).into_owned()
}

/// A child that never outlives the test.
pub struct Reaped(pub std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
