//! How long a split of five nodes, two against three, takes to heal.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::bench::figure::Figure;
use crate::cli::exit::Error;
use crate::cli::processes::LocalCluster;
use crate::cli::traffic;
use crate::cli::view::ClusterView;

const BATCH_LEN: u64 = 250;
const NOTICE_TIMEOUT: Duration = Duration::from_secs(15);
const HEAL_TIMEOUT: Duration = Duration::from_secs(120);

pub async fn heal(cluster: &LocalCluster, documents_per_side: u64, cut: Duration) -> Result<Vec<Figure>, Error> {
    let clients = cluster.clients();
    let cut_at = Instant::now();
    cluster.split(&[0, 1], &[2, 3, 4]).await?;
    let noticed = |views: &[ClusterView]| views.iter().all(|view| view.partitioned);
    cluster.wait_until("that all nodes notice the split", NOTICE_TIMEOUT, noticed).await?;
    let noticed = cut_at.elapsed();
    tokio::try_join!(write(cluster, 0, "west", documents_per_side), write(cluster, 2, "east", documents_per_side))?;
    tokio::time::sleep(cut.saturating_sub(cut_at.elapsed())).await;
    let before = traffic::bytes_sent(&clients).await?;
    let start = Instant::now();
    cluster.rejoin().await?;
    cluster.wait_equal(HEAL_TIMEOUT).await?;
    let took = start.elapsed();
    let sent = traffic::bytes_sent(&clients).await?.zip(before).map(|(after, before)| after.saturating_sub(before));
    let what =
        format!("2|3 split, {documents_per_side} documents per side, cut for {:.0} s", cut_at.elapsed().as_secs_f64());
    let mut figures = vec![
        Figure::once("a split is noticed by all of 5 nodes", noticed.as_secs_f64() * 1e3, "ms"),
        Figure::once(format!("heal: {what}"), took.as_secs_f64() * 1e3, "ms"),
    ];
    figures.extend(sent.map(|sent| Figure::once("… bytes sent, all nodes", sent as f64, "B")));
    Ok(figures)
}

async fn write(cluster: &LocalCluster, node: usize, side: &str, documents: u64) -> Result<(), Error> {
    let client = &cluster.processes[node].client;
    let ids: Vec<u64> = (0..documents).collect();
    for ids in ids.chunks(usize::try_from(BATCH_LEN).unwrap_or(1)) {
        let put = |id: &u64| {
            let fields = json!({ "state": "running", "side": side, "n": id });
            json!({ "op": "put", "collection": "bench", "id": format!("{side}-{id}"), "fields": fields })
        };
        let writes: Vec<Value> = ids.iter().map(put).collect();
        client.post("/v1/batch?durability=memory", json!({ "writes": writes })).await?;
    }
    Ok(())
}
