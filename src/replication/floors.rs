//! What is too old to enter a partition: fences against late clients, floors against the return
//! of what was purged.
//!
//! # Invariants
//! 1. A fence or floor only rises, and is durable before it is relied on.
//! 2. When [`Floors::raise_fence`] returns, every write that was admitted below the fence is
//!    durable: an exchange that begins afterwards sees it.
//! 3. A replica whose purge floor is F holds, of what is stamped up to F, nothing that a purged
//!    tombstone had deleted. It raises its floor only when all owners were proven to hold the
//!    same up to F, or after a complete exchange with an owner that has that floor already.
//!
//! # What can go wrong, and what answers it
//! - *A replica that was dead since before the delete comes back.* While it is a member nothing
//!   is purged: the proof needs it.
//! - *A hint from before the delete is delivered late.* Its stamp is not above the floor and the
//!   key has no record: it is acknowledged and not stored. No hint of that age can be new: every
//!   member refuses clients' writes below the fence, and told of its oldest hint after that.
//! - *An old disk is put back.* Its floor is lower than the others': what it holds below theirs
//!   and they have not is erased by the exchange, never spread.
//! - *A read repair carries what its reader saw before the purge.* As the hint.
//! - *An old disk holds a value whose delete was purged, and its key was written anew since.* The
//!   new row's vector does not cover the old value, so a merge would keep both side by side: what
//!   of a record is not above the floor, and not held here, is left out of the merge.
//! - *A wiped replica is refilled.* What it gets lies below the floor too; it comes from an owner
//!   whose floor is at least as high, and so was never purged.
//! - *The driver dies between two owners' purges.* The second takes the first's floor at their
//!   next exchange.
//! - *A node's clock is behind the floor.* It would mint writes that nobody takes in: it refuses
//!   the fence, and new writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;
use crate::codec::{Format, decode_format, encode_format};
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::ring::Partition;
use crate::store::{Batch, Family, KeyRange, Rows, StoreError, Visit};

use super::companion::{Guard, Incoming, Purpose, Verdict};
use super::error::ReplicationError;
use super::site::Site;

const PREFIX: &[u8] = b"floor|";

/// How far a partition's past is closed on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Clients' writes that began, or are stamped, not above this are refused.
    #[serde(rename = "f")]
    pub fence: HybridTime,
    /// What is stamped not above this enters only where its key has a record already, or from an
    /// owner whose floor is as high.
    #[serde(rename = "p")]
    pub purged: HybridTime,
}

impl Format for Floor {
    const NAME: &'static str = "partition floor";
    const NUMBER: u16 = 1;
}

/// The floors of every partition on this node.
pub struct Floors {
    rows: Rows,
    site: Arc<Site>,
    known: RwLock<BTreeMap<Partition, Floor>>,
    /// One raise at a time, so that none is lost between two.
    raising: tokio::sync::Mutex<()>,
}

fn key_of(partition: Partition) -> Vec<u8> {
    [PREFIX, &partition.to_be_bytes()].concat()
}

impl Floors {
    /// Reads the floors that were raised before.
    ///
    /// # Errors
    /// If storage fails or a floor is damaged.
    pub fn open(rows: Rows, site: Arc<Site>) -> Result<Arc<Self>, ReplicationError> {
        let mut known = BTreeMap::new();
        let mut damaged = None;
        rows.meta().scan(Family::Local, &KeyRange::prefix(PREFIX), &mut |key, value| {
            let partition = key.last_chunk::<4>().copied().map(Partition::from_be_bytes);
            match (partition, decode_format::<Floor>(value)) {
                _ if is_planted(Mutation::ForgetFloors) => {}
                (Some(partition), Ok(floor)) => drop(known.insert(partition, floor)),
                (_, Err(error)) => damaged = Some(error),
                (None, Ok(_)) => {}
            }
            Visit::Next
        })?;
        if let Some(error) = damaged {
            return Err(error.into());
        }
        let known = RwLock::new(known);
        Ok(Arc::new(Self { rows, site, known, raising: tokio::sync::Mutex::new(()) }))
    }

    /// The floor of a partition.
    #[must_use]
    pub fn of(&self, partition: Partition) -> Floor {
        self.known.read().get(&partition).copied().unwrap_or_default()
    }

