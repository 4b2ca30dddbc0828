//! What becomes of concurrent values that no field type merges by itself.
//!
//! Pure: values and rules go in, a value and an account of what was lost come out.

pub mod merge;
