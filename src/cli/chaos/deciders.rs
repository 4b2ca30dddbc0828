//! The verb `decide`: clients of the workload that have a quorum decide about a field over HTTP, with tests and without.
//!
//! Every value is written once, so that of whatever is read it can be said when it was decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::chaos::stage::Stage;
use crate::cli::chaos::verdict::Verdict;
use crate::cli::client::{Body, Client, Terms};
use crate::cli::exit::Error;
use crate::sim::chance::Chance;
use crate::sim::decisions::{DOCUMENTS, FIELD, name};

/// Shared by all clients.
#[derive(Debug, Clone)]
pub struct Deciders(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    chance: Chance,
    documents: Vec<Document>,
    /// What clients were told last that the field is.
    seen: BTreeMap<(usize, usize), Option<String>>,
    requests: u64,
    failed: usize,
}

#[derive(Debug, Default)]
struct Document {
    /// The highest version that anybody was told of.
    told: u64,
    /// Writes that were done.
    done: Vec<Set>,
    /// The version of the document when its writer was told: the one that made the value, or a later one, where it was asked
    /// more than once whether it was done.
    versions: BTreeMap<String, u64>,
    asked: BTreeSet<String>,
    reads: usize,
    wrong: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Set {
    value: String,
    /// What it says that it was before, if it tests.
    test: Option<String>,
}

impl Deciders {
    pub fn new(seed: u64) -> Self {
        let state = State {
            chance: Chance::of(seed, "decisions"),
            documents: (0..DOCUMENTS).map(|_| Document::default()).collect(),
            seen: BTreeMap::new(),
            requests: 0,
            failed: 0,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What they decide about, made at one node before they begin.
    pub async fn prepare(&self, node: &Client) -> Result<(), Error> {
        let schema = Body::json(json!({ "fields": { FIELD: { "type": "quorum" } } }));
        node.send(Method::PUT, "/v1/schemas/decided", Some(schema), &Terms::default()).await?;
        for document in 0..DOCUMENTS {
            let body = Body::json(json!({ "n": document }));
            node.send(Method::PUT, &path(document), Some(body), &Terms::default()).await?;
        }
        Ok(())
    }

    /// One client asks about one document. Gives it in words, and whether it was done.
    pub async fn act(&self, client: usize, node: &Client) -> (String, bool) {
        let (document, set, floor) = self.state().errand(client);
        let answer = match &set {
            None => read(node, document).await.map(Told::Is),
            Some(set) => write(node, document, set).await.map(Told::Done),
        };
        let words = match &set {
            None => format!("asks a quorum for {}", name(document)),
            Some(set) => format!("has {} decided: {set:?}", name(document)),
        };
        let done = answer.is_ok();
        self.state().follow(client, document, set, floor, answer);
        (words, done)
    }

    pub fn is_idle(&self) -> bool {
        self.state().requests == 0
    }

    /// Asks every node in the end, and judges.
    pub async fn verdicts(&self, stage: &Stage) -> Vec<Verdict> {
        for document in 0..DOCUMENTS {
            let floor = self.state().documents[document].told;
            for (node, process) in stage.running() {
                match read(&process.client, document).await {
                    Ok(value) => self.state().documents[document].read(document, floor, value.as_deref()),
                    Err(error) => {
                        let text = format!("n{node} does not say what is decided of {}: {error}", name(document));
                        self.state().documents[document].wrong.push(text);
                    }
                }
            }
        }
        let state = self.state();
        let done = state.documents.iter().map(|document| document.done.len() + document.reads).sum();
        let tests = state.documents.iter().flat_map(|document| &document.done).filter(|set| set.test.is_some());
        let all = |of: &dyn Fn(usize) -> Vec<String>| -> Vec<String> { (0..DOCUMENTS).flat_map(of).collect() };
        let idle = (done == 0).then(|| format!("of {} that were asked none was done", state.requests));
        vec![
            Verdict::new("decided: one history", done, all(&|at| state.documents[at].wrong.clone())),
            Verdict::new(
                "decided: what is tested was so",
                tests.count(),
                all(&|at| state.documents[at].broken_tests(at)),
            ),
            Verdict::new("decided: something is", done, idle.into_iter().collect()),
        ]
    }

    pub fn text(&self) -> String {
        let state = self.state();
        let made: usize = state.documents.iter().map(|document| document.done.len()).sum();
        let reads: usize = state.documents.iter().map(|document| document.reads).sum();
        format!("decisions: {made} writes and {reads} reads done, {} not done or unknown", state.failed)
    }
}

#[derive(Debug)]
enum Told {
    Is(Option<String>),
    /// The version that it made.
    Done(u64),
}

fn path(document: usize) -> String {
    format!("/v1/docs/{}", name(document))
}

async fn read(node: &Client, document: usize) -> Result<Option<String>, Error> {
    let read: Value = node.read(&format!("{}?consistency=quorum", path(document))).await?;
    Ok(read["fields"][FIELD].as_str().map(str::to_owned))
}

async fn write(node: &Client, document: usize, set: &Set) -> Result<u64, Error> {
    let at = format!("/{FIELD}");
    let body = match &set.test {
        None => Body::merge_patch(json!({ FIELD: set.value })),
        Some(value) => Body::json_patch(
            json!([{ "op": "test", "path": at, "value": value }, { "op": "replace", "path": at, "value": set.value }]),
        ),
    };
    let path = format!("{}?durability=quorum", path(document));
    let answer = node.send(Method::PATCH, &path, Some(body), &Terms::default()).await?;
    let receipt: Value = node.parse(&answer)?;
    let without = || Error::Failed(format!("a decision without a version: {receipt}"));
    receipt["version"].as_u64().ok_or_else(without)
}

impl State {
    /// The document, what it is to become (`None`: it is only read), and the highest version told of it so far.
    fn errand(&mut self, client: usize) -> (usize, Option<Set>, u64) {
        let document = self.chance.index(DOCUMENTS);
        self.requests += 1;
        let floor = self.documents[document].told;
        if self.chance.happens(0.15) {
            return (document, None, floor);
        }
        let value = format!("c{client}-{}", self.requests);
        // A field that is not there has no place that could be tested.
        let test = self.seen.get(&(client, document)).cloned().flatten();
        let test = test.filter(|_| self.chance.happens(0.5));
        self.documents[document].asked.insert(value.clone());
        (document, Some(Set { value, test }), floor)
    }

    fn follow(&mut self, client: usize, at: usize, set: Option<Set>, floor: u64, answer: Result<Told, Error>) {
        let document = &mut self.documents[at];
        match (answer, set) {
            (Ok(Told::Done(version)), Some(set)) => {
                self.seen.insert((client, at), Some(set.value.clone()));
                document.done(at, floor, version, set);
            }
            (Ok(Told::Is(value)), _) => {
                document.read(at, floor, value.as_deref());
                self.seen.insert((client, at), value);
            }
            _ => self.failed += 1,
        }
    }
}

impl Document {
    fn done(&mut self, at: usize, floor: u64, version: u64, set: Set) {
        if version <= floor {
            let text = format!("{} was decided as version {version} after {floor} had been told", name(at));
            self.wrong.push(text);
        }
        self.told = self.told.max(version);
        self.versions.insert(set.value.clone(), version);
        self.done.push(set);
    }

    fn read(&mut self, at: usize, floor: u64, value: Option<&str>) {
        self.reads += 1;
        let Some(value) = value else {
            if floor > 0 {
                self.wrong.push(format!("{} is read as empty after version {floor} had been told", name(at)));
            }
            return;
        };
        if !self.asked.contains(value) {
            self.wrong.push(format!("{} reads {value}, which nobody wrote", name(at)));
        }
        if let Some(version) = self.versions.get(value).filter(|version| **version < floor) {
            self.wrong.push(format!("{} reads version {version} after {floor} had been told", name(at)));
        }
    }

    /// A value is written once: who replaced it, having tested for it, is the only one who could.
    fn broken_tests(&self, at: usize) -> Vec<String> {
        let mut replaced: BTreeMap<&str, &str> = BTreeMap::new();
        let mut wrong = Vec::new();
        for set in &self.done {
            let Some(test) = &set.test else { continue };
            if let Some(other) = replaced.insert(test, &set.value) {
                wrong.push(format!("{other} and {} both replaced {test} in {}", set.value, name(at)));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(value: &str, test: Option<&str>) -> Set {
        Set { value: value.into(), test: test.map(String::from) }
    }

    #[test]
    fn a_history_that_is_not_one_is_found() {
        let mut document = Document { asked: ["a", "b"].map(String::from).into(), ..Document::default() };
        document.done(0, 0, 1, set("a", None));
        document.done(0, 1, 2, set("b", Some("a")));
        document.read(0, 2, Some("b"));
        assert_eq!((document.wrong.len(), document.broken_tests(0).len()), (0, 0));
        document.read(0, 2, Some("a"));
        document.read(0, 2, None);
        document.read(0, 2, Some("x"));
        document.done(0, 2, 2, set("c", None));
        assert_eq!(document.wrong.len(), 4, "{:?}", document.wrong);
        document.done(0, 2, 3, set("d", Some("a")));
        assert_eq!(document.broken_tests(0), ["b and d both replaced a in decided/d0"]);
    }
}
