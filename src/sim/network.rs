//! Links between hosts: ordered and reliable while they last, as the transport's are; what is under way when one breaks
//! is gone, and its two ends learn of it at different times.
//!
//! A lost packet of such a stream is a delay for everything behind it. Beyond that, messages that the protocol must be
//! able to miss can be dropped, doubled and overtaken, which no stream does: relays and closed windows have that effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::chance::Chance;
use super::scenario::Network as Settings;

#[derive(Debug)]
pub struct Link {
    /// Hosts, the lower first.
    pub ends: [usize; 2],
    /// Which start of each host it belongs to.
    pub lives: [u64; 2],
    /// Whether each end holds it for open.
    pub open: [bool; 2],
    /// When the last message arrives, for each direction.
    arrives_us: [u64; 2],
    /// Messages that wait for a cut to end, for each direction.
    stuck: [Vec<Arc<[u8]>>; 2],
}

impl Link {
    pub fn side(&self, host: usize) -> usize {
        usize::from(self.ends[1] == host)
    }

    pub fn other(&self, host: usize) -> usize {
        self.ends[1 - self.side(host)]
    }
}

/// What the network does just now, beyond the scenario's settings.
#[derive(Debug, Default)]
pub struct Weather {
    /// Directed pairs that nothing passes, and how many faults ask for it.
    cut: BTreeMap<(usize, usize), usize>,
    pub loss: f64,
    pub factor: f64,
}

impl Weather {
    pub fn cut(&mut self, from: usize, to: usize) {
        *self.cut.entry((from, to)).or_default() += 1;
    }

    pub fn mend(&mut self, from: usize, to: usize) {
        if let Some(faults) = self.cut.get_mut(&(from, to)) {
            *faults -= 1;
            if *faults == 0 {
                self.cut.remove(&(from, to));
            }
        }
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains_key(&(from, to))
    }
}

#[derive(Debug)]
pub struct Network {
    pub settings: Settings,
    pub weather: Weather,
    pub links: BTreeMap<u64, Link>,
    /// The links that each host holds for open.
    open_at: BTreeMap<usize, BTreeSet<u64>>,
    /// The link that both ends hold for open, and those being opened.
    pub between: BTreeMap<(usize, usize), u64>,
    pub opening: BTreeSet<(usize, usize)>,
    chance: Chance,
    seed: u64,
    next: u64,
}

/// What becomes of a message.
#[derive(Debug)]
pub enum Fate {
    /// It arrives at these times, µs.
    Arrives(u64),
    Twice(u64, u64),
    /// It waits for a cut to end.
    Stuck,
    Dropped,
}

