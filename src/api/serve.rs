//! Binding, serving, ending.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::body::BODIES_BYTES_MAX;
use super::connection::Connections;
use super::host::Hosts;
use super::operation::WORKING_MAX;
use super::routes::router;
use crate::node::Node;
use crate::telemetry::Metrics;

/// How one node's API is reached.
#[derive(Debug, Clone, Default)]
pub struct ApiSettings {
    /// Listen beyond loopback although there are neither tokens nor TLS yet. Anyone who reaches the port may then read
    /// and write everything.
    pub insecure: bool,
    /// Names under which the API may be called besides addresses and `localhost`, without port.
    pub host_names: Vec<String>,
}

/// Why the API could not be bound. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "the API would listen on {0}, which other hosts can reach, and it has neither tokens nor TLS: use a loopback \
         address (127.0.0.1 or [::1]), or accept the risk with --insecure"
    )]
    NotLoopback(SocketAddr),
    #[error("the API cannot listen on {address} ({source}): choose another with --api, or end what uses it")]
    Listen { address: SocketAddr, source: io::Error },
}

/// Opens the port. Refuses what is not loopback unless `insecure`.
pub async fn bind(address: SocketAddr, insecure: bool) -> Result<TcpListener, BindError> {
    if !address.ip().is_loopback() && !insecure {
        return Err(BindError::NotLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|source| BindError::Listen { address, source })
}

/// What every handler has at hand. A cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub node: Node,
    pub metrics: Metrics,
    pub hosts: Arc<Hosts>,
    /// Bytes of room left for bodies.
    pub bodies: Arc<Semaphore>,
    pub working: Arc<Semaphore>,
    /// Turns true when the API ends: open streams then end too.
    pub stopping: watch::Receiver<bool>,
}

impl Api {
    pub fn new(node: Node, bound: SocketAddr, settings: &ApiSettings, stopping: watch::Receiver<bool>) -> Self {
        let figures = node.clone();
        Self {
            metrics: Metrics::new(move || figures.figures()),
            hosts: Arc::new(Hosts::new(bound, settings.insecure, &settings.host_names)),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX)),
            working: Arc::new(Semaphore::new(WORKING_MAX)),
            stopping,
            node,
        }
    }
}

/// After the signal to end, requests under way may finish for this long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Serves `node` on `listener` until `shutdown` is ready; then takes no new requests, ends the watches, and returns when
/// the requests under way are answered, at the latest after five seconds.
pub async fn serve(
    node: Node,
    listener: TcpListener,
    settings: ApiSettings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let mut ended = stopping.clone();
    let api = Api::new(node, listener.local_addr()?, &settings, stopping);
    let signal = async move {
        shutdown.await;
        // Fails only when nobody listens, and then there is nothing to end.
        let _ = stop.send(true);
    };
    let server = axum::serve(Connections::new(listener), router(api)).with_graceful_shutdown(signal);
    let late = async move {
        let _ = ended.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(DRAIN_TIME_MAX).await;
    };
    tokio::select! {
        outcome = server.into_future() => outcome,
        () = late => {
            tracing::warn!("requests were still under way {} s after the API was told to end", DRAIN_TIME_MAX.as_secs());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_loopback_is_bound_unless_the_risk_is_taken() {
        let refused = bind("0.0.0.0:0".parse().unwrap(), false).await.unwrap_err();
        assert!(refused.to_string().contains("--insecure"), "{refused}");
        assert!(bind("0.0.0.0:0".parse().unwrap(), true).await.is_ok());
        assert!(bind("127.0.0.1:0".parse().unwrap(), false).await.is_ok());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let first = bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        let refused = bind(first.local_addr().unwrap(), false).await.unwrap_err();
        assert!(refused.to_string().contains(&first.local_addr().unwrap().to_string()), "{refused}");
    }
}
