//! Floor 3: what a CRDT cannot settle, settled in the open.
//!
//! Concurrent writes of a contested register leave *siblings*. A [`case`] is one such register as resolvers see it, a
//! [`resolver`] makes a value of it: by [`choosing`] one, by [`merging`] all, or by an [`expression`].
//!
//! Everything here is a function of replicated state: no clock, no liveness, no order of arrival. So every node that
//! has seen the same writes settles them alike.

pub mod case;
pub mod choosing;
pub mod expression;
pub mod judge;
pub mod merging;
pub mod resolver;

pub use case::{Case, Custom, Customs, For, Verdict};
pub use expression::{Expression, ExpressionError};
pub use judge::Judge;
