//! Who takes part in one request: fixed at its start, never recomputed (Dynamo §4.3, §4.6).

use std::sync::Arc;

use crate::env::mutation::{Mutation, is_planted};
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
    /// Copies that there should be.
    pub n: u8,
    /// How much agreement is asked for.
    pub level: Level,
    /// The partition's owners for the bucket's n, in preference order.
    pub owners: Vec<NodeId>,
    /// Who may stand in for owners that are away, best first; nobody at strict levels.
    pub fallbacks: Vec<NodeId>,
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
        let list = layout.preference_list(partition);
        let owners = list.owners(n).to_vec();
        if owners.is_empty() {
            return Err(ReplicationError::NoLayout);
        }
        let sloppy = level.is_sloppy() || is_planted(Mutation::FallbackInQuorum);
        let fallbacks = if sloppy { list.fallbacks(n).to_vec() } else { Vec::new() };
        let n = u8::try_from(n).unwrap_or(u8::MAX);
        Ok(Self { layout, partition, n, level, owners, fallbacks })
    }

    /// How many replicas must answer a read.
    #[must_use]
    pub fn reads(&self) -> usize {
        if is_planted(Mutation::ReadOne) {
            return 1;
        }
        self.level.reads(self.owners.len())
    }

    /// How many replicas must have a write on stable storage.
    #[must_use]
    pub fn writes(&self) -> usize {
        if is_planted(Mutation::WriteOne) {
            return 1;
        }
        self.level.writes(self.owners.len())
    }

    /// Whether `node` is an owner.
    #[must_use]
    pub fn is_owner(&self, node: NodeId) -> bool {
        self.owners.contains(&node)
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

    /// Everybody who may serve the request, in the order in which they are asked: owners that
    /// seem alive, nearest first; stand-ins that seem alive, in preference order, so that those
    /// who wrote and those who read choose the same; then the rest.
    #[must_use]
    pub fn candidates(&self, me: NodeId, peers: &dyn PeerView) -> Vec<NodeId> {
        let up = |node: &NodeId| *node == me || peers.liveness(*node) == Liveness::Up;
        let owners = self.nearest_first(me, peers);
        let (living, away): (Vec<NodeId>, Vec<NodeId>) = owners.into_iter().partition(up);
        let (standing_in, far): (Vec<NodeId>, Vec<NodeId>) =
            self.fallbacks.iter().copied().partition(up);
        [living, standing_in, away, far].concat()
    }
}

/// What a plan may know of peers: hints for speed, never for safety.
pub trait PeerView: Send + Sync {
    /// Whether `node` seems alive.
    fn liveness(&self, node: NodeId) -> Liveness;

    /// The round trip to `node` in microseconds; a large number if it was never measured.
    fn round_trip_micros(&self, node: NodeId) -> u64;
}
