//! Writes that lost to a concurrent one, in buckets where the last writer wins: listed with the
//! row where the two met, and counted once, by the first owner of the row.
//!
//! # Invariants
//! 1. What is listed was written and is not what the key holds: neither writer knew of the other.
//! 2. A write and its repetition above a newer one are one request: it did not lose.
//! 3. A write that its own side had replaced before the two sides met did not lose to the other
//!    side, in whatever order they arrive.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use prometheus::IntCounter;
use serde::{Deserialize, Serialize};

use crate::causality::{Dot, Stamp};
use crate::codec::{Format, decode_format, encode_format};
use crate::env::{UnixMillis, metrics};
use crate::replication::{Change, Record, ReplicationError, RowKey, Site, TableId};
use crate::ring::Partition;
use crate::store::{Batch, Decided, Family, KeyRange, Rows, StoreError, Visit};

use super::error::CatalogError;
use super::full_copy::ask;
use super::keys::bucket_of;
use super::local_copy::LocalCopy;
use super::remote::{CatalogReply, CatalogRequest};
use super::rows::ObjectRow;
use super::service::Catalog;

/// Lost writes that are listed of one key; older ones are forgotten.
const PER_KEY_MAX: usize = 32;
/// How long a lost write is listed.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);
/// So long after it was noted, a write that was repeated is known to have been.
const SETTLED_AFTER: Duration = Duration::from_secs(15);
/// How often settled ones are told to the first owner of their row.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Rows that are told in one go.
const TOLD_AT_ONCE: usize = 256;

/// Before the keys of lists, and of what is still to be told.
const LISTED: u8 = b'l';
const UNTOLD: u8 = b'u';

static LOST: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "quorate_lww_conflicts_total",
        "Writes that lost to a concurrent one, counted by the first owner of their key.",
    )
});

/// A write that lost to a concurrent one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostWrite {
    /// When and where it was stamped.
    #[serde(rename = "s")]
    pub stamp: Stamp,
    /// Its name.
    #[serde(rename = "d")]
    pub dot: Dot,
    /// Its bytes; `None` for a deletion.
    #[serde(rename = "z")]
    pub size: Option<u64>,
    /// Its ETag; `None` for a deletion.
    #[serde(rename = "e")]
    pub etag: Option<String>,
    /// The stamp of the write that it lost to.
    #[serde(rename = "t")]
    pub lost_to: Stamp,
    /// The name of the write that it lost to.
    #[serde(rename = "b", default)]
    pub by: Option<Dot>,
    /// When that was found out.
    #[serde(rename = "n")]
    pub noted: UnixMillis,
}

impl Format for LostWrite {
    const NAME: &'static str = "lost write";
    const NUMBER: u16 = 1;
}

/// Which row a list belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    partition: Partition,
    row: RowKey,
}

impl Place {
    /// What the keys of all lost writes of the row begin with. Lengths stand before what varies,
    /// so that no row's list begins with another's.
    fn prefix(&self) -> BytesMut {
        let mut key = BytesMut::with_capacity(64 + self.row.sort.len());
        key.extend_from_slice(&[LISTED]);
        key.extend_from_slice(&self.partition.to_be_bytes());
        for part in [&self.row.routing, &self.row.sort] {
            key.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            key.extend_from_slice(part);
        }
        key
    }

    fn key(&self, dot: Dot) -> Bytes {
        let mut key = self.prefix();
        key.extend_from_slice(dot.actor.node.as_bytes());
        key.extend_from_slice(&dot.actor.boot.to_be_bytes());
        key.extend_from_slice(&dot.actor.stint.to_be_bytes());
        key.extend_from_slice(&dot.counter.to_be_bytes());
        key.freeze()
    }

    /// The row of a key that [`Place::key`] made.
    fn of(key: &[u8]) -> Option<Self> {
        let mut rest = key.strip_prefix(&[LISTED])?;
        let partition = Partition(rest.try_get_u32().ok()?);
        let mut part = || {
            let length = usize::from(rest.try_get_u16().ok()?);
            let (part, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(Bytes::copy_from_slice(part))
        };
        let (routing, sort) = (part()?, part()?);
        Some(Self { partition, row: RowKey { table: TableId::Objects, routing, sort } })
    }
}

fn untold_key(noted: UnixMillis, listed: &[u8]) -> Vec<u8> {
    [&[UNTOLD][..], &noted.0.to_be_bytes(), listed].concat()
}

/// A lost write that the first owner of its row has not heard of.
struct Untold {
    key: Bytes,
    /// Its key in the list.
    listed: Bytes,
    lost: Bytes,
}

/// The lists of one node.
pub(super) struct Conflicts {
    rows: Rows,
    site: Arc<Site>,
    local: Arc<LocalCopy>,
}

impl Conflicts {
    pub(super) fn new(rows: Rows, site: Arc<Site>, local: Arc<LocalCopy>) -> Arc<Self> {
        LazyLock::force(&LOST);
        Arc::new(Self { rows, site, local })
    }