    /// Refuses clients' writes not above `fence` from now on.
    ///
    /// # Errors
    /// [`ReplicationError::ClockSkew`] if this node's clock is behind the fence; or if storage
    /// fails.
    pub async fn raise_fence(
        &self,
        partition: Partition,
        fence: HybridTime,
    ) -> Result<(), ReplicationError> {
        if self.site.now() <= fence {
            let reason = "this node's clock is behind the fence of a partition";
            return Err(ReplicationError::ClockSkew(reason.to_owned()));
        }
        self.raise(partition, Floor { fence, purged: HybridTime::default() }).await
    }

    /// Lets nothing not above `floor` in from now on where there is no record.
    ///
    /// # Errors
    /// If storage fails.
    pub async fn raise_purged(
        &self,
        partition: Partition,
        floor: HybridTime,
    ) -> Result<(), ReplicationError> {
        self.raise(partition, Floor { fence: floor, purged: floor }).await
    }

    async fn raise(&self, partition: Partition, least: Floor) -> Result<(), ReplicationError> {
        let _alone = self.raising.lock().await;
        let now = self.of(partition);
        let raised =
            Floor { fence: now.fence.max(least.fence), purged: now.purged.max(least.purged) };
        if raised != now {
            let value = encode_format(&raised)
                .map_err(|error| ReplicationError::Damaged(error.to_string()))?;
            let mut batch = Batch::new();
            batch.put(Family::Local, key_of(partition), value);
            self.rows.commit(batch).await?;
            probe::crash_point("floor raised");
            self.known.write().insert(partition, raised);
        }
        // What was admitted before the new floor was seen becomes durable before this returns.
        self.rows.barrier().await.map_err(StoreError::into)
    }
}

