//! An exchange with one other owner: roots, leaves, keys, records.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_bytes::{ByteArray, ByteBuf};

use crate::causality::HybridTime;
use crate::env::probe;
use crate::merkle::{LeafSet, LeafSums, Root};
use crate::replication::companion::{Purpose, RowWrite};
use crate::replication::error::ReplicationError;
use crate::replication::message::{HandedRow, RowName, Want};
use crate::replication::replica::digest_of;
use crate::replication::table::RowKey;
use crate::types::NodeId;

use super::exchange::{Differences, RowPage};
use super::figures;
use super::local;
use super::message::{Ask, PairReport, RepairReply, TreeName, TreeRoot};
use super::service::{Exchanged, Repair, Scope, unavailable, unexpected};

/// Rows that one message asks for or brings, and their bytes.
pub(super) const BATCH_ROWS: usize = 256;
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// The least pause between two batches.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// An exchange under way.
struct Meeting<'a> {
    repair: &'a Repair,
    scope: Scope,
    peer: NodeId,
    /// The purge floors of the two copies when it began.
    my_floor: HybridTime,
    their_floor: HybridTime,
    report: PairReport,
}

impl Repair {
    /// Exchanges a partition with another owner of it.
    ///
    /// # Errors
    /// If the peer does not answer or storage fails; what was exchanged until then stays.
    pub(super) async fn exchange(
        &self,
        scope: &Scope,
        peer: NodeId,
    ) -> Result<PairReport, ReplicationError> {
        let done = self.exchange_all(scope, peer).await;
        let outcome = match &done {
            Ok(report) if report.complete => "complete",
            Ok(_) => "incomplete",
            Err(_) => "failed",
        };
        figures::EXCHANGES.with_label_values(&[outcome]).inc();
        done
    }

    async fn exchange_all(
        &self,
        scope: &Scope,
        peer: NodeId,
    ) -> Result<PairReport, ReplicationError> {
        if !self.built.load(Ordering::Acquire) {
            return Err(unavailable("this node's leaves are being built".to_owned()));
        }
        let least = self.shared_from(scope, peer);
        let least = least.ok_or_else(|| unavailable("they share no rows".to_owned()))?;
        let began = self.site().now();
        let my_floor = self.floors.of(scope.partition).purged;
        let partition = scope.partition;
        let trees = self.rows().scan_with(move |meta| local::read_trees(meta, partition)).await?;
        let shared = || trees.sums.iter().filter(|(tree, _)| tree.n >= least);
        let roots = shared().map(|(tree, sums)| TreeRoot { tree: *tree, root: sums.root() });
        let ask = Ask::Compare { roots: roots.collect() };
        let (reply, _) = self.ask(scope, peer, ask, Bytes::new()).await?;
        let RepairReply::Compared { floor, missing, differing, standing } = reply else {
            return Err(unexpected(&reply));
        };
        let mut meeting = Meeting {
            repair: self,
            scope: scope.clone(),
            peer,
            my_floor,
            their_floor: floor,
            report: PairReport {
                complete: true,
                missing_here: trees.missing,
                missing_there: missing,
                ..PairReport::default()
            },
        };
        let in_sync = differing.is_empty() && my_floor == floor;
        if !in_sync {
            for tree in differing.into_iter().filter(|tree| tree.n >= least) {
                let mine = trees.sums.get(&tree).cloned().unwrap_or_default();
                meeting.tree(tree, &mine).await?;
            }
            meeting.finish().await?;
        }
        if meeting.report.complete {
            let missing = meeting.report.missing_here;
            self.note_exchange(partition, peer, Exchanged { began, missing, peer: standing });
        }
        Ok(meeting.report)
    }
}

