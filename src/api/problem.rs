//! What went wrong, as RFC 9457 problem details.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::document::{AddressError, PlanError};
use crate::node::{
    Behind, DecideError, LeaveError, ParsePositionError, ParseTokenError, Token, WatchError, WriteError,
};

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Every kind of problem this API answers with. The `type` is stable: programs match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    BadRequest,
    BadParameter,
    BadJson,
    BadName,
    BadClock,
    ForeignHost,
    ForeignOrigin,
    NotFound,
    NoSuchPath,
    ChaosDisabled,
    MethodNotAllowed,
    BodyTimeout,
    PatchConflict,
    Frozen,
    NotHolder,
    NotLost,
    NoRoom,
    PositionExpired,
    PreconditionFailed,
    BodyTooLarge,
    UrlTooLong,
    MediaType,
    DoesNotFit,
    BadSchema,
    BadPolicy,
    BadAudit,
    AuditTampered,
    AuditHeld,
    BadModel,
    BadItem,
    BadVm,
    BadTask,
    WrongState,
    BadWorker,
    BadAgent,
    BadCapacity,
    BadFence,
    TooFewDecisions,
    AdvisorOff,
    NoSuchConflict,
    NotSettled,
    Held,
    HeadersTooLarge,
    Internal,
    Storage,
    Busy,
    NoQuorum,
    TooNew,
    Behind,
    ClockSkew,
    Fenced,
    NotReady,
    ShuttingDown,
    NotReplicated,
    Undecided,
    TimedOut,
    StorageFull,
}

impl Kind {
    pub const ALL: [Kind; 57] = [
        Kind::BadRequest,
        Kind::BadParameter,
        Kind::BadJson,
        Kind::BadName,
        Kind::BadClock,
        Kind::ForeignHost,
        Kind::ForeignOrigin,
        Kind::NotFound,
        Kind::NoSuchPath,
        Kind::ChaosDisabled,
        Kind::MethodNotAllowed,
        Kind::BodyTimeout,
        Kind::PatchConflict,
        Kind::Frozen,
        Kind::NotHolder,
        Kind::NotLost,
        Kind::NoRoom,
        Kind::PositionExpired,
        Kind::PreconditionFailed,
        Kind::BodyTooLarge,
        Kind::UrlTooLong,
        Kind::MediaType,
        Kind::DoesNotFit,
        Kind::BadSchema,
        Kind::BadPolicy,
        Kind::BadAudit,
        Kind::AuditTampered,
        Kind::AuditHeld,
        Kind::BadModel,
        Kind::BadItem,
        Kind::BadVm,
        Kind::BadTask,
        Kind::WrongState,
        Kind::BadWorker,
        Kind::BadAgent,
        Kind::BadCapacity,
        Kind::BadFence,
        Kind::TooFewDecisions,
        Kind::AdvisorOff,
        Kind::NoSuchConflict,
        Kind::NotSettled,
        Kind::Held,
        Kind::HeadersTooLarge,
        Kind::Internal,
        Kind::Storage,
        Kind::Busy,
        Kind::NoQuorum,
        Kind::TooNew,
        Kind::Behind,
        Kind::ClockSkew,
        Kind::Fenced,
        Kind::NotReady,
        Kind::ShuttingDown,
        Kind::NotReplicated,
        Kind::Undecided,
        Kind::TimedOut,
        Kind::StorageFull,
    ];

