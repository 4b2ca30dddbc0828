//! A worker of a contest, as a process of its own: it gets a lock or a VM over HTTP, renews the lease, and writes to what
//! is fenced until it is told to stop. The lab starts it; nobody else needs it.
//!
//! It takes its time between looking whether it still may and writing. So a worker that is stopped in between writes as
//! the first thing once it goes on, without knowing what happened meanwhile, as a paused process does.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::cli::chaos::fence::{Reply, Said, Word};
use crate::cli::client::{Body, Client, Terms};
use crate::cli::exit::Error;

/// Between looking whether it may and writing.
pub const THINKS: Duration = Duration::from_millis(200);
/// A request that failed is asked again after this.
const AGAIN: Duration = Duration::from_millis(100);
/// One request waits for so long; the next goes on with it.
const WAIT_MS: u64 = 20_000;
/// As the library keeps a lock: a renewal after a third of the lease, and the end is told a fifth of it before.
const RENEW_AT: u32 = 3;
const STOP_BEFORE: u32 = 5;
/// Of so many questions for the time the fastest answer counts.
const CLOCK_QUESTIONS: usize = 8;

/// One worker of a contest (started by `folkmoot chaos`)
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Its number
    #[arg(long)]
    worker: usize,
    /// The node that it asks
    #[arg(long)]
    api: String,
    /// What it wants: locks/NAME or vms/ID/run, as the API names it
    #[arg(long)]
    thing: String,
    #[arg(long)]
    lease_ms: u64,
    /// Where the fence listens
    #[arg(long)]
    fence: String,
}

pub async fn worker(args: WorkerArgs) -> Result<(), Error> {
    // However the lab ends, this ends with it.
    let lab = async { while tokio::io::stdin().read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {} };
    tokio::select! {
        done = work(&args) => done,
        () = lab => Ok(()),
    }
}

async fn work(args: &WorkerArgs) -> Result<(), Error> {
    let claim = Claim {
        line: Line::open(&args.fence, args.worker).await?,
        client: Client::new(&args.api)?,
        path: format!("/v1/{}", args.thing),
        name: format!("w{}", args.worker),
        // One attempt for the whole life, whatever becomes of answers.
        request: format!("{:016x}{:016x}", std::process::id(), args.worker),
        is_vm: args.thing.starts_with("vms/"),
        lease: Duration::from_millis(args.lease_ms),
    };
    let claim = Arc::new(claim);
    claim.line.say(Word::Asks).await?;
    let (token, until) = claim.get().await?;
    let (tell, told) = watch::channel(false);
    let keeper = tokio::spawn(claim.clone().keep(token, until, tell));
    while !*told.borrow() {
        sleep(THINKS).await;
        if !claim.line.say(Word::Write { token }).await?.taken {
            // That is how one learns of it who stood still.
            claim.tell(token).await?;
            break;
        }
    }
    keeper.abort();
    claim.stop(token).await;
    std::future::pending().await
}

/// What a worker wants, and how it asks.
struct Claim {
    line: Line,
    client: Client,
    path: String,
    name: String,
    request: String,
    is_vm: bool,
    lease: Duration,
}

impl Claim {
    async fn ask(&self, method: Method, body: Value) -> Result<Value, Error> {
        let answer = self.client.send(method, &self.path, Some(Body::json(body)), &Terms::default()).await?;
        self.client.parse(&answer)
    }