impl Guard for Floors {
    fn judge(&self, incoming: &Incoming<'_>) -> Result<Verdict, ReplicationError> {
        let floor = self.of(incoming.partition);
        if floor == Floor::default() || incoming.row.table.is_full_copy() {
            return Ok(Verdict::Take);
        }
        if let Some(begun) = incoming.purpose.begun() {
            let stamped = incoming.stamp.map_or_else(|| self.site.now(), |stamp| stamp.time);
            let late = begun <= floor.fence || stamped <= floor.fence;
            if late && !is_planted(Mutation::IgnoreFence) {
                probe::sometimes("a fence keeps a late write out");
                let reason = "it began before the partition's fence";
                return Err(ReplicationError::TooLate(reason.to_owned()));
            }
            return Ok(Verdict::Take);
        }
        let trusted = match incoming.purpose {
            Purpose::Exchange { floor } => floor,
            _ => HybridTime::default(),
        };
        if trusted >= floor.purged || is_planted(Mutation::IgnoreFloors) {
            return Ok(Verdict::Take);
        }
        let old = incoming.stamp.is_some_and(|stamp| stamp.time <= floor.purged);
        match old && !incoming.held {
            true => Ok(Verdict::Outlived),
            false => Ok(Verdict::TakeAbove(floor.purged)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Floor, Floors};
    use crate::causality::{HybridTime, Stamp};
    use crate::env::{Clock, OsClock, OsEntropy, TokioTasks};
    use crate::replication::companion::{Guard, Incoming, Purpose, Verdict};
    use crate::replication::error::ReplicationError;
    use crate::replication::site::Site;
    use crate::replication::table::{RowKey, TableId};
    use crate::ring::Partition;
    use crate::store::{CommitLimits, MetaOptions, RocksMeta, Rows};
    use crate::types::NodeId;

    const HERE: Partition = Partition(3);

    fn at(millis: u64) -> HybridTime {
        HybridTime::from_millis(millis)
    }

    async fn open(folder: &std::path::Path) -> Arc<Floors> {
        let meta = RocksMeta::open(folder, MetaOptions::default()).unwrap();
        let tasks = Arc::new(TokioTasks::current());
        let rows = Rows::start(Arc::new(meta), tasks.clone(), CommitLimits::default());
        let clock: Arc<dyn Clock> = Arc::new(OsClock::new());
        let seams = (clock, Arc::new(OsEntropy::new()) as _, tasks as _);
        let site = Site::new(NodeId::from_bytes([1; 16]), 1, HybridTime::default(), seams);
        Floors::open(rows, site).unwrap()
    }

    /// What becomes of a record stamped at that time, for a key with or without a record.
    fn judge(
        floors: &Floors,
        purpose: Purpose,
        stamped: Option<u64>,
        held: Held,
    ) -> Result<Verdict, ReplicationError> {
        let row = RowKey { table: TableId::Kv, routing: Bytes::new(), sort: Bytes::new() };
        let node = NodeId::from_bytes([1; 16]);
        floors.judge(&Incoming {
            row: &row,
            partition: HERE,
            purpose,
            stamp: stamped.map(|millis| Stamp { time: at(millis), node }),
            bucket_epoch: None,
            bytes: 0,
            held: held == Held::Yes,
        })
    }

    #[derive(PartialEq)]
    enum Held {
        Yes,
        No,
    }

    fn client(begun: u64) -> Purpose {
        Purpose::Client { begun: at(begun) }
    }

    fn hinted(begun: u64) -> Purpose {
        Purpose::Hinted { owner: NodeId::from_bytes([2; 16]), begun: at(begun) }
    }

    #[tokio::test]
    async fn a_fence_keeps_late_clients_out_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let floors = open(folder.path()).await;

        floors.raise_fence(HERE, at(100)).await.unwrap();

        for late in [client(100), hinted(99)] {
            let refused = judge(&floors, late, Some(500), Held::Yes);
            assert!(matches!(refused, Err(ReplicationError::TooLate(_))), "{late:?}");
        }
        assert!(judge(&floors, client(101), Some(100), Held::Yes).is_err(), "stamped too early");
        assert_eq!(judge(&floors, client(101), Some(101), Held::No).unwrap(), Verdict::Take);
        assert_eq!(judge(&floors, client(101), None, Held::No).unwrap(), Verdict::Take);
        let exchange = Purpose::Exchange { floor: at(0) };
        for before in [Purpose::Repair, exchange] {
            assert_eq!(judge(&floors, before, Some(5), Held::No).unwrap(), Verdict::Take);
        }
    }

    #[tokio::test]
    async fn what_was_purged_does_not_come_back_whoever_brings_it() {
        let folder = tempfile::tempdir().unwrap();
        let floors = open(folder.path()).await;

        floors.raise_purged(HERE, at(100)).await.unwrap();

        let lower = Purpose::Exchange { floor: at(99) };
        for purpose in [Purpose::Repair, lower] {
            let verdict = judge(&floors, purpose, Some(100), Held::No);
            assert_eq!(verdict.unwrap(), Verdict::Outlived, "{purpose:?}");
            for (stamped, held) in [(100, Held::Yes), (101, Held::No), (101, Held::Yes)] {
                let verdict = judge(&floors, purpose, Some(stamped), held).unwrap();
                assert_eq!(verdict, Verdict::TakeAbove(at(100)), "{purpose:?} {stamped}");
            }
        }
        assert!(judge(&floors, client(100), Some(200), Held::No).is_err());
    }

    #[tokio::test]
    async fn an_owner_that_purged_as_far_refills_one_that_was_wiped() {
        let folder = tempfile::tempdir().unwrap();
        let floors = open(folder.path()).await;

        floors.raise_purged(HERE, at(100)).await.unwrap();

        let as_high = Purpose::Exchange { floor: at(100) };
        assert_eq!(judge(&floors, as_high, Some(50), Held::No).unwrap(), Verdict::Take);
    }

    #[tokio::test]
    async fn floors_only_rise_and_survive_a_start() {
        let folder = tempfile::tempdir().unwrap();
        {
            let floors = open(folder.path()).await;
            floors.raise_purged(HERE, at(100)).await.unwrap();
            floors.raise_fence(HERE, at(200)).await.unwrap();
            floors.raise_purged(HERE, at(50)).await.unwrap();
        }

        let floors = open(folder.path()).await;

        assert_eq!(floors.of(HERE), Floor { fence: at(200), purged: at(100) });
        assert_eq!(floors.of(Partition(4)), Floor::default());
    }

    #[tokio::test]
    async fn a_node_whose_clock_is_behind_refuses_the_fence() {
        let folder = tempfile::tempdir().unwrap();
        let floors = open(folder.path()).await;
        let ahead = at(u64::MAX >> 17);

        let refused = floors.raise_fence(HERE, ahead).await;

        assert!(matches!(refused, Err(ReplicationError::ClockSkew(_))));
        assert_eq!(floors.of(HERE), Floor::default());
    }
}
