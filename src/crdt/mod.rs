//! Floor 1: what a set of live entries *means*, and what a wished change would write.
//!
//! The engine applies ops blindly: it removes the dots an op supersedes and adds the op's own entry, whatever the type.
//! So a type is two things only. A *read rule* turns the live entries of a cell into a value; it is a function of the
//! set, so every node that holds the same entries reads the same. A *plan* turns a wish (`increment by 3`) into the one
//! op that brings it about: a value, and the dots it supersedes, all of them visible here.
//!
//! Nothing in `crdt` knows documents, schemas, who is connected or what time it is. Start with [`live`] and
//! [`register`]; `laws` holds every kind to the same laws.

pub mod based;
pub mod collaborative;
pub mod counter;
pub mod extreme;
pub mod flag;
pub mod json;
pub mod kind;
#[cfg(test)]
mod laws;
pub mod live;
pub mod map;
pub mod quorum;
pub mod register;
pub mod set;
pub mod text;
pub mod value;

pub use counter::Overflow;
pub use kind::FieldKind;
pub use live::{Change, Live, State};
pub use register::Resolver;
pub use value::{Value, ValueError};