    /// The token, and when the lease ends by our own count.
    async fn get(&self) -> Result<(u64, Instant), Error> {
        let mut body = json!({ "lease_ms": self.lease.as_millis() as u64, "wait_ms": WAIT_MS });
        match self.is_vm {
            true => body["worker"] = self.name.as_str().into(),
            false => (body["holder"], body["request"]) = (self.name.as_str().into(), self.request.as_str().into()),
        }
        // Asked again, it may be the grant of the first time, whose lease runs since then.
        let asked = Instant::now();
        loop {
            match self.ask(Method::POST, body.clone()).await {
                Ok(grant) => {
                    let Some(token) = grant["token"].as_u64() else {
                        return Err(Error::Failed(format!("a grant without a token: {grant}")));
                    };
                    let until = asked + self.lease;
                    let (at_us, until_us) = (self.line.us(Instant::now()), self.line.us(until));
                    self.line.say(Word::Granted { token, at_us, until_us }).await?;
                    return Ok((token, until));
                }
                Err(error) => {
                    eprintln!("{error}");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Renews until it is lost or about to end, and tells so.
    async fn keep(self: Arc<Self>, token: u64, mut until: Instant, tell: watch::Sender<bool>) -> Result<(), Error> {
        // Who waited counts from the first renewal: when it was granted meanwhile is not known here.
        let mut next = until - self.lease + self.lease / RENEW_AT;
        if until < Instant::now() + self.lease / 2 {
            until = self.renew(token).await?.unwrap_or(until);
            next = until - self.lease + self.lease / RENEW_AT;
        }
        loop {
            let stop_at = until - self.lease / STOP_BEFORE;
            sleep_until(next.min(stop_at)).await;
            match timeout_at(stop_at, self.renew(token)).await {
                Ok(Ok(Some(renewed))) => {
                    until = renewed;
                    next = until - self.lease + self.lease / RENEW_AT;
                    continue;
                }
                Ok(Err(error)) => {
                    eprintln!("{error}");
                    if matches!(&error, Error::Refused(problem) if [409, 423].contains(&problem.status)) {
                        break;
                    }
                }
                // It cannot be said, or nobody answered in time.
                Ok(Ok(None)) | Err(_) => {}
            }
            next = Instant::now() + AGAIN;
            if Instant::now() >= stop_at {
                break;
            }
        }
        let _ = tell.send(true);
        self.tell(token).await
    }

    /// When it ends now, counted from before it was asked.
    async fn renew(&self, token: u64) -> Result<Option<Instant>, Error> {
        let asked = Instant::now();
        self.line.say(Word::Renews { token, at_us: self.line.us(asked) }).await?;
        let renewed = self.ask(Method::PUT, json!({ "token": token })).await?;
        if renewed["token"].as_u64() != Some(token) {
            return Ok(None);
        }
        let until = asked + self.lease;
        self.line.say(Word::Renewed { token, until_us: self.line.us(until) }).await?;
        Ok(Some(until))
    }

    async fn tell(&self, token: u64) -> Result<(), Error> {
        let at_us = self.line.us(Instant::now());
        self.line.say(Word::Told { token, at_us }).await.map(drop)
    }

    /// Says that it stopped what it ran, where somebody listens.
    async fn stop(&self, token: u64) {
        let body = json!({ "worker": self.name, "token": token });
        if self.is_vm
            && let Err(error) = self.ask(Method::DELETE, body).await
        {
            eprintln!("{error}");
        }
    }
}

/// The line to the lab: one question at a time.
struct Line {
    worker: usize,
    ends: Arc<Mutex<(BufReader<OwnedReadHalf>, OwnedWriteHalf)>>,
    /// The lab's time when this process looked at its clock first, µs.
    lab_us: i64,
    first: Instant,
}

impl Line {
    async fn open(fence: &str, worker: usize) -> Result<Self, Error> {
        let (read, write) = TcpStream::connect(fence).await.map_err(broken)?.into_split();
        let ends = Arc::new(Mutex::new((BufReader::new(read), write)));
        let mut line = Self { worker, ends, lab_us: 0, first: Instant::now() };
        line.lab_us = line.agree().await?;
        Ok(line)
    }

    /// Both clocks are the machine's and run alike. The lab told its time somewhere between question and answer: the middle is
    /// wrong by half of the way there and back at most.
    async fn agree(&self) -> Result<i64, Error> {
        let mut best = (Duration::MAX, 0);
        for _ in 0..CLOCK_QUESTIONS {
            let asked = self.first.elapsed();
            let lab_us = self.say(Word::Clock).await?.now_us as i64;
            let took = self.first.elapsed() - asked;
            best = best.min((took, lab_us - (asked + took / 2).as_micros() as i64));
        }
        Ok(best.1)
    }

    /// A time of this process in the lab's.
    fn us(&self, at: Instant) -> u64 {
        let own_us = match at.checked_duration_since(self.first) {
            Some(after) => after.as_micros() as i64,
            None => -((self.first - at).as_micros() as i64),
        };
        u64::try_from(self.lab_us + own_us).unwrap_or(0)
    }

    async fn say(&self, word: Word) -> Result<Reply, Error> {
        let mut text = serde_json::to_string(&Said { worker: self.worker, word }).unwrap_or_default();
        text.push('\n');
        let ends = self.ends.clone();
        // By itself: who stops waiting must not leave the answer for the next who asks.
        let exchange = tokio::spawn(async move {
            let mut ends = ends.lock().await;
            ends.1.write_all(text.as_bytes()).await?;
            let mut answer = String::new();
            ends.0.read_line(&mut answer).await.map(|_| answer)
        });
        let answer = exchange.await.unwrap_or_else(|gone| Err(std::io::Error::other(gone))).map_err(broken)?;
        serde_json::from_str(&answer).map_err(|error| Error::Failed(format!("the lab answers {answer:?}: {error}")))
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::Failed(format!("the line to the lab is broken: {error}"))
}
