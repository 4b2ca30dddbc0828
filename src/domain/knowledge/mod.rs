//! Knowledge: what agents tell each other, and where two of them say the same thing or opposite things.
//!
//! An [`Item`] is one document `knowledge/<id>`. An [`Index`] holds items and names, for a given one, those that are
//! a *duplicate* of it, a *contradiction* to it, or that *overlap* with it. `docs/knowledge.md` says what each class
//! means, how well they are told apart, and what the detector cannot see.
//!
//! The way of a text, from top to bottom:
//!
//! | file | |
//! |---|---|
//! | [`item`] | the document and its bounds |
//! | `word` | text to clauses of words |
//! | `lexicon` | what single words mean here: synonyms, antonyms, negators, units |
//! | `quantity` | numbers, versions, dates and bounds as intervals |
//! | `verb` | where what is spoken of ends, and what is said of it begins |
//! | `claim` | words to terms, each with its role and polarity |
//! | `contrast` | two clauses aligned: what agrees, what differs and whether that can both be true |
//! | `compare` | two texts to a verdict |
//! | `embedding` | cosine, and a signature that finds near vectors |
//! | [`index`] | items, and whom to compare with whom |
//!
//! `tests/knowledge.rs` measures both. Nothing here knows the order in which items came: the same items give the same findings on every node.

mod claim;
mod compare;
mod contrast;
mod embedding;
pub mod index;
pub mod item;
mod lexicon;
mod quantity;
mod verb;
mod word;

pub use compare::{Class, Options, Verdict, Why, compare};
pub use index::{Finding, Full, Index};
pub use item::{Invalid, Item};
