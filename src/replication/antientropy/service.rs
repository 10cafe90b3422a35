//! The repair of one node: what its parts share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::causality::HybridTime;
use crate::codec::{decode_message, encode_message};
use crate::env::deadline_in;
use crate::membership::Liveness;
use crate::net::{Message, PeerError};
use crate::replication::coordinator::Coordinator;
use crate::replication::error::ReplicationError;
use crate::replication::floors::Floors;
use crate::replication::hints::Hints;
use crate::replication::level::Outcome as RequestOutcome;
use crate::replication::message::ReplicaStanding;
use crate::replication::site::Site;
use crate::ring::{Layout, Partition};
use crate::store::{Batch, Family, Rows};
use crate::types::NodeId;

use super::agenda::Agenda;
use super::figures;
use super::inventory::NodeRepair;
use super::message::{Ask, REPAIR_SERVICE, RepairReply, RepairRequest};
use super::proof::Proofs;
use super::roots::Roots;

/// The row of this node's own facts that says that repair is paused.
const PAUSED_KEY: &[u8] = b"repair|paused";

/// How long a peer may take to answer anything but an exchange.
const ANSWER: Duration = Duration::from_secs(10);

/// Scans for peers under way at once.
const SCANS_MAX: usize = 2;

/// How repair goes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairSettings {
    /// How often each partition is proven. Default 10 min.
    pub interval: Duration,
    /// How old a tombstone must be before it is purged; no request may take longer. Default 1 h.
    pub purge_lag: Duration,
}

impl Default for RepairSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(600), purge_lag: Duration::from_secs(3600) }
    }
}

impl RepairSettings {
    /// How old the last proof of a partition may be for the cluster to be called healthy.
    #[must_use]
    pub const fn fresh(&self) -> Duration {
        self.interval.saturating_mul(3)
    }
}

/// An exchange that was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// When it began, by this node's hybrid clock.
    pub began: HybridTime,
    /// Rows of the partition whose bytes were missing here at its end.
    pub missing: u64,
    /// Whether the other's copy counted, or was itself being rebuilt.
    pub peer: ReplicaStanding,
}

/// How many copies the rows of the buckets in use are to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiesInUse {
    /// Of the bucket with the fewest.
    pub least: usize,
    /// Of the bucket with the most.
    pub most: usize,
}

/// Counters since the start.
#[derive(Default)]
pub(super) struct Tallies {
    pub(super) pulled: AtomicU64,
    pub(super) pushed: AtomicU64,
    pub(super) purged: AtomicU64,
    pub(super) corrected: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) under_way: AtomicU64,
}

/// Compares, exchanges, proves and purges, with the other owners.
pub struct Repair {
    pub(super) coordinator: Coordinator,
    pub(super) hints: Arc<Hints>,
    pub(super) floors: Arc<Floors>,
    pub(super) settings: RepairSettings,
    pub(super) proofs: Proofs,
    pub(super) roots: Roots,
    pub(super) agenda: Mutex<Agenda>,
    pub(super) wake: Notify,
    pub(super) scans: Semaphore,
    pub(super) paused: AtomicBool,
    /// Whether leaves can be relied on.
    pub(super) built: AtomicBool,
    /// One count of leaves at a time: two would both add the difference.
    pub(super) counting: tokio::sync::Mutex<()>,
    pub(super) tallies: Tallies,
    /// When this node was started.
    awake_since: HybridTime,
    pub(super) started: Mutex<Option<HybridTime>>,
    pub(super) blocked: Mutex<Option<String>>,
    /// How many copies rows are to have.
    copies: Box<dyn Fn() -> CopiesInUse + Send + Sync>,
    exchanged: Mutex<BTreeMap<(Partition, NodeId), Exchanged>>,
    /// When a peer began an exchange that it has not finished.
    pub(super) begun: Mutex<BTreeMap<(Partition, NodeId), HybridTime>>,
}

/// A partition in the layout in force, for one piece of work.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) layout: Arc<Layout>,
    pub(super) partition: Partition,
}

