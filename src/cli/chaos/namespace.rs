//! Hosts on this machine: a network namespace for each node, wired to one bridge, where packets between two of them can
//! be dropped, one way or both, or lost now and then.
//!
//! Everything carries this process's id in its name, so that runs do not meet, and goes when [`Hosts`] is dropped.

use std::collections::BTreeMap;
use std::process::Command;

use crate::cli::exit::Error;
use crate::cli::processes::Seat;

/// The prefix of all names: interfaces have room for 15 characters.
const PREFIX: &str = "fm";

#[derive(Debug)]
pub struct Hosts {
    run: u32,
    count: usize,
    /// Directed pairs that nothing passes, and how many faults ask for it.
    cut: BTreeMap<(usize, usize), usize>,
}

/// What is missing for namespaces to work here, if anything is.
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".into());
    }
    let missing = |tool: &&str| Command::new(tool).arg("-V").output().is_err();
    let missing: Vec<&str> = ["ip", "nft"].into_iter().filter(missing).collect();
    match missing.is_empty() {
        true => None,
        false => Some(format!("{} cannot be run: install iproute2 and nftables", missing.join(" and "))),
    }
}

impl Hosts {
    /// `count` hosts that all reach each other. Clients reach them from outside, whatever is cut.
    pub fn new(count: usize) -> Result<Self, Error> {
        let hosts = Self { run: std::process::id(), count, cut: BTreeMap::new() };
        let bridge = hosts.bridge();
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
        run("ip", &["addr", "add", &format!("{}/24", hosts.address_of(253)), "dev", &bridge])?;
        run("ip", &["link", "set", &bridge, "up"])?;
        for host in 0..count {
            let (space, port) = (hosts.space(host), hosts.port(host));
            run("ip", &["netns", "add", &space])?;
            run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            run("ip", &["link", "set", &port, "master", &bridge, "up"])?;
            run("ip", &["-n", &space, "addr", "add", &format!("{}/24", hosts.address_of(host)), "dev", "eth0"])?;
            run("ip", &["-n", &space, "link", "set", "eth0", "up"])?;
            run("ip", &["-n", &space, "link", "set", "lo", "up"])?;
        }
        let table = hosts.table();
        nft(&format!(
            "add table bridge {table}\n\
             add set bridge {table} cut {{ type ifname . ifname; }}\n\
             add chain bridge {table} forward {{ type filter hook forward priority 0; }}\n\
             add rule bridge {table} forward meta iifname . meta oifname @cut drop\n\
             add chain bridge {table} loss\n\
             add rule bridge {table} forward jump loss\n"
        ))?;
        Ok(hosts)
    }

    pub fn seats(&self) -> Vec<Seat> {
        let seat = |host| Seat { namespace: self.space(host), address: self.address_of(host) };
        (0..self.count).map(seat).collect()
    }

    /// Drops what goes from one host to another.
    pub fn cut(&mut self, pairs: &[(usize, usize)]) -> Result<(), Error> {
        let mut new = Vec::new();
        for pair in pairs {
            let faults = self.cut.entry(*pair).or_default();
            *faults += 1;
            if *faults == 1 {
                new.push(*pair);
            }
        }
        self.elements("add", &new)
    }

    /// Takes back one [`Hosts::cut`].
    pub fn mend(&mut self, pairs: &[(usize, usize)]) -> Result<(), Error> {
        let mut free = Vec::new();
        for pair in pairs {
            let Some(faults) = self.cut.get_mut(pair) else { continue };
            *faults -= 1;
            if *faults == 0 {
                self.cut.remove(pair);
                free.push(*pair);
            }
        }
        self.elements("delete", &free)
    }

    /// Loses packets between hosts with probability `p`.
    pub fn lose(&mut self, p: f64) -> Result<(), Error> {
        let (table, of_1000) = (self.table(), (p.clamp(0.0, 1.0) * 1_000.0).round() as u32);
        let mut commands = format!("flush chain bridge {table} loss\n");
        if of_1000 > 0 {
            commands += &format!("add rule bridge {table} loss numgen random mod 1000 < {of_1000} drop\n");
        }
        nft(&commands)
    }

