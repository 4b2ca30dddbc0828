//! Floor 8: a node. It drives one [`Replica`](crate::engine::Replica) with a real clock, a real disk and real links, and
//! offers it to programs as a [`Node`].
//!
//! [`builder`] starts it, [`driver`] carries out what the replica wants, [`handle`] is what programs hold. `read`,
//! `write` and `watch` are its verbs, `lock` and `decide` those that take a quorum, [`collection`] offers them as Rust values;
//! [`token`] is how a session takes its place from node to node, [`admission`] tells whether the cluster lets it in.
//!
//! The replica sits behind one lock. A write takes it for the microsecond that planning and applying cost, a read shares
//! it; nothing waits for a disk, a peer or a client while holding it.

pub mod admission;
pub mod advisor;
pub mod agents;
pub mod audit;
pub mod ballots;
pub mod board;
pub mod builder;
pub mod capacity;
pub mod collection;
pub mod conflicts;
pub mod decide;
pub mod driver;
pub mod figures;
pub mod handle;
pub mod host;
pub mod keep;
pub mod knowledge;
pub mod lock;
pub mod membership;
pub mod open;
pub mod partitions;
mod patch;
pub mod queue;
pub mod read;
pub mod replicas;
pub mod settings;
pub mod status;
pub mod tasks;
pub mod token;
pub mod vms;
pub mod watch;
pub mod workers;
pub mod write;

pub use advisor::{AdvisorError, AdvisorStatus, Explained, ModelStatus, Rated, TrainedAdvisor};
pub use agents::{Agents, AgentsError, Inbox};
pub use audit::AuditError;
pub use ballots::VotersStatus;
pub use board::Depth;
pub use builder::Builder;
pub use capacity::{Capacities, EscrowError, Reclaimed, Released};
pub use collection::{Collection, CollectionError};
pub use conflicts::{ConflictFilter, Preview, Previewed, Reopened, Resolution, ResolveError, Resolved, Rival};
pub use decide::{DecideError, Decided, Decision, Take};
pub use figures::{Figure, FigureKind};
pub use handle::{LeaveError, Node};
pub use keep::{Kept, Lost};
pub use knowledge::{Added, Found, Indexed, KnowledgeError, KnowledgeFilter, KnowledgePage, Similar};
pub use lock::{Grant, Lock, LockError, LockStatus};
pub use membership::{EvictError, RecoverError};
pub use partitions::Partitions;
pub use queue::Queue;
pub use read::{Behind, Listing, Read, Shown};
pub use replicas::{FenceError, ReplicaStatus, Replicas};
pub use settings::{NodeSettings, Ready, RunError};
pub use status::{ClusterStatus, PeerStatus};
pub use tasks::{Claim, Extended, Tasks, TasksError};
pub use token::{ParseTokenError, Token};
pub use vms::{VmRun, VmStop, Vms, VmsError};
pub use watch::{Change, ConflictNote, ParsePositionError, Position, Told, Watch, WatchAll, WatchError};
pub use workers::{WorkerFilter, Workers, WorkersError};
pub use write::{DocumentWrite, Durability, IfMatch, Missing, ParseDurabilityError, Receipt, WriteBody, WriteError};

pub use crate::engine::schemas::Origin as SchemaOrigin;
