//! Hosts on this machine: a network namespace for each node, all of them wired to one switch in this process, where
//! packets between two of them are delayed, lost or cut off, one way or both.
//!
//! Everything carries this process's id in its name, so that runs do not meet, and goes when [`Hosts`] is dropped.

use std::path::Path;
use std::process::Command;

use crate::cli::chaos::switch::{Switch, Tally};
use crate::cli::chaos::wire::{Wire, device};
use crate::cli::exit::Error;
use crate::cli::processes::Seat;
use crate::sim::scenario::Network as Settings;

/// The prefix of all names: interfaces have room for 15 characters.
const PREFIX: &str = "fm";

#[derive(Debug)]
pub struct Hosts {
    run: u32,
    count: usize,
    wire: Option<Wire>,
}

/// What is missing for namespaces to work here, if anything is.
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".into());
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return Some("`ip` cannot be run: install iproute2".into());
    }
    // It is there as a file also where the kernel has no such devices.
    let device = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    device.err().map(|error| format!("/dev/net/tun cannot be opened, and the hosts' network devices need it: {error}"))
}

impl Hosts {
    /// `count` hosts that all reach each other, over links as the settings say, drawn from the seed. Clients reach them
    /// from outside, at once and whatever is cut.
    pub fn new(count: usize, settings: Settings, seed: u64) -> Result<Self, Error> {
        if count >= OUTSIDE {
            return Err(Error::Usage(format!(
                "a run on real processes has at most {} nodes, this one {count}",
                OUTSIDE - 1
            )));
        }
        // From here on what was made is taken away again, also when the rest fails.
        let mut hosts = Self { run: std::process::id(), count, wire: None };
        let mut devices = Vec::new();
        for host in 0..count {
            let (space, name) = (hosts.space(host), hosts.device(host));
            run("ip", &["netns", "add", &space])?;
            devices.push(device(&name)?);
            run("ip", &["link", "set", &name, "netns", &space, "name", "eth0", "address", &hardware_address(host)])?;
            run("ip", &["-n", &space, "addr", "add", &format!("{}/24", hosts.address_of(host)), "dev", "eth0"])?;
            run("ip", &["-n", &space, "link", "set", "eth0", "up"])?;
            run("ip", &["-n", &space, "link", "set", "lo", "up"])?;
        }
        let outside = hosts.outside();
        devices.push(device(&outside)?);
        run("ip", &["link", "set", &outside, "address", &hardware_address(count)])?;
        run("ip", &["addr", "add", &format!("{}/24", hosts.address_of(OUTSIDE)), "dev", &outside])?;
        run("ip", &["link", "set", &outside, "up"])?;
        hosts.wire = Some(Wire::start(devices, Switch::new(settings, seed, count))?);
        Ok(hosts)
    }

    pub fn seats(&self) -> Vec<Seat> {
        let seat = |host| Seat { namespace: self.space(host), address: self.address_of(host) };
        (0..self.count).map(seat).collect()
    }

    /// Drops what goes from one host to another. Each cut is taken back by one [`Hosts::mend`].
    pub fn cut(&self, pairs: &[(usize, usize)]) {
        self.with(|switch| pairs.iter().for_each(|(from, to)| switch.weather().cut(*from, *to)));
    }

    pub fn mend(&self, pairs: &[(usize, usize)]) {
        self.with(|switch| pairs.iter().for_each(|(from, to)| switch.weather().mend(*from, *to)));
    }

    /// Loses packets between hosts with probability `p`, where the settings do not lose more.
    pub fn lose(&self, p: f64) {
        self.with(|switch| switch.weather().loss = p);
    }

    /// Stretches all delays between hosts.
    pub fn slow(&self, factor: f64) {
        self.with(|switch| switch.weather().factor = factor);
    }

