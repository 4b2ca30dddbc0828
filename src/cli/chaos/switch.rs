//! The switch between the hosts, as rules: what becomes of a frame, and when it is handed on.
//!
//! Delays, jitter, bounded rates, losses, cuts, doubled and overtaken frames are all decided here and nowhere else, so
//! that a cut takes hold of what is under way as well, and everything is changed at once. The kernel's own means would
//! be two, and one of them, delays, is missing from many kernels. The pair's delay is the one that the simulator draws
//! from the same seed.
//!
//! Nothing here reads a clock or a device: see [`super::wire`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::sim::chance::Chance;
use crate::sim::network::{Network, Weather};
use crate::sim::scenario::Network as Settings;

/// What may be under way from one host to another: what a path of 80 ms holds at 50 MB/s. Then frames are dropped, as a
/// network card does, and the sender's stream slows down.
const LANE_BYTES_MAX: usize = 4 << 20;
/// How long a frame may wait for its turn on a link of bounded rate: a router's queue, beyond which it drops.
const TURN_US_MAX: u64 = 500_000;
/// How much later an overtaken or doubled frame comes, µs, least and most: as in the simulator.
const LATE_US: (u64, u64) = (100, 40_000);
/// Destination, source and kind; less is no frame.
const HEADER_BYTES: usize = 14;

/// What became of frames between hosts.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub passed: u64,
    /// By a cut, also on the way.
    pub cut: u64,
    pub lost: u64,
    /// Because too much was under way.
    pub overflowed: u64,
    pub doubled: u64,
    pub overtaken: u64,
}

#[derive(Debug)]
struct Frame {
    from: usize,
    to: usize,
    bytes: Arc<[u8]>,
}

/// One direction between two ports.
#[derive(Debug, Default)]
struct Lane {
    /// When the last frame is due; the next is not due before.
    last_us: u64,
    /// Until when the link is taken up by frames before, where its rate is bounded.
    busy_until_us: u64,
    bytes: usize,
}

#[derive(Debug)]
pub struct Switch {
    hosts: usize,
    network: Network,
    chance: Chance,
    lanes: BTreeMap<(usize, usize), Lane>,
    /// By when they are due, then in the order in which they came.
    waiting: BTreeMap<(u64, u64), Frame>,
    number: u64,
    tally: Tally,
}

impl Switch {
    /// Ports 0 to `hosts` - 1 are hosts; port `hosts` is the outside, that clients come from, and nothing hurts it.
    pub fn new(settings: Settings, seed: u64, hosts: usize) -> Self {
        Self {
            hosts,
            network: Network::new(settings, seed),
            chance: Chance::of(seed, "switch"),
            lanes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            number: 0,
            tally: Tally::default(),
        }
    }

    /// The address that a port's device must have: it says the port, so there is nothing to learn.
    pub fn address_of(port: usize) -> [u8; 6] {
        let [high, low] = (port as u16).to_be_bytes();
        // Locally administered; `fm`.
        [0x02, 0x66, 0x6d, 0x00, high, low]
    }

