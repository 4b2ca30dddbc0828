//! The daemon: a node with its API, from the settings of the command line until it is told to stop.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::api::{self, ApiSettings};
use crate::clock::NodeId;
use crate::net::parse_swarm_key;
use crate::node::{Builder, Node, NodeSettings, Ready, RunError};

/// How long a joining node waits to be refused before it says that it is ready.
const REFUSAL_WAIT: Duration = Duration::from_millis(1_500);

/// Runs a node until `stop` resolves, the node leaves its cluster, or it may not be a member. `ready` is called once it
/// serves.
pub async fn run(
    settings: NodeSettings,
    ready: impl FnOnce(&Ready) + Send,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    if !settings.insecure && !settings.api.ip().is_loopback() {
        return Err(RunError::Settings(format!(
            "--api {} is not a loopback address, and the API has no tokens or TLS yet: bind it to 127.0.0.1, or accept \
             that anyone who reaches it may read and write with --insecure",
            settings.api
        )));
    }
    let listener = TcpListener::bind(settings.api).await.map_err(|error| {
        RunError::Settings(format!("cannot serve the API on {}: {error}; is the port free?", settings.api))
    })?;
    let address = listener.local_addr().map_err(|error| RunError::Failed(error.to_string()))?;
    let node = builder(&settings)?.start().await?;
    let api = format!("http://{address}");
    node.announce(&api);
    if let Some(error) = node.admission(REFUSAL_WAIT).await {
        node.shutdown().await;
        return Err(error);
    }
    let (close_api, api_closed) = tokio::sync::oneshot::channel::<()>();
    let api_settings = ApiSettings { insecure: settings.insecure, ..ApiSettings::default() };
    let serving = tokio::spawn(api::serve(node.clone(), listener, api_settings, async {
        let _ = api_closed.await;
    }));
    ready(&Ready {
        node: node.id().to_string(),
        replica: node.replica().to_string(),
        api,
        listen: node.listen_addresses(),
    });
    let outcome = tokio::select! {
        () = stop => Ok(()),
        () = node.stopping() => Ok(()),
        error = node.refused() => Err(error),
    };
    let _ = close_api.send(());
    let _ = tokio::time::timeout(Duration::from_secs(2), serving).await;
    node.shutdown().await;
    outcome
}

fn builder(settings: &NodeSettings) -> Result<Builder, RunError> {
    let wrong = |error: &dyn std::fmt::Display| RunError::Settings(error.to_string());
    let mut builder = Node::builder()
        .name(&settings.name)
        .data_dir(&settings.data_dir)
        .store(settings.store.parse().map_err(|error: String| wrong(&error))?)
        .chaos(settings.chaos)
        .host_report(settings.host_report)
        .mdns(settings.mdns.unwrap_or_else(|| !settings.listen.iter().all(|address| is_loopback(address))))
        .region(&settings.region)
        .max_clock_skew_ms(settings.max_clock_skew_ms);
    for address in &settings.listen {
        builder = builder.listen(address);
    }
    for address in &settings.join {
        builder = builder.join(address);
    }
    if let Some(file) = &settings.psk {
        let text = std::fs::read_to_string(file)
            .map_err(|error| wrong(&format!("cannot read the pre-shared key {}: {error}", file.display())))?;
        let key = parse_swarm_key(&text).map_err(|error| wrong(&format!("{}: {error}", file.display())))?;
        builder = builder.pre_shared_key(key);
    }
    if !settings.allow.is_empty() {
        let nodes = settings.allow.iter().map(|text| text.parse::<NodeId>().map_err(|error| wrong(&error)));
        builder = builder.allow(nodes.collect::<Result<_, _>>()?);
    }
    Ok(builder)
}

fn is_loopback(multiaddr: &str) -> bool {
    multiaddr.starts_with("/ip4/127.") || multiaddr.starts_with("/ip6/::1/")
}
