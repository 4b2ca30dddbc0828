//! `/v1/policies`: which resolver settles what. A policy is a document, `policies/<name>`, whose field `definition` holds it
//! as JSON: it replicates like any other.

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::Received;
use super::condition;
use super::docs::{DURABILITY, JSON, commit};
use super::operation::{Ask, Operation, Outcome, answer};
use super::page::{AFTER, LIMIT};
use super::problem::{Kind, Problem};
use crate::conflict::Policy;
use crate::conflict::policies::{HEEDED_MAX, PREVIEWED};
use crate::document::{Address, SchemaError};
use crate::engine::schemas::{DEFINITION, POLICIES};
use crate::node::{DocumentWrite, Missing, Node, WriteBody};

/// Policies in one list.
const LIST_MAX: usize = 1_000;
const PATH: &str = "/v1/policies/{name}";

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "/v1/policies",
        id: "listPolicies",
        says: "Lists the policies, in the order in which they are asked.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "PolicyListing"),
        session: true,
        problems: &[],
        handler: |ask| Box::pin(list(ask)),
    },
    Operation {
        method: Method::GET,
        path: PATH,
        id: "readPolicy",
        says: "A policy and its version, which changes whenever the policy does.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Policy"),
        session: true,
        problems: &[Kind::NotFound],
        handler: |ask| Box::pin(read(ask)),
    },
    Operation {
        method: Method::PUT,
        path: PATH,
        id: "putPolicy",
        says: "Puts a policy in force, for all nodes.",
        parameters: &[&DURABILITY],
        headers: &[],
        accepts: &[(JSON, "PolicyDefinition"), ("application/toml", "SchemaText"), ("text/x-toml", "SchemaText")],
        gives: (JSON, "Receipt"),
        session: true,
        problems: &[Kind::BadPolicy],
        handler: |ask| Box::pin(put(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/policies/test",
        id: "testPolicy",
        says: "What a policy would make of sample conflicts. Nothing is changed.",
        parameters: &[],
        headers: &[],
        accepts: &[(JSON, "PolicyTest")],
        gives: (JSON, "PolicyTested"),
        session: false,
        problems: &[Kind::BadPolicy],
        handler: |ask| Box::pin(test(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/policies/preview",
        id: "previewPolicy",
        says: "What a policy would change of today's conflicts, were it put first: those whose rule, resolver, value or status \
               would be another, in the order of ids. Nothing is changed.",
        parameters: &[&AFTER, &LIMIT],
        headers: &[],
        accepts: &[(JSON, "PolicyDefinition"), ("application/toml", "SchemaText"), ("text/x-toml", "SchemaText")],
        gives: (JSON, "PolicyPreview"),
        session: true,
        problems: &[Kind::BadPolicy],
        handler: |ask| Box::pin(preview(ask)),
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let named = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    json!({
        "PolicyDefinition": {
            "type": "object",
            "additionalProperties": false,
            "properties": { "about": text, "rules": { "type": "array", "items": {
                "type": "object", "required": ["name", "resolver"], "properties": { "name": text, "resolver": text, "when": text },
            } } },
        },
        "Policy": { "type": "object", "properties": { "name": text, "version": text, "definition": named("PolicyDefinition") } },
        "PolicyListing": { "type": "object", "properties": { "items": { "type": "array", "items": named("Policy") } } },
        "PolicyTest": {
            "type": "object",
            "required": ["policy", "cases"],
            "additionalProperties": false,
            "properties": { "policy": named("PolicyDefinition"), "cases": { "type": "array", "items": { "type": "object" } } },
        },
        "PolicyTested": { "type": "object", "properties": { "passed": { "type": "boolean" }, "cases": {
            "type": "array",
            "items": { "type": "object", "properties": { "passed": { "type": "boolean" }, "missed": {
                "type": "array",
                "description": "What was expected and did not come.",
                "items": { "type": "object", "properties": { "what": { "enum": ["value", "rule", "resolver"] }, "expected": {}, "came": {} } },
            } } },
        } } },
        "PolicyPreview": {
            "type": "object",
            "required": ["changed", "count", "of", "next"],
            "properties": {
                "changed": {
                    "type": "array",
                    "description": "Conflicts whose rule, resolver, value or status would be another. The policy asked about is called `previewed`.",
                    "items": { "type": "object", "properties": { "now": named("Conflict"), "then": named("Conflict") } },
                },
                "count": { "type": "integer", "description": "How many would stand otherwise, on all pages." },
                "of": { "type": "integer", "description": "How many there are that a policy may settle: broken rules of schemas are not among them." },
                "next": { "type": ["string", "null"] },
            },
        },
    })
}

async fn list(ask: Ask) -> Outcome {
    let items: Vec<Value> = ask.api.node.policies().into_iter().take(LIST_MAX).map(described).collect();
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items })))
}

