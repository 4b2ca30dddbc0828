//! Items, and whom to compare with whom.
#[derive(Debug)]
pub struct Index;
#[derive(Debug)]
pub struct Finding;
