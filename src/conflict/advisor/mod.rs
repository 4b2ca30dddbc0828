//! The advisor: a small model of how a cluster's own people settled their conflicts.
//!
//! People decide conflicts by hand; each decision is kept. From enough of them, [`train`] learns a [`Model`] that names
//! the [`Strategy`] they would likely choose for a new [`Case`], and how sure it is. It was made to be quiet: below a
//! confidence of [`ANSWER_FROM`], on a field that it hardly knows, or with too few decisions, it abstains and says why.
//! It advises only; what is done with the advice is for the policy that asked.
//!
//! The model is softmax regression over named features ([`features`]), so [`explain`] can say exactly what spoke for a
//! choice. Training runs on one node; its result is one JSON text that all nodes are given. From the same text and
//! the same case every node computes the same bits: whole-number weights, IEEE 754 additions, multiplications and
//! divisions in a fixed order, and an exponential in software (`libm`) rather than the platform's.
//!
//! Nothing here knows how a case is detected, how decisions are stored, or what time it is.
//!
//! Start reading at [`case`], then [`features`], [`model`] and [`training`].

pub mod case;
mod draw;
pub mod evaluation;
pub mod explanation;
pub mod features;
mod fit;
pub mod habit;
pub mod model;
pub mod simulated;
pub mod standing;
pub mod strategy;
#[cfg(test)]
mod tests;
pub mod training;

pub use case::{Case, Decision, Kind, Malformed, Severity};
pub use evaluation::{Evaluation, Reliability, evaluate, split_by_time};
pub use explanation::{Explanation, Voice, explain};
pub use habit::Habits;
pub use model::{ANSWER_FROM, Advice, Model, Unreadable, Why};
pub use standing::Standing;
pub use strategy::{Strategy, UnknownStrategy};
pub use training::{Options, TooFew, train};
