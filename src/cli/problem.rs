//! A node's refusal: RFC 9457 problem+json, and the exit code it becomes.

use std::fmt;

use serde::Deserialize;

/// What a node says when it does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub detail: String,
    #[serde(default)]
    pub status: u16,
}

/// How the kinds begin that blame the form of what was sent.
const MALFORMED: &str = "urn:folkmoot:problem:bad-";

const ADVISOR_OFF: &str = "urn:folkmoot:problem:advisor-off";
const NO_QUORUM: &str = "urn:folkmoot:problem:no-quorum";
const TAMPERED: &str = "urn:folkmoot:problem:audit-tampered";

impl Problem {
    /// Reads a refusal. A body that is no problem document (a proxy's page, say) is quoted, cut short.
    pub fn parse(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Self>(body) {
            Ok(problem) if !problem.title.is_empty() || !problem.detail.is_empty() => Self { status, ..problem },
            _ => Self {
                kind: String::from("about:blank"),
                title: format!("HTTP {status}"),
                detail: String::from_utf8_lossy(body).chars().take(200).collect(),
                status,
            },
        }
    }

    /// The exit code for this refusal.
    pub fn code(&self) -> u8 {
        match self.status {
            // A training, and what asks a model, fail the same way while there is none.
            _ if self.kind == ADVISOR_OFF => 1,
            _ if self.kind == TAMPERED => 8,
            // Another has it.
            401 | 403 | 423 => 6,
            404 => 4,
            409 | 412 => 5,
            503 if self.kind == NO_QUORUM => 7,
            // What was typed, or a file named there, is malformed: whoever notices, it is a usage error.
            _ if self.kind.starts_with(MALFORMED) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.title.is_empty(), self.detail.is_empty()) {
            (false, false) => write!(f, "{}: {}", self.title, self.detail),
            (true, false) => f.write_str(&self.detail),
            _ => f.write_str(&self.title),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(status: u16, kind: &str) -> u8 {
        let body = format!(r#"{{"type":"{kind}","title":"t","detail":"d","status":{status}}}"#);
        Problem::parse(status, body.as_bytes()).code()
    }

    #[test]
    fn each_refusal_has_its_exit_code() {
        assert_eq!(code(404, "x"), 4);
        assert_eq!(code(409, "x"), 5);
        assert_eq!(code(412, "x"), 5);
        assert_eq!(code(401, "x"), 6);
        assert_eq!(code(403, "x"), 6);
        assert_eq!(code(503, "urn:folkmoot:problem:no-quorum"), 7);
        assert_eq!(code(423, "urn:folkmoot:problem:held"), 6);
        assert_eq!(code(503, "urn:folkmoot:behind"), 1);
        assert_eq!(code(422, "x"), 1);
        assert_eq!(code(404, "urn:folkmoot:problem:no-such-conflict"), 4);
        assert_eq!(code(404, ADVISOR_OFF), 1);
        assert_eq!((code(422, TAMPERED), code(422, "urn:folkmoot:problem:audit-held")), (8, 1));
        assert_eq!(code(422, "urn:folkmoot:problem:does-not-fit"), 1);
        assert_eq!(
            (code(400, "urn:folkmoot:problem:bad-parameter"), code(422, "urn:folkmoot:problem:bad-policy")),
            (2, 2)
        );
    }

    #[test]
    fn a_body_that_is_no_problem_is_quoted() {
        let problem = Problem::parse(502, b"<html>bad gateway");
        assert_eq!(problem.to_string(), "HTTP 502: <html>bad gateway");
        assert_eq!(Problem::parse(500, b"{}").title, "HTTP 500");
    }
}