fn described((name, version, policy): (String, String, Policy)) -> Value {
    json!({ "name": name, "version": version, "definition": policy })
}

async fn read(ask: Ask) -> Outcome {
    let name = ask.name();
    let found = ask.api.node.policies().into_iter().find(|(known, ..)| known == name);
    let missing = || Problem::new(Kind::NotFound, format!("there is no policy `{name}`: GET /v1/policies lists them"));
    Ok(answer(StatusCode::OK, &ask.clock_now(), &described(found.ok_or_else(missing)?)))
}

async fn put(ask: Ask) -> Outcome {
    let address = Address::new(POLICIES, ask.name())?;
    let policy = parse(ask.received()?)?;
    fits(&ask.api.node, ask.name(), &policy)?;
    let (if_match, create_only) = condition::of_write(&ask.headers)?;
    let body = WriteBody::Put(Map::from_iter([(DEFINITION.to_owned(), json!(policy))]));
    Ok(commit(ask, vec![DocumentWrite { address, body, if_match, create_only, missing: Missing::Create }]).await?)
}

fn parse(received: &Received) -> Result<Policy, Problem> {
    let text = received.text()?;
    if received.media == JSON {
        received.json::<serde::de::IgnoredAny>()?;
    }
    Policy::parse(text).map_err(|error| refused(&error))
}

fn refused(error: &SchemaError) -> Problem {
    let detail = format!("the policy is not valid, at {error}");
    Problem::new(Kind::BadPolicy, detail).with("line", error.line).with("column", error.column)
}

/// All rules may be asked about each conflict, so there are so many and no more.
fn fits(node: &Node, name: &str, policy: &Policy) -> Result<(), Problem> {
    let (rules, beside) = (policy.rules.len(), node.rules_beside(name));
    if rules + beside <= HEEDED_MAX {
        return Ok(());
    }
    let detail = format!(
        "{rules} rules are too many: the other policies have {beside}, and all together take {HEEDED_MAX}. Join rules, or \
         remove a policy"
    );
    Err(Problem::new(Kind::BadPolicy, detail))
}

/// A policy written as a plain document must still be a policy: every node reads it.
pub(super) fn guard(node: &Node, write: &DocumentWrite) -> Result<(), Problem> {
    if write.address.collection() != POLICIES {
        return Ok(());
    }
    let refuse = |what: &str| {
        let detail = format!("{} {what}: use PUT /v1/policies/{}", write.address, write.address.id());
        Problem::new(Kind::DoesNotFit, detail)
    };
    match &write.body {
        WriteBody::Delete => Ok(()),
        WriteBody::Put(fields) => {
            let definition = fields.get(DEFINITION).filter(|_| fields.len() == 1);
            let definition = definition.ok_or_else(|| refuse("takes the one field `definition`"))?;
            let policy = Policy::parse(&definition.to_string()).map_err(|error| refused(&error))?;
            fits(node, write.address.id(), &policy)
        }
        _ => Err(refuse("is replaced as a whole")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    policy: Value,
    cases: Vec<crate::conflict::sample::Sample>,
}

async fn test(ask: Ask) -> Outcome {
    let Test { policy, cases } = ask.json()?;
    let policy = Policy::parse(&policy.to_string()).map_err(|error| refused(&error))?;
    let results: Vec<_> = cases.iter().map(|sample| policy.try_on(sample)).collect();
    let passed = results.iter().all(|result| result.passed);
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "passed": passed, "cases": results })))
}

async fn preview(ask: Ask) -> Outcome {
    let policy = parse(ask.received()?)?;
    let limit = ask.params.limit();
    let mut preview = ask.api.node.preview(policy, ask.params.after(), limit);
    for previewed in &mut preview.changed {
        // The policy that is asked about has no name, so what names it begins with its version.
        let unnamed = previewed.then.policy.as_mut().filter(|policy| policy.starts_with('@'));
        unnamed.into_iter().for_each(|policy| policy.insert_str(0, PREVIEWED));
    }
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(preview)))
}