impl Repair {
    /// The repair of this node's copies; [`Repair::start`] begins it. `copies` tells how
    /// many copies the buckets' rows are to have.
    ///
    /// # Errors
    /// If storage fails.
    pub fn open(
        coordinator: Coordinator,
        hints: Arc<Hints>,
        floors: Arc<Floors>,
        settings: RepairSettings,
        copies: Box<dyn Fn() -> CopiesInUse + Send + Sync>,
    ) -> Result<Arc<Self>, ReplicationError> {
        let rows = coordinator.replica().rows().clone();
        let paused = rows.get(Family::Local, PAUSED_KEY)?.is_some();
        let built = super::recount::is_built(&rows)?;
        Ok(Arc::new(Self {
            awake_since: coordinator.site().now(),
            coordinator,
            hints,
            floors,
            settings,
            proofs: Proofs::open(rows)?,
            roots: Roots::default(),
            agenda: Mutex::default(),
            wake: Notify::new(),
            scans: Semaphore::new(SCANS_MAX),
            paused: AtomicBool::new(paused),
            built: AtomicBool::new(built),
            counting: tokio::sync::Mutex::new(()),
            tallies: Tallies::default(),
            started: Mutex::new(None),
            blocked: Mutex::new(None),
            copies,
            exchanged: Mutex::default(),
            begun: Mutex::default(),
        }))
    }

    /// What it was told.
    #[must_use]
    pub fn settings(&self) -> RepairSettings {
        self.settings
    }

    /// The floors of this node's partitions.
    #[must_use]
    pub fn floors(&self) -> &Arc<Floors> {
        &self.floors
    }

    /// The last complete exchange of a partition with each other owner, since this start.
    #[must_use]
    pub fn exchanged(&self, partition: Partition) -> BTreeMap<NodeId, Exchanged> {
        let low = NodeId::from_bytes([0; 16]);
        let high = NodeId::from_bytes([0xff; 16]);
        let exchanged = self.exchanged.lock();
        let of = exchanged.range((partition, low)..=(partition, high));
        of.map(|((_, peer), exchanged)| (*peer, *exchanged)).collect()
    }

    pub(super) fn note_exchange(&self, partition: Partition, peer: NodeId, what: Exchanged) {
        self.exchanged.lock().insert((partition, peer), what);
    }

    pub(super) fn site(&self) -> &Arc<Site> {
        self.coordinator.site()
    }

    pub(super) fn me(&self) -> NodeId {
        self.site().node
    }

    pub(super) fn rows(&self) -> &Rows {
        self.coordinator.replica().rows()
    }

    pub(super) fn scope(&self, partition: Partition) -> Result<Scope, ReplicationError> {
        Ok(Scope { layout: self.coordinator.layout()?, partition })
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        node == self.me() || self.coordinator.peers().liveness(node) == Liveness::Up
    }

    /// The owners of a partition, for the rows with the most copies.
    pub(super) fn owners(&self, scope: &Scope) -> Vec<NodeId> {
        let list = scope.layout.preference_list(scope.partition);
        list.owners(self.most_copies()).to_vec()
    }

    /// The most copies that any row is to have.
    pub(super) fn most_copies(&self) -> usize {
        (self.copies)().most.max(1)
    }

    /// The fewest copies of rows that both nodes own; `None` if one of them owns none.
    pub(super) fn shared_from(&self, scope: &Scope, peer: NodeId) -> Option<u8> {
        let list = scope.layout.preference_list(scope.partition);
        let place = |node: NodeId| list.all().iter().position(|listed| *listed == node);
        let last = place(self.me())?.max(place(peer)?);
        u8::try_from(last + 1).ok()
    }

    /// Whether an exchange with `other` shows `adopter` all rows that it owns: rows with few
    /// copies are owned by the first of the list only. One that did not may not take the other's
    /// purge floor: it would call rows purged that it has just not been brought.
    pub(super) fn shares_all(&self, scope: &Scope, adopter: NodeId, other: NodeId) -> bool {
        let list = scope.layout.preference_list(scope.partition);
        let place = |node: NodeId| list.all().iter().position(|listed| *listed == node);
        let least = (self.copies)().least.max(1);
        match (place(adopter), place(other)) {
            (Some(adopter), Some(other)) => other < (adopter + 1).max(least),
            _ => false,
        }
    }

