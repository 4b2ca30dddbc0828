//! Floor 4: what was, and how anyone can tell. So far: the [`audit`].
//!
//! Nothing here knows a replica, a disk or a peer. Bytes to keep are handed out, and stored bytes are handed in.

pub mod audit;
