//! Brings what is kept for owners to them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::causality::HybridTime;
use crate::env::metrics;
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::membership::Liveness;
use crate::replication::coordinator::Coordinator;
use crate::replication::error::ReplicationError;
use crate::replication::level::Level;
use crate::replication::message::{HandedRow, ReplicaReply, ReplicaRequest, RowName, Want};
use crate::replication::plan::ReplicaPlan;
use crate::replication::replica::digest_of;
use crate::replication::table::{RowKey, TableId};
use crate::ring::Partition;
use crate::store::{Batch, Family, KeyRange, StoreError, Visit, next_prefix};
use crate::types::NodeId;

use super::ledger::{HintFigures, HintLedger};
use super::row::{HintName, HintRow};

/// Rows of one message, and their bytes.
const BATCH_ROWS: usize = 64;
const BATCH_BYTES: usize = 1 << 20;
/// How often hints are looked through.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often they are counted.
const COUNT_AGAIN: u32 = 30;
/// The shortest pause between two batches for one owner.
const PAUSE_MIN: Duration = Duration::from_millis(5);

static DELIVERED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_hints_delivered_total", "Rows that were brought to their owners.")
});

/// Brings the bytes of an extent to a peer that owns it.
pub trait BytesPusher: Send + Sync {
    /// Resolves once the peer has the bytes that `record`, a row of [`TableId::Extents`], names on
    /// stable storage, or once it is clear that there are none to bring.
    fn push(
        &self,
        owner: NodeId,
        row: RowKey,
        record: Bytes,
    ) -> BoxFuture<'static, Result<(), String>>;
}

/// One hint with its row, on its way.
struct Parcel {
    name: HintName,
    hint: HintRow,
    record: Bytes,
    inline: Bytes,
}

/// What this node keeps for others.
pub struct Hints {
    coordinator: Coordinator,
    ledger: Arc<HintLedger>,
    pusher: OnceLock<Arc<dyn BytesPusher>>,
    /// Owners that are being given their rows.
    busy: Mutex<BTreeSet<NodeId>>,
}

impl Hints {
    /// The hints of this node's replica; [`Hints::start`] delivers them.
    #[must_use]
    pub fn new(coordinator: Coordinator) -> Arc<Self> {
        let ledger = Arc::clone(coordinator.kept());
        Arc::new(Self { coordinator, ledger, pusher: OnceLock::new(), busy: Mutex::default() })
    }

    /// Brings bytes of extents by `pusher`. The first call counts.
    pub fn set_pusher(&self, pusher: Arc<dyn BytesPusher>) {
        drop(self.pusher.set(pusher));
    }

    /// Delivers hints from now on, until this is dropped.
    pub fn start(self: &Arc<Self>) {
        let site = Arc::clone(self.coordinator.site());
        let clock = Arc::clone(&site.clock);
        let hints = Arc::downgrade(self);
        let work = async move {
            for round in 0_u32.. {
                let Some(hints) = Weak::upgrade(&hints) else { return };
                if round.is_multiple_of(COUNT_AGAIN)
                    && let Err(error) = hints.count().await
                {
                    tracing::error!(%error, "hints cannot be counted");
                }
                hints.look();
                drop(hints);
                clock.sleep(LOOK_AGAIN).await;
            }
        };
        site.tasks.spawn("hints", work.boxed()).detach();
    }