    /// Lists the loser if `change` brings two writes together neither of which knew of the other.
    pub(super) fn note_conflict(
        &self,
        change: &Change<'_>,
        batch: &mut Batch,
    ) -> Result<(), ReplicationError> {
        let incoming = decode_format::<ObjectRow>(change.incoming)?;
        let place = Place { partition: change.partition, row: change.row.clone() };
        if let Some(repeated) = incoming.version.repeats {
            self.forget(&place.key(repeated), batch)?;
        }
        let Some(before) = change.before.map(decode_format::<ObjectRow>).transpose()? else {
            return Ok(());
        };
        let sloppy = self.local.level_of(incoming.bucket).is_some_and(|level| level.is_sloppy());
        if !sloppy || !before.version.is_concurrent_with(&incoming.version) {
            return Ok(());
        }
        self.forget_replaced(&place, [&before, &incoming], batch)?;
        if before.version.seen.contains(incoming.version.dot) {
            // It was merged elsewhere, and comes late: where it met the other it was dealt with.
            return Ok(());
        }
        let incoming_wins = incoming.version.order() > before.version.order();
        let (winner, loser) =
            if incoming_wins { (&incoming, &before) } else { (&before, &incoming) };
        let lost = LostWrite {
            stamp: loser.version.stamp,
            dot: loser.version.dot,
            size: loser.object.as_ref().map(|object| object.size),
            etag: loser.object.as_ref().map(|object| object.etag.clone()),
            lost_to: winner.version().stamp,
            by: Some(winner.version.dot),
            noted: self.site.clock.wall(),
        };
        let key = place.key(lost.dot);
        if self.rows.newest(Family::Conflicts, &key)?.is_some() {
            return Ok(());
        }
        self.make_room(&place, batch)?;
        let value = Bytes::from(encoded(&lost)?);
        batch.put(Family::Conflicts, untold_key(lost.noted, &key), value.clone());
        batch.put(Family::Conflicts, key, value);
        Ok(())
    }

    /// Takes writes from the list that one of two concurrent ones had replaced before it met what
    /// they were said to have lost to.
    fn forget_replaced(
        &self,
        place: &Place,
        concurrent: [&ObjectRow; 2],
        batch: &mut Batch,
    ) -> Result<(), ReplicationError> {
        for (key, lost) in self.listed(place)? {
            let replaced = |row: &&ObjectRow| {
                row.version.knew_of(lost.dot)
                    && lost.by.is_some_and(|winner| !row.version.knew_of(winner))
            };
            if concurrent.iter().any(replaced) {
                self.forget(&key, batch)?;
            }
        }
        Ok(())
    }

    /// Takes a write from the list that turned out to have been repeated.
    fn forget(&self, key: &[u8], batch: &mut Batch) -> Result<(), ReplicationError> {
        let Some(listed) = self.rows.newest(Family::Conflicts, key)? else { return Ok(()) };
        let lost = decode_format::<LostWrite>(&listed)?;
        batch.delete(Family::Conflicts, untold_key(lost.noted, key));
        batch.delete(Family::Conflicts, Bytes::copy_from_slice(key));
        Ok(())
    }

    /// Removes what is too old or too much of the row's list.
    fn make_room(&self, place: &Place, batch: &mut Batch) -> Result<(), ReplicationError> {
        let mut listed = self.listed(place)?;
        listed.sort_by_key(|(_, lost)| std::cmp::Reverse(lost.stamp));
        let now = self.site.clock.wall();
        for (at, (key, lost)) in listed.iter().enumerate() {
            let age = Duration::from_millis(now.0.saturating_sub(lost.noted.0));
            if at + 1 >= PER_KEY_MAX || age > KEPT {
                batch.delete(Family::Conflicts, key.clone());
            }
        }
        Ok(())
    }

    fn listed(&self, place: &Place) -> Result<Vec<(Bytes, LostWrite)>, StoreError> {
        let mut listed = Vec::new();
        let range = KeyRange::prefix(place.prefix().to_vec());
        self.rows.meta().scan(Family::Conflicts, &range, &mut |key, value| {
            match decode_format::<LostWrite>(value) {
                Ok(lost) => listed.push((Bytes::copy_from_slice(key), lost)),
                Err(error) => tracing::warn!(%error, "a lost write cannot be read"),
            }
            Visit::Next
        })?;
        Ok(listed)
    }

    /// The lost writes of a row that are listed here, latest first.
    pub(super) fn of_row(
        &self,
        partition: Partition,
        row: &RowKey,
    ) -> Result<Vec<LostWrite>, StoreError> {
        let listed = self.listed(&Place { partition, row: row.clone() })?;
        let mut lost: Vec<LostWrite> = listed.into_iter().map(|(_, lost)| lost).collect();
        lost.sort_by_key(|lost| std::cmp::Reverse(lost.stamp));
        Ok(lost)
    }

