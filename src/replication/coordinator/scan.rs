//! Ordered scans over a routed slice, or over many slices merged into one order (DESIGN §8).
//!
//! Each slice is asked for a fraction of the page; slices that run out are asked again. Per slice
//! one owner sends rows and the others of the quorum send digests; where they differ, the key is
//! read by itself before it is shown or hidden.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::future::join_all;

use crate::env::{deadline_in, timeout_at};
use crate::replication::error::ReplicationError;
use crate::replication::level::{Level, Outcome, Served};
use crate::replication::message::{ReplicaReply, ReplicaRequest, ScanRequest, SliceRequest, Want};
use crate::replication::plan::ReplicaPlan;
use crate::replication::scan::{ScanItem, SliceRows, Tombstone, decode_slices};
use crate::replication::table::{RowKey, TableId};
use crate::ring::Partition;
use crate::store::next_prefix;
use crate::types::NodeId;

use super::Coordinator;

/// What to scan.
#[derive(Clone, Debug)]
pub struct ScanQuery {
    /// The table.
    pub table: TableId,
    /// The slices to be merged, by routing key.
    pub slices: Vec<Bytes>,
    /// Only sort keys that begin so.
    pub prefix: Bytes,
    /// Groups sort keys that share what comes before this after the prefix.
    pub delimiter: Option<Bytes>,
    /// The first sort key of interest.
    pub from: Bytes,
    /// At most so many entries.
    pub max: usize,
    /// Copies of each row.
    pub n: usize,
    /// How many of them must agree.
    pub level: Level,
}

/// One entry of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanEntry {
    /// A live row.
    Row {
        /// Its sort key.
        sort: Bytes,
        /// Its record.
        record: Bytes,
    },
    /// At least one live row begins so.
    Prefix(Bytes),
}

impl ScanEntry {
    /// Where it stands in the order.
    #[must_use]
    pub fn position(&self) -> &Bytes {
        match self {
            Self::Row { sort, .. } => sort,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// One page of a scan.
#[derive(Clone, Debug)]
pub struct ScanPage {
    /// Entries in order.
    pub entries: Vec<ScanEntry>,
    /// Where the next page starts, as [`ScanQuery::from`]; `None` at the end.
    pub next: Option<Bytes>,
    /// How it was served.
    pub served: Served,
}

/// Requests for one slice before the page ends short: a page over endless tombstones.
const ROUNDS_MAX: usize = 16;

/// A scan waits so many times as long as a read before it asks somebody else.
const SCAN_HEDGE: u32 = 5;

/// Rows asked of a slice at least.
const ROWS_ASKED_MIN: usize = 64;

/// One slice on its way through a page.
struct Slice {
    routing: Bytes,
    plan: ReplicaPlan,
    /// Decided entries that are not in the page yet, in order.
    ready: Vec<ScanEntry>,
    /// Everything before this is decided; `None`: everything.
    from: Option<Bytes>,
}

/// What an owner is asked to send.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rows {
    Digests,
    Whole,
}

/// What one quorum of owners told of one slice.
#[derive(Default)]
struct Told {
    /// What owners told.
    answers: Vec<SliceRows>,
    /// What nodes told that stand in for owners: only what they were given.
    guests: Vec<SliceRows>,
    whole: Option<NodeId>,
    digests: BTreeSet<NodeId>,
    failed: BTreeSet<NodeId>,
    /// Who takes so long that somebody else is asked first.
    slow: BTreeSet<NodeId>,
    reasons: Vec<String>,
}

/// How long an owner is waited for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Haste {
    /// Somebody else can be asked instead, if it takes long.
    Hedged,
    /// As long as requests wait at all.
    Patient,
}

/// What was told of one position.
#[derive(Default)]
struct Group {
    items: Vec<ScanItem>,
    /// How many of these owners told.
    owners: usize,
}

impl Coordinator {
    /// Scans one page.
    ///
    /// # Errors
    /// [`ReplicationError::Unavailable`] if a slice has no quorum.
    pub async fn scan(&self, query: &ScanQuery) -> Result<ScanPage, ReplicationError> {
        let layout = self.layout()?;
        let mut slices = Vec::with_capacity(query.slices.len());
        for routing in &query.slices {
            let partition = layout.partition_of(routing);
            let plan = ReplicaPlan::for_partition(layout.clone(), partition, query.n, query.level)?;
            slices.push(Slice {
                routing: routing.clone(),
                plan,
                ready: Vec::new(),
                from: Some(query.from.clone().max(query.prefix.clone())),
            });
        }
        let mut served = Served { level: query.level, degraded: false };
        let fraction = query.max / slices.len().max(1);
        // A page of few entries may have to pass many tombstones to find them.
        let limit = (fraction + fraction / 4 + 8).max(ROWS_ASKED_MIN);
        for _ in 0..ROUNDS_MAX {
            let behind = lagging(&slices, query.max);
            if behind.is_empty() {
                break;
            }
            served.degraded |= self.extend(query, &mut slices, &behind, limit).await?;
        }
        Ok(page(slices, query.max, served))
    }