    /// What is kept for each owner, near enough.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<NodeId, HintFigures> {
        self.ledger.figures()
    }

    /// When the oldest write began that is kept for any owner of `partition`; `None` if nothing
    /// is. Exact: it is what a purge of tombstones relies on.
    ///
    /// # Errors
    /// If storage fails or a hint is damaged.
    pub async fn oldest(
        &self,
        partition: Partition,
    ) -> Result<Option<HybridTime>, ReplicationError> {
        // What was decided before this call is seen by the scan.
        self.coordinator.replica().rows().barrier().await?;
        let mut oldest = None;
        let mut damaged = None;
        let found = self.coordinator.replica().rows().scan_with(move |meta| {
            let everything = KeyRange { start: Vec::new(), end: None };
            meta.scan(Family::Hints, &everything, &mut |key, value| {
                let (name, hint) = match (HintName::parse(key), HintRow::decode(value)) {
                    (Some(name), Ok(hint)) => (name, hint),
                    _ => {
                        damaged = Some("a hint cannot be read".to_owned());
                        return Visit::Next;
                    }
                };
                // Each owner's hints are in the order of their partitions.
                let owner = name.owner.as_bytes();
                match name.partition.cmp(&partition) {
                    Ordering::Less => Visit::Seek([&owner[..], &partition.to_be_bytes()].concat()),
                    Ordering::Greater => next_prefix(owner).map_or(Visit::Stop, Visit::Seek),
                    Ordering::Equal => {
                        let least =
                            oldest.map_or(hint.since, |oldest: HybridTime| oldest.min(hint.since));
                        oldest = Some(least);
                        Visit::Next
                    }
                }
            })?;
            Ok((oldest, damaged))
        });
        match found.await? {
            (_, Some(damaged)) => Err(ReplicationError::Damaged(damaged)),
            (oldest, None) => Ok(oldest),
        }
    }

    /// Counts what is kept.
    async fn count(&self) -> Result<(), ReplicationError> {
        let rows = self.coordinator.replica().rows();
        let counted = rows.scan_with(|meta| {
            let mut counted: BTreeMap<NodeId, HintFigures> = BTreeMap::new();
            let mut names = Vec::new();
            let everything = KeyRange { start: Vec::new(), end: None };
            meta.scan(Family::Hints, &everything, &mut |key, value| {
                if let (Some(name), Ok(hint)) = (HintName::parse(key), HintRow::decode(value)) {
                    let figures = counted.entry(name.owner).or_default();
                    figures.rows += 1;
                    figures.bytes += key.len() as u64;
                    let oldest = figures.oldest.map_or(hint.since, |at| at.min(hint.since));
                    figures.oldest = Some(oldest);
                    names.push((name.owner, name.row.table, name.row.stored(name.partition)));
                }
                Visit::Next
            })?;
            for (owner, table, key) in names {
                let mut bytes = meta.get(table.family(), &key)?.map_or(0, |value| value.len());
                if table == TableId::Objects {
                    bytes += meta.get(Family::Inline, &key)?.map_or(0, |value| value.len());
                }
                if let Some(figures) = counted.get_mut(&owner) {
                    figures.bytes += bytes as u64;
                }
            }
            Ok(counted)
        });
        self.ledger.set(counted.await?);
        Ok(())
    }

    /// Begins to deliver to every owner that is there and is owed something.
    fn look(self: &Arc<Self>) {
        for (owner, figures) in self.ledger.figures() {
            let up = self.coordinator.peers().liveness(owner) == Liveness::Up;
            let aged = self.ledger.is_aged(owner) || self.ledger.is_full();
            if figures.rows == 0 || !(up || aged) || !self.busy.lock().insert(owner) {
                continue;
            }
            let hints = Arc::clone(self);
            let work = async move {
                if let Err(error) = hints.deliver(owner).await {
                    tracing::debug!(%owner, %error, "hints wait to be delivered");
                }
                hints.busy.lock().remove(&owner);
            };
            let tasks = &self.coordinator.site().tasks;
            tasks.spawn("hint delivery", work.boxed()).detach();
        }
    }

    /// Brings an owner all that is kept for it, batch by batch.
    async fn deliver(&self, owner: NodeId) -> Result<(), ReplicationError> {
        let clock = Arc::clone(&self.coordinator.site().clock);
        let mut from = owner.as_bytes().to_vec();
        let mut left = false;
        loop {
            let (names, more) = self.page(owner, from).await?;
            let Some(last) = names.last().map(|(name, _)| name.key()) else { break };
            let (parcels, taken) = self.pack(owner, names).await?;
            let up = self.coordinator.peers().liveness(owner) == Liveness::Up;
            let pause = if up {
                let (delivered, pause) = self.hand_over(owner, parcels).await?;
                left |= !delivered;
                pause
            } else {
                left |= !self.settle_elsewhere(parcels).await?;
                PAUSE_MIN
            };
            from = taken.unwrap_or(last).to_vec();
            from.push(0);
            clock.sleep(pause.max(PAUSE_MIN)).await;
            if !more {
                break;
            }
        }
        if left {
            return self.count().await;
        }
        self.ledger.clear(owner);
        Ok(())
    }

    /// The next hints for `owner`, and whether there are more behind them.
    async fn page(
        &self,
        owner: NodeId,
        from: Vec<u8>,
    ) -> Result<(Vec<(HintName, HintRow)>, bool), ReplicationError> {
        let range = KeyRange { start: from, end: next_prefix(owner.as_bytes()) };
        let page = self.coordinator.replica().rows().scan_with(move |meta| {
            let mut names = Vec::new();
            let mut more = false;
            meta.scan(Family::Hints, &range, &mut |key, value| {
                if names.len() >= BATCH_ROWS {
                    more = true;
                    return Visit::Stop;
                }
                match (HintName::parse(key), HintRow::decode(value)) {
                    (Some(name), Ok(hint)) => names.push((name, hint)),
                    _ => {
                        tracing::error!("a hint cannot be read: its owner is left to anti-entropy")
                    }
                }
                Visit::Next
            })?;
            Ok::<_, StoreError>((names, more))
        });
        Ok(page.await?)
    }

    /// Reads the rows of these hints, as many as one message holds; if not all, also where the
    /// message ends.
    async fn pack(
        &self,
        owner: NodeId,
        names: Vec<(HintName, HintRow)>,
    ) -> Result<(Vec<Parcel>, Option<Bytes>), ReplicationError> {
        let mut parcels = Vec::new();
        let mut bytes = 0;
        let count = names.len();
        for (index, (name, hint)) in names.into_iter().enumerate() {
            let held =
                self.coordinator.replica().read(&name.row, name.partition, Want::RecordAndBytes);
            let key = name.key();
            match held {
                Ok(held) => match held.record {
                    Some(record) => {
                        bytes += record.len() + held.inline.len() + key.len();
                        parcels.push(Parcel { name, hint, record, inline: held.inline });
                    }
                    None => self.drop_empty(&name).await?,
                },
                Err(error) => {
                    tracing::error!(%owner, %error, "a row that is kept for an owner is damaged");
                }
            }
            if bytes >= BATCH_BYTES && index + 1 < count {
                return Ok((parcels, Some(key)));
            }
        }
        Ok((parcels, None))
    }

    /// A hint whose row was purged or erased since stands for nothing.
    async fn drop_empty(&self, name: &HintName) -> Result<(), ReplicationError> {
        let mut batch = Batch::new();
        batch.delete(Family::Hints, name.key());
        let replica = self.coordinator.replica();
        replica.erase_with(&name.row, name.partition, None, |_| Ok(batch)).await.map(drop)
    }

    /// Gives rows to their owner; tells whether it took all, and how long to pause.
    async fn hand_over(
        &self,
        owner: NodeId,
        parcels: Vec<Parcel>,
    ) -> Result<(bool, Duration), ReplicationError> {
        let all = parcels.len();
        let mut ready = Vec::with_capacity(all);
        for parcel in parcels {
            match self.push_bytes(owner, &parcel).await {
                Ok(()) => ready.push(parcel),
                Err(reason) => tracing::debug!(%owner, reason, "bytes wait to be delivered"),
            }
        }
        let (durable, pause) = match self.send(owner, &ready).await {
            Err(_) if is_planted(Mutation::HintStruckEarly) => (vec![true; ready.len()], PAUSE_MIN),
            sent => sent?,
        };
        probe::crash_point("hints delivered, not struck off");
        let mut delivered = 0;
        for (parcel, durable) in ready.iter().zip(durable) {
            if durable && self.retire(parcel).await? {
                DELIVERED.inc();
                probe::sometimes("a hint is delivered");
                delivered += 1;
            }
        }
        Ok((delivered == all, pause))
    }

    async fn push_bytes(&self, owner: NodeId, parcel: &Parcel) -> Result<(), String> {
        match self.pusher.get() {
            Some(pusher) if parcel.name.row.table == TableId::Extents => {
                pusher.push(owner, parcel.name.row.clone(), parcel.record.clone()).await
            }
            _ => Ok(()),
        }
    }

    async fn send(
        &self,
        to: NodeId,
        parcels: &[Parcel],
    ) -> Result<(Vec<bool>, Duration), ReplicationError> {
        if parcels.is_empty() {
            return Ok((Vec::new(), PAUSE_MIN));
        }
        let mut inline = BytesMut::new();
        let rows = parcels.iter().map(|parcel| {
            inline.extend_from_slice(&parcel.inline);
            HandedRow {
                row: RowName::of(&parcel.name.row),
                n: parcel.hint.n,
                record: parcel.record.clone(),
                inline_length: u32::try_from(parcel.inline.len()).unwrap_or(u32::MAX),
            }
        });
        let rows = rows.collect();
        let layout = self.coordinator.layout()?.version().0;
        let request = ReplicaRequest::Take { layout, rows };
        let failed = |reason: String| ReplicationError::Unavailable {
            answered: 0,
            needed: 1,
            outcome: crate::replication::level::Outcome::Unknown,
            reason,
        };
        match self.coordinator.ask(to, &request, inline.freeze()).await {
            Ok((ReplicaReply::Taken { durable, pause_millis }, _)) => {
                Ok((durable, Duration::from_millis(u64::from(pause_millis))))
            }
            Ok((other, _)) => Err(failed(format!("{other:?}"))),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// What is kept for an owner that has been away for too long is brought to the others: all of
    /// them together are proof enough, and bring it to the last when it is back.
    async fn settle_elsewhere(&self, parcels: Vec<Parcel>) -> Result<bool, ReplicationError> {
        let layout = self.coordinator.layout()?;
        let mut all = true;
        for parcel in parcels {
            let (partition, n) = (parcel.name.partition, usize::from(parcel.hint.n));
            let plan =
                ReplicaPlan::for_partition(Arc::clone(&layout), partition, n, Level::Strict)?;
            let mut holding = 0;
            for &owner in plan.owners.iter().filter(|owner| **owner != parcel.name.owner) {
                if owner == self.coordinator.site().node {
                    holding += 1;
                    continue;
                }
                if self.push_bytes(owner, &parcel).await.is_err() {
                    continue;
                }
                let sent = self.send(owner, std::slice::from_ref(&parcel)).await;
                holding += usize::from(sent.is_ok_and(|(durable, _)| durable == [true]));
            }
            // All others: how many acknowledged the write is not known here.
            let others = plan.owners.len().saturating_sub(1).max(1);
            probe::sometimes("an aged hint is settled with the other owners");
            all &= holding >= others && self.retire(&parcel).await?;
        }
        Ok(all)
    }

    /// Deletes a hint whose row was delivered, and the row if this node has no other reason to
    /// keep it; not if the row has changed since.
    async fn retire(&self, parcel: &Parcel) -> Result<bool, ReplicationError> {
        let layout = self.coordinator.layout()?;
        let list = layout.preference_list(parcel.name.partition);
        let owners = list.owners(usize::from(parcel.hint.n));
        let others: Vec<NodeId> =
            owners.iter().copied().filter(|owner| *owner != parcel.name.owner).collect();
        let guest = !owners.contains(&self.coordinator.site().node);
        let replica = self.coordinator.replica();
        let digest = digest_of(&parcel.record);
        replica.retire_hint(&parcel.name, digest, guest.then_some(others.as_slice())).await
    }
}
