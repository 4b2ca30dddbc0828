//! Event streams.

use reqwest::Response;
use serde_json::Value;

use super::http::Http;

/// Server-sent events, as they come.
pub struct Events {
    response: Response,
    text: String,
}

#[derive(Debug)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

impl Events {
    pub async fn open(http: &Http, path: &str, last: Option<&str>) -> Self {
        let headers: Vec<_> = last.map(|last| ("last-event-id", last)).into_iter().collect();
        let response = http.open(path, &headers).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    pub async fn next(&mut self) -> Event {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let line = |key: &str| event.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("").to_owned();
                let (name, id, data) = (line("event: "), line("id: "), line("data: "));
                self.text = rest.to_owned();
                if name.is_empty() {
                    continue;
                }
                return Event { name, id, data: serde_json::from_str(&data).unwrap() };
            }
            let bytes = self.response.chunk().await.unwrap().expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}
