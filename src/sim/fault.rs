//! What can go wrong, as a scenario writes it: one table each, `[[fault]]`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::duration::Millis;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Nodes of different `groups` cannot reach each other.
    Partition,
    /// Some nodes, drawn, are cut off from the others.
    Split,
    /// One node is cut off from all.
    Isolate,
    /// Nothing gets from `node` to `peer`, or to anyone; the other way works.
    OneWay,
    /// Each node reaches the next and the one before only.
    Ring,
    /// Two halves that reach each other through one `node` only.
    Bridge,
    /// `node` is cut off and back, every `period`.
    Flap,
    /// Nodes are cut off one by one and come back in another order.
    Swizzle,
    /// Messages are lost and must be sent again, with probability `p`.
    Loss,
    /// Every delay is `factor` times as long.
    Slow,
    /// Power is cut: what was not synced may be gone.
    Crash,
    /// The process dies; what it handed to its disk gets there.
    Kill,
    /// The process stands still, and goes on later as if nothing had been.
    Pause,
    DiskFull,
    DiskError,
    DiskSlow,
    /// One bit of one row flips; found at the next start, which follows at once.
    BitFlip,
    /// One row lands in the place of another, and the node restarts.
    Misdirect,
    /// The disk keeps an old version of a row that it said to have written, and the node restarts.
    LostWrite,
    /// The node starts from an image of its disk of `ms` ago, copied back: the files are others.
    Restore,
    /// The same, set back as a whole, block by block: nothing on the disk tells.
    Rewind,
    /// A copy of the node's disk is started beside it, under the same keys.
    Clone,
    /// The wall clock runs `ms` off; may be negative.
    Skew,
    /// The wall clock jumps by `ms` at once; may be negative.
    Jump,
    /// A node that was never there joins.
    Join,
    /// A node says farewell and stops for good.
    Leave,
    /// The node is cut off, and others have a quorum evict it; it knows nothing of that and comes back at `heal`.
    Evict,
    /// The node restarts with a program that speaks the next wire version, and goes back at `heal`.
    Upgrade,
    /// The node, a member with valid keys, does what it must not, see `does`.
    Hostile,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name that serde gives is the name in scenarios.
        let name = serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned));
        f.pad(&name.unwrap_or_default())
    }
}

/// What a hostile member does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Misdeed {
    /// Sends batches in the name of others.
    Forge,
    /// Tells different peers different batches under one dot.
    Fork,
    /// Sends again what it sent long ago.
    Replay,
    /// Stamps far into the future.
    Future,
    /// Sends batches far ahead of what anyone can apply, and noise.
    Flood,
    /// Reports dots that do not exist, and digests that are not its own.
    Lie,
}

/// One thing that goes wrong, and when it is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub at: Millis,
    pub kind: FaultKind,
    /// When it is over. Without it a fault lasts until everything is healed; a crashed node starts at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heal: Option<Millis>,
    /// Whom it hits; drawn where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Vec<usize>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub does: Option<Misdeed>,
}

/// The parameters besides `at` and `heal`, and which kinds take them.
const NODE: &str = "node";

impl FaultKind {
    /// The parameters it takes; those with `!` it needs.
    fn parameters(self) -> &'static [&'static str] {
        use FaultKind::*;
        match self {
            Partition => &["groups!"],
            Split | Ring | Swizzle | Join => &[],
            OneWay => &[NODE, "peer"],
            Flap => &[NODE, "period!"],
            Loss => &["p!"],
            Slow => &["factor!"],
            Skew | Jump => &[NODE, "ms!"],
            Restore | Rewind => &[NODE, "ms"],
            Hostile => &[NODE, "does!"],
            _ => &[NODE],
        }
    }

    /// Faults that are over as soon as they happened, or never: `heal` means nothing for them.
    pub fn is_instant(self) -> bool {
        use FaultKind::*;
        matches!(self, Jump | Join | Leave | BitFlip | Misdirect | LostWrite | Restore | Rewind)
    }
}

impl Fault {
    pub fn new(kind: FaultKind, at: Millis) -> Self {
        Self {
            at,
            kind,
            heal: None,
            node: None,
            peer: None,
            groups: None,
            period: None,
            p: None,
            factor: None,
            ms: None,
            does: None,
        }
    }

    /// What is wrong with it in a cluster of `nodes`.
    pub fn check(&self, nodes: usize) -> Result<(), String> {
        let given = [
            (NODE, self.node.is_some()),
            ("peer", self.peer.is_some()),
            ("groups", self.groups.is_some()),
            ("period", self.period.is_some()),
            ("p", self.p.is_some()),
            ("factor", self.factor.is_some()),
            ("ms", self.ms.is_some()),
            ("does", self.does.is_some()),
        ];
        let takes = self.kind.parameters();
        for (name, is_given) in given {
            let known = takes.iter().find(|takes| takes.trim_end_matches('!') == name);
            match (known, is_given) {
                (None, true) => return Err(format!("a fault of kind `{}` takes no `{name}`", self.kind)),
                (Some(takes), false) if takes.ends_with('!') => {
                    return Err(format!("a fault of kind `{}` needs `{name}`", self.kind));
                }
                _ => {}
            }
        }
        let named = self.groups.iter().flatten().flatten().chain(&self.node).chain(&self.peer);
        if let Some(node) = named.copied().find(|node| *node >= nodes) {
            return Err(format!("there is no node {node}: nodes are numbered from 0 to {}", nodes.saturating_sub(1)));
        }
        if self.heal.is_some_and(|heal| heal <= self.at) {
            return Err("`heal` must be later than `at`".into());
        }
        if self.heal.is_some() && self.kind.is_instant() {
            return Err(format!("a fault of kind `{}` is over at once and takes no `heal`", self.kind));
        }
        match (self.p, self.factor) {
            (Some(p), _) if !(0.0..=1.0).contains(&p) => Err("`p` is a probability, from 0 to 1".into()),
            (_, Some(factor)) if !(0.0..=1000.0).contains(&factor) => Err("`factor` lies between 0 and 1000".into()),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(does) = self.does {
            write!(f, " ({})", format!("{does:?}").to_lowercase())?;
        }
        if let Some(node) = self.node {
            write!(f, " n{node}")?;
        }
        if let Some(peer) = self.peer {
            write!(f, " -> n{peer}")?;
        }
        if let Some(groups) = &self.groups {
            let groups: Vec<String> = groups
                .iter()
                .map(|group| group.iter().map(|n| format!("n{n}")).collect::<Vec<_>>().join(" "))
                .collect();
            write!(f, " {}", groups.join(" | "))?;
        }
        if let Some(ms) = self.ms {
            write!(f, " {ms} ms")?;
        }
        if let Some(p) = self.p {
            write!(f, " {p}")?;
        }
        if let Some(factor) = self.factor {
            write!(f, " x{factor}")?;
        }
        Ok(())
    }
}
