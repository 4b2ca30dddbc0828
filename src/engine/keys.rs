//! Signatures, behind a trait: a node signs with its ed25519 key, a simulator with something cheaper.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::clock::NodeId;

/// Signs this node's batches and checks those of others.
pub trait Keys: fmt::Debug + Send + Sync {
    fn node(&self) -> NodeId;
    fn sign(&self, message: &[u8; 32]) -> [u8; 64];
    fn verify(&self, node: &NodeId, message: &[u8; 32], signature: &[u8; 64]) -> bool;
}

/// ed25519 (RFC 8032). A node's id is its public key.
pub struct Ed25519 {
    key: SigningKey,
}

impl Ed25519 {
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }
}

impl fmt::Debug for Ed25519 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519({:?})", self.node())
    }
}

impl Keys for Ed25519 {
    fn node(&self) -> NodeId {
        NodeId(self.key.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8; 32]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    fn verify(&self, node: &NodeId, message: &[u8; 32], signature: &[u8; 64]) -> bool {
        verify_signature(node, message, signature)
    }
}

/// Whether `node` signed `message`. Anyone can tell: a node's id is its public key.
pub fn verify_signature(node: &NodeId, message: &[u8; 32], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&node.0) else { return false };
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_its_node_only() {
        let (alice, bob) = (Ed25519::from_seed(&[1; 32]), Ed25519::from_seed(&[2; 32]));
        let signature = alice.sign(&[7; 32]);
        assert!(bob.verify(&alice.node(), &[7; 32], &signature));
        assert!(!bob.verify(&alice.node(), &[8; 32], &signature));
        assert!(!bob.verify(&bob.node(), &[7; 32], &signature));
    }
}
