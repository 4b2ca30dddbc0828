//! What came of runs, for people and for programs: one page for one run, JSON, and JUnit for many.

mod html;
mod json;
mod junit;

pub use html::{html, page};
pub use json::json;
pub use junit::{Case, junit};
