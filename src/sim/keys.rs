//! Signatures that cost nanoseconds: who may sign is for the simulator to say, not for mathematics.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::clock::NodeId;
use crate::engine::keys::Keys;

/// The keys of one simulated node. Anyone could compute the signatures; only hostile members that forge, do not.
#[derive(Clone, Debug)]
pub struct SimKeys {
    node: NodeId,
}

impl SimKeys {
    pub fn new(node: NodeId) -> Self {
        Self { node }
    }
}

fn signature(node: &NodeId, message: &[u8; 32]) -> [u8; 64] {
    let mut signature = [0; 64];
    for (part, seed) in signature.chunks_exact_mut(16).zip(1..) {
        let node = xxh3_128_with_seed(&node.0, seed);
        part.copy_from_slice(&xxh3_128_with_seed(message, seed).wrapping_mul(node | 1).to_le_bytes());
    }
    signature
}

impl Keys for SimKeys {
    fn node(&self) -> NodeId {
        self.node
    }

    fn sign(&self, message: &[u8; 32]) -> [u8; 64] {
        signature(&self.node, message)
    }

    fn verify(&self, node: &NodeId, message: &[u8; 32], given: &[u8; 64]) -> bool {
        signature(node, message) == *given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_its_node_only() {
        let (alice, bob) = (SimKeys::new(NodeId([1; 32])), SimKeys::new(NodeId([2; 32])));
        let signature = alice.sign(&[7; 32]);
        assert!(bob.verify(&alice.node(), &[7; 32], &signature));
        assert!(!bob.verify(&alice.node(), &[8; 32], &signature));
        assert!(!bob.verify(&bob.node(), &[7; 32], &signature));
    }
}
