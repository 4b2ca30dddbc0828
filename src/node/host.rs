//! This host's real figures, published as `workers/<name>` every two seconds.

use std::time::Duration;

use serde_json::{Value as Json, json};
use sysinfo::{Disks, System};

use super::handle::Node;
use super::write::{DocumentWrite, Durability, Missing, WriteBody};
use crate::document::{Address, Edit};
use crate::domain::workers::{COLLECTION, arrive};

const EVERY: Duration = Duration::from_secs(2);

/// Publishes until the node stops. A report that cannot be written is left out: the next one says more.
pub(super) async fn report(node: Node) {
    let Ok(address) = Address::new(COLLECTION, node.name()) else {
        tracing::warn!(name = node.name(), "the node's name is no document id; its host is not reported");
        return;
    };
    let mut system = match System::new() {
        Ok(system) => system,
        Err(error) => return tracing::warn!(%error, "this host's figures cannot be read; it is not reported"),
    };
    let (workers, mut starting) = (node.workers(), true);
    let mut due = tokio::time::interval(EVERY);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = due.tick() => {}
            () = node.stopping() => return,
        }
        let read = tokio::task::spawn_blocking(move || {
            let figures = read_host(&mut system);
            (system, figures)
        });
        let Ok((back, figures)) = read.await else { return };
        system = back;
        let heartbeat = ("heartbeat", json!(node.now().wall_ms));
        let node_id = ("node", json!(node.id().to_string()));
        let edits = figures.into_iter().chain([heartbeat, node_id]);
        let edits = edits.map(|(field, value)| Edit::Set { field: field.to_owned(), value });
        // A start brings the worker back; what is said of it later is not this report's to change.
        let known = workers.get(node.name()).ok();
        let arrives = if starting || known.is_none() { arrive(known.as_ref()) } else { None };
        let edits = edits.chain(arrives).collect();
        let write = DocumentWrite {
            address: address.clone(),
            body: WriteBody::Edits(edits),
            if_match: None,
            create_only: false,
            missing: Missing::Create,
        };
        match node.write(vec![write], Durability::Memory).await {
            Ok(_) => starting = false,
            Err(error) => tracing::debug!(%error, "host report not written"),
        }
    }
}

fn read_host(system: &mut System) -> Vec<(&'static str, Json)> {
    system.refresh_cpu_usage();
    system.refresh_memory();
    let disks = Disks::new_with_refreshed_list().ok();
    let disk = disks.as_ref().and_then(|disks| disks.iter().max_by_key(|disk| disk.total_space()));
    let hundredths = |value: f64| (value * 100.0).round() / 100.0;
    let mut figures = vec![
        ("cpu_count", json!(system.cpus().len())),
        ("cpu_percent", json!(hundredths(f64::from(system.global_cpu_usage())))),
        ("memory_total_bytes", json!(system.total_memory())),
        ("memory_used_bytes", json!(system.used_memory())),
    ];
    // What this host does not tell is left out rather than shown as zero.
    if let Some(disk) = disk {
        figures.push(("disk_total_bytes", json!(disk.total_space())));
        figures.push(("disk_free_bytes", json!(disk.available_space())));
    }
    if let Ok(load) = System::load_average() {
        figures.push(("load_1m", json!(hundredths(load.one))));
    }
    if let Ok(uptime) = System::uptime() {
        figures.push(("uptime_s", json!(uptime)));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::workers::FIGURES;

    #[test]
    fn every_figure_is_one_that_a_worker_shows() {
        let figures = read_host(&mut System::new().unwrap());
        let unknown: Vec<_> = figures.iter().filter(|(name, _)| !FIGURES.contains(name)).collect();
        assert!(!figures.is_empty() && unknown.is_empty(), "{unknown:?}");
    }

    #[tokio::test]
    async fn a_host_that_is_drained_stays_so_while_its_node_reports() {
        let node = Node::builder().name("ash").start().await.unwrap();
        let workers = node.workers();
        let mut progress = node.inner.progress.subscribe();
        let reporting = tokio::spawn(report(node.clone()));
        let beat = || workers.get("ash").ok().and_then(|worker| worker.heartbeat_ms);
        while beat().is_none() {
            progress.changed().await.unwrap();
        }
        assert!(workers.get("ash").unwrap().is_active());
        workers.drain("ash").await.unwrap();
        let drained = beat();
        while beat() == drained {
            progress.changed().await.unwrap();
        }
        assert_eq!(workers.get("ash").unwrap().state(), "draining");
        node.shutdown().await;
        reporting.await.unwrap();
    }
}