/// The pair of two hosts, the lower first.
pub fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Network {
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            weather: Weather { factor: 1.0, ..Weather::default() },
            links: BTreeMap::new(),
            open_at: BTreeMap::new(),
            between: BTreeMap::new(),
            opening: BTreeSet::new(),
            chance: Chance::of(seed, "network"),
            seed,
            next: 0,
        }
    }

    /// Where a host is.
    pub fn region(&self, host: usize) -> &str {
        let regions = &self.settings.regions;
        if regions.is_empty() { "" } else { &regions[host % regions.len()] }
    }

    pub fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    /// One way, µs, without jitter. A pair's delay is its own for the whole run.
    pub fn delay_us(&self, from: usize, to: usize) -> u64 {
        let settings = &self.settings;
        let regions = settings.regions.len();
        let ms = if regions > 0 {
            settings.region_delay_ms[from % regions][to % regions]
        } else {
            let (low, high) = pair(from, to);
            let mut chance = Chance::new(self.seed ^ (((low as u64) << 32) + high as u64 + 1));
            settings.delay_ms[0] + chance.unit() * (settings.delay_ms[1] - settings.delay_ms[0])
        };
        (ms * 1_000.0 * self.weather.factor) as u64
    }

    pub fn open(&mut self, a: (usize, u64), b: (usize, u64)) -> u64 {
        self.next += 1;
        let ((low, low_life), (high, high_life)) = if a.0 < b.0 { (a, b) } else { (b, a) };
        let link = Link {
            ends: [low, high],
            lives: [low_life, high_life],
            open: [true, true],
            arrives_us: [0, 0],
            stuck: [Vec::new(), Vec::new()],
        };
        self.links.insert(self.next, link);
        for host in [low, high] {
            self.open_at.entry(host).or_default().insert(self.next);
        }
        self.between.insert((low, high), self.next);
        self.next
    }

    /// The links that a host holds for open, in the order in which they came up.
    pub fn open_links(&self, host: usize) -> impl Iterator<Item = (u64, &Link)> {
        let ids = self.open_at.get(&host).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.links.get(id)?)))
    }

    /// What becomes of a message that `from` sends now. `must`: the protocol cannot do without it.
    pub fn send(&mut self, id: u64, from: usize, message: &Arc<[u8]>, must: bool, now_us: u64) -> Fate {
        let Some(ends) = self.links.get(&id).map(|link| link.ends) else { return Fate::Dropped };
        let to = if ends[0] == from { ends[1] } else { ends[0] };
        let side = usize::from(ends[1] == from);
        if self.weather.is_cut(from, to) {
            if let Some(link) = self.links.get_mut(&id) {
                link.stuck[side].push(message.clone());
            }
            return Fate::Stuck;
        }
        if !must && self.chance.happens(self.settings.drop) {
            return Fate::Dropped;
        }
        let takes_us = self.takes_us(from, to, message.len());
        let overtaken = !must && self.chance.happens(self.settings.reorder);
        let doubled = !must && self.chance.happens(self.settings.duplicate);
        let late_us = self.chance.between(100, 40_000);
        let Some(link) = self.links.get_mut(&id) else { return Fate::Dropped };
        let at_us = (now_us + takes_us).max(link.arrives_us[side] + 1);
        if overtaken {
            return Fate::Arrives(at_us + late_us);
        }
        link.arrives_us[side] = at_us;
        if doubled { Fate::Twice(at_us, at_us + late_us) } else { Fate::Arrives(at_us) }
    }

    fn takes_us(&mut self, from: usize, to: usize, bytes: usize) -> u64 {
        let mut us = self.delay_us(from, to) + self.chance.below((self.settings.jitter_ms * 1_000.0) as u64 + 1);
        let mut again_us = 2 * us + 20_000;
        let loss = self.settings.loss.max(self.weather.loss);
        // Sent again after a round trip and a margin, then after twice as long, as TCP does.
        while self.chance.happens(loss) && again_us < 2_000_000 {
            us += again_us;
            again_us *= 2;
        }
        match self.settings.kilobytes_per_s {
            0 => us,
            rate => us + bytes as u64 * 1_000 / rate,
        }
    }

    /// What waited for the cut from `from` to `to` to end, by link.
    pub fn unstick(&mut self, from: usize, to: usize) -> Vec<(u64, Vec<Arc<[u8]>>)> {
        let mut freed = Vec::new();
        for (id, link) in &mut self.links {
            let side = link.side(from);
            if link.ends[side] == from && link.ends[1 - side] == to && !link.stuck[side].is_empty() {
                freed.push((*id, std::mem::take(&mut link.stuck[side])));
            }
        }
        freed
    }

    /// One end gave the link up; `true` once both did and it is gone.
    pub fn close(&mut self, id: u64, host: usize) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return true };
        let side = link.side(host);
        link.open[side] = false;
        if let Some(open) = self.open_at.get_mut(&host) {
            open.remove(&id);
        }
        link.stuck[side].clear();
        let (low, high) = (link.ends[0], link.ends[1]);
        if self.between.get(&(low, high)) == Some(&id) {
            self.between.remove(&(low, high));
        }
        let gone = !self.links[&id].open.contains(&true);
        if gone {
            self.links.remove(&id);
        }
        gone
    }

    /// How long until an end notices that the other is gone, µs.
    pub fn notice_us(&mut self) -> u64 {
        let [low, high] = self.settings.notice_ms;
        self.chance.between(low, high) * 1_000
    }
}
