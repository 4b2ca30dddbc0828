//! The greeting by which two nodes agree on one link.
//!
//! Two nodes may hold several connections with each other: both dialled at once, or one lost its end of an old one and
//! the other has not noticed. Only the node with the *smaller id* opens links (whoever dialled), one attempt at a time.
//! It says which link it believes it has; the other answers:
//!
//! - both name the same living link: **keep** it, the new connection is spare and is closed;
//! - else the new one **replaces** whatever was there, at both ends.
//!
//! So a simultaneous dial never makes a link flap, and a link that one side has lost never blocks the next.

const MAGIC: [u8; 4] = *b"fkm1";
pub(super) const HELLO_BYTES: usize = 24;

/// A name for a link that both ends know, drawn by the opener. 0 names none.
pub(super) type Nonce = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hello {
    /// From the opener: a new link, and the one it would replace.
    Open {
        nonce: Nonce,
        current: Nonce,
    },
    /// The answers.
    Accept {
        nonce: Nonce,
    },
    Keep {
        nonce: Nonce,
    },
}

impl Hello {
    pub fn to_bytes(self) -> [u8; HELLO_BYTES] {
        let (kind, nonce, current) = match self {
            Self::Open { nonce, current } => (1u32, nonce, current),
            Self::Accept { nonce } => (2, nonce, 0),
            Self::Keep { nonce } => (3, nonce, 0),
        };
        let mut bytes = [0; HELLO_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&nonce.to_le_bytes());
        bytes[16..].copy_from_slice(&current.to_le_bytes());
        bytes
    }

    /// `None` for anything that is not a greeting.
    pub fn parse(bytes: &[u8; HELLO_BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (nonce, rest) = rest.split_first_chunk::<8>()?;
        let current = u64::from_le_bytes(*rest.first_chunk::<8>()?);
        let nonce = u64::from_le_bytes(*nonce);
        if *magic != MAGIC || nonce == 0 {
            return None;
        }
        match u32::from_le_bytes(*kind) {
            1 => Some(Self::Open { nonce, current }),
            2 => Some(Self::Accept { nonce }),
            3 => Some(Self::Keep { nonce }),
            _ => None,
        }
    }

    /// The acceptor's answer to `Open`, given the living link it has with that peer.
    pub fn answer(nonce: Nonce, their_current: Nonce, my_current: Option<Nonce>) -> Self {
        match my_current {
            Some(mine) if mine == their_current => Self::Keep { nonce },
            _ => Self::Accept { nonce },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_survives_the_wire_and_nothing_else_is_one() {
        for hello in [Hello::Open { nonce: 7, current: 9 }, Hello::Accept { nonce: 1 }, Hello::Keep { nonce: u64::MAX }]
        {
            assert_eq!(Hello::parse(&hello.to_bytes()), Some(hello));
        }
        assert_eq!(Hello::parse(&[0; HELLO_BYTES]), None);
        assert_eq!(Hello::parse(&Hello::Accept { nonce: 0 }.to_bytes()), None);
        let mut kind = Hello::Accept { nonce: 1 }.to_bytes();
        kind[4] = 9;
        assert_eq!(Hello::parse(&kind), None);
    }

    #[test]
    fn only_a_link_that_both_sides_have_is_kept() {
        assert_eq!(Hello::answer(5, 0, None), Hello::Accept { nonce: 5 });
        assert_eq!(Hello::answer(5, 4, Some(4)), Hello::Keep { nonce: 5 });
        assert_eq!(Hello::answer(5, 0, Some(4)), Hello::Accept { nonce: 5 }, "the opener lost it");
        assert_eq!(Hello::answer(5, 4, None), Hello::Accept { nonce: 5 }, "the acceptor lost it");
        assert_eq!(Hello::answer(5, 3, Some(4)), Hello::Accept { nonce: 5 }, "they have different ones");
    }
}
