//! `/v1/docs`: one document, and the list of a collection.

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::condition::{self, Condition, quoted};
use super::operation::{Ask, CONSISTENCY, Operation, Outcome, answer};
use super::page::{AFTER, LIMIT};
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use super::{advisor, owned, policies, schemas, wire};
use crate::document::address::{ID_BYTES_MAX, check_collection};
use crate::node::{Decision, DocumentWrite, Durability, Missing, Shown, Token, WriteBody, WriteError};

pub(super) static DURABILITY: Parameter = Parameter {
    name: "durability",
    takes: Takes::Durability,
    says: "When the write is acknowledged: `memory`, `local` (default: on this node's disk, survives a power cut), or \
           `replicas:N` (on the disks of N nodes, this one included). `quorum`: a majority of the voters decides it, which is \
           for a patch of fields of the type `quorum`, and for no others.",
};
static TOKEN: Parameter = Parameter {
    name: "token",
    takes: Takes::Integer { min: 1, max: u64::MAX },
    says: "With `durability=quorum`: the token under which the document's lock is held. While it is held, only writes under it \
           are done.",
};
static READ_CONSISTENCY: Parameter = Parameter {
    name: CONSISTENCY.name,
    takes: Takes::OneOf(&["session", "local", "quorum"]),
    says: "`session` (default) waits until this node has what the request's Folkmoot-Clock names; `local` answers with what is \
           here; `quorum` first asks a majority of the voters what the fields of the type `quorum` are.",
};
pub(super) static UPSERT: Parameter = Parameter {
    name: "upsert",
    takes: Takes::Flag,
    says: "Whether a patch creates a document that is missing (default false: 404).",
};
static PREFIX: Parameter = Parameter {
    name: "prefix",
    takes: Takes::Text { bytes_max: ID_BYTES_MAX },
    says: "Only ids that start with this.",
};

/// Bytes of a page of a list; a page that would be larger ends earlier and says where to go on.
const PAGE_BYTES_MAX: usize = 16 << 20;

pub(super) const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const OPS: &str = "application/vnd.folkmoot.ops+json";

