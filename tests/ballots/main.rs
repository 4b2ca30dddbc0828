//! Ballots and locks, checked exhaustively where that is possible: models over the very types a node runs, in which every
//! order of messages, losses, repetitions and crashes is tried. Each broken variant has to fail.

mod consensus;
mod fence;
mod reconfiguration;
mod walk;
