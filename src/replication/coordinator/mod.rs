//! Runs one request over a partition's owners: plan, send, tally, answer (Dynamo §4.5).
//!
//! # Invariants
//! 1. A write is answered when the owners that its level asks for have it on stable storage (I1).
//! 2. What is not known is answered as unknown: an owner that may have a write is never counted
//!    as one that has not (I9).
//! 3. A write is minted by an owner, above every write that its quorum has seen: a write that
//!    began after another was acknowledged supersedes it, whatever the clocks say.

mod forward;
mod mend;
mod read;
mod scan;
mod serve;
mod spread;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::codec::{decode_message, encode_message};
use crate::env::mutation::{Mutation, is_planted};
use crate::env::{Monotonic, deadline_in};
use crate::membership::LayoutHolder;
use crate::net::{Message, PeerError, Transport};
use crate::ring::{Layout, Partition};
use crate::types::NodeId;

use super::error::ReplicationError;
use super::hints::{HintFigures, HintLedger, HintLimits};
use super::message::{REPLICA_SERVICE, ReplicaReply, ReplicaRequest, ReplicaStanding};
use super::plan::PeerView;
use super::replica::Replica;
use super::site::Site;
use super::table::Tables;
use super::unsettled::Unsettled;

pub use read::{ReadReceipt, Standing};
pub use scan::{ScanEntry, ScanPage, ScanQuery};
pub use write::{NewWrite, WriteReceipt};

/// How long the coordinator waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one owner's answer to a write or read.
    pub answer: Duration,
    /// Before a read asks one owner more than it needs.
    pub hedge: Duration,
    /// Before a sloppy write lets another node stand in for an owner that has not answered.
    pub silent: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            hedge: Duration::from_millis(100),
            silent: Duration::from_millis(250),
        }
    }
}

/// Acknowledged writes whose last owners are still waited for; each holds its record and up to
/// 16 KiB of inline bytes.
const LATE_WRITES_MAX: usize = 2048;

/// Read repairs under way.
const REPAIRS_MAX: usize = 256;

/// Coordinates requests of this node's clients, and of peers that own no copy. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator {
    pub(super) site: Arc<Site>,
    pub(super) replica: Arc<Replica>,
    pub(super) tables: Tables,
    pub(super) layout: Arc<LayoutHolder>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) peers: Arc<dyn PeerView>,
    pub(super) patience: Patience,
    /// Places for answers that come after their quorum.
    pub(super) late: Arc<Semaphore>,
    /// Places for read repairs.
    pub(super) repairs: Arc<Semaphore>,
    /// Whether this node's copies count.
    pub(super) standing: Arc<dyn OwnStanding>,
    /// What this node keeps for others.
    pub(super) kept: Arc<HintLedger>,
    /// Partitions whose owners are known to have parted.
    pub(super) unsettled: Arc<Unsettled>,
}

/// Whether this node's copies say anything yet.
pub trait OwnStanding: Send + Sync {
    /// Its standing in a partition.
    fn of(&self, partition: Partition) -> ReplicaStanding;
}

/// A node that was never emptied.
struct AlwaysCounted;

impl OwnStanding for AlwaysCounted {
    fn of(&self, _partition: Partition) -> ReplicaStanding {
        ReplicaStanding::Counted
    }
}

impl Coordinator {
    /// A coordinator over this node's `replica` and the way to its peers.
    #[must_use]
    pub fn new(
        site: Arc<Site>,
        replica: Arc<Replica>,
        tables: Tables,
        layout: Arc<LayoutHolder>,
        transport: Arc<dyn Transport>,
        peers: Arc<dyn PeerView>,
    ) -> Self {
        let kept = HintLedger::new(Arc::clone(&site), HintLimits::default());
        let unsettled = Unsettled::new(Arc::clone(&site.clock));
        Self {
            site,
            replica,
            tables,
            layout,
            transport,
            peers,
            patience: Patience::default(),
            late: Arc::new(Semaphore::new(LATE_WRITES_MAX)),
            repairs: Arc::new(Semaphore::new(REPAIRS_MAX)),
            standing: Arc::new(AlwaysCounted),
            kept,
            unsettled,
        }
    }

    /// What this node keeps for owners that were away, near enough.
    #[must_use]
    pub fn kept(&self) -> &Arc<HintLedger> {
        &self.kept
    }

    /// What `peer` keeps for owners that were away; `None` if it does not tell in time.
    pub async fn kept_by(&self, peer: NodeId) -> Option<BTreeMap<NodeId, HintFigures>> {
        if peer == self.site.node {
            return Some(self.kept.figures());
        }
        match self.ask(peer, &ReplicaRequest::Kept, Bytes::new()).await {
            Ok((ReplicaReply::Kept { owners }, _)) => Some(owners.into_iter().collect()),
            _ => None,
        }
    }

    /// The same, keeping so much for owners that are away.
    #[must_use]
    pub fn with_hint_limits(mut self, limits: HintLimits) -> Self {
        self.kept = HintLedger::new(Arc::clone(&self.site), limits);
        self
    }

    /// The same, asking `standing` whether this node's copies count.
    #[must_use]
    pub fn with_standing(mut self, standing: Arc<dyn OwnStanding>) -> Self {
        if is_planted(Mutation::CountRebuilding) {
            return self;
        }
        self.standing = standing;
        self
    }

    /// Whether this node is being rebuilt in `partition`.
    pub(crate) fn is_rebuilding(&self, partition: Partition) -> bool {
        self.standing.of(partition) == ReplicaStanding::Rebuilding
    }

    /// The same with other patience.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// How long it waits for what.
    #[must_use]
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// This node.
    #[must_use]
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// This node's copies.
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// The way to peers.
    #[must_use]
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// What is known of peers.
    #[must_use]
    pub fn peers(&self) -> &Arc<dyn PeerView> {
        &self.peers
    }

    /// The layout in force.
    ///
    /// # Errors
    /// [`ReplicationError::NoLayout`] before `cluster init`.
    pub fn layout(&self) -> Result<Arc<Layout>, ReplicationError> {
        self.layout.current().ok_or(ReplicationError::NoLayout)
    }

    pub(super) fn deadline(&self) -> Monotonic {
        deadline_in(&*self.site.clock, self.patience.answer)
    }

    /// Asks one peer's replica.
    pub(super) async fn ask(
        &self,
        peer: NodeId,
        request: &ReplicaRequest,
        attachment: Bytes,
    ) -> Result<(ReplicaReply, Bytes), PeerError> {
        let body = encode_message(request)
            .map_err(|error| PeerError::Refused { peer, reason: error.to_string() })?;
        let message = Message { body: body.into(), attachment };
        let answer = self.transport.call(peer, REPLICA_SERVICE, message, self.deadline()).await?;
        let reply = decode_message::<ReplicaReply>(&answer.body)
            .map_err(|error| PeerError::Failed { peer, reason: error.to_string() })?;
        Ok((reply, answer.attachment))
    }
}
