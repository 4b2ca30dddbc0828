//! Floor 3: conflicts, and what settles them.

pub mod advisor;