    /// Whether this node's copy of a partition counts.
    pub(super) fn standing(&self, partition: Partition) -> ReplicaStanding {
        match self.coordinator.is_rebuilding(partition) {
            true => ReplicaStanding::Rebuilding,
            false => ReplicaStanding::Counted,
        }
    }

    /// How long to pause so that clients do not feel the next step.
    pub(super) fn strain(&self) -> Duration {
        Duration::from_millis(u64::from(self.coordinator.replica().pause_millis()))
    }

    pub(super) async fn pause_for(&self, least: Duration) {
        let pause = least.max(self.strain());
        if !pause.is_zero() {
            self.site().clock.sleep(pause).await;
        }
    }

    pub(super) async fn ask(
        &self,
        scope: &Scope,
        peer: NodeId,
        ask: Ask,
        attachment: Bytes,
    ) -> Result<(RepairReply, Bytes), ReplicationError> {
        self.ask_for(scope, peer, ask, attachment, ANSWER).await
    }

    pub(super) async fn ask_for(
        &self,
        scope: &Scope,
        peer: NodeId,
        ask: Ask,
        attachment: Bytes,
        patience: Duration,
    ) -> Result<(RepairReply, Bytes), ReplicationError> {
        let request = RepairRequest {
            layout: scope.layout.version().0,
            partition: scope.partition,
            floor: self.floors.of(scope.partition).purged,
            standing: self.standing(scope.partition),
            ask,
        };
        let body = encode_message(&request)
            .map_err(|error| ReplicationError::Damaged(error.to_string()))?;
        self.count_sent(body.len() + attachment.len());
        let message = Message { body: body.into(), attachment };
        let deadline = deadline_in(&*self.site().clock, patience);
        let transport = self.coordinator.transport();
        let failed = |error: PeerError| unavailable(error.to_string());
        let answer = transport.call(peer, REPAIR_SERVICE, message, deadline).await;
        let answer = answer.map_err(failed)?;
        match decode_message::<RepairReply>(&answer.body) {
            Ok(RepairReply::Refused { reason }) => Err(unavailable(reason)),
            Ok(RepairReply::Rebuilding) => Err(unavailable("it is being rebuilt".to_owned())),
            Ok(RepairReply::StaleLayout { version }) => {
                Err(unavailable(format!("layout {version} is in force there")))
            }
            Ok(reply) => Ok((reply, answer.attachment)),
            Err(error) => Err(ReplicationError::Damaged(error.to_string())),
        }
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        figures::BYTES_SENT.inc_by(bytes as u64);
        self.tallies.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How repair goes on this node.
    #[must_use]
    pub fn progress(&self) -> NodeRepair {
        let read = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
        NodeRepair {
            awake_since: self.awake_since,
            paused: self.paused.load(Ordering::Acquire),
            building: !self.built.load(Ordering::Acquire),
            started: *self.started.lock(),
            rounds_under_way: read(&self.tallies.under_way),
            rows_pulled: read(&self.tallies.pulled),
            rows_pushed: read(&self.tallies.pushed),
            tombstones_purged: read(&self.tallies.purged),
            leaves_corrected: read(&self.tallies.corrected),
            bytes_sent: read(&self.tallies.sent),
            purge_blocked: self.blocked.lock().clone(),
        }
    }

    /// Pauses or resumes the rounds that this node drives, across starts.
    pub(super) async fn set_paused(&self, paused: Paused) -> Result<(), ReplicationError> {
        let mut batch = Batch::new();
        match paused {
            Paused::Yes => batch.put(Family::Local, PAUSED_KEY, vec![1]),
            Paused::No => batch.delete(Family::Local, PAUSED_KEY),
        }
        self.rows().commit(batch).await?;
        self.paused.store(paused == Paused::Yes, Ordering::Release);
        self.wake.notify_one();
        Ok(())
    }
}

/// Whether rounds are begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paused {
    Yes,
    No,
}

/// A peer that was needed did not do its part.
pub(super) fn unavailable(reason: String) -> ReplicationError {
    ReplicationError::Unavailable {
        answered: 0,
        needed: 1,
        outcome: RequestOutcome::Unknown,
        reason,
    }
}

/// A peer answered something else than it was asked.
pub(super) fn unexpected(reply: &RepairReply) -> ReplicationError {
    unavailable(format!("an answer to another question: {reply:?}"))
}
