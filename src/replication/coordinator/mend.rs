//! Mends rows of this node whose inline bytes rotted, and looks for them before somebody reads.
//!
//! # What can go wrong, and what answers it
//! - *Another owner has the same record.* Its bytes are put beside the record here.
//! - *Another owner has a newer one.* It is merged in, with its bytes.
//! - *An owner is away.* It may be the one that has the bytes: the row stays as it is, unreadable
//!   here, and is tried again.
//! - *All owners answer, and none has this record or a newer one.* A write that reached this disk
//!   alone is lost: it was not acknowledged by a quorum. Its head without its bytes would stand
//!   above what can be read, for ever and for everybody; so it goes, loudly, and the others' row
//!   is exchanged for it.
//! - *There is no other owner* (one copy). The row stays, and reading it says what is wrong.

use std::time::Duration;

use bytes::Bytes;

use crate::env::metrics;
use crate::replication::companion::{Purpose, RowWrite};
use crate::replication::error::ReplicationError;
use crate::replication::held::HeldRow;
use crate::replication::level::Level;
use crate::replication::message::Want;
use crate::replication::plan::ReplicaPlan;
use crate::replication::replica::digest_of;
use crate::replication::stored::{RowFlags, record_of};
use crate::replication::table::{RowKey, TableId};
use crate::ring::Partition;
use crate::store::{Family, KeyRange, MetaStore, StoreError, Visit};

use super::Coordinator;
use super::read::Told;

static MENDED: std::sync::LazyLock<prometheus::IntCounterVec> = std::sync::LazyLock::new(|| {
    metrics::counters(
        "quorate_inline_mended_total",
        "Rows whose inline bytes rotted here, by what came of them: mended, or lost with a write \
         that no other owner holds.",
        &["outcome"],
    )
});

static DAMAGED: std::sync::LazyLock<prometheus::IntGauge> = std::sync::LazyLock::new(|| {
    metrics::gauge(
        "quorate_inline_damaged_rows",
        "Rows whose inline bytes rotted here, not mended yet.",
    )
});

/// Between two attempts to mend what could not be mended.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Rows looked at in one go, and the pause after them.
const PAGE: usize = 256;
const PAGE_PAUSE: Duration = Duration::from_millis(20);

/// What came of one row.
enum Mended {
    /// It is whole.
    Yes,
    /// It was lost.
    Lost,
    /// An owner that may have it is away, or there is none.
    NotYet,
}

impl Coordinator {
    /// Mends what is found damaged on this node, for ever.
    pub async fn mend_for_ever(self) {
        let damaged = self.replica.damaged();
        loop {
            damaged.noted().await;
            while damaged.count() > 0 {
                for (row, partition) in damaged.all() {
                    self.see_to(&row, partition).await;
                }
                DAMAGED.set(i64::try_from(damaged.count()).unwrap_or(i64::MAX));
                if damaged.count() > 0 {
                    self.site.clock.sleep(TRY_AGAIN).await;
                }
            }
        }
    }

    async fn see_to(&self, row: &RowKey, partition: Partition) {
        let outcome = match self.mend(row, partition).await {
            Ok(Mended::Yes) => "mended",
            Ok(Mended::Lost) => "lost",
            Ok(Mended::NotYet) => return,
            Err(error) => {
                tracing::debug!(%error, "a damaged row waits to be mended");
                return;
            }
        };
        MENDED.with_label_values(&[outcome]).inc();
        self.replica.damaged().forget(row);
    }