    /// Name in the `type`, status, title.
    const fn facts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BadRequest => ("bad-request", 400, "The request is malformed"),
            Self::BadParameter => ("bad-parameter", 400, "A query parameter is unknown, repeated or malformed"),
            Self::BadJson => ("bad-json", 400, "The body does not parse or has the wrong shape"),
            Self::BadName => ("bad-name", 400, "The collection or id is malformed"),
            Self::BadClock => ("bad-clock", 400, "The Folkmoot-Clock header is malformed"),
            Self::ForeignHost => ("foreign-host", 403, "The Host header does not name this API"),
            Self::ForeignOrigin => ("foreign-origin", 403, "The Origin header does not name this API"),
            Self::NotFound => ("not-found", 404, "There is nothing of this name"),
            Self::NoSuchPath => ("no-such-path", 404, "The API has no such path"),
            Self::ChaosDisabled => ("chaos-disabled", 404, "Chaos is not enabled on this node"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "The path does not take this method"),
            Self::BodyTimeout => ("body-timeout", 408, "The body did not arrive in time"),
            Self::PatchConflict => ("patch-conflict", 409, "The patch does not apply to the document as it is"),
            Self::Frozen => ("frozen", 409, "The field is frozen until its conflict is settled"),
            Self::NotHolder => ("not-holder", 409, "The lock is not held under this token"),
            Self::NotLost => ("not-lost", 409, "What would be given up is not lost"),
            Self::NoRoom => ("no-room", 409, "The worker has no room for it"),
            Self::PositionExpired => ("position-expired", 410, "The watch cannot resume from this position"),
            Self::PreconditionFailed => ("precondition-failed", 412, "The document is not in the expected state"),
            Self::BodyTooLarge => ("body-too-large", 413, "The body or the document is too large"),
            Self::UrlTooLong => ("url-too-long", 414, "The URL is too long"),
            Self::MediaType => ("media-type", 415, "The Content-Type is not one this operation takes"),
            Self::DoesNotFit => ("does-not-fit", 422, "The write does not fit the document's types"),
            Self::BadSchema => ("bad-schema", 422, "The schema is not valid"),
            Self::BadPolicy => ("bad-policy", 422, "The policy is not valid"),
            Self::BadAudit => ("bad-audit", 422, "These are not the records of an audit"),
            Self::AuditTampered => ("audit-tampered", 422, "The records are not as they were written"),
            Self::AuditHeld => ("audit-held", 422, "An audit of this node is here already"),
            Self::BadModel => ("bad-model", 422, "This is no model of the advisor"),
            Self::BadItem => ("bad-item", 422, "This is no item of knowledge"),
            Self::BadVm => ("bad-vm", 422, "The change of a VM makes no sense"),
            Self::BadTask => ("bad-task", 422, "This makes no task"),
            Self::WrongState => ("wrong-state", 409, "Where it stands, that cannot be done with it"),
            Self::BadWorker => ("bad-worker", 422, "What is said of a worker makes no sense"),
            Self::BadAgent => ("bad-agent", 422, "What is said of an agent makes no sense"),
            Self::BadCapacity => ("bad-capacity", 422, "The change of a worker's capacity makes no sense"),
            Self::BadFence => ("bad-fence", 422, "What is said of a replica makes no sense"),
            Self::TooFewDecisions => ("too-few-decisions", 422, "There are too few decisions to learn from"),
            Self::AdvisorOff => ("advisor-off", 404, "The advisor is off"),
            Self::NoSuchConflict => ("no-such-conflict", 404, "There is no such conflict"),
            Self::NotSettled => ("not-settled", 422, "The conflict cannot be settled so"),
            Self::Held => ("held", 423, "Another has the lock"),
            Self::HeadersTooLarge => ("headers-too-large", 431, "The headers are too large"),
            Self::Internal => ("internal", 500, "A bug in this node"),
            Self::Storage => ("storage", 500, "The store failed"),
            Self::Busy => ("busy", 503, "The node is at one of its limits"),
            Self::NoQuorum => ("no-quorum", 503, "This node does not reach a majority of the voters"),
            Self::Behind => ("behind", 503, "This node does not yet have what the session has seen"),
            Self::ClockSkew => ("clock-skew", 503, "The clock of this host is wrong"),
            Self::NotReady => ("not-ready", 503, "The node is not ready"),
            Self::ShuttingDown => ("shutting-down", 503, "The node is shutting down"),
            Self::Fenced => ("fenced", 503, "A quorum fenced this node"),
            Self::NotReplicated => {
                ("not-replicated", 504, "The write is kept here and not yet where it was asked to be")
            }
            Self::TooNew => ("too-new", 503, "A later version of this program wrote it"),
            Self::Undecided => ("undecided", 504, "It is not known whether it was decided"),
            Self::TimedOut => ("timed-out", 504, "The request took too long"),
            Self::StorageFull => ("storage-full", 507, "The disk is full"),
        }
    }

    pub fn urn(self) -> String {
        format!("urn:folkmoot:problem:{}", self.facts().0)
    }

    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.facts().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn title(self) -> &'static str {
        self.facts().2
    }
}

