//! How many bytes nodes have sent each other, from their `/metrics`.

use crate::cli::client::Client;
use crate::cli::exit::Error;

/// Bytes of messages a node has sent to its peers since it started.
const SENT: &str = "folkmoot_net_out_bytes_total";

/// The sum over all nodes; `None` when one does not tell.
pub async fn bytes_sent(clients: &[Client]) -> Result<Option<u64>, Error> {
    let pages = futures::future::try_join_all(clients.iter().map(|client| client.get("/metrics"))).await?;
    Ok(pages.iter().map(|page| sum(&String::from_utf8_lossy(&page.body), SENT)).sum())
}

/// Adds up all the series of one counter in a Prometheus text page.
fn sum(page: &str, counter: &str) -> Option<u64> {
    let mut total = None;
    for line in page.lines() {
        let Some(rest) = line.strip_prefix(counter) else { continue };
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}').map(|(_, value)| value),
            None => rest.strip_prefix(' '),
        };
        let value = value.and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok());
        if let Some(value) = value {
            *total.get_or_insert(0) += value as u64;
        }
    }
    total
}

/// Bytes in words.
pub fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} KB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_of_one_counter_are_added() {
        let page = "# TYPE a_total counter\na_total{peer=\"x\"} 5\na_total{peer=\"y}\"} 7\na_total_more 9\nb_total 1\n";
        assert_eq!(sum(page, "a_total"), Some(12));
        assert_eq!(sum(page, "b_total"), Some(1));
        assert_eq!(sum(page, "c_total"), None);
    }
}