    /// Takes in what another owner noted, and counts it if it is new here.
    pub(super) async fn take_told(&self, key: Bytes, lost: Bytes) -> Result<(), CatalogError> {
        let place = Place::of(&key).ok_or_else(unreadable)?;
        let noted = decode_format::<LostWrite>(&lost).map_err(|_| unreadable())?;
        if place.key(noted.dot) != key {
            return Err(unreadable());
        }
        // Under the lock of the object's row, as everything that lists its lost writes.
        let object = place.row.stored(place.partition);
        let taken = self.rows.update(Family::Objects, object, |_| {
            let known = self.rows.newest(Family::Conflicts, &key)?.is_some();
            let mut batch = Batch::new();
            if !known {
                self.make_room(&place, &mut batch)?;
                batch.put(Family::Conflicts, key.clone(), lost);
            }
            Ok::<_, ReplicationError>(Decided { batch, outcome: !known })
        });
        if taken.await.map_err(ReplicationError::from)?? {
            LOST.inc();
        }
        Ok(())
    }

    /// What was noted long enough ago and not told to the first owner yet.
    async fn untold(&self) -> Result<Vec<Untold>, StoreError> {
        let settled = u64::try_from(SETTLED_AFTER.as_millis()).unwrap_or(u64::MAX);
        let until = UnixMillis(self.site.clock.wall().0.saturating_sub(settled));
        let range = KeyRange { start: vec![UNTOLD], end: Some(untold_key(until, &[])) };
        self.rows
            .scan_with(move |meta| {
                let mut found = Vec::new();
                meta.scan(Family::Conflicts, &range, &mut |key, lost| {
                    let listed = key.get(9..).map(Bytes::copy_from_slice).unwrap_or_default();
                    let key = Bytes::copy_from_slice(key);
                    found.push(Untold { key, listed, lost: Bytes::copy_from_slice(lost) });
                    if found.len() < TOLD_AT_ONCE { Visit::Next } else { Visit::Stop }
                })?;
                Ok(found)
            })
            .await
    }
}

fn unreadable() -> CatalogError {
    CatalogError::Internal { reason: "a lost write that was told cannot be read".into() }
}

fn encoded(lost: &LostWrite) -> Result<Vec<u8>, ReplicationError> {
    encode_format(lost).map_err(|error| ReplicationError::Damaged(error.to_string()))
}

impl Catalog {
    /// Tells the first owner of each row what was lost here, for ever.
    async fn tell_for_ever(self) {
        loop {
            self.coordinator.site().clock.sleep(TELL_EVERY).await;
            if let Err(error) = self.tell_lost().await {
                tracing::debug!(%error, "lost writes wait to be told");
            }
        }
    }

    async fn tell_lost(&self) -> Result<(), CatalogError> {
        let mut done = Batch::new();
        for untold in self.conflicts.untold().await.map_err(ReplicationError::from)? {
            let told = match Place::of(&untold.listed) {
                Some(place) => self.tell_one(&place, untold.listed, untold.lost).await,
                None => Ok(()),
            };
            match told {
                Ok(()) => done.delete(Family::Conflicts, untold.key),
                Err(error) => tracing::debug!(%error, "a lost write waits to be told"),
            }
        }
        Ok(self.conflicts.rows.commit(done).await.map_err(ReplicationError::from)?)
    }

    async fn tell_one(&self, place: &Place, key: Bytes, lost: Bytes) -> Result<(), CatalogError> {
        let bucket = bucket_of(&place.row.routing).and_then(|id| self.local.bucket_by_id(id));
        let Some(bucket) = bucket else { return Ok(()) };
        let layout = self.coordinator.layout()?;
        let list = layout.preference_list(place.partition);
        match list.owners(usize::from(bucket.n)).first() {
            Some(&first) if first == self.coordinator.site().node => {
                LOST.inc();
                Ok(())
            }
            Some(&first) => {
                let request = CatalogRequest::TakeLost { key, lost };
                match ask(&self.coordinator, first, &request).await? {
                    CatalogReply::Failed { error } => Err(error.into()),
                    _ => Ok(()),
                }
            }
            None => Ok(()),
        }
    }

    /// Counts lost writes beside everything else.
    pub(super) fn start_telling(&self) {
        let work = self.clone().tell_for_ever();
        self.coordinator.site().tasks.spawn("lost writes", work.boxed()).detach();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::Place;
    use crate::causality::{Actor, Dot};
    use crate::replication::{RowKey, TableId};
    use crate::ring::Partition;
    use crate::types::NodeId;

    fn place(routing: Vec<u8>, sort: Vec<u8>) -> Place {
        let row = RowKey { table: TableId::Objects, routing: routing.into(), sort: sort.into() };
        Place { partition: Partition(7), row }
    }

    proptest! {
        #[test]
        fn a_list_is_found_by_its_row_and_by_no_other(
            sort in prop::collection::vec(any::<u8>(), 0..40),
            other in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let actor = Actor { node: NodeId::from_bytes([1; 16]), boot: 2, stint: 3 };
            let dot = Dot { actor, counter: 4 };
            let (mine, others) = (place(vec![9; 18], sort.clone()), place(vec![9; 18], other.clone()));

            let key = mine.key(dot);

            prop_assert_eq!(Place::of(&key), Some(mine.clone()));
            prop_assert!(key.starts_with(&mine.prefix()));
            prop_assert_eq!(key.starts_with(&others.prefix()), sort == other);
            let _: Bytes = key;
        }
    }
}