const PATH: &str = "/v1/docs/{collection}/{*id}";
const IF_MATCH: (&str, &str) = ("If-Match", "Only if the document has one of these tags (`*`: exists). Else 412.");
const IF_NONE_MATCH: (&str, &str) = ("If-None-Match", "`*`: only if the document does not exist. Else 412.");
const IF_CHANGED: (&str, &str) = ("If-None-Match", "304 if the document still has one of these tags.");

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: PATH,
        id: "readDocument",
        says: "Reads a document as this node has it. `stale` names the fields of the type `quorum` that may be others by now, \
               because this node reaches no quorum.",
        parameters: &[&READ_CONSISTENCY],
        headers: &[IF_MATCH, IF_CHANGED],
        accepts: &[],
        gives: (JSON, "Document"),
        session: true,
        problems: &[
            Kind::BadName,
            Kind::NotFound,
            Kind::PreconditionFailed,
            Kind::NoQuorum,
            Kind::Undecided,
            Kind::TooNew,
            Kind::TooNew,
        ],
        handler: |ask| Box::pin(read(ask)),
    },
    Operation {
        method: Method::PUT,
        path: PATH,
        id: "putDocument",
        says: "Creates or replaces a document: fields that are absent are removed, equal values write nothing, a \
               counter is set by the difference.",
        parameters: &[&DURABILITY],
        headers: &[IF_MATCH, IF_NONE_MATCH],
        accepts: &[(JSON, "Fields")],
        gives: (JSON, "Receipt"),
        session: true,
        problems: &[Kind::Frozen, Kind::DoesNotFit, Kind::BadSchema, Kind::BadPolicy, Kind::BadModel],
        handler: |ask| Box::pin(put(ask)),
    },
    Operation {
        method: Method::PATCH,
        path: PATH,
        id: "patchDocument",
        says: "Changes fields of a document. Plain JSON is taken as a merge patch.",
        parameters: &[&DURABILITY, &UPSERT, &TOKEN],
        headers: &[IF_MATCH, IF_NONE_MATCH],
        accepts: &[(OPS, "Ops"), (MERGE_PATCH, "Fields"), (JSON_PATCH, "JsonPatch"), (JSON, "Fields")],
        gives: (JSON, "Receipt"),
        session: true,
        problems: &[
            Kind::NotFound,
            Kind::PatchConflict,
            Kind::Frozen,
            Kind::DoesNotFit,
            Kind::Held,
            Kind::NotHolder,
            Kind::NoQuorum,
            Kind::Undecided,
            Kind::TooNew,
            Kind::Busy,
        ],
        handler: |ask| Box::pin(patch(ask)),
    },
    Operation {
        method: Method::DELETE,
        path: PATH,
        id: "deleteDocument",
        says: "Deletes a document: all that is visible here goes; a concurrent write elsewhere does not revive half of it.",
        parameters: &[&DURABILITY],
        headers: &[IF_MATCH],
        accepts: &[],
        gives: (JSON, "Receipt"),
        session: true,
        problems: &[Kind::NotFound, Kind::Frozen],
        handler: |ask| Box::pin(delete(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/docs/{collection}",
        id: "listDocuments",
        says: "Lists a collection in id order.",
        parameters: &[&PREFIX, &LIMIT, &AFTER],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Listing"),
        session: true,
        problems: &[Kind::BadName],
        handler: |ask| Box::pin(list(ask)),
    },
];

async fn read(ask: Ask) -> Outcome {
    let address = ask.address()?;
    let if_match = Condition::parse(&ask.headers, &header::IF_MATCH)?;
    let if_none_match = Condition::parse(&ask.headers, &header::IF_NONE_MATCH)?;
    if ask.params.text(&READ_CONSISTENCY) == Some("quorum") {
        ask.api.node.read_decided(&address).await?;
    }
    let read = ask.api.node.read(&address);
    let clock = ask.clock_with(&read.token);
    let Some(shown) = read.document else {
        if if_match.is_some() {
            let detail = format!("{address} does not exist, and If-Match asks for one that does");
            return Err(Problem::new(Kind::PreconditionFailed, detail).with("etag", Value::Null).seen(read.token));
        }
        let detail = format!("{address} does not exist on this node: create it with PUT");
        return Err(Problem::new(Kind::NotFound, detail).seen(read.token));
    };
    let etag = quoted(&shown.etag);
    if if_match.is_some_and(|condition| !condition.matches_strongly(&shown.etag)) {
        let detail = format!("{address} has the tag {etag}, which If-Match does not name: read it again");
        return Err(Problem::new(Kind::PreconditionFailed, detail).with("etag", etag).seen(read.token));
    }
    let unchanged = if_none_match.is_some_and(|condition| condition.matches_weakly(&shown.etag));
    let mut response = match unchanged {
        true => {
            let mut response = answer(StatusCode::NOT_MODIFIED, &clock, &Value::Null);
            *response.body_mut() = axum::body::Body::empty();
            response
        }
        false => answer(StatusCode::OK, &clock, &wire::document(&address, shown, &clock)),
    };
    let etag = HeaderValue::from_str(&etag);
    let etag = etag.map_err(|_| Problem::new(Kind::Internal, "the document's tag is not ASCII: this is a bug"))?;
    response.headers_mut().insert(header::ETAG, etag);
    Ok(response)
}

async fn put(ask: Ask) -> Outcome {
    let fields: Map<String, Value> = ask.json()?;
    write(ask, WriteBody::Put(fields)).await
}

async fn patch(ask: Ask) -> Outcome {
    let received = ask.received()?;
    let body = match received.media {
        OPS => WriteBody::Edits(received.json::<wire::Indexed<wire::Op, { wire::PATCH_OPS_MAX }>>()?.edits()),
        JSON_PATCH => WriteBody::JsonPatch(json_patch::Patch(
            received.json::<wire::Indexed<json_patch::PatchOperation, { wire::PATCH_OPS_MAX }>>()?.0,
        )),
        // A merge patch that is no object would replace the document by something that is no document.
        _ => WriteBody::MergePatch(Value::Object(received.json()?)),
    };
    write(ask, body).await
}

async fn delete(ask: Ask) -> Outcome {
    let address = ask.address()?;
    write(ask, WriteBody::Delete).await.map_err(|problem| match problem.kind() {
        Kind::NotFound => {
            let detail =
                format!("there is no {address} to delete: GET /v1/docs/{} lists what there is", address.collection());
            Problem::new(Kind::NotFound, detail)
        }
        _ => problem,
    })
}

async fn write(ask: Ask, body: WriteBody) -> Outcome {
    let (if_match, create_only) = condition::of_write(&ask.headers)?;
    let missing = if ask.params.flag(&UPSERT) { Missing::Create } else { Missing::Refuse };
    let write = DocumentWrite { address: ask.address()?, body, if_match, create_only, missing };
    schemas::guard(&write)?;
    policies::guard(&ask.api.node, &write)?;
    advisor::guard(&write)?;
    owned::guard(&write)?;
    let token = ask.params.integer(&TOKEN);
    if ask.params.durability(&DURABILITY) == Some(Durability::Quorum) {
        return decide(ask, &write, token).await;
    }
    if token.is_some() {
        return Err(Problem::new(Kind::BadParameter, "`token` goes with `durability=quorum`"));
    }
    Ok(commit(ask, vec![write]).await?)
}

/// Has a quorum decide what the patch says.
async fn decide(mut ask: Ask, write: &DocumentWrite, token: Option<u64>) -> Outcome {
    owned::guard_decision(&write.address)?;
    // Voters are waited for; others may work meanwhile.
    ask.working = None;
    let decision = Decision { token, ..write.decision()? };
    let decided = ask.api.node.decide(&write.address, &decision).await?;
    let receipt = ask.api.node.decided_receipt(&decided);
    let clock = ask.clock_with(&receipt.token);
    Ok(answer(StatusCode::OK, &clock, &wire::receipt(&receipt, &clock)))
}

/// Writes, and answers with the receipt.
pub(super) async fn commit(ask: Ask, writes: Vec<DocumentWrite>) -> Result<Response, WriteError> {
    let durability = ask.params.durability(&DURABILITY).unwrap_or(Durability::Local);
    let receipt = ask.api.node.write(writes, durability).await?;
    let clock = ask.clock_with(&receipt.token);
    Ok(answer(StatusCode::OK, &clock, &wire::receipt(&receipt, &clock)))
}

async fn list(ask: Ask) -> Outcome {
    check_collection(ask.collection())?;
    let (prefix, after) = (ask.params.text(&PREFIX).unwrap_or(""), ask.params.after());
    let limit = ask.params.limit();
    let listing = ask.api.node.list(ask.collection(), prefix, after, limit);
    let clock = ask.clock_with(&listing.token);
    Ok(page(listing.items, listing.next, &clock))
}

fn page(items: Vec<(String, Shown)>, next: Option<String>, clock: &Token) -> Response {
    let mut body = String::from("{\"items\":[");
    let mut last: Option<String> = None;
    let mut cut = false;
    for (id, shown) in items {
        let item = wire::item(&id, shown).to_string();
        if last.is_some() && body.len() + item.len() > PAGE_BYTES_MAX {
            cut = true;
            break;
        }
        if last.is_some() {
            body.push(',');
        }
        body.push_str(&item);
        last = Some(id);
    }
    let next = if cut { last } else { next };
    body.push_str(&format!("],\"next\":{},\"clock\":{}}}", json!(next), json!(clock.to_string())));
    let mut response = answer(StatusCode::OK, clock, &Value::Null);
    *response.body_mut() = body.into();
    response
}

#[cfg(test)]
mod tests {
    use super::super::server::{FOREIGN_CLOCK, Server};
    use super::*;

    const CHANGE: (&str, &str) = ("content-type", OPS);

    #[tokio::test]
    async fn a_document_is_put_read_changed_and_deleted() {
        let server = Server::start().await;
        let put = server.json("PUT", "/v1/docs/vms/vm-42", json!({"os": "linux"})).await;
        assert_eq!(put.status, 200);
        let receipt = put.value();
        assert!(receipt["dot"].is_string() && receipt["durability"] == "local", "{receipt}");
        assert_eq!(receipt["clock"], put.header("folkmoot-clock"));

        let ops =
            br#"[{"field":"boots","incr":3},{"field":"tags","add":"gpu"},{"field":"labels","key":"zone","set":"eu"}]"#;
        assert_eq!(server.ask("PATCH", "/v1/docs/vms/vm-42", &[CHANGE], ops).await.status, 200);
        let read = server.get("/v1/docs/vms/vm-42").await;
        let body = read.value();
        assert_eq!((&body["collection"], &body["id"]), (&json!("vms"), &json!("vm-42")));
        assert_eq!(body["fields"], json!({"os": "linux", "boots": 3, "tags": ["gpu"], "labels": {"zone": "eu"}}));
        assert_eq!(body["siblings"], json!({}));
        assert_eq!(body["clock"], read.header("folkmoot-clock"));
        assert!(read.header("etag").starts_with('"'));

        assert_eq!(server.ask("DELETE", "/v1/docs/vms/vm-42", &[], b"").await.status, 200);
        server.get("/v1/docs/vms/vm-42").await.problem("not-found");
        let again = server.ask("DELETE", "/v1/docs/vms/vm-42", &[], b"").await.problem("not-found");
        assert!(again.contains("to delete") && !again.contains("PUT"), "{again}");
    }

    #[tokio::test]
    async fn every_kind_of_patch_applies_and_says_when_it_cannot() {
        let server = Server::start().await;
        let path = "/v1/docs/vms/a";
        server.json("PUT", path, json!({"cpu": 1, "os": "linux"})).await;
        let patch = async |media: &str, body: &str| {
            server.ask("PATCH", path, &[("content-type", media)], body.as_bytes()).await
        };
        assert_eq!(patch(MERGE_PATCH, r#"{"cpu":2,"os":null}"#).await.status, 200);
        assert_eq!(patch(JSON, r#"{"ram":8}"#).await.status, 200);
        assert_eq!(
            patch(JSON_PATCH, r#"[{"op":"test","path":"/cpu","value":2},{"op":"add","path":"/disk","value":9}]"#)
                .await
                .status,
            200
        );
        assert_eq!(server.get(path).await.value()["fields"], json!({"cpu": 2, "ram": 8, "disk": 9}));

        let conflict =
            patch(JSON_PATCH, r#"[{"op":"remove","path":"/disk"},{"op":"test","path":"/cpu","value":3}]"#).await;
        assert!(conflict.problem("patch-conflict").contains("operation 1"));
        assert!(patch(OPS, r#"[{"field":"ram","add":1}]"#).await.problem("does-not-fit").contains("`ram`"));
        assert_eq!(server.get(path).await.value()["fields"]["disk"], 9, "nothing is half-written");
        patch("text/plain", "{}").await.problem("media-type");
        assert!(patch(MERGE_PATCH, "[1]").await.problem("bad-json").contains("line 1"));
        let missing = server.ask("PATCH", path, &[], b"{}").await;
        assert!(missing.problem("media-type").contains(OPS), "a patch without a type is ambiguous");
    }

    #[tokio::test]
    async fn a_patch_of_a_missing_document_creates_it_only_when_told_to() {
        let server = Server::start().await;
        let ops = br#"[{"field":"restarts","incr":1}]"#;
        server.ask("PATCH", "/v1/docs/vms/new", &[CHANGE], ops).await.problem("not-found");
        assert_eq!(server.ask("PATCH", "/v1/docs/vms/new?upsert=true", &[CHANGE], ops).await.status, 200);
        assert_eq!(server.get("/v1/docs/vms/new").await.value()["fields"], json!({"restarts": 1}));
    }

    #[tokio::test]
    async fn conditions_hold_or_refuse_and_nothing_is_written() {
        let server = Server::start().await;
        let path = "/v1/docs/vms/a";
        let with = async |method: &str, header: (&str, &str), body: &str| {
            server.ask(method, path, &[("content-type", JSON), header], body.as_bytes()).await
        };
        with("PUT", ("if-match", "*"), "{}").await.problem("precondition-failed");
        assert_eq!(with("PUT", ("if-none-match", "*"), r#"{"n":1}"#).await.status, 200);
        with("PUT", ("if-none-match", "*"), r#"{"n":2}"#).await.problem("precondition-failed");
        let etag = server.get(path).await.header("etag").to_owned();
        assert_eq!(with("GET", ("if-none-match", &etag), "").await.status, 304);
        let weak = format!("W/{etag}");
        with("PUT", ("if-match", &weak), r#"{"n":2}"#).await.problem("precondition-failed");
        assert_eq!(with("PUT", ("if-match", &etag), r#"{"n":2}"#).await.status, 200);
        let stale = with("DELETE", ("if-match", &etag), "").await;
        stale.problem("precondition-failed");
        assert_eq!(stale.value()["etag"], server.get(path).await.header("etag"));
        with("GET", ("if-match", &etag), "").await.problem("precondition-failed");
        with("PUT", ("if-match", "bare"), "{}").await.problem("bad-request");
        assert_eq!(server.get(path).await.value()["fields"], json!({"n": 2}));
    }

    #[tokio::test]
    async fn ids_may_hold_slashes_and_any_utf8_but_no_control_characters() {
        let server = Server::start().await;
        for (path, id) in
            [("a/b//c", "a/b//c"), ("a%2Fb", "a/b"), ("caf%C3%A9", "café"), ("x+y", "x+y"), ("..", ".."), ("%25", "%")]
        {
            let path = format!("/v1/docs/vms/{path}");
            assert_eq!(server.json("PUT", &path, json!({})).await.status, 200, "{path}");
            assert_eq!(server.get(&path).await.value()["id"], id);
        }
        for path in ["a%0a", "%ff", "%", &"x".repeat(513)] {
            server.get(&format!("/v1/docs/vms/{path}")).await.problem("bad-name");
        }
        for collection in ["Vms", "9", "v%20", &"x".repeat(65)] {
            server.get(&format!("/v1/docs/{collection}/a")).await.problem("bad-name");
            server.get(&format!("/v1/docs/{collection}")).await.problem("bad-name");
        }
    }

    #[tokio::test]
    async fn a_list_goes_page_by_page_in_id_order() {
        let server = Server::start().await;
        for id in ["b", "a", "ab", "c"] {
            server.json("PUT", &format!("/v1/docs/vms/{id}"), json!({"id": id})).await;
        }
        let ids = |page: &Value| page["items"].as_array().unwrap().iter().map(|i| i["id"].clone()).collect::<Vec<_>>();
        let first = server.get("/v1/docs/vms?limit=2").await.value();
        assert_eq!((ids(&first), &first["next"]), (vec![json!("a"), json!("ab")], &json!("ab")));
        let second = server.get("/v1/docs/vms?limit=2&after=ab").await.value();
        assert_eq!((ids(&second), &second["next"]), (vec![json!("b"), json!("c")], &Value::Null));
        let prefixed = server.get("/v1/docs/vms?prefix=a").await.value();
        assert_eq!(ids(&prefixed), [json!("a"), json!("ab")]);
        assert_eq!(ids(&server.get("/v1/docs/empty").await.value()), [Value::Null; 0]);
        for query in ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "limits=1", "durability=local"] {
            let detail = server.get(&format!("/v1/docs/vms?{query}")).await.problem("bad-parameter");
            assert!(detail.contains(query.split('=').next().unwrap()), "{detail}");
        }
    }

    #[tokio::test]
    async fn a_session_waits_for_what_it_has_seen_and_is_told_when_it_is_not_here() {
        let server = Server::start().await;
        let path = "/v1/docs/vms/a";
        let own = server.json("PUT", path, json!({})).await.header("folkmoot-clock").to_owned();
        assert_eq!(server.ask("GET", path, &[("folkmoot-clock", &own)], b"").await.status, 200);
        let behind = server.ask("GET", &format!("{path}?wait_ms=0"), &[("folkmoot-clock", FOREIGN_CLOCK)], b"").await;
        assert!(behind.problem("behind").contains("consistency=local"));
        assert_eq!((behind.status, behind.header("retry-after")), (503, "1"));
        assert_eq!(behind.header("folkmoot-clock"), FOREIGN_CLOCK, "the session forgets nothing");
        let local =
            server.ask("GET", &format!("{path}?consistency=local"), &[("folkmoot-clock", FOREIGN_CLOCK)], b"").await;
        assert_eq!(local.status, 200);
        let put =
            server.ask("PUT", &format!("{path}?wait_ms=0"), &[("folkmoot-clock", FOREIGN_CLOCK)], b"{\"n\":1}").await;
        put.problem("behind");
        assert_eq!(server.get(path).await.value()["fields"], json!({}), "a write that may not be is not");
        server.ask("GET", path, &[("folkmoot-clock", "nonsense")], b"").await.problem("bad-clock");
        server.get(&format!("{path}?wait_ms=30001")).await.problem("bad-parameter");
    }

    #[tokio::test]
    async fn durability_is_reported_and_one_that_is_none_is_refused() {
        let server = Server::start().await;
        let put = async |durability: &str| {
            server.json("PUT", &format!("/v1/docs/vms/a?durability={durability}"), json!({})).await
        };
        assert_eq!(put("memory").await.value()["durability"], "memory");
        assert_eq!(put("local").await.value()["dot"], Value::Null, "an equal value writes nothing");
        for wrong in ["replicas:0", "replicas:", "disk", ""] {
            assert!(put(wrong).await.problem("bad-parameter").contains("replicas:N"));
        }
    }

    #[tokio::test]
    async fn json_that_is_broken_or_of_another_shape_is_refused_with_its_place() {
        let server = Server::start().await;
        let put =
            async |body: &str| server.ask("PUT", "/v1/docs/vms/a", &[("content-type", JSON)], body.as_bytes()).await;
        let broken = put("{\"a\":1,\n\"b\":}").await;
        assert!(broken.problem("bad-json").contains("line 2 column 5"));
        assert_eq!((&broken.value()["line"], &broken.value()["column"]), (&json!(2), &json!(5)));
        for body in ["", "[]", "1", "null", "{} {}", "{\"a\":\"\u{1}\"}", "{\"a\":1e999}"] {
            assert!(put(body).await.problem("bad-json").contains("line "), "{body}");
        }
        put(&"[".repeat(100_000)).await.problem("bad-json");
        server.get("/v1/docs/vms/a").await.problem("not-found");
        for headers in [[("content-type", "text/plain")], [("content-encoding", "gzip")]] {
            server.ask("PUT", "/v1/docs/vms/a", &headers, b"{}").await.problem("media-type");
        }
    }

    #[tokio::test]
    async fn a_body_beyond_the_bound_is_refused_announced_or_not() {
        let server = Server::start().await;
        let announced = format!(
            "PUT /v1/docs/vms/a HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: 8388609\r\n\r\n",
            server.address
        );
        let mut bytes = announced.into_bytes();
        bytes.resize(bytes.len() + 8_388_609, b' ');
        server.send(&bytes).await.unwrap().problem("body-too-large");
        let mut bytes = format!(
            "PUT /v1/docs/vms/a HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
            server.address
        )
        .into_bytes();
        for _ in 0..129 {
            bytes.extend(b"10000\r\n");
            bytes.resize(bytes.len() + 0x10000, b' ');
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        server.send(&bytes).await.unwrap().problem("body-too-large");
        let mut largest = "{\"a\":1}".to_owned();
        largest.push_str(&" ".repeat((8 << 20) - largest.len()));
        assert_eq!(server.ask("PUT", "/v1/docs/vms/a", &[], largest.as_bytes()).await.status, 200);
    }

    #[tokio::test]
    async fn head_answers_like_get_without_a_body() {
        let server = Server::start().await;
        server.json("PUT", "/v1/docs/vms/a", json!({})).await;
        let head = server.ask("HEAD", "/v1/docs/vms/a", &[], b"").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert!(!head.header("etag").is_empty());
        assert_eq!(server.ask("HEAD", "/v1/docs/vms/b", &[], b"").await.status, 404);
    }
}
