//! Floor 8 (stand-in): the contract the API is written against, over an in-memory map.

mod contract;
mod fake;
mod patch;

pub use contract::*;
pub use fake::{Node, Watch};
pub use patch::{PatchRefused, apply_patch};

pub use crate::telemetry::{Figure, FigureKind};
