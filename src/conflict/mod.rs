//! Floor 3: what a CRDT cannot settle, settled in the open.
//!
//! Concurrent writes of a contested register leave *siblings*. A [`case`] is one such register as resolvers see it, a
//! [`resolver`] makes a value of it: by [`choosing`] one, by [`merging`] all (objects and lists with [`merge`](mod@merge)), or by an [`expression`].
//!
//! Which resolver a register has is said by its schema, or by a [`policy`]; a [`judge`] is both made ready for use. What
//! it finds, in siblings and by the schema's rules, are the conflicts: see [`detect`]. An [`advisor`] learns from what people
//! decided: [`decisions`] are what it is given, [`advice`] is what it is asked.
//!
//! Everything here is a function of replicated state: no clock, no liveness, no order of arrival. So every node that
//! has seen the same writes settles them alike.

pub mod advice;
pub mod advisor;
pub mod case;
pub mod choosing;
pub mod decisions;
pub mod detect;
pub mod expression;
pub mod judge;
pub mod merge;
pub mod merging;
pub mod policies;
pub mod policy;
pub mod resolver;
pub mod sample;
pub mod text;
pub mod variables;

pub use case::{Case, Custom, Customs, For, Verdict};
pub use detect::{Class, Conflict, Status};
pub use expression::{Expression, ExpressionError};
pub use judge::Judge;
pub use policies::Policies;
pub use policy::Policy;
