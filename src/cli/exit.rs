//! How a command ends: what to say on stderr and which exit code to leave with. Scripts rely on the codes.

use std::io;

use crate::cli::output::many;
use crate::cli::problem::Problem;
use crate::node::settings::RunError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or a file given on it is wrong. Nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// No connection was made. Nothing was sent.
    #[error("cannot reach a node at {api}: {cause}. Start one with `folkmoot run`, or name another with --api URL")]
    Unreachable { api: String, cause: String },
    /// The request was sent and no whole answer came back: it may or may not have been applied.
    #[error("{api} did not answer: {cause}. A write may have been applied all the same; read before you repeat it")]
    NoAnswer { api: String, cause: String },
    /// The node answered with a problem; nothing was written.
    #[error("{0}")]
    Refused(Problem),
    /// What the answer held is not what the contract says.
    #[error("{api} gave an answer this command does not understand: {cause}. Are both of the same version?")]
    Answer { api: String, cause: String },
    /// The work was done and what came out is not what had to come out.
    #[error("{0}")]
    Failed(String),
    /// There is nothing of what was asked for.
    #[error("{0}")]
    Nothing(String),
    /// The simulator, or a test on real processes, caught a broken invariant.
    #[error("{0}")]
    Oracle(String),
    /// What was asked about waits for somebody.
    #[error("{} to be settled: `folkmoot conflicts ls` lists them", waiting(*.0))]
    Waiting(u32),
    /// The audit is not as it was written. What was found is on stdout.
    #[error("the audit is not whole: {}", many(*.0 as u64, "finding"))]
    Tampered(usize),
    #[error(transparent)]
    Node(#[from] RunError),
    /// The reader of stdout has gone, as in `| head`. Not worth a word.
    #[error("the reader of stdout has gone")]
    PipeClosed,
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
}

fn waiting(count: u32) -> String {
    format!("{} {}", many(count, "conflict"), if count == 1 { "waits" } else { "wait" })
}

impl Error {
    /// The process's exit code; the list stands in `folkmoot --help`.
    pub fn code(&self) -> u8 {
        match self {
            Self::PipeClosed => 0,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } | Self::NoAnswer { .. } => 3,
            Self::Refused(problem) => problem.code(),
            Self::Nothing(_) => 4,
            Self::Node(error) => match error {
                RunError::Settings(_) => 2,
                RunError::Denied(_) => 6,
                RunError::Integrity(_) => 8,
                RunError::Failed(_) => 1,
            },
            Self::Waiting(_) => 5,
            Self::Tampered(_) => 8,
            Self::Oracle(_) => 9,
            Self::Answer { .. } | Self::Failed(_) | Self::Stdout(_) => 1,
        }
    }

    /// True when a write may have been applied although no receipt came.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Refused(problem) => problem.status == 504,
            _ => false,
        }
    }

    /// True when the same request, sent again later, may succeed and the first one surely wrote nothing.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(problem) => problem.status == 503,
            _ => false,
        }
    }
}

impl From<io::Error> for Error {
    /// For writes to stdout, the only I/O that reaches here bare.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Stdout(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_a_quiet_success() {
        let error = Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(error.code(), 0);
        assert_eq!(Error::from(io::Error::other("disk")).code(), 1);
    }

    #[test]
    fn one_of_them_is_told_as_one() {
        assert!(Error::Waiting(1).to_string().starts_with("1 conflict waits to be"));
        assert!(Error::Waiting(2).to_string().starts_with("2 conflicts wait to be"));
        assert!(Error::Tampered(1).to_string().ends_with("1 finding"));
    }

    #[test]
    fn only_what_surely_wrote_nothing_is_retried() {
        let api = String::from("http://x");
        assert!(Error::Unreachable { api: api.clone(), cause: String::new() }.may_retry());
        assert!(!Error::NoAnswer { api, cause: String::new() }.may_retry());
        assert!(!Error::Usage(String::new()).may_retry());
    }
}
