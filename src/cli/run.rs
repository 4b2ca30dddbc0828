//! `folkmoot run`: this process becomes a node.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::config::{self, Layer};
use crate::cli::daemon;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::settings::{Origin, Said};
use crate::node::Ready;
use crate::telemetry::{LogError, LogFormat, log};

const EXAMPLES: &str = "\
Examples:
  folkmoot run                                          found a cluster, API on 127.0.0.1:7117
  folkmoot run --join /ip4/10.0.0.5/tcp/7118 --listen /ip4/0.0.0.0/tcp/7118 --psk swarm.key
  folkmoot run --api 127.0.0.1:7127 --listen /ip4/127.0.0.1/tcp/7128 --data-dir ./second \\
               --join /ip4/127.0.0.1/tcp/7118 --name second
  FOLKMOOT_STORE=redb folkmoot run --config /etc/folkmoot.toml

Each flag is also a variable (FOLKMOOT_DATA_DIR, lists with commas) and a key of folkmoot.toml
(data_dir = \"…\"). A flag beats a variable, a variable beats the file; `folkmoot config show --origin`
tells what holds and why.

Once the node serves, one line is printed; with --json it is
  {\"event\":\"ready\",\"node\":\"…\",\"replica\":\"…\",\"api\":\"http://…\",\"listen\":[\"…/p2p/…\"]}
SIGTERM and Ctrl-C stop it within 10 s, with everything acknowledged on disk.";

/// Run a node on this host.
///
/// Without --join a new data dir founds a cluster; with it, the node adopts the cluster it meets. A node that was
/// started before goes on with what its data dir holds.
#[derive(Debug, Clone, Default, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct RunArgs {
    #[command(flatten)]
    pub settings: SettingArgs,
    /// Stop when stdin ends. A parent that holds the other end cannot leave this process behind, however it dies.
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
}

/// The settings of a node, as flags.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingArgs {
    /// Holds the key and the store; created when missing [default: $XDG_DATA_HOME/folkmoot, for root
    /// /var/lib/folkmoot]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The node's name, unique in its cluster; its figures go to workers/NAME [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    /// Publish this host's cpu, memory, disk, load and uptime every 2 s [default: on]
    #[arg(long, value_name = "on|off")]
    host_report: Option<String>,
    /// Find peers on the LAN by multicast DNS [default: auto: on, unless every listener is on loopback]
    #[arg(long, value_name = "on|off|auto")]
    mdns: Option<String>,
    /// Listen here for peers; may be repeated [default: /ip4/127.0.0.1/tcp/7118]
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// Serve the HTTP API here [default: 127.0.0.1:7117]
    #[arg(long, value_name = "ADDR")]
    api: Option<String>,
    /// Join the cluster of the node that listens there; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    join: Vec<String>,
    /// A libp2p swarm key; only peers with the same key can connect
    #[arg(long, value_name = "FILE")]
    psk: Option<String>,
    /// Only this node may connect; may be repeated [default: any that passes --psk]
    #[arg(long, value_name = "NODE")]
    allow: Vec<String>,
    /// Where data is kept: sled, redb, or memory, which is lost at the end [default: sled]
    #[arg(long, value_name = "sled|redb|memory")]
    store: Option<String>,
    /// Where this host is, in any word: in a cluster of more than 32 members, those of one region pass on to each other
    /// what comes from elsewhere [default: none]
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Serve /v1/chaos, through which a test cuts this node's connections
    #[arg(long)]
    chaos: bool,
    /// Let the API listen beyond loopback, where anyone who reaches it may read and write
    #[arg(long)]
    insecure: bool,
    /// How far a write's stamp may run ahead of this host's clock. Twice what your time synchronization allows; more
    /// lets a wrong clock win over right ones for longer [default: 500]
    #[arg(long, value_name = "MS")]
    max_clock_skew_ms: Option<String>,
    /// What to log to stderr [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Read settings from this file [default: $FOLKMOOT_CONFIG, or folkmoot.toml in the working directory if it is
    /// there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SettingArgs {
    /// What the flags say.
    fn layer(&self) -> Layer {
        let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
        let set = |flag: bool| if flag { vec![String::from("on")] } else { Vec::new() };
        let said = [
            ("data_dir", one(&self.data_dir)),
            ("name", one(&self.name)),
            ("host_report", one(&self.host_report)),
            ("mdns", one(&self.mdns)),
            ("listen", self.listen.clone()),
            ("api", one(&self.api)),
            ("join", self.join.clone()),
            ("psk", one(&self.psk)),
            ("allow", self.allow.clone()),
            ("store", one(&self.store)),
            ("region", one(&self.region)),
            ("chaos", set(self.chaos)),
            ("insecure", set(self.insecure)),
            ("max_clock_skew_ms", one(&self.max_clock_skew_ms)),
            ("log", one(&self.log)),
        ];
        let given = said.into_iter().filter(|(_, texts)| !texts.is_empty());
        given.map(|(key, texts)| (key, Said { texts, origin: Origin::Flag(flag_name(key)) })).collect()
    }

    /// What holds, after the variables and the file.
    pub fn load(&self) -> Result<config::Config, Error> {
        config::load(self.layer(), self.config.as_deref())
    }
}

