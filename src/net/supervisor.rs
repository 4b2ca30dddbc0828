//! Keeps the transport alive: the loop may panic, the node goes on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use libp2p::core::transport::ListenerId;
use libp2p::{Multiaddr, Swarm};
use tokio::sync::{mpsc, watch};

use super::address;
use super::config::{Config, Error};
use super::dial::Planner;
use super::event::Event;
use super::handle::Handle;
use super::inbox::Inbox;
use super::key;
use super::link::Run;
use super::outlet::Closing;
use super::pairing::NOTES_MAX;
use super::shared::Shared;
use super::swarm::{self, Exit, Loop};
use super::transport::{self, Behaviour};

const RESTART_MS_MIN: u64 = 100;
const RESTART_MS_MAX: u64 = 10_000;
/// A run this long was a good one: the next restart is quick again.
const GOOD_RUN: Duration = Duration::from_secs(30);
/// After a shutdown links get this long to report their end to a node that may no longer listen.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Starts the transport on the current tokio runtime. What is wrong with the configuration, and a port that is taken,
/// shows here; later trouble is an [`Event`].
pub fn start(config: Config) -> Result<(Handle, mpsc::Receiver<Event>), Error> {
    tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
    config.limits.check()?;
    let listen = config.listen.iter().map(|text| Ok(address::parse(text)?.0)).collect::<Result<Vec<_>, Error>>()?;
    let seeds = config.seeds.iter().map(|text| address::parse(text)).collect::<Result<Vec<_>, Error>>()?;
    let keypair = key::keypair(&config.secret_key).ok_or(Error::SecretKey)?;
    let local = key::node_id(&keypair.public().to_peer_id()).ok_or(Error::SecretKey)?;
    let limits = &config.limits;
    let planner = Planner::new(local, seeds, (limits.backoff_ms_min, limits.backoff_ms_max), rand::random())
        .with_allow(config.allow.clone())
        .with_peers_max(limits.peers_known_max);
    let (inbox, events) = Inbox::new(limits.inbox_events_max, limits.inbox_bytes_max);
    let shared = Arc::new(Shared::new(config, local, planner));
    swarm::check_free(&listen)?;
    let first = assemble(&shared, &listen)?;
    let (stopped, stopped_seen) = watch::channel(false);
    tokio::spawn(supervise(shared.clone(), Arc::new(inbox), listen, first, stopped));
    Ok((Handle { shared, stopped: stopped_seen }, events))
}

type Assembled = (Swarm<Behaviour>, HashMap<ListenerId, usize>);

fn assemble(shared: &Shared, listen: &[Multiaddr]) -> Result<Assembled, Error> {
    let mut swarm = transport::build(&shared.config, listen)?;
    let listeners = swarm::listen(&mut swarm, listen, shared)?;
    Ok((swarm, listeners))
}

async fn supervise(
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    listen: Vec<Multiaddr>,
    first: Assembled,
    stopped: watch::Sender<bool>,
) {
    let mut failures = 0u32;
    let mut next: Result<Assembled, Error> = Ok(first);
    loop {
        let began = Instant::now();
        let reason = match next {
            Err(error) => error.to_string(),
            Ok(assembled) => match run_once(&shared, &inbox, assembled).await {
                Exit::Stopped => break,
                Exit::Failed(reason) => {
                    shared.counters.restarts.add(1);
                    shared.listening.lock().clear();
                    shared.planner.lock().reset(shared.now_ms());
                    let told = inbox.push(Event::Restarted { reason: reason.clone() }).await;
                    if told.is_err() {
                        break;
                    }
                    reason
                }
            },
        };
        failures = if began.elapsed() >= GOOD_RUN { 1 } else { failures + 1 };
        let wait_ms = (RESTART_MS_MIN << (failures - 1).min(10)).min(RESTART_MS_MAX);
        tracing::error!(reason, wait_ms, "the transport died and will be started again");
        if !wait(&shared, &inbox, wait_ms).await {
            break;
        }
        next = assemble(&shared, &listen);
    }
    shared.listening.lock().clear();
    drop(inbox);
    let _ = stopped.send(true);
}

/// False if the node asked to stop, or left, in the meantime.
async fn wait(shared: &Shared, inbox: &Inbox, ms: u64) -> bool {
    let until = tokio::time::Instant::now() + Duration::from_millis(ms);
    loop {
        if shared.stop.load(std::sync::atomic::Ordering::Relaxed) {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => return true,
            () = shared.wake.notified() => {}
            () = inbox.closed() => return false,
        }
    }
}

/// One life of the swarm. When this returns, every link of it has been reported down.
async fn run_once(shared: &Arc<Shared>, inbox: &Arc<Inbox>, (swarm, listeners): Assembled) -> Exit {
    let (notes, notes_seen) = mpsc::channel(NOTES_MAX);
    let closing = Arc::new(watch::Sender::new(Closing::No));
    let (alive, mut last_alive) = mpsc::channel(1);
    let run = Run { shared: shared.clone(), inbox: inbox.clone(), notes, closing: closing.subscribe(), _alive: alive };
    let body = Loop::new(swarm, listeners, run, notes_seen, closing.clone()).run();
    // Everything a panic could leave half-done dies with the loop; what outlives it is behind locks that no call panics
    // under, and the planner is reset.
    let exit = match std::panic::AssertUnwindSafe(body).catch_unwind().await {
        Ok(exit) => exit,
        Err(panic) => Exit::Failed(format!("a bug: {}", panic_text(panic.as_ref()))),
    };
    let reason = match &exit {
        Exit::Stopped => "this node shuts down".to_owned(),
        Exit::Failed(reason) => format!("the transport restarts: {reason}"),
    };
    super::outlet::ask_to_close(&closing, Closing::Now(reason));
    let all_told = last_alive.recv();
    match exit {
        Exit::Stopped => drop(tokio::time::timeout(LAST_WORDS, all_told).await),
        Exit::Failed(_) => drop(all_told.await),
    }
    exit
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "an unknown panic".to_owned())
}
