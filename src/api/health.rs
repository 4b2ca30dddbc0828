//! For those who look after the process: is it alive, is it ready, how is it doing.

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer};
use super::problem::{Kind, Problem};
use crate::telemetry::Metrics;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "/healthz",
        id: "health",
        says: "The process is alive and answers. Restart it when this fails.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Health"),
        session: false,
        problems: &[],
        handler: |ask| Box::pin(healthy(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/readyz",
        id: "readiness",
        says: "The node is ready for traffic; else 503 with the `reasons`.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Ready"),
        session: false,
        problems: &[Kind::NotReady],
        handler: |ask| Box::pin(ready(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/metrics",
        id: "metrics",
        says: "Figures in OpenMetrics text, for Prometheus.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (Metrics::MEDIA_TYPE, "Text"),
        session: false,
        problems: &[],
        handler: |ask| Box::pin(metrics(ask)),
    },
];

async fn healthy(ask: Ask) -> Outcome {
    Ok(answer(StatusCode::OK, &ask.clock, &json!({ "status": "ok" })))
}

async fn ready(ask: Ask) -> Outcome {
    readiness(ask.api.node.readiness())?;
    Ok(answer(StatusCode::OK, &ask.clock, &json!({ "ready": true, "reasons": [] })))
}

fn readiness(reasons: Vec<String>) -> Result<(), Problem> {
    if reasons.is_empty() {
        return Ok(());
    }
    let detail = format!("{}: ask another node, or wait", reasons.join("; "));
    Err(Problem::new(Kind::NotReady, detail).with("ready", false).with("reasons", reasons))
}

async fn metrics(ask: Ask) -> Outcome {
    let text = ask.api.metrics.render();
    let text = text.map_err(|_| Problem::new(Kind::Internal, "the figures have no text form: this is a bug"))?;
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(Metrics::MEDIA_TYPE));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;

    #[tokio::test]
    async fn readiness_gives_its_reasons() {
        let server = Server::start().await;
        assert_eq!(server.get("/healthz").await.value(), json!({"status": "ok"}));
        assert_eq!(server.get("/readyz").await.value(), json!({"ready": true, "reasons": []}));
        let problem = readiness(vec!["catching up with 3 peers".into()]).unwrap_err();
        assert_eq!(problem.kind(), Kind::NotReady);
        let told = format!("{problem:?}");
        assert!(told.contains("\"reasons\"") && told.contains("catching up with 3 peers: "), "{told}");
    }

    #[tokio::test]
    async fn the_figures_of_the_node_and_of_the_requests_are_there() {
        let server = Server::start().await;
        server.json("PUT", "/v1/docs/vms/a", json!({})).await;
        server.get("/v1/nothing/here").await;
        server.ask("BREW", "/healthz", &[], b"").await;
        let answer = server.get("/metrics").await;
        assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
        let text = String::from_utf8(answer.body).unwrap();
        for line in [
            r#"folkmoot_http_requests_total{route="/v1/docs/{collection}/{*id}",method="PUT",status="200"} 1"#,
            r#"folkmoot_http_requests_total{route="unmatched",method="GET",status="404"} 1"#,
            r#"folkmoot_http_requests_total{route="/healthz",method="other",status="405"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        for figure in server.node.figures() {
            assert!(text.contains(&format!("# TYPE {} ", figure.name.trim_end_matches("_total"))), "{figure:?}");
        }
    }
    #[tokio::test]
    async fn a_lock_that_was_got_shows_in_the_figures() {
        let server = Server::start().await;
        let asked = json!({ "holder": "ada", "lease_ms": 60_000 });
        let granted = server.json("POST", "/v1/locks/vm/7", asked).await;
        assert_eq!(granted.status, 200);
        let text = String::from_utf8(server.get("/metrics").await.body).unwrap();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        assert_eq!(value("folkmoot_locks_held"), 1.0);
        assert_eq!(value("folkmoot_lock_wait_seconds_count"), 1.0);
        let decided = value(r#"folkmoot_ballots_total{outcome="decided"}"#);
        assert!(decided >= 1.0 && value("folkmoot_ballot_seconds_count") == decided);
        assert!(value("folkmoot_ballot_seconds_sum") > 0.0);
    }
}
