//! The floors of the house, held by reading `src/`: what each may import, and what the core may not even name.
//!
//! The compiler holds the line between the core and the rest (`cargo check --no-default-features`); this holds the
//! floors on either side of it. It reads text, so it is as blunt as a grep: a crate's path is `crate::floor`, however it
//! is used. Comments do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Floors, lowest first. Those of one number are siblings and do not know each other.
const FLOORS: [(&str, u8); 17] = [
    ("clock", 0),
    ("crdt", 1),
    ("document", 2),
    ("conflict", 3),
    ("history", 4),
    ("engine", 5),
    ("domain", 6),
    ("store", 7),
    ("net", 7),
    ("sim", 7),
    ("telemetry", 7),
    ("node", 8),
    ("api", 9),
    ("cli", 10),
    ("fuzz", 10),
    ("main", 11),
    ("lib", 11),
];

/// The highest floor that does no I/O.
const CORE: u8 = 6;

/// What the core may not name, and what it does instead.
const FORBIDDEN: [(&str, &str); 9] = [
    ("SystemTime", "take `now` as an argument"),
    ("std::time::Instant", "take `now` as an argument"),
    ("std::fs", "ask for it with an Output"),
    ("std::net", "ask for it with an Output"),
    ("std::thread", "the core runs on its caller's thread"),
    ("tokio", "the core does not wait"),
    ("async fn", "the core does not wait"),
    ("rand::", "take randomness as an argument"),
    ("thread_rng", "take randomness as an argument"),
];

/// Upward imports that stand, each with its reason. One that is no longer there must go from this list too.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

struct Source {
    /// Below `src/`, with `/`.
    path: String,
    floor: &'static str,
    height: u8,
    /// Without comments.
    code: String,
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&src, &mut paths);
    paths.sort();
    paths.iter().filter_map(|path| Source::read(&src, path)).collect()
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, into),
            false => into.push(path),
        }
    }
}

impl Source {
    fn read(src: &Path, path: &Path) -> Option<Self> {
        if path.extension().is_none_or(|extension| extension != "rs") {
            return None;
        }
        let below = path.strip_prefix(src).unwrap().to_str().unwrap().replace('\\', "/");
        Some(Self::of(&below, &fs::read_to_string(path).unwrap()))
    }

    fn of(path: &str, text: &str) -> Self {
        let top = path.split(['/', '.']).next().unwrap_or_default();
        let known = FLOORS.iter().find(|(name, _)| *name == top);
        let (floor, height) = *known.unwrap_or_else(|| panic!("src/{path} is on no floor: give it one in FLOORS"));
        Self { path: path.to_owned(), floor, height, code: without_comments(text) }
    }

    /// Floors this file names, itself left out.
    fn imports(&self) -> BTreeSet<&'static str> {
        let named: BTreeSet<&str> = self.code.split("crate::").skip(1).flat_map(names_after).collect();
        FLOORS.iter().map(|(floor, _)| *floor).filter(|floor| *floor != self.floor && named.contains(floor)).collect()
    }

    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for import in self.imports() {
            let height = height(import);
            // The simulator drives the core, and nothing real.
            let allowed = if self.floor == "sim" { height <= CORE } else { height < self.height };
            let excepted = EXCEPTIONS.iter().any(|(path, floor, _)| *path == self.path && *floor == import);
            if !allowed && !excepted && self.height < height_of_facade() {
                complaints.push(format!("src/{}: `{}` may not import `{import}`", self.path, self.floor));
            }
        }
        if self.height <= CORE {
            for (word, instead) in FORBIDDEN.iter().filter(|(word, _)| self.code.contains(word)) {
                complaints.push(format!("src/{}: the core names `{word}`: {instead}", self.path));
            }
            let hashed = hash_collections(&self.code);
            for name in hashed.iter().filter(|name| iterates(&self.code, name)) {
                complaints.push(format!("src/{}: `{name}` is hashed and iterated: use a BTreeMap", self.path));
            }
        }
        complaints
    }
}

fn height(floor: &str) -> u8 {
    FLOORS.iter().find(|(name, _)| *name == floor).map_or(u8::MAX, |(_, height)| *height)
}

/// `lib.rs` and `main.rs` see everything.
fn height_of_facade() -> u8 {
    height("lib")
}