    fn elements(&self, verb: &str, pairs: &[(usize, usize)]) -> Result<(), Error> {
        if pairs.is_empty() {
            return Ok(());
        }
        let element = |(from, to): &(usize, usize)| format!("\"{}\" . \"{}\"", self.port(*from), self.port(*to));
        let elements: Vec<String> = pairs.iter().map(element).collect();
        nft(&format!("{verb} element bridge {} cut {{ {} }}\n", self.table(), elements.join(", ")))
    }

    fn bridge(&self) -> String {
        format!("{PREFIX}b{}", self.run)
    }

    fn table(&self) -> String {
        format!("{PREFIX}t{}", self.run)
    }

    fn space(&self, host: usize) -> String {
        format!("{PREFIX}{}n{host}", self.run)
    }

    fn port(&self, host: usize) -> String {
        format!("{PREFIX}{}v{host}", self.run)
    }

    /// Of the range that is set aside for tests of network devices (RFC 2544).
    fn address_of(&self, host: usize) -> String {
        format!("198.18.{}.{}", self.run % 256, host + 1)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = nft(&format!("delete table bridge {}\n", self.table()));
        for host in 0..self.count {
            // A namespace lives on while a socket of its dead process does; the wire to it goes at once.
            let _ = run("ip", &["link", "del", &self.port(host)]);
            let _ = run("ip", &["netns", "del", &self.space(host)]);
        }
        let _ = run("ip", &["link", "del", &self.bridge()]);
    }
}

/// Removes what runs left behind that were killed. Gives their names.
pub fn clean() -> Result<Vec<String>, Error> {
    // `fm`, the kind unless it comes after the id, the id of the run, and for hosts the kind and a number.
    let is_ours = |name: &str, kind: char| {
        let rest = name.strip_prefix(PREFIX)?;
        let rest = rest.strip_prefix(kind).unwrap_or(rest);
        let id: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let of_kind =
            if matches!(kind, 'n' | 'v') { rest[id.len()..].starts_with(kind) } else { rest.len() == id.len() };
        let alive = std::path::Path::new("/proc").join(&id).exists();
        (!id.is_empty() && of_kind && !alive).then(|| name.to_owned())
    };
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut gone = Vec::new();
    for name in words(run("ip", &["netns", "list"])?).iter().filter_map(|name| is_ours(name, 'n')) {
        run("ip", &["netns", "del", &name])?;
        gone.push(name);
    }
    for (kind, of) in [('v', "veth"), ('b', "bridge")] {
        let links = run("ip", &["-br", "link", "show", "type", of])?;
        let names = links.lines().filter_map(|line| line.split(['@', ' ']).next());
        for name in names.filter_map(|name| is_ours(name, kind)) {
            run("ip", &["link", "del", &name])?;
            gone.push(name);
        }
    }
    for name in words(run("nft", &["list", "tables", "bridge"])?).iter().filter_map(|name| is_ours(name, 't')) {
        nft(&format!("delete table bridge {name}\n"))?;
        gone.push(name);
    }
    Ok(gone)
}

fn run(program: &str, arguments: &[&str]) -> Result<String, Error> {
    let said = Command::new(program).args(arguments).output();
    let said = said.map_err(|error| Error::Failed(format!("cannot run {program}: {error}")))?;
    match said.status.success() {
        true => Ok(String::from_utf8_lossy(&said.stdout).into_owned()),
        false => {
            let words = String::from_utf8_lossy(&said.stderr);
            Err(Error::Failed(format!("`{program} {}` failed: {}", arguments.join(" "), words.trim())))
        }
    }
}

/// All of the commands or none.
fn nft(commands: &str) -> Result<(), Error> {
    run("nft", &[commands]).map(drop)
}