    /// Cuts, losses and how slow everything is.
    pub fn weather(&mut self) -> &mut Weather {
        &mut self.network.weather
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// A frame that the host at `from` sent.
    pub fn handle_frame(&mut self, from: usize, frame: &[u8], now_us: u64) {
        if frame.len() < HEADER_BYTES {
            return;
        }
        let bytes: Arc<[u8]> = frame.into();
        if frame[0] & 1 == 1 {
            // To everyone: who has this address?
            for to in (0..=self.hosts).filter(|to| *to != from) {
                self.send(from, to, &bytes, now_us);
            }
            return;
        }
        let to = usize::from(u16::from_be_bytes([frame[4], frame[5]]));
        if to <= self.hosts && to != from && frame[..6] == Self::address_of(to) {
            self.send(from, to, &bytes, now_us);
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: &Arc<[u8]>, now_us: u64) {
        if from == self.hosts || to == self.hosts {
            self.queue(from, to, bytes, now_us);
            return;
        }
        if self.network.weather.is_cut(from, to) {
            self.tally.cut += 1;
            return;
        }
        let settings = &self.network.settings;
        let loss = settings.loss.max(self.network.weather.loss);
        if self.chance.happens(loss) {
            self.tally.lost += 1;
            return;
        }
        let (jitter_us, rate) = ((settings.jitter_ms * 1_000.0) as u64, settings.kilobytes_per_s);
        let (reorder, duplicate) = (settings.reorder, settings.duplicate);
        let lane = self.lanes.entry((from, to)).or_default();
        let turn_us = lane.busy_until_us.max(now_us);
        if lane.bytes + bytes.len() > LANE_BYTES_MAX || turn_us - now_us > TURN_US_MAX {
            self.tally.overflowed += 1;
            return;
        }
        // Kilobytes a second are bytes a millisecond.
        lane.busy_until_us = turn_us + (bytes.len() as u64 * 1_000).checked_div(rate).unwrap_or(0);
        let takes_us = self.network.delay_us(from, to) + self.chance.below(jitter_us + 1);
        let due_us = (lane.busy_until_us + takes_us).max(lane.last_us);
        let late_us = due_us + self.chance.between(LATE_US.0, LATE_US.1);
        if self.chance.happens(reorder) {
            self.tally.overtaken += 1;
            self.queue(from, to, bytes, late_us);
            return;
        }
        lane.last_us = due_us;
        self.queue(from, to, bytes, due_us);
        if self.chance.happens(duplicate) {
            self.tally.doubled += 1;
            self.queue(from, to, bytes, late_us);
        }
    }

    fn queue(&mut self, from: usize, to: usize, bytes: &Arc<[u8]>, due_us: u64) {
        self.lanes.entry((from, to)).or_default().bytes += bytes.len();
        self.number += 1;
        self.waiting.insert((due_us, self.number), Frame { from, to, bytes: bytes.clone() });
    }

    pub fn next_due_us(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((due_us, _), _)| *due_us)
    }

    /// The next frame that is due, and the port it goes to.
    pub fn take_due(&mut self, now_us: u64) -> Option<(usize, Arc<[u8]>)> {
        while self.next_due_us()? <= now_us {
            let (_, Frame { from, to, bytes }) = self.waiting.pop_first()?;
            if let Some(lane) = self.lanes.get_mut(&(from, to)) {
                lane.bytes -= bytes.len();
            }
            // A cable that is cut loses what is on it.
            if self.network.weather.is_cut(from, to) {
                self.tally.cut += 1;
                continue;
            }
            if from != self.hosts && to != self.hosts {
                self.tally.passed += 1;
            }
            return Some((to, bytes));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTSIDE: usize = 3;
    const EVERYONE: [u8; 6] = [0xff; 6];

    fn settings(delay_ms: f64) -> Settings {
        Settings { delay_ms: [delay_ms, delay_ms], jitter_ms: 0.0, ..Settings::default() }
    }

    fn switch(settings: Settings) -> Switch {
        Switch::new(settings, 1, OUTSIDE)
    }

    fn frame(to: [u8; 6], number: u32) -> Vec<u8> {
        let mut frame = to.to_vec();
        frame.extend([0; 8]);
        frame.extend(number.to_be_bytes());
        frame
    }

    fn number(frame: &[u8]) -> u32 {
        u32::from_be_bytes(frame[HEADER_BYTES..HEADER_BYTES + 4].try_into().unwrap())
    }

    /// Everything that comes out up to `until_us`: when, where, and which.
    fn drain(switch: &mut Switch, until_us: u64) -> Vec<(u64, usize, u32)> {
        let mut out = Vec::new();
        while let Some(due_us) = switch.next_due_us().filter(|due_us| *due_us <= until_us) {
            out.extend(switch.take_due(due_us).map(|(to, bytes)| (due_us, to, number(&bytes))));
        }
        out
    }

    #[test]
    fn a_frame_comes_after_the_delay_of_its_pair_and_no_earlier() {
        let mut switch = switch(settings(20.0));
        switch.handle_frame(0, &frame(Switch::address_of(1), 7), 1_000);
        assert_eq!(switch.take_due(20_999), None);
        assert_eq!(switch.take_due(21_000).map(|(to, bytes)| (to, number(&bytes))), Some((1, 7)));
        assert_eq!(switch.take_due(u64::MAX), None);
    }

    #[test]
    fn the_delay_is_the_one_that_the_simulator_draws() {
        let wide = Settings { delay_ms: [1.0, 80.0], jitter_ms: 0.0, ..Settings::default() };
        let mut switch = switch(wide.clone());
        for to in [1, 2] {
            switch.handle_frame(0, &frame(Switch::address_of(to), to as u32), 0);
        }
        let simulated = Network::new(wide, 1);
        let mut due: Vec<_> = [1, 2].map(|to| (simulated.delay_us(0, to), to, to as u32)).to_vec();
        due.sort_unstable();
        assert_eq!(drain(&mut switch, u64::MAX), due);
    }

    #[test]
    fn regions_give_each_pair_its_delay() {
        let regions = vec!["east".to_owned(), "west".to_owned()];
        let region_delay_ms = vec![vec![1.0, 60.0], vec![90.0, 1.0]];
        let mut switch = switch(Settings { regions, region_delay_ms, ..settings(5.0) });
        switch.handle_frame(0, &frame(Switch::address_of(1), 1), 0);
        switch.handle_frame(1, &frame(Switch::address_of(0), 2), 0);
        switch.handle_frame(0, &frame(Switch::address_of(2), 3), 0);
        assert_eq!(drain(&mut switch, u64::MAX), [(1_000, 2, 3), (60_000, 1, 1), (90_000, 0, 2)]);
    }

    #[test]
    fn jitter_does_not_turn_the_order_and_reordering_does() {
        let sent = |settings: Settings| {
            let mut switch = switch(settings);
            for n in 0..200 {
                switch.handle_frame(0, &frame(Switch::address_of(1), n), u64::from(n) * 10);
            }
            drain(&mut switch, u64::MAX).into_iter().map(|(_, _, n)| n).collect::<Vec<_>>()
        };
        let in_order: Vec<u32> = (0..200).collect();
        assert_eq!(sent(Settings { jitter_ms: 30.0, ..settings(5.0) }), in_order);
        let mut overtaken = sent(Settings { reorder: 0.2, ..settings(5.0) });
        assert_ne!(overtaken, in_order);
        overtaken.sort_unstable();
        assert_eq!(overtaken, in_order, "late, not lost");
    }

    #[test]
    fn a_cut_is_one_way_and_takes_what_is_on_the_wire() {
        let mut switch = switch(settings(20.0));
        switch.handle_frame(0, &frame(Switch::address_of(1), 1), 0);
        switch.weather().cut(0, 1);
        switch.handle_frame(0, &frame(Switch::address_of(1), 2), 0);
        switch.handle_frame(1, &frame(Switch::address_of(0), 3), 0);
        switch.handle_frame(0, &frame(Switch::address_of(2), 4), 0);
        assert_eq!(drain(&mut switch, 30_000), [(20_000, 0, 3), (20_000, 2, 4)]);
        switch.weather().mend(0, 1);
        switch.handle_frame(0, &frame(Switch::address_of(1), 5), 30_000);
        assert_eq!(drain(&mut switch, u64::MAX), [(50_000, 1, 5)]);
        assert_eq!((switch.tally().cut, switch.tally().passed), (2, 3));
    }

    #[test]
    fn clients_come_through_whatever_is_cut_and_lost() {
        let mut switch = switch(settings(20.0));
        switch.weather().loss = 1.0;
        switch.handle_frame(OUTSIDE, &frame(Switch::address_of(1), 1), 0);
        switch.handle_frame(1, &frame(Switch::address_of(OUTSIDE), 2), 0);
        switch.handle_frame(1, &frame(Switch::address_of(2), 3), 0);
        assert_eq!(drain(&mut switch, u64::MAX), [(0, 1, 1), (0, OUTSIDE, 2)]);
        assert_eq!(*switch.tally(), Tally { lost: 1, ..Tally::default() });
    }

    #[test]
    fn what_is_for_everyone_reaches_everyone_else() {
        let mut switch = switch(settings(0.0));
        switch.handle_frame(1, &frame(EVERYONE, 1), 0);
        assert_eq!(drain(&mut switch, 0), [(0, 0, 1), (0, 2, 1), (0, OUTSIDE, 1)]);
        // Nobody has these; and what is too short is nothing.
        switch.handle_frame(1, &frame([0x02, 0, 0, 0, 0, 2], 2), 0);
        switch.handle_frame(1, &frame(Switch::address_of(OUTSIDE + 1), 3), 0);
        switch.handle_frame(1, &[0xff; HEADER_BYTES - 1], 0);
        assert_eq!(drain(&mut switch, u64::MAX), []);
    }

    #[test]
    fn a_full_lane_drops_and_leaves_the_others_alone() {
        let mut switch = switch(settings(20.0));
        let mut large = frame(Switch::address_of(1), 1);
        large.resize(LANE_BYTES_MAX / 4, 0);
        for _ in 0..5 {
            switch.handle_frame(0, &large, 0);
        }
        switch.handle_frame(0, &frame(Switch::address_of(2), 2), 0);
        assert_eq!(drain(&mut switch, u64::MAX).len(), 5);
        assert_eq!(switch.tally().overflowed, 1);
        switch.handle_frame(0, &large, 0);
        assert_eq!(drain(&mut switch, u64::MAX).len(), 1, "there is room again");
    }

    #[test]
    fn a_bounded_rate_spaces_frames_and_slow_stretches_the_delay() {
        let mut switch = switch(Settings { kilobytes_per_s: 100, ..settings(1.0) });
        let mut of_1000 = frame(Switch::address_of(1), 1);
        of_1000.resize(1_000, 0);
        for _ in 0..100 {
            switch.handle_frame(0, &of_1000, 0);
        }
        let out: Vec<u64> = drain(&mut switch, u64::MAX).into_iter().map(|(at_us, _, _)| at_us).collect();
        assert_eq!(out[..3], [11_000, 21_000, 31_000]);
        assert_eq!((out.len() as u64, switch.tally().overflowed), (TURN_US_MAX / 10_000 + 1, 49));
        switch.weather().factor = 10.0;
        switch.handle_frame(0, &of_1000, 10_000_000);
        assert_eq!(drain(&mut switch, u64::MAX), [(10_020_000, 1, 1)]);
    }

    #[test]
    fn a_doubled_frame_comes_twice() {
        let mut switch = switch(Settings { duplicate: 1.0, ..settings(1.0) });
        switch.handle_frame(0, &frame(Switch::address_of(1), 9), 0);
        let out = drain(&mut switch, u64::MAX);
        assert_eq!(out.iter().map(|(_, to, n)| (*to, *n)).collect::<Vec<_>>(), [(1, 9), (1, 9)]);
    }
}