/// `a` of `a::b`, and `a`, `c` of `{a::b, c}`: the modules a path may start with.
fn names_after(path: &str) -> Vec<&str> {
    let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    match path.strip_prefix('{') {
        None => vec![&path[..word(path)]],
        Some(group) => {
            let group = &group[..group.find(';').unwrap_or(group.len())];
            let starts = group.split([',', '{']).map(str::trim_start);
            starts.map(|part| &part[..word(part)]).collect()
        }
    }
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
    text.lines().map(code).collect()
}

/// Names of fields and variables whose declared type is a hash map, set or table.
fn hash_collections(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for kind in ["HashMap<", "HashSet<", "HashTable<"] {
        for (at, _) in code.match_indices(kind) {
            let line = code[..at].rsplit('\n').next().unwrap_or_default();
            let declared = line.rsplit_once(": ").map(|(before, _)| before);
            let name = declared.and_then(|before| before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next());
            names.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    names
}

fn iterates(code: &str, name: &str) -> bool {
    const WALKS: [&str; 8] =
        [".iter()", ".iter_mut()", ".keys()", ".values()", ".values_mut()", ".drain(", ".into_iter()", ".retain("];
    let walked = WALKS.iter().any(|walk| has_word(code, &format!("{name}{walk}")));
    let looped = ["in ", "in &", "in &mut ", "in self.", "in &self.", "in &mut self."];
    walked || looped.iter().any(|start| has_word(code, &format!("{start}{name} {{")))
}

/// Whether `code` holds `text` where a word may begin.
fn has_word(code: &str, text: &str) -> bool {
    let begins = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(text).any(|(at, _)| begins(at))
}

#[test]
fn each_floor_imports_only_what_is_below_it_and_the_core_does_no_io() {
    let sources = sources();
    assert!(sources.len() > 100, "src/ was not read: {} files", sources.len());
    let complaints: Vec<String> = sources.iter().flat_map(Source::complaints).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_exception_is_still_needed() {
    let imports: BTreeMap<String, _> = sources().into_iter().map(|s| (s.path.clone(), s.imports())).collect();
    for (path, floor, reason) in EXCEPTIONS {
        let needed = imports.get(path).is_some_and(|imports| imports.contains(floor));
        assert!(needed, "src/{path} no longer imports `{floor}` ({reason}): take it off the list");
    }
}

/// The violations that the check exists for, planted.
#[test]
fn a_planted_violation_is_seen() {
    let seen = |path: &str, text: &str| !Source::of(path, text).complaints().is_empty();
    for (path, text) in [
        ("clock/dot.rs", "use crate::engine::Replica;"),
        ("document/cell.rs", "use crate::{clock::Dot, engine::{Now, Replica}};"),
        ("store/open.rs", "fn f() { crate::net::start(); }"),
        ("net/link.rs", "use crate::telemetry::Metrics;"),
        ("sim/world.rs", "use crate::store::Store;"),
        ("node/read.rs", "use crate::api::Problem;"),
        ("api/docs.rs", "use crate::cli::Error;"),
        ("engine/live.rs", "let now = std::time::SystemTime::now();"),
        ("engine/live.rs", "use std::time::{Duration, SystemTime};"),
        ("domain/queue.rs", "async fn claim() {}"),
        ("crdt/set.rs", "let n = rand::random();"),
        (
            "engine/peer.rs",
            "struct P { peers: FxHashMap<u64, u64> }\nfn f(p: &P) { for x in &p.peers {} p.peers.iter(); }",
        ),
        ("engine/peer.rs", "let seen: HashSet<u64> = all();\nfor x in &seen {\n}"),
    ] {
        assert!(seen(path, text), "not seen in {path}: {text}");
    }
    for (path, text) in [
        ("engine/live.rs", "use crate::document::Batch; // not crate::net, not tokio"),
        ("sim/world.rs", "use crate::engine::Replica;"),
        ("api/docs.rs", "use crate::node::Node; use crate::telemetry::Metrics; use std::time::SystemTime;"),
        ("engine/peer.rs", "peers: FxHashMap<u64, u64>,\nself.peers.get(&1); self.names.iter();"),
        ("main.rs", "use crate::cli::run;"),
    ] {
        assert!(!seen(path, text), "wrongly seen in {path}: {text}");
    }
}
