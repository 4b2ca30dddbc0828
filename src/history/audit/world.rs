//! A node with an audit, for tests.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde_json::json;

use super::chain::Appended;
use super::*;
use crate::clock::{Incarnation, NodeId};

#[derive(Clone, Debug)]
pub struct Signer(SigningKey);

impl Signer {
    pub fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    pub fn node(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    pub fn sign(&self) -> impl Fn(&[u8; 32]) -> [u8; 64] + use<> {
        let key = self.0.clone();
        move |message| key.sign(message).to_bytes()
    }
}

pub fn check(node: &NodeId, message: &[u8; 32], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&node.0) else { return false };
    key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
}

/// A chain, and the disk it is stored on.
#[derive(Clone, Debug)]
pub struct World {
    pub signer: Signer,
    pub chain: Chain,
    pub rows: BTreeMap<Vec<u8>, Vec<u8>>,
    pub anchors: Vec<Anchor>,
}

impl World {
    pub fn new() -> Self {
        Self::of(1)
    }

    pub fn of(seed: u8) -> Self {
        let signer = Signer::new(seed);
        Self { chain: Chain::new(signer.node()), signer, rows: BTreeMap::new(), anchors: Vec::new() }
    }

    pub fn with(records: u64) -> Self {
        let mut world = Self::new();
        (0..records).for_each(|n| world.append(entry(n)));
        world
    }

    pub fn node(&self) -> NodeId {
        self.signer.node()
    }

    pub fn append(&mut self, entry: Entry) {
        let appended = self.chain.append(&entry);
        self.store(appended);
    }

    pub fn start(&mut self, incarnation: u8) {
        let appended = self.chain.start(&Incarnation([incarnation; 16]), 0);
        self.store(appended);
    }

    fn store(&mut self, appended: Appended) {
        self.rows.insert(appended.row.key, appended.row.bytes);
        self.chain.stored(appended.head.index);
    }

    /// Signs the head, and hands it to others.
    pub fn anchor(&mut self) -> Anchor {
        let anchor = self.chain.anchor(1_000, &self.signer.sign()).expect("something new is stored");
        self.anchors.push(anchor);
        anchor
    }

    /// Forgets the records up to `anchor`.
    pub fn cut(&mut self, anchor: &Anchor) {
        let row = self.rows[&row::key_of(anchor.index)[..]].clone();
        let cut = self.chain.cut(anchor, &row, "operator", 2_000, &self.signer.sign(), &check).expect("a cut");
        for key in cut.removals() {
            self.rows.remove(&key[..]);
        }
        self.rows.insert(cut.base_row.key, cut.base_row.bytes);
        self.store(cut.record);
    }

    pub fn verify(&self) -> Report {
        verify(self.node(), &self.rows, &self.anchors, &check)
    }
}

/// The n-th of a varied lot.
pub fn entry(n: u64) -> Entry {
    let kind = Kind::ALL[1 + n as usize % 9];
    Entry::new(kind, ["alice", "policy/vms", "bob"][n as usize % 3], 1_000 + n * 10)
        .document(format!("vms/vm-{}", n % 7))
        .field(["power_state", "owner"][n as usize % 2])
        .conflict(format!("c{}", n / 2))
        .detail(json!({ "n": n, "strategy": "last_writer" }))
}