impl Meeting<'_> {
    async fn ask(&self, ask: Ask, bytes: Bytes) -> Result<(RepairReply, Bytes), ReplicationError> {
        self.repair.ask(&self.scope, self.peer, ask, bytes).await
    }

    /// Exchanges the rows of one tree.
    async fn tree(&mut self, tree: TreeName, mine: &LeafSums) -> Result<(), ReplicationError> {
        let (reply, bytes) = self.ask(Ask::Leaves { tree }, Bytes::new()).await?;
        let RepairReply::Leaves = reply else { return Err(unexpected(&reply)) };
        let theirs = LeafSums::decode(&bytes)
            .ok_or_else(|| unavailable("its leaves cannot be read".to_owned()))?;
        let leaves = mine.differing(&theirs);
        let mut explained = leaves.is_empty();
        let mut from = Some(Bytes::new());
        while let Some(start) = from {
            let (mine, theirs) = self.pages(tree, &leaves, start).await?;
            let found = Differences::between(&mine, &theirs);
            explained |= !found.is_empty() || found.half_missing > 0;
            if !found.is_empty() {
                self.pull(tree, found.wanted()).await?;
                self.push(tree, &found).await?;
            }
            from = found.next;
        }
        if !explained {
            // Sums differ over equal rows: one side's are wrong.
            probe::sometimes("leaves are counted again");
            self.ask(Ask::Recount { tree }, Bytes::new()).await?;
            self.repair.check(self.scope.partition, tree.table).await?;
            self.report.complete = false;
        }
        Ok(())
    }

    async fn pages(
        &self,
        tree: TreeName,
        leaves: &LeafSet,
        from: Bytes,
    ) -> Result<(RowPage, RowPage), ReplicationError> {
        let partition = self.scope.partition;
        let (set, start) = (leaves.clone(), from.clone());
        let mine = self
            .repair
            .rows()
            .scan_with(move |meta| local::read_page(meta, partition, tree, &set, &start));
        let mine = mine.await?;
        let ask = Ask::Keys { tree, leaves: ByteBuf::from(leaves.encode()), from: from.clone() };
        let (reply, bytes) = self.ask(ask, Bytes::new()).await?;
        let RepairReply::Keys { next } = reply else { return Err(unexpected(&reply)) };
        // A page that does not go forward would be asked for, for ever.
        let forward = next.as_ref().is_none_or(|next| *next > from);
        let theirs = RowPage::decode(bytes, next).filter(|_| forward);
        Ok((mine, theirs.ok_or_else(|| unavailable("its rows cannot be read".to_owned()))?))
    }

    /// Merges the peer's records of these keys.
    async fn pull(&mut self, tree: TreeName, keys: Vec<Bytes>) -> Result<(), ReplicationError> {
        let mut rest = &keys[..];
        while !rest.is_empty() {
            let ask = Ask::Records { tree, keys: rest[..rest.len().min(BATCH_ROWS)].to_vec() };
            let (reply, bytes) = self.ask(ask, Bytes::new()).await?;
            let RepairReply::Records { rows, looked, damaged } = reply else {
                return Err(unexpected(&reply));
            };
            let looked = usize::try_from(looked).unwrap_or(0).min(rest.len());
            if looked == 0 {
                return Err(unavailable("it gives no rows".to_owned()));
            }
            rest = &rest[looked..];
            self.report.complete &= damaged == 0;
            self.merge(tree, rows, bytes).await?;
            self.repair.pause_for(PAUSE_MIN).await;
        }
        Ok(())
    }

    async fn merge(
        &mut self,
        tree: TreeName,
        rows: Vec<HandedRow>,
        bytes: Bytes,
    ) -> Result<(), ReplicationError> {
        let replica = self.repair.coordinator.replica();
        let rows = super::serve::unpack(&self.scope, rows, bytes).map_err(unavailable)?;
        let mut outlived = Vec::new();
        let mut merging = Vec::new();
        for handed in rows {
            let stamp = replica.stamp_of(tree.table, &handed.record)?.time;
            let purged = stamp <= self.my_floor && self.their_floor < self.my_floor;
            let held = replica.fetch(&handed.row, self.scope.partition, Want::Digest).await?;
            if purged && held.record.is_none() {
                let key = handed.row.stored(self.scope.partition).slice(4..);
                outlived.push((key, ByteArray::new(digest_of(&handed.record))));
                continue;
            }
            merging.push(handed);
        }
        let partition = self.scope.partition;
        let purpose = Purpose::Exchange { floor: self.their_floor };
        let writes = merging.iter().map(|handed| {
            let (row, record, inline, n) = (&handed.row, &handed.record, &handed.inline, handed.n);
            replica.write(RowWrite { row, partition, n, purpose, record, inline })
        });
        for written in futures_util::future::join_all(writes).await {
            match written {
                Ok(_) => self.report.pulled += 1,
                Err(error) => {
                    tracing::debug!(%error, "a row that a peer holds is not taken");
                    self.report.complete = false;
                }
            }
        }
        if !outlived.is_empty() {
            let ask = Ask::Outlived { tree, rows: outlived };
            let (reply, _) = self.ask(ask, Bytes::new()).await?;
            let RepairReply::Erased { rows } = reply else { return Err(unexpected(&reply)) };
            self.report.erased += rows;
        }
        Ok(())
    }

    /// Gives the peer what it has not, or has in an older state, after what it had was merged.
    async fn push(&mut self, tree: TreeName, found: &Differences) -> Result<(), ReplicationError> {
        let unseen = found.mine.iter().map(|row| (&row.key, None));
        let older = found.both.iter().map(|conflict| (&conflict.key, Some(conflict.theirs)));
        let (mut batch, mut bytes) = (Vec::new(), BytesMut::new());
        let mut weight = 0;
        for (key, theirs) in unseen.chain(older) {
            let Some(row) = RowKey::parse(tree.table, key) else { continue };
            let Some(handed) = self.handed(tree, row, theirs, &mut bytes).await? else {
                continue;
            };
            weight += key.len() + handed.record.len() + handed.inline_length as usize;
            batch.push(handed);
            if batch.len() >= BATCH_ROWS || weight >= BATCH_BYTES {
                self.send(std::mem::take(&mut batch), std::mem::take(&mut bytes)).await?;
                weight = 0;
            }
        }
        self.send(batch, bytes).await
    }

    /// The row as it is handed over; `None` if the peer needs it not, or must not have it.
    async fn handed(
        &mut self,
        tree: TreeName,
        row: RowKey,
        theirs: Option<[u8; 16]>,
        bytes: &mut BytesMut,
    ) -> Result<Option<HandedRow>, ReplicationError> {
        let (replica, partition) = (self.repair.coordinator.replica(), self.scope.partition);
        let held = match replica.fetch(&row, partition, Want::RecordAndBytes).await {
            Ok(held) => held,
            Err(error) => {
                tracing::error!(%error, "a row that a peer lacks is damaged here");
                self.report.complete = false;
                return Ok(None);
            }
        };
        let Some(record) = held.record else { return Ok(None) };
        let digest = digest_of(&record);
        if theirs == Some(digest) {
            return Ok(None);
        }
        let stamp = replica.stamp_of(tree.table, &record)?.time;
        let lower = self.my_floor < self.their_floor;
        if lower && theirs.is_none() && stamp <= self.their_floor {
            // The peer held this once, and all owners agreed that it is gone.
            let erased = replica.erase(&row, partition, Some(digest)).await?;
            self.report.erased += u64::from(erased);
            probe::sometimes("an exchange erases what was purged elsewhere");
            return Ok(None);
        }
        bytes.extend_from_slice(&held.inline);
        let inline_length = u32::try_from(held.inline.len()).unwrap_or(u32::MAX);
        Ok(Some(HandedRow { row: RowName::of(&row), n: tree.n, record, inline_length }))
    }

    async fn send(
        &mut self,
        rows: Vec<HandedRow>,
        bytes: BytesMut,
    ) -> Result<(), ReplicationError> {
        if rows.is_empty() {
            return Ok(());
        }
        let sent = rows.len();
        let (reply, _) = self.ask(Ask::Push { rows }, bytes.freeze()).await?;
        let RepairReply::Pushed { durable, pause_millis } = reply else {
            return Err(unexpected(&reply));
        };
        let taken = durable.iter().filter(|durable| **durable).count();
        self.report.pushed += taken as u64;
        self.report.complete &= taken == sent;
        let pause = Duration::from_millis(u64::from(pause_millis));
        self.repair.pause_for(pause.max(PAUSE_MIN)).await;
        Ok(())
    }

    /// Tells the peer how it went; the lower of the two floors is raised, if both hold all the same
    /// now.
    async fn finish(&mut self) -> Result<(), ReplicationError> {
        let (repair, partition) = (self.repair, self.scope.partition);
        let (reply, _) =
            self.ask(Ask::Finish { complete: self.report.complete }, Bytes::new()).await?;
        let RepairReply::Finished { missing } = reply else { return Err(unexpected(&reply)) };
        self.report.missing_there = missing;
        let whole = repair.shares_all(&self.scope, repair.me(), self.peer);
        if self.report.complete && self.their_floor > self.my_floor && whole {
            self.report.erased += repair.purge(partition, self.their_floor).await?;
        }
        let missing = repair.rows().scan_with(move |meta| local::read_missing(meta, partition));
        self.report.missing_here = missing.await?;
        let count = |how: &str, rows| figures::ROWS.with_label_values(&[how]).inc_by(rows);
        count("pulled", self.report.pulled);
        count("pushed", self.report.pushed);
        count("erased", self.report.erased);
        repair.tallies.pulled.fetch_add(self.report.pulled, Ordering::Relaxed);
        repair.tallies.pushed.fetch_add(self.report.pushed, Ordering::Relaxed);
        Ok(())
    }
}

/// The trees of `mine` whose roots differ from those that a peer told, and those that it has and
/// this node has not; rows with fewer copies than `least` are not shared with it.
pub(super) fn differing(
    mine: &std::collections::BTreeMap<TreeName, LeafSums>,
    told: &[TreeRoot],
    least: u8,
) -> Vec<TreeName> {
    let theirs = |tree: &TreeName| {
        told.iter().find(|told| told.tree == *tree).map_or(Root::EMPTY, |told| told.root)
    };
    let unknown = told.iter().map(|told| told.tree).filter(|tree| !mine.contains_key(tree));
    let mut trees: Vec<TreeName> = mine.keys().copied().chain(unknown).collect();
    trees.retain(|tree| {
        let root = mine.get(tree).map_or(Root::EMPTY, LeafSums::root);
        tree.n >= least && root != theirs(tree)
    });
    trees
}