    /// Asks for the next rows of some slices and decides them; tells whether an owner failed.
    async fn extend(
        &self,
        query: &ScanQuery,
        slices: &mut [Slice],
        behind: &[usize],
        limit: usize,
    ) -> Result<bool, ReplicationError> {
        let mut told: BTreeMap<usize, Told> =
            behind.iter().map(|&index| (index, Told::default())).collect();
        while self.ask_round(query, slices, &mut told, limit).await? {}
        let mut degraded = false;
        for (index, told) in told {
            degraded |= !told.failed.is_empty() || !told.guests.is_empty();
            self.decide(query, &mut slices[index], told).await?;
        }
        Ok(degraded)
    }

    /// Asks each slice's next owners, one request per peer and kind; false when all have a
    /// quorum.
    async fn ask_round(
        &self,
        query: &ScanQuery,
        slices: &[Slice],
        told: &mut BTreeMap<usize, Told>,
        limit: usize,
    ) -> Result<bool, ReplicationError> {
        let mut requests: BTreeMap<(NodeId, Rows, Haste), Vec<usize>> = BTreeMap::new();
        for (&index, told) in told.iter() {
            let plan = &slices[index].plan;
            let mut missing = plan.reads().saturating_sub(told.answers.len() + told.guests.len());
            let mut line: Vec<NodeId> = plan
                .candidates(self.site.node, &*self.peers)
                .into_iter()
                .filter(|owner| !told.failed.contains(owner) && !told.heard(*owner))
                .collect();
            // What stands in alone knows only what it was given: an owner must be among them.
            if missing == 0 && told.answers.is_empty() {
                missing = 1;
                line.retain(|node| plan.is_owner(*node));
            }
            let owners = line.iter().filter(|node| plan.is_owner(**node)).count();
            if line.len() < missing || (told.answers.is_empty() && owners == 0) {
                return Err(no_quorum(plan, told));
            }
            line.sort_by_key(|node| told.slow.contains(node));
            let quick = line.iter().filter(|node| !told.slow.contains(node)).count();
            let haste = if quick > missing { Haste::Hedged } else { Haste::Patient };
            for (position, owner) in line.into_iter().take(missing).enumerate() {
                let first = told.whole.is_none() && position == 0;
                let whole = if first { Rows::Whole } else { Rows::Digests };
                requests.entry((owner, whole, haste)).or_default().push(index);
            }
        }
        if requests.is_empty() {
            return Ok(false);
        }
        let calls = requests.into_iter().map(|((owner, whole, haste), indexes)| async move {
            let asked = self.ask_slices(query, slices, owner, whole, &indexes, limit);
            let clock = &*self.site.clock;
            let answer = match haste {
                Haste::Patient => Some(asked.await),
                Haste::Hedged => {
                    timeout_at(clock, deadline_in(clock, self.patience.hedge * SCAN_HEDGE), asked)
                        .await
                }
            };
            (owner, whole, indexes, answer)
        });
        for (owner, whole, indexes, answer) in join_all(calls).await {
            match answer {
                Some(answer) => record_answers(slices, told, (owner, whole), &indexes, answer),
                None => told.iter_mut().filter(|(index, _)| indexes.contains(index)).for_each(
                    |(_, told)| {
                        told.slow.insert(owner);
                    },
                ),
            }
        }
        Ok(true)
    }