fn flag_name(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

pub async fn run(args: RunArgs, output: Output) -> Result<(), Error> {
    let settings = args.settings.load()?.settings;
    start_log(&settings.log)?;
    let stop = stop_signal(args.exit_with_parent)?;
    Ok(daemon::run(settings, move |ready| announce(ready, output), stop).await?)
}

/// The one line of a node that serves. A reader that has gone is no reason for a node to stop.
fn announce(ready: &Ready, output: Output) {
    let line = match output.json {
        true => {
            let fields = (&ready.node, &ready.replica, &ready.api, &ready.listen);
            // Spelled out, so that the keys stand in the documented order.
            let (node, replica, api, listen) = (json!(fields.0), json!(fields.1), json!(fields.2), json!(fields.3));
            format!("{{\"event\":\"ready\",\"node\":{node},\"replica\":{replica},\"api\":{api},\"listen\":{listen}}}")
        }
        false => format!("folkmoot node {} serves {} and listens on {}", ready.node, ready.api, ready.listen.join(" ")),
    };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The parts we build on talk a lot at `info`; who wants to hear them names them in the filter.
fn start_log(filter: &str) -> Result<(), Error> {
    let quiet = if filter.contains("libp2p") { "" } else { ",libp2p_swarm=warn,libp2p_kad=error,libp2p_mdns=error" };
    match log::init(&format!("{filter}{quiet}"), LogFormat::Plain) {
        // A log that is already set (an embedder's, a test's) stays.
        Ok(()) | Err(LogError::AlreadySet) => Ok(()),
        Err(error) => Err(Error::Usage(error.to_string())),
    }
}

/// Resolves at SIGTERM, at Ctrl-C, and with `with_parent` at the end of stdin.
fn stop_signal(with_parent: bool) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let failed = |error: std::io::Error| Error::Failed(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (orphaned, parent_gone) = tokio::sync::oneshot::channel();
    match with_parent {
        // A plain thread: a read of stdin inside the runtime would keep the runtime from ending.
        true => drop(std::thread::spawn(move || {
            wait_for_end(std::io::stdin().lock());
            let _ = orphaned.send(());
        })),
        false => std::mem::forget(orphaned),
    }
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = parent_gone => {}
        }
    })
}

fn wait_for_end(mut input: impl Read) {
    let mut some = [0u8; 256];
    while matches!(input.read(&mut some), Ok(bytes) if bytes > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flags_that_were_given_speak() {
        let args = SettingArgs { store: Some("redb".into()), chaos: true, ..SettingArgs::default() };
        let layer = args.layer();
        assert_eq!(layer.keys().copied().collect::<Vec<_>>(), ["chaos", "store"]);
        assert_eq!(layer["store"].origin.to_string(), "--store");
        assert_eq!(flag_name("max_clock_skew_ms"), "--max-clock-skew-ms");
    }

    #[test]
    fn every_flag_is_a_known_setting() {
        let one = || Some(String::from("x"));
        let args = SettingArgs {
            data_dir: one(),
            name: one(),
            host_report: one(),
            mdns: one(),
            listen: vec!["x".into()],
            api: one(),
            join: vec!["x".into()],
            psk: one(),
            allow: vec!["x".into()],
            store: one(),
            region: one(),
            chaos: true,
            insecure: true,
            max_clock_skew_ms: one(),
            log: one(),
            config: None,
        };
        let mut known = crate::cli::settings::KEYS.to_vec();
        known.sort_unstable();
        assert_eq!(args.layer().into_keys().collect::<Vec<_>>(), known);
    }
}
