//! Capacity: what a worker may be given, held as rights that are spent without asking anybody.
//!
//! A bounded counter with escrow (Balegas et al., "Extending Eventually Consistent Cloud Databases for Enforcing Numeric
//! Invariants", 2015). A worker has limits. A quorum hands out parts of them, as *rights*, to replicas; a replica places
//! things within its own right, and only there. So both sides of a split go on placing, and never more than fits.
//!
//! One document for each worker:
//!
//! | field | merges | holds |
//! |---|---|---|
//! | `escrow` | not: a quorum decides | limits, rights, and what replicas that are gone had placed: **one value**, so that whoever reads it reads limits, rights and settled of one moment |
//! | `placed` | `map` of `lww`, by `<replica>/<thing>` | what each replica placed: written by it alone |
//! | `freed` | `orset` | placements that their owner is to drop |
//!
//! **The invariant**: rights and settled together are within the limits, in every value that was ever decided. What a
//! placement counts follows from one such value and any set of cells, see [`reading`]: so no reading exceeds the limits,
//! whatever it has not heard of yet.
//!
//! [`amounts`] counts, [`escrow`] is what the quorum decides, [`account`] is what a replica knows of its own right, and
//! [`reading`] is a worker's capacity as a node reads it.

pub mod account;
pub mod amounts;
pub mod escrow;
pub mod reading;

pub use account::{Account, Fit};
pub use amounts::Amounts;
pub use escrow::{Escrow, Placement, Right};
pub use reading::{Capacity, Freed, Placed};

pub const COLLECTION: &str = "capacity";
/// The field that a quorum decides.
pub const ESCROW: &str = "escrow";
/// The field of what was placed.
pub const PLACED: &str = "placed";
/// The field of what its owner is to drop.
pub const FREED: &str = "freed";

/// Longest name of a thing and of a resource, bytes.
pub const NAME_MAX: usize = 128;
/// Kinds of resources of one worker.
pub const RESOURCES_MAX: usize = 8;
/// Most of one resource: what every JSON reader takes for an integer. A thousand of them still fit 64 bits.
pub const AMOUNT_MAX: u64 = 1 << 53;
/// Replicas that have a right on one worker: a fleet's members, and those that are to be reclaimed. With names of 90 bytes
/// they take a third of the 64 KiB that are decided about one document.
pub const RIGHTS_MAX: usize = 160;
/// Placements of replicas that are gone, on one worker; they take another third.
pub const SETTLED_MAX: usize = 256;
/// Things that one replica has placed on one worker: when it is gone they are settled, all at once.
pub const PLACED_MAX: usize = 256;

/// Why a change of a worker's capacity makes no sense, or does not fit. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    #[error("the name of {what} has 1 to {NAME_MAX} bytes and no control characters: `{name}`")]
    Name { what: &'static str, name: String },
    #[error("a worker has 1 to {RESOURCES_MAX} kinds of resources, such as memory_mb")]
    Resources,
    #[error("`{0}` is above {AMOUNT_MAX}: count it in a larger unit")]
    TooMuch(String),
    #[error("nothing is asked for: give at least 1 of a resource, such as memory_mb=512")]
    Nothing,
    #[error("the worker has no limit for `{0}`: set one first")]
    NoSuchResource(String),
    #[error(
        "{needed} more of `{resource}` are needed; {free} are free, and {others} that other replicas hold the right to are unspent"
    )]
    NoRoom { resource: String, needed: u64, free: u64, others: u64 },
    #[error(
        "{allotted} of `{resource}` are allotted already, and the limit would be {limit}: release some, or have replicas give back what they do not use"
    )]
    TooLow { resource: String, limit: u64, allotted: u64 },
    #[error("a worker has at most {most} {what}: release what is not used")]
    TooMany { what: &'static str, most: usize },
    #[error("{0} has no right on this worker")]
    NoRight(String),
    #[error("what was decided about this worker is not in a form that this version reads")]
    Unreadable,
}

fn check_name(what: &'static str, name: &str) -> Result<(), CapacityError> {
    let fits = (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(CapacityError::Name { what, name: name.chars().take(40).collect() }) }
}

/// A thing is whatever has a name: `vms/7`, `tasks/build`.
pub fn check_thing(thing: &str) -> Result<(), CapacityError> {
    check_name("a thing", thing)
}
