//! The figures of `/metrics`: what the node hands in at each scrape, and the requests the API served.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// One number the node reports. Figures of one name stand next to each other and differ in their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// In Prometheus's manner, with the unit last and without `_total`: `folkmoot_sent_bytes`.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: FigureKind,
    pub labels: Vec<(&'static str, String)>,
    /// Of a histogram, the sum of all that was observed.
    pub value: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum FigureKind {
    /// Only grows while the process lives.
    Counter,
    Gauge,
    /// How many observations fell into each range, by its upper end; the last has none and ends at [`f64::INFINITY`].
    Histogram {
        buckets: Vec<(f64, u64)>,
    },
}

/// The registry behind `/metrics`. A cheap handle.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    method: &'static str,
}

/// From a read in memory to a write that waits for replicas.
const DURATION_BUCKETS_S: [f64; 12] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

impl Metrics {
    /// `figures` is asked at each scrape.
    pub fn new(figures: impl Fn() -> Vec<Figure> + Send + Sync + 'static) -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let durations = Family::<RouteLabels, Histogram>::new_with_constructor(|| Histogram::new(DURATION_BUCKETS_S));
        let mut registry = Registry::default();
        registry.register("folkmoot_http_requests", "HTTP requests answered", requests.clone());
        registry.register(
            "folkmoot_http_request_duration_seconds",
            "Time from the last byte of the request's head to the first of the answer's",
            durations.clone(),
        );
        registry.register_collector(Box::new(Figures(Box::new(figures))));
        Self { registry: Arc::new(registry), requests, durations }
    }

    /// Counts one answered request. `route` and `method` come from fixed sets: whatever clients send, the number of
    /// series stays bounded.
    pub fn on_request(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { route, method, status }).inc();
        self.durations.get_or_create(&RouteLabels { route, method }).observe(took.as_secs_f64());
    }

    /// The OpenMetrics text of everything, which Prometheus reads.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// The media type of [`Self::render`].
    pub const MEDIA_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

struct Figures(Box<dyn Fn() -> Vec<Figure> + Send + Sync>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for family in (self.0)().chunk_by(|a, b| a.name == b.name) {
            let Figure { name, help, kind, .. } = &family[0];
            let name = name.strip_suffix("_total").unwrap_or(name);
            let metric_type = match kind {
                FigureKind::Counter => MetricType::Counter,
                FigureKind::Gauge => MetricType::Gauge,
                FigureKind::Histogram { .. } => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, metric_type)?;
            for figure in family {
                let mut sample = metric.encode_family(&figure.labels)?;
                match &figure.kind {
                    FigureKind::Counter => ConstCounter::new(figure.value).encode(sample)?,
                    FigureKind::Gauge => ConstGauge::new(figure.value).encode(sample)?,
                    FigureKind::Histogram { buckets } => {
                        let count = buckets.iter().map(|(_, count)| count).sum();
                        sample.encode_histogram::<NoLabelSet>(figure.value, count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(kind: FigureKind, name: &'static str, peer: &str, value: f64) -> Figure {
        Figure { name, help: "Help", kind, labels: vec![("peer", peer.to_owned())], value }
    }

    #[test]
    fn figures_of_one_name_share_one_head_and_odd_labels_are_escaped() {
        let metrics = Metrics::new(|| {
            vec![
                figure(FigureKind::Counter, "folkmoot_sent_bytes_total", "a", 5.0),
                figure(FigureKind::Counter, "folkmoot_sent_bytes_total", "b\"\n", 7.0),
                Figure { labels: vec![], ..figure(FigureKind::Gauge, "folkmoot_documents", "", 2.0) },
            ]
        });
        let text = metrics.render().unwrap();
        assert_eq!(text.matches("# TYPE folkmoot_sent_bytes counter").count(), 1, "{text}");
        assert!(text.contains("folkmoot_sent_bytes_total{peer=\"a\"} 5.0"), "{text}");
        assert!(text.contains(r#"folkmoot_sent_bytes_total{peer="b\"\n"} 7.0"#), "{text}");
        assert!(text.contains("\nfolkmoot_documents 2.0") || text.contains("\nfolkmoot_documents{} 2.0"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_histogram_counts_what_is_up_to_each_bound() {
        let metrics = Metrics::new(|| {
            let buckets = vec![(0.5, 2), (1.0, 0), (f64::INFINITY, 3)];
            let kind = FigureKind::Histogram { buckets };
            let other = Figure { labels: vec![], ..figure(kind.clone(), "folkmoot_other_seconds", "", 9.5) };
            vec![figure(kind, "folkmoot_wait_seconds", "a", 9.5), other]
        });
        let text = metrics.render().unwrap();
        for line in [
            "# TYPE folkmoot_wait_seconds histogram",
            r#"folkmoot_wait_seconds_sum{peer="a"} 9.5"#,
            r#"folkmoot_wait_seconds_count{peer="a"} 5"#,
            r#"folkmoot_wait_seconds_bucket{le="0.5",peer="a"} 2"#,
            r#"folkmoot_wait_seconds_bucket{le="1.0",peer="a"} 2"#,
            r#"folkmoot_wait_seconds_bucket{le="+Inf",peer="a"} 5"#,
            r#"folkmoot_other_seconds_bucket{le="1.0"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn requests_are_counted_by_route_method_and_status() {
        let metrics = Metrics::new(Vec::new);
        metrics.on_request("/healthz", "GET", 200, Duration::from_millis(2));
        metrics.on_request("/healthz", "GET", 200, Duration::from_millis(2));
        let text = metrics.render().unwrap();
        let line = r#"folkmoot_http_requests_total{route="/healthz",method="GET",status="200"} 2"#;
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains(r#"folkmoot_http_request_duration_seconds_count{route="/healthz",method="GET"} 2"#),
            "{text}"
        );
    }
}