/// One problem: its kind, and a detail that names the cause and what to do.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: String,
    members: Map<String, Value>,
    seen: Option<Token>,
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), members: Map::new(), seen: None }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Adds a member that programs can read, e.g. `field` or `index`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Says which write of a batch it is about.
    #[must_use]
    pub fn at(mut self, index: usize) -> Self {
        self.detail = format!("write {index}: {}", self.detail);
        self.with("index", index)
    }

    /// What the session has seen by getting this answer: that a document is absent is knowledge too.
    #[must_use]
    pub fn seen(mut self, token: Token) -> Self {
        self.seen = Some(token);
        self
    }

    pub(super) fn token(&self) -> Option<&Token> {
        self.seen.as_ref()
    }

    /// The answer. `instance` is the path that was asked.
    pub(super) fn render(&self, instance: &str) -> Response<Body> {
        let mut body = self.members.clone();
        body.insert("type".into(), self.kind.urn().into());
        body.insert("title".into(), self.kind.title().into());
        body.insert("status".into(), self.kind.status().as_u16().into());
        body.insert("detail".into(), self.detail.as_str().into());
        body.insert("instance".into(), instance.into());
        let mut response = Response::new(Body::from(Value::Object(body).to_string()));
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if self.kind.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<AddressError> for Problem {
    fn from(error: AddressError) -> Self {
        Self::new(Kind::BadName, error.to_string())
    }
}

impl From<ParseTokenError> for Problem {
    fn from(error: ParseTokenError) -> Self {
        Self::new(Kind::BadClock, error.to_string())
    }
}

impl From<ParsePositionError> for Problem {
    fn from(error: ParsePositionError) -> Self {
        Self::new(Kind::BadParameter, format!("{error}; {RESYNC}"))
    }
}

impl From<Behind> for Problem {
    fn from(behind: Behind) -> Self {
        let advice = "ask again, ask with a longer `wait_ms`, ask the node that took the write, or read what is here \
                      with `consistency=local`";
        Self::new(Kind::Behind, format!("{}; {advice}", behind.reason))
    }
}

pub(super) const RESYNC: &str = "to resync without missing a change, open a watch without `since` and `Last-Event-ID`, then list \
                      the collections, then apply the changes the watch gives";

impl From<WatchError> for Problem {
    fn from(error: WatchError) -> Self {
        match &error {
            WatchError::Expired { oldest } => {
                let problem = Self::new(Kind::PositionExpired, format!("{error}; {RESYNC}"));
                match oldest {
                    Some(oldest) => problem.with("oldest", oldest.to_string()),
                    None => problem,
                }
            }
            WatchError::TooMany => Self::new(Kind::Busy, format!("{error}; close one, or ask another node")),
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let said = error.to_string();
        let advised = |kind, advice: &str| Self::new(kind, format!("{said}; {advice}"));
        match error {
            WriteError::NotFound { .. } => {
                advised(Kind::NotFound, "PUT creates it, and so does a PATCH with `upsert=true`")
            }
            WriteError::Precondition { etag, .. } => {
                let problem = advised(Kind::PreconditionFailed, "read the document and decide again");
                problem.with("etag", etag.map_or(Value::Null, |etag| json!(super::condition::quoted(&etag))))
            }
            WriteError::Frozen { field, .. } => {
                advised(Kind::Frozen, "`POST /v1/conflicts/{id}/resolve` settles it").with("field", field)
            }
            WriteError::Plan { error: PlanError::Missing, .. } => Self::new(Kind::NotFound, said),
            WriteError::Plan { error, .. } => {
                let problem = Self::new(Kind::DoesNotFit, said);
                match field_of(&error) {
                    Some(field) => problem.with("field", field),
                    None => problem,
                }
            }
            WriteError::Patch { .. } => advised(Kind::PatchConflict, "read the document and make the patch again"),
            WriteError::TooLarge { .. } => advised(Kind::BodyTooLarge, "split it"),
            WriteError::StorageFull { .. } => advised(Kind::StorageFull, "free some space; reads go on"),
            WriteError::Storage { .. } => advised(Kind::Storage, "see this node's log"),
            WriteError::Busy { .. } => advised(Kind::Busy, "ask again"),
            WriteError::Decide(error) => error.into(),
            WriteError::NotReplicated { wanted, reached } => {
                let advice = "it spreads when the peers are reachable: do not repeat an increment";
                advised(Kind::NotReplicated, advice).with("wanted", wanted).with("reached", reached)
            }
            WriteError::Clock(_) => advised(Kind::ClockSkew, "ask again once the host's clock is right"),
            WriteError::Fenced(_) => advised(Kind::Fenced, "write at another node meanwhile"),
            WriteError::ShuttingDown => advised(Kind::ShuttingDown, "ask another node"),
        }
    }
}

impl From<DecideError> for Problem {
    fn from(error: DecideError) -> Self {
        let said = error.to_string();
        match error {
            DecideError::NotFound(_) => Self::new(Kind::NotFound, format!("{said}; PUT creates it")),
            DecideError::Field { field, .. } => Self::new(Kind::DoesNotFit, said).with("field", field),
            DecideError::Differs { field, .. } => {
                let advice = "read it with `consistency=quorum` and decide again";
                Self::new(Kind::PatchConflict, format!("{said}; nothing was changed: {advice}")).with("field", field)
            }
            DecideError::Held { holder, token, .. } => {
                let advice = "only writes under its token are done meanwhile";
                Self::new(Kind::Held, format!("{said}; {advice}")).with("holder", holder).with("token", token)
            }
            DecideError::NotHolder { now, .. } => Self::new(Kind::NotHolder, said).with("token", now),
            DecideError::TooLarge(_) => Self::new(Kind::BodyTooLarge, said),
            DecideError::Invalid(_) => Self::new(Kind::BadParameter, said),
            DecideError::Ask(error) => error.into(),
            DecideError::ShuttingDown => Self::new(Kind::ShuttingDown, format!("{said}; ask another node")),
        }
    }
}

fn field_of(error: &PlanError) -> Option<&str> {
    match error {
        PlanError::Type { field, .. }
        | PlanError::Edit { field, .. }
        | PlanError::Count { field, .. }
        | PlanError::AlreadyWritten { field }
        | PlanError::ByBallot { field }
        | PlanError::GrowOnly { field }
        | PlanError::TooLong { field, .. }
        | PlanError::TooDeep { field, .. }
        | PlanError::Text { field, .. } => Some(field),
        // The name itself is at fault there, and the detail shows it.
        PlanError::Missing | PlanError::FieldName(_) | PlanError::TooManyFields(_) => None,
    }
}

impl From<LeaveError> for Problem {
    fn from(error: LeaveError) -> Self {
        let kind = match error {
            LeaveError::ShuttingDown => Kind::ShuttingDown,
            LeaveError::Storage { .. } => Kind::Storage,
            LeaveError::Fenced(_) => Kind::Fenced,
        };
        Self::new(kind, format!("{error}; this node is still a member"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_is_listed_once_with_its_own_type_and_an_error_status() {
        let urns: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.urn()).collect();
        assert_eq!(urns.len(), Kind::ALL.len());
        assert!(Kind::ALL.windows(2).all(|pair| pair[0] < pair[1]), "in order, so that none is missing between");
        assert_eq!(Kind::ALL.last(), Some(&Kind::StorageFull));
        assert!(Kind::ALL.iter().all(|kind| kind.status().as_u16() >= 400));
    }

    #[test]
    fn failures_of_the_store_keep_their_status() {
        let status = |error: WriteError| Problem::from(error).kind().status().as_u16();
        assert_eq!(status(WriteError::StorageFull { detail: "0 bytes left".into() }), 507);
        assert_eq!(status(WriteError::Storage { detail: "i/o".into() }), 500);
        assert_eq!(status(WriteError::Busy { detail: "queue full".into() }), 503);
        assert_eq!(status(WriteError::NotReplicated { wanted: 3, reached: 1 }), 504);
        assert_eq!(status(WriteError::ShuttingDown), 503);
        assert_eq!(status(WriteError::TooLarge { detail: "2 MiB".into() }), 413);
    }
}