    async fn mend(&self, row: &RowKey, partition: Partition) -> Result<Mended, ReplicationError> {
        let key = row.stored(partition);
        let Some(value) = self.replica.rows().get(row.table.family(), &key)? else {
            return Ok(Mended::Yes);
        };
        if self.replica.fetch(row, partition, Want::RecordAndBytes).await.is_ok() {
            return Ok(Mended::Yes);
        }
        let (record, flags) = (record_of(&value), RowFlags::of(&value));
        let plan = ReplicaPlan::for_row(&self.layout, row, usize::from(flags.n), Level::All)?;
        let others = plan.owners.iter().filter(|owner| **owner != self.site.node);
        let asked = others.map(|&owner| self.ask_owner(owner, &plan, row, Want::RecordAndBytes));
        let told = futures_util::future::join_all(asked).await;
        let (mut answered, all) = (0, told.len());
        for (_, told) in told {
            let Told::Whole(held) = told else { continue };
            answered += 1;
            self.take_over(row, &plan, &record, held).await?;
        }
        if self.replica.fetch(row, partition, Want::RecordAndBytes).await.is_ok() {
            return Ok(Mended::Yes);
        }
        if answered < all || all == 0 || !plan.is_owner(self.site.node) {
            return Ok(Mended::NotYet);
        }
        tracing::error!(
            partition = partition.as_u32(),
            key = %String::from_utf8_lossy(&row.sort),
            "a write whose bytes rotted on this disk is lost: no other owner holds it"
        );
        self.replica.erase(row, partition, Some(digest_of(&record))).await?;
        self.unsettled.note(partition);
        Ok(Mended::Lost)
    }

    /// Takes the bytes from another owner's copy of this record, or its newer record.
    async fn take_over(
        &self,
        row: &RowKey,
        plan: &ReplicaPlan,
        record: &Bytes,
        held: HeldRow,
    ) -> Result<(), ReplicationError> {
        let HeldRow { record: Some(theirs), inline } = held else { return Ok(()) };
        if theirs == *record {
            return self.replica.restore(row, plan.partition, record, &inline).await;
        }
        let (partition, n, purpose) = (plan.partition, plan.n, Purpose::Repair);
        let write = RowWrite { row, partition, n, purpose, record: &theirs, inline: &inline };
        self.replica.write(write).await.map(drop)
    }

    /// Looks through all inline bytes of this node, a round in each `interval`; not at all if
    /// that is zero.
    pub async fn scrub_rows_for_ever(self, interval: Duration) {
        if interval.is_zero() {
            return;
        }
        let clock = std::sync::Arc::clone(&self.site.clock);
        loop {
            clock.sleep(interval).await;
            if let Err(error) = self.scrub_rows().await {
                tracing::error!(%error, "looking through inline bytes broke off");
            }
        }
    }

    async fn scrub_rows(&self) -> Result<(), ReplicationError> {
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            let page = self.replica.rows().scan_with(move |meta| inline_page(meta, start)).await?;
            let (rows, next) = page;
            for (row, partition) in rows {
                // Damage is noted by the reading itself.
                let _read = self.replica.fetch(&row, partition, Want::RecordAndBytes).await;
            }
            from = next;
            let strain = Duration::from_millis(u64::from(self.replica.pause_millis()));
            self.site.clock.sleep(strain.max(PAGE_PAUSE)).await;
        }
        Ok(())
    }
}

/// Rows, and the first key that was not looked at.
type RowsPage = (Vec<(RowKey, Partition)>, Option<Vec<u8>>);

/// A page of rows that have inline bytes, and where the next begins.
fn inline_page(meta: &dyn MetaStore, start: Vec<u8>) -> Result<RowsPage, StoreError> {
    let (mut rows, mut next) = (Vec::new(), None);
    meta.scan(Family::Inline, &KeyRange { start, end: None }, &mut |key, _| {
        if rows.len() >= PAGE {
            next = Some(key.to_vec());
            return Visit::Stop;
        }
        if let Some((partition, rest)) = key.split_first_chunk::<4>()
            && let Some(row) = RowKey::parse(TableId::Objects, &Bytes::copy_from_slice(rest))
        {
            rows.push((row, Partition::from_be_bytes(*partition)));
        }
        Visit::Next
    })?;
    Ok((rows, next))
}
