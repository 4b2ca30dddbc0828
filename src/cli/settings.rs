//! One setting at a time: its key, its default, and how text becomes its value.
//!
//! Flags, environment and file all give text (or a list of texts), so a value is read by the same rules wherever it
//! stands.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use libp2p::Multiaddr;

use crate::clock::NodeId;
use crate::node::settings::NodeSettings;

/// Every key, in the order in which `config show` prints them.
pub const KEYS: [&str; 15] = [
    "data_dir",
    "name",
    "host_report",
    "mdns",
    "listen",
    "api",
    "join",
    "psk",
    "allow",
    "store",
    "region",
    "chaos",
    "insecure",
    "max_clock_skew_ms",
    "log",
];

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What was said, before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub texts: Vec<String>,
    pub origin: Origin,
}

impl Said {
    pub fn one(text: impl Into<String>, origin: Origin) -> Self {
        Self { texts: vec![text.into()], origin }
    }
}

/// A value that cannot be used, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {key}: {cause}")]
pub struct BadSetting {
    pub key: String,
    pub origin: Origin,
    pub cause: String,
}

/// Reads what was said into settings. Each key must be there; the defaults see to that.
pub fn read(said: &BTreeMap<&'static str, Said>) -> Result<NodeSettings, BadSetting> {
    let reader = Reader(said);
    Ok(NodeSettings {
        data_dir: reader.one("data_dir", path)?,
        name: reader.one("name", name)?,
        host_report: reader.one("host_report", on_off)?,
        mdns: reader.one("mdns", on_off_auto)?,
        listen: reader.list("listen", multiaddr)?,
        api: reader.one("api", socket)?,
        join: reader.list("join", multiaddr)?,
        psk: reader.list("psk", path)?.pop(),
        allow: reader.list("allow", node_id)?,
        store: reader.one("store", store)?,
        region: reader.one("region", region)?,
        chaos: reader.one("chaos", on_off)?,
        insecure: reader.one("insecure", on_off)?,
        max_clock_skew_ms: reader.one("max_clock_skew_ms", skew)?,
        log: reader.one("log", log)?,
    })
}

struct Reader<'a>(&'a BTreeMap<&'static str, Said>);

impl Reader<'_> {
    fn one<T>(&self, key: &str, parse: fn(&str) -> Result<T, String>) -> Result<T, BadSetting> {
        let mut values = self.list(key, parse)?;
        match (values.pop(), values.is_empty()) {
            (Some(value), true) => Ok(value),
            _ => Err(self.bad(key, String::from("give one value"))),
        }
    }

    fn list<T>(&self, key: &str, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, BadSetting> {
        let texts = self.0.get(key).map(|said| said.texts.as_slice()).unwrap_or_default();
        texts.iter().map(|text| parse(text).map_err(|cause| self.bad(key, cause))).collect()
    }

    fn bad(&self, key: &str, cause: String) -> BadSetting {
        let origin = self.0.get(key).map_or(Origin::Default, |said| said.origin.clone());
        BadSetting { key: key.to_owned(), origin, cause }
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    match text.is_empty() {
        true => Err(String::from("the path is empty")),
        false => Ok(PathBuf::from(text)),
    }
}

const NAME_BYTES_MAX: usize = 128;

/// A name is an id in `workers/` and a word in tables and logs.
fn name(text: &str) -> Result<String, String> {
    let good = |c: char| !c.is_control() && !c.is_whitespace() && c != '/';
    match !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(good) && text != "." && text != ".." {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is no name: 1 to {NAME_BYTES_MAX} bytes without spaces and `/`")),
    }
}

fn region(text: &str) -> Result<String, String> {
    match text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is no region: at most {NAME_BYTES_MAX} bytes")),
    }
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither `on` nor `off`")),
    }
}

fn on_off_auto(text: &str) -> Result<Option<bool>, String> {
    match text {
        "auto" => Ok(None),
        _ => on_off(text).map(Some).map_err(|error| format!("{error} nor `auto`")),
    }
}

fn multiaddr(text: &str) -> Result<String, String> {
    match text.parse::<Multiaddr>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("`{text}` is no multiaddr ({error}); write it as /ip4/10.0.0.5/tcp/7118")),
    }
}

/// Takes `http://` too, so that FOLKMOOT_API may say the same thing to `run` and to the clients.
fn socket(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let bare = bare.strip_prefix("localhost:").map_or_else(|| bare.to_owned(), |port| format!("127.0.0.1:{port}"));
    bare.parse().map_err(|_| format!("`{text}` is no address with a port; write it as 127.0.0.1:7117"))
}

fn node_id(text: &str) -> Result<String, String> {
    text.parse::<NodeId>().map(|id| id.to_string()).map_err(|error| error.to_string())
}

fn store(text: &str) -> Result<String, String> {
    match text {
        "sled" | "redb" | "memory" => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is no store; choose sled, redb or memory")),
    }
}

/// A day. More than that is a typing error, not a clock.
const CLOCK_SKEW_MS_MAX: u64 = 86_400_000;

fn skew(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(ms) if ms <= CLOCK_SKEW_MS_MAX => Ok(ms),
        _ => Err(format!("`{text}` is no number of milliseconds from 0 to {CLOCK_SKEW_MS_MAX}")),
    }
}

fn log(text: &str) -> Result<String, String> {
    match text.parse::<tracing_subscriber::filter::Targets>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("`{text}` is no log filter ({error}); write it as info,folkmoot=debug")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_address_is_the_same_with_and_without_a_scheme() {
        for text in ["127.0.0.1:7117", "http://127.0.0.1:7117", "http://127.0.0.1:7117/", "localhost:7117"] {
            assert_eq!(socket(text), Ok("127.0.0.1:7117".parse().unwrap()), "{text}");
        }
        assert!(socket("127.0.0.1").is_err());
        assert!(socket("https://127.0.0.1:7117").is_err());
    }

    #[test]
    fn values_are_checked_where_they_are_read() {
        assert!(store("rocksdb").is_err());
        assert!(on_off("maybe").is_err());
        assert_eq!(on_off_auto("auto"), Ok(None));
        assert_eq!(on_off_auto("off"), Ok(Some(false)));
        assert!(multiaddr("10.0.0.5:7118").is_err());
        assert!(multiaddr("/ip4/10.0.0.5/tcp/7118").is_ok());
        assert!(node_id("12D3").is_err());
        assert!(name("a b").is_err() && name("").is_err() && name("a/b").is_err() && name("worker-1.eu").is_ok());
        assert!(skew("-1").is_err() && skew("500").is_ok());
        assert!(log("info,folkmoot=loudly").is_err() && log("info,folkmoot=debug").is_ok());
    }
}
