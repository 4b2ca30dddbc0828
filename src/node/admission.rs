//! Whether the cluster lets this node in.

use std::time::Duration;

use super::handle::Node;
use super::settings::RunError;
use crate::engine::message::Refusal;

impl Node {
    /// What became of a newcomer within `wait`: `None` when it was let in, when nobody answered yet, or when it was a
    /// member already.
    pub async fn admission(&self, wait: Duration) -> Option<RunError> {
        let known = || self.inner.replica.read().cluster().is_some();
        if known() {
            return None;
        }
        let mut progress = self.inner.progress.subscribe();
        let let_in = async { while !known() && progress.changed().await.is_ok() {} };
        tokio::select! {
            error = self.refused() => Some(error),
            () = let_in => None,
            () = tokio::time::sleep(wait) => None,
        }
    }

    /// Resolves when a peer refuses this node for good.
    pub async fn refused(&self) -> RunError {
        let mut refused = self.inner.refused.subscribe();
        loop {
            let refusal = refused.borrow_and_update().clone();
            match refusal {
                Some(Refusal::NameTaken { name, by }) => {
                    return RunError::Denied(format!(
                        "the name `{name}` is taken by the live node {by}: start this node with another --name"
                    ));
                }
                // A refusal by one node means little to a member that others accept.
                Some(Refusal::OtherCluster { ours }) if self.is_alone_and_joins() => {
                    return RunError::Denied(format!(
                        "the node at the --join address belongs to cluster {ours}, and this data directory to another: \
                         join a node of its own cluster, or start with an empty --data-dir"
                    ));
                }
                _ => {}
            }
            if refused.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn is_alone_and_joins(&self) -> bool {
        let replica = self.inner.replica.read();
        replica.neighbour_count() == 0 && replica.config().joins
    }
}
