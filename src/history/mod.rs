//! Floor 4: what was, and how anyone can tell. The [`ledger`] holds every value that another overruled; the [`audit`]
//! records what was found and decided.
//!
//! Nothing here knows a replica, a disk or a peer. Bytes to keep are handed out, and stored bytes are handed in.

pub mod audit;
pub mod ledger;
