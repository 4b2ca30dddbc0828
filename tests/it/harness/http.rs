//! A client of one node's API that shows everything: status, headers, body.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// No request here waits for a person; the longest promise is `replicas:N` with its 10 s.
pub const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub struct Http {
    pub base: String,
    client: reqwest::Client,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Http {
    pub fn new(base: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().unwrap();
        Self { base: base.to_owned(), client }
    }

    /// An error means that no whole answer came: the outcome of a write is then unknown.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Result<Reply, reqwest::Error> {
        let mut request = self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply { status, headers, body: response.bytes().await?.to_vec() })
    }

    /// The same, where an answer must come.
    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let typed = headers.iter().any(|(name, _)| *name == "content-type");
        let mut headers = headers.to_vec();
        if !body.is_empty() && !typed {
            headers.push(("content-type", "application/json"));
        }
        match self.send(method, path, &headers, body).await {
            Ok(reply) => reply,
            Err(error) => panic!("{method} {}{path}: {error:?}", self.base),
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], Value::Null).await
    }

    pub async fn put(&self, document: &str, fields: Value) -> Reply {
        self.ask("PUT", &format!("/v1/docs/{document}"), &[], fields).await
    }

    /// Operations on a document, which is created if it is missing.
    pub async fn ops(&self, document: &str, ops: Value) -> Reply {
        let media = [("content-type", "application/vnd.folkmoot.ops+json")];
        self.ask("PATCH", &format!("/v1/docs/{document}?upsert=true"), &media, ops).await
    }

    pub async fn incr(&self, document: &str, field: &str, by: i64) -> Reply {
        self.ops(document, json!([{ "field": field, "incr": by }])).await
    }

    pub async fn delete(&self, document: &str) -> Reply {
        self.ask("DELETE", &format!("/v1/docs/{document}"), &[], Value::Null).await
    }

    /// The fields of a document that must be there.
    pub async fn fields(&self, document: &str) -> Value {
        self.document(document).await["fields"].take()
    }

    pub async fn document(&self, document: &str) -> Value {
        self.get(&format!("/v1/docs/{document}")).await.ok()
    }

    /// Every document of a collection: id and fields.
    pub async fn list(&self, collection: &str) -> Vec<(String, Value)> {
        let (mut documents, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("/v1/docs/{collection}?limit=1000{after}")).await.ok();
            for item in page["items"].as_array().unwrap() {
                documents.push((item["id"].as_str().unwrap().to_owned(), item["fields"].clone()));
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return documents,
            }
        }
    }

    pub async fn cluster(&self) -> Value {
        self.get("/v1/cluster").await.ok()
    }

    /// The sum of a metric over its labels. `name` as Prometheus shows it, with `_total` for a counter.
    pub async fn metric(&self, name: &str) -> f64 {
        self.metric_where(name, "").await
    }

    /// The sum over the series whose labels contain `label`.
    pub async fn metric_where(&self, name: &str, label: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").await.body).unwrap();
        let of_name =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'));
        let series: Vec<&str> = text.lines().filter(of_name).collect();
        assert!(!series.is_empty() || !label.is_empty(), "no metric {name} in\n{text}");
        let values = series.iter().filter(|line| line.contains(label));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Opens an event stream.
    pub async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.get(self.url(path)).timeout(Duration::from_secs(60));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl Reply {
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {} {text}", self.status))
    }

    /// The body of a success.
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, String::from_utf8_lossy(&self.body));
        self.json()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_else(|| panic!("no {name} header"))
    }

    /// The detail of a refusal, which must be of this status and kind.
    pub fn refused(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(problem["type"], format!("urn:folkmoot:problem:{kind}"), "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    }
}