    async fn ask_slices(
        &self,
        query: &ScanQuery,
        slices: &[Slice],
        owner: NodeId,
        whole: Rows,
        indexes: &[usize],
        limit: usize,
    ) -> Result<Vec<SliceRows>, String> {
        let scan = ScanRequest {
            table: query.table,
            slices: indexes
                .iter()
                .map(|&index| SliceRequest {
                    routing: slices[index].routing.clone(),
                    from: slices[index].from.clone().unwrap_or_default(),
                    limit: u32::try_from(limit).unwrap_or(u32::MAX),
                })
                .collect(),
            prefix: query.prefix.clone(),
            delimiter: query.delimiter.clone(),
            want: if whole == Rows::Whole { Want::Record } else { Want::Digest },
        };
        if owner == self.site.node {
            let partitions: Vec<Partition> =
                indexes.iter().map(|&index| slices[index].plan.partition).collect();
            if partitions.iter().any(|partition| self.is_rebuilding(*partition)) {
                return Err("this node is being rebuilt".into());
            }
            return self.replica.scan(partitions, scan).await.map_err(|error| error.to_string());
        }
        let layout = slices[indexes[0]].plan.layout.version().0;
        let request = ReplicaRequest::Scan { layout, scan };
        match self.ask(owner, &request, Bytes::new()).await {
            Ok((ReplicaReply::Rows, attachment)) => decode_slices(attachment, indexes.len())
                .ok_or_else(|| format!("{}: malformed rows", owner.short())),
            Ok((other, _)) => Err(format!("{}: {other:?}", owner.short())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Decides the rows before the least key that all answers are complete to.
    async fn decide(
        &self,
        query: &ScanQuery,
        slice: &mut Slice,
        told: Told,
    ) -> Result<(), ReplicationError> {
        let all = told.answers.iter().chain(&told.guests);
        let bound: Option<Bytes> = all.filter_map(|rows| rows.next.clone()).min();
        let quorum = told.answers.len();
        let owners = told.answers.into_iter().flat_map(|rows| rows.items).map(|item| (item, true));
        let guests = told.guests.into_iter().flat_map(|rows| rows.items).map(|item| (item, false));
        let mut items: BTreeMap<(Bytes, bool), Group> = BTreeMap::new();
        for (item, of_owner) in owners.chain(guests) {
            if bound.as_ref().is_none_or(|bound| item.position() < bound) {
                let is_prefix = matches!(item, ScanItem::Prefix { .. });
                let group = items.entry((item.position().clone(), is_prefix)).or_default();
                group.owners += usize::from(of_owner);
                group.items.push(item);
            }
        }
        let mut past = None;
        for ((position, is_prefix), group) in items {
            let entry = match agreed(&group, quorum) {
                Some(entry) => entry,
                None if is_prefix => {
                    self.settle_prefix(query, slice, &position, &group.items).await?
                }
                None => self.settle_row(query, slice, &position).await?,
            };
            if is_prefix {
                past = next_prefix(&position);
            }
            slice.ready.extend(entry);
        }
        slice.from = match (bound, past) {
            // A prefix that was shown is never looked into again.
            (Some(bound), Some(past)) => Some(bound.max(past.into())),
            (bound, _) => bound,
        };
        Ok(())
    }

    /// Reads one key by itself, because its copies differ.
    async fn settle_row(
        &self,
        query: &ScanQuery,
        slice: &Slice,
        sort: &Bytes,
    ) -> Result<Option<ScanEntry>, ReplicationError> {
        let row = RowKey { table: query.table, routing: slice.routing.clone(), sort: sort.clone() };
        let receipt = self.read(&row, query.n, query.level, Want::Record).await?;
        let Some(record) = receipt.record else {
            return Ok(None);
        };
        let schema = self
            .tables
            .schema(query.table)
            .ok_or_else(|| ReplicationError::Damaged(format!("unknown table {:?}", query.table)))?;
        let live = !schema.facts(&record)?.tombstone;
        let record = schema.listed(&record).unwrap_or(record);
        Ok(live.then(|| ScanEntry::Row { sort: sort.clone(), record }))
    }

    /// Finds out whether any key under a prefix is live, because the owners' witnesses differ.
    async fn settle_prefix(
        &self,
        query: &ScanQuery,
        slice: &Slice,
        prefix: &Bytes,
        group: &[ScanItem],
    ) -> Result<Option<ScanEntry>, ReplicationError> {
        for item in group {
            if let ScanItem::Prefix { witness, .. } = item
                && self.settle_row(query, slice, witness).await?.is_some()
            {
                return Ok(Some(ScanEntry::Prefix(prefix.clone())));
            }
        }
        let mut from = prefix.clone().max(query.from.clone());
        loop {
            let below = ScanQuery {
                slices: vec![slice.routing.clone()],
                prefix: prefix.clone(),
                delimiter: None,
                from,
                max: 1,
                ..query.clone()
            };
            let page = Box::pin(self.scan(&below)).await?;
            if !page.entries.is_empty() {
                return Ok(Some(ScanEntry::Prefix(prefix.clone())));
            }
            match page.next {
                Some(next) => from = next,
                None => return Ok(None),
            }
        }
    }
}

impl Told {
    fn heard(&self, owner: NodeId) -> bool {
        self.whole == Some(owner) || self.digests.contains(&owner)
    }
}

fn record_answers(
    slices: &[Slice],
    told: &mut BTreeMap<usize, Told>,
    (owner, whole): (NodeId, Rows),
    indexes: &[usize],
    answer: Result<Vec<SliceRows>, String>,
) {
    match answer {
        Ok(rows) => {
            for (&index, rows) in indexes.iter().zip(rows) {
                if let Some(told) = told.get_mut(&index) {
                    if slices[index].plan.is_owner(owner) {
                        told.answers.push(rows);
                    } else {
                        told.guests.push(rows);
                    }
                    if whole == Rows::Whole {
                        told.whole = Some(owner);
                    } else {
                        told.digests.insert(owner);
                    }
                }
            }
        }
        Err(reason) => {
            for index in indexes {
                if let Some(told) = told.get_mut(index) {
                    told.failed.insert(owner);
                    told.reasons.push(reason.clone());
                }
            }
        }
    }
}

/// What the owners say of one position, if all of them say the same: `Some(None)` for a key that
/// is gone.
fn agreed(group: &Group, quorum: usize) -> Option<Option<ScanEntry>> {
    if group.owners != quorum {
        return None;
    }
    let group = &group.items;
    let mut whole = None;
    let mut gone = false;
    for item in group {
        match (item, &group[0]) {
            (
                ScanItem::Row { sort, digest, tombstone, record },
                ScanItem::Row { digest: first, .. },
            ) if digest == first => {
                gone = *tombstone == Tombstone::Gone;
                if let Some(record) = record {
                    whole = Some(ScanEntry::Row { sort: sort.clone(), record: record.clone() });
                }
            }
            (
                ScanItem::Prefix { prefix, witness, digest },
                ScanItem::Prefix { witness: first_witness, digest: first, .. },
            ) if witness == first_witness && digest == first => {
                whole = Some(ScanEntry::Prefix(prefix.clone()));
            }
            _ => return None,
        }
    }
    if gone { Some(None) } else { whole.map(Some) }
}

/// The slices that keep the page from being complete.
fn lagging(slices: &[Slice], max: usize) -> Vec<usize> {
    let Some(bound) = slices.iter().filter_map(|slice| slice.from.as_ref()).min() else {
        return Vec::new();
    };
    let mut decided = BTreeSet::new();
    for slice in slices {
        decided.extend(slice.ready.iter().map(ScanEntry::position).filter(|at| *at < bound));
    }
    if decided.len() > max {
        return Vec::new();
    }
    // Those that hold the page back most, together with all that are about as far behind.
    let behind: Vec<usize> = slices
        .iter()
        .enumerate()
        .filter(|(_, slice)| slice.from.as_ref() == Some(bound) || slice.ready.is_empty())
        .filter(|(_, slice)| slice.from.is_some())
        .map(|(index, _)| index)
        .collect();
    behind
}

/// Merges the slices' decided entries into one page.
fn page(slices: Vec<Slice>, max: usize, served: Served) -> ScanPage {
    let bound: Option<Bytes> = slices.iter().filter_map(|slice| slice.from.clone()).min();
    let mut merged: BTreeMap<Bytes, ScanEntry> = BTreeMap::new();
    for entry in slices.into_iter().flat_map(|slice| slice.ready) {
        if bound.as_ref().is_none_or(|bound| entry.position() < bound) {
            merged.insert(entry.position().clone(), entry);
        }
    }
    let mut entries: Vec<ScanEntry> = merged.into_values().collect();
    let next = if entries.len() > max {
        let next = after(entries.get(max.wrapping_sub(1)), &entries[max]);
        entries.truncate(max);
        Some(next)
    } else {
        bound
    };
    ScanPage { entries, next, served }
}

/// Where a page starts that follows `last`; `first` is the entry that did not fit.
fn after(last: Option<&ScanEntry>, first: &ScanEntry) -> Bytes {
    match last {
        Some(ScanEntry::Prefix(prefix)) => {
            next_prefix(prefix).map_or_else(|| first.position().clone(), Bytes::from)
        }
        Some(ScanEntry::Row { sort, .. }) => {
            let mut next = sort.to_vec();
            next.push(0);
            next.into()
        }
        None => first.position().clone(),
    }
}

fn no_quorum(plan: &ReplicaPlan, told: &Told) -> ReplicationError {
    ReplicationError::Unavailable {
        answered: told.answers.len(),
        needed: plan.reads(),
        outcome: Outcome::None,
        reason: format!("partition {}: {}", plan.partition.as_u32(), told.reasons.join("; ")),
    }
}
