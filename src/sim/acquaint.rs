//! A cluster whose members know each other from the start: where it is not the joining that is to be seen.

use serde_json::{Map, json};

use super::world::World;
use crate::document::Address;
use crate::document::plan::Write;
use crate::engine::persist::Tree;
use crate::engine::{Input, Loaded, Output, Replica};

impl World {
    /// Puts a disk under every host on which the first one noted all members once, at an earlier start.
    pub(super) fn acquaint(&mut self) {
        let (loaded, now) = (Loaded::default(), self.now(0));
        let config = self.config(0, &loaded);
        let mut replica = Replica::new(config, self.hosts[0].keys.clone(), loaded, now);
        self.persist(&mut replica);
        for host in 0..self.hosts.len() {
            let fields = [
                ("name", json!(self.hosts[host].name)),
                ("status", json!("joined")),
                ("region", json!(self.network.region(host))),
            ];
            let fields = Map::from_iter(fields.map(|(field, value)| (field.to_owned(), value)));
            let Ok(address) = Address::new("members", &self.hosts[host].node.to_string()) else { continue };
            let (name, from) = (address.as_str().to_owned(), replica.own_seq());
            let _ = replica.write(&[(address, Write::Put(fields))], false, now);
            let verdict = self.ledger.record(&replica, from, &Default::default(), &[name], 0);
            self.judge(0, verdict);
            self.persist(&mut replica);
        }
        let mut image = self.hosts[0].disk.image();
        // What the first host has still to offer is nobody else's.
        image.forget(Tree::Outbox);
        image.forget(Tree::Audit);
        image.forget(Tree::Ballots);
        for host in &mut self.hosts {
            host.disk.restore(image.clone());
        }
    }

    fn persist(&mut self, replica: &mut Replica) {
        let now = self.now(0);
        loop {
            let outputs: Vec<Output> = replica.drain().collect();
            let mut asked = outputs.into_iter().filter_map(|output| match output {
                Output::Persist { ticket, rows } => Some((ticket, rows)),
                _ => None,
            });
            let Some((ticket, rows)) = asked.next() else { return };
            self.hosts[0].disk.start(ticket, rows);
            self.hosts[0].disk.finish(ticket);
            replica.handle(Input::Persisted { ticket }, now);
        }
    }
}