    /// What became of the packets so far.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.with(|switch| tally = switch.tally().clone());
        tally
    }

    fn with(&self, change: impl FnOnce(&mut Switch)) {
        if let Some(wire) = &self.wire {
            change(&mut wire.switch());
        }
    }

    fn outside(&self) -> String {
        format!("{PREFIX}o{}", self.run)
    }

    fn space(&self, host: usize) -> String {
        format!("{PREFIX}{}n{host}", self.run)
    }

    /// Until it lies in its namespace, where it is `eth0`.
    fn device(&self, host: usize) -> String {
        format!("{PREFIX}{}v{host}", self.run)
    }

    /// Of the range that is set aside for tests of network devices (RFC 2544).
    fn address_of(&self, host: usize) -> String {
        format!("198.18.{}.{}", self.run % 256, host + 1)
    }
}

/// The last of the addresses, above all hosts.
const OUTSIDE: usize = 253;

/// As `ip` writes it.
fn hardware_address(port: usize) -> String {
    Switch::address_of(port).map(|byte| format!("{byte:02x}")).join(":")
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // The devices go with it, all of them.
        self.wire = None;
        for host in 0..self.count {
            let _ = run("ip", &["netns", "del", &self.space(host)]);
        }
    }
}

/// Removes what runs left behind that were killed: namespaces. Their devices went with them. Gives their names.
pub fn clean() -> Result<Vec<String>, Error> {
    let mut gone = Vec::new();
    for line in run("ip", &["netns", "list"])?.lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        if run_of(name).is_some_and(|run| !Path::new("/proc").join(run).exists()) {
            run("ip", &["netns", "del", name])?;
            gone.push(name.to_owned());
        }
    }
    Ok(gone)
}

/// The id of the run that a namespace is of, if it is of one: `fm`, the id, `n` and a number.
fn run_of(name: &str) -> Option<&str> {
    let (run, host) = name.strip_prefix(PREFIX)?.split_once('n')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(run) && number(host)).then_some(run)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The round trip times that `ping` saw from one host to another, ms.
    fn round_trips(hosts: &Hosts, from: usize, to: usize) -> Vec<f64> {
        let (space, address) = (hosts.space(from), hosts.address_of(to));
        let ping = ["netns", "exec", &space, "ping", "-n", "-c", "8", "-i", "0.1", "-W", "1", &address];
        let said = Command::new("ip").args(ping).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        said.lines().filter_map(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok()).collect()
    }

    #[test]
    fn hosts_are_as_far_apart_as_the_scenario_says_and_a_cut_parts_them() {
        let missing = Command::new("ping").arg("-V").output().is_err().then(|| "`ping` cannot be run".to_owned());
        if let Some(why) = obstacle().or(missing) {
            eprintln!("skipped: {why}");
            return;
        }
        let settings = Settings { delay_ms: [20.0, 20.0], jitter_ms: 0.0, ..Settings::default() };
        let hosts = Hosts::new(3, settings, 1).unwrap();
        let took = round_trips(&hosts, 0, 1);
        // The first asks for the address before.
        assert!(took.len() >= 7, "{took:?}");
        assert!(took.iter().all(|ms| *ms >= 40.0), "{took:?}");
        // The fastest, since a busy machine holds up some.
        assert!(took.iter().any(|ms| *ms < 46.0), "{took:?}");
        hosts.cut(&[(1, 0)]);
        assert!(round_trips(&hosts, 0, 1).is_empty(), "the answers are cut");
        assert!(!round_trips(&hosts, 0, 2).is_empty());
        hosts.mend(&[(1, 0)]);
        assert!(!round_trips(&hosts, 0, 1).is_empty());
        let (space, outside) = (hosts.space(0), hosts.outside());
        assert!(hosts.tally().cut >= 8 && hosts.tally().passed > 30, "{:?}", hosts.tally());
        drop(hosts);
        assert!(run("ip", &["link", "show", &outside]).is_err(), "the devices are gone");
        assert!(!run("ip", &["netns", "list"]).unwrap().contains(&space), "and the namespaces");
    }

    #[test]
    fn only_names_that_runs_give_are_theirs_to_clean() {
        assert_eq!(run_of("fm123n0"), Some("123"));
        for other in ["fm123", "fmn0", "fm123nx", "fm12x3n0", "xfm123n0", "format1n2", "fm1n"] {
            assert_eq!(run_of(other), None, "{other}");
        }
    }
}
