//! Who takes part in one request: fixed at its start, never recomputed (Dynamo §4.3).

use std::sync::Arc;

use crate::membership::{LayoutHolder, Liveness};
use crate::ring::{Layout, Partition};
use crate::types::NodeId;

use super::error::ReplicationError;
use super::level::Level;
use super::table::RowKey;

/// The replicas of one request.
#[derive(Clone, Debug)]
pub struct ReplicaPlan {
    /// The layout that it was made from.
    pub layout: Arc<Layout>,
    /// The partition concerned.
    pub partition: Partition,
    /// The partition's owners for the bucket's n, in preference order.
    pub owners: Vec<NodeId>,
    /// How many of them must answer.
    pub needed: usize,
}

impl ReplicaPlan {
    /// The plan for one row, kept `n` times, at `level`.
    ///
    /// # Errors
    /// [`ReplicationError::NoLayout`] before `cluster init`.
    pub fn for_row(
        holder: &LayoutHolder,
        row: &RowKey,
        n: usize,
        level: Level,
    ) -> Result<Self, ReplicationError> {
        let layout = holder.current().ok_or(ReplicationError::NoLayout)?;
        let partition = row.partition(&layout);
        Self::for_partition(layout, partition, n, level)
    }

    /// The plan for anything in `partition`.
    ///
    /// # Errors
    /// [`ReplicationError::NoLayout`] if no node has capacity.
    pub fn for_partition(
        layout: Arc<Layout>,
        partition: Partition,
        n: usize,
        level: Level,
    ) -> Result<Self, ReplicationError> {
        let owners = layout.preference_list(partition).owners(n).to_vec();
        if owners.is_empty() {
            return Err(ReplicationError::NoLayout);
        }
        let needed = level.needed(owners.len());
        Ok(Self { layout, partition, owners, needed })
    }

    /// The owners in the order in which a read asks them: this node, then those that seem
    /// alive, nearest first, then the rest.
    #[must_use]
    pub fn nearest_first(&self, me: NodeId, peers: &dyn PeerView) -> Vec<NodeId> {
        let mut owners = self.owners.clone();
        owners.sort_by_key(|&owner| {
            let down = owner != me && peers.liveness(owner) == Liveness::Down;
            (down, owner != me, peers.round_trip_micros(owner))
        });
        owners
    }
}

/// What a plan may know of peers: hints for speed, never for safety.
pub trait PeerView: Send + Sync {
    /// Whether `node` seems alive.
    fn liveness(&self, node: NodeId) -> Liveness;

    /// The round trip to `node` in microseconds; a large number if it was never measured.
    fn round_trip_micros(&self, node: NodeId) -> u64;
}
