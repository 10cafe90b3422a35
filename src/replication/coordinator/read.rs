//! Reads: one whole record and digests from a quorum, hedged, repaired afterwards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::env::metrics;
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::replication::companion::{Purpose, RowWrite};
use crate::replication::error::ReplicationError;
use crate::replication::held::HeldRow;
use crate::replication::level::{Level, Outcome, Served};
use crate::replication::message::{ReplicaReply, ReplicaRequest, RowName, Want};
use crate::replication::plan::ReplicaPlan;
use crate::replication::replica::{Replica, digest_of_held};
use crate::replication::table::{Merged, RowKey};
use crate::replication::tally::{Digest, ReadDecision, ReadTally};
use crate::ring::Partition;
use crate::types::NodeId;

use super::Coordinator;

static READS: std::sync::LazyLock<prometheus::IntCounterVec> = std::sync::LazyLock::new(|| {
    metrics::counters("quorate_quorum_reads_total", "Replicated reads by outcome.", &["outcome"])
});
static REPAIRS: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_read_repairs_total", "Stale copies that a read found and repaired.")
});
static HEDGES: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_hedged_reads_total", "Reads that asked one owner more, being late.")
});

/// A read that reached its quorum.
#[derive(Clone, Debug)]
pub struct ReadReceipt {
    /// The record, merged from all answers; `None` if a quorum says that there is none.
    pub record: Option<Bytes>,
    /// The bytes beside it, if they were asked for.
    pub inline: Bytes,
    /// Whether the record stands at a quorum of owners already.
    pub standing: Standing,
    /// How it was served.
    pub served: Served,
}

/// How far what a read returns is known to have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A quorum of owners holds it: it stays, whoever fails.
    Quorum,
    /// It was merged from answers that differ, and may be on one owner alone.
    Minority,
}

pub(super) enum Told {
    Whole(HeldRow),
    Digest(Digest),
    Failed(String),
}

/// One read on its way.
struct Reading {
    tally: ReadTally,
    whole: BTreeMap<NodeId, HeldRow>,
    waiting: VecDeque<NodeId>,
    fetched: BTreeSet<NodeId>,
    under_way: usize,
    heard: BTreeSet<NodeId>,
    /// Whether somebody told that there is a record.
    told_of_one: bool,
    reasons: Vec<String>,
}

impl Reading {
    /// Whether any owner is among those who answered.
    fn heard_owner(&self, plan: &ReplicaPlan) -> bool {
        self.heard.iter().any(|node| plan.is_owner(*node))
    }

    /// Whether nothing was found and that says nothing: all who answered stand in for owners, or
    /// somebody told of a record and could not send it.
    fn is_hollow(&self, plan: &ReplicaPlan) -> bool {
        let found = self.whole.values().any(|held| held.record.is_some());
        !found && (self.told_of_one || !self.heard_owner(plan))
    }

    /// Whether an owner failed, or somebody stood in for one.
    fn is_degraded(&self, plan: &ReplicaPlan) -> bool {
        !self.reasons.is_empty() || self.heard.iter().any(|node| !plan.is_owner(*node))
    }

    /// The owners among these that were not asked for their whole record yet.
    fn newly_fetched(&mut self, owners: Vec<NodeId>) -> Vec<NodeId> {
        let fresh: Vec<NodeId> =
            owners.into_iter().filter(|&owner| self.fetched.insert(owner)).collect();
        self.under_way += fresh.len();
        fresh
    }
}

type Answers = FuturesUnordered<BoxFuture<'static, (NodeId, Told)>>;

impl Coordinator {
    /// Reads `row` from a quorum of its owners.
    ///
    /// # Errors
    /// [`ReplicationError::Unavailable`] if too few answer: never "absent" for "cannot know".
    pub async fn read(
        &self,
        row: &RowKey,
        n: usize,
        level: Level,
        want: Want,
    ) -> Result<ReadReceipt, ReplicationError> {
        let plan = ReplicaPlan::for_row(&self.layout, row, n, level)?;
        let result = self.read_planned(&plan, row, level, want).await;
        let outcome = if result.is_ok() { "reached" } else { "unavailable" };
        READS.with_label_values(&[outcome]).inc();
        result
    }

    async fn read_planned(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        level: Level,
        want: Want,
    ) -> Result<ReadReceipt, ReplicationError> {
        let mut answers: Answers = FuturesUnordered::new();
        let candidates = plan.candidates(self.site.node, &*self.peers);
        let mut reading = Reading {
            tally: ReadTally::new(&candidates, plan.reads()),
            whole: BTreeMap::new(),
            waiting: candidates.into(),
            fetched: BTreeSet::new(),
            under_way: 0,
            heard: BTreeSet::new(),
            told_of_one: false,
            reasons: Vec::new(),
        };
        for position in 0..plan.reads() {
            let want = if position == 0 { want } else { Want::Digest };
            self.ask_next(plan, row, want, &mut reading, &mut answers);
        }
        loop {
            match reading.tally.decision() {
                // Owners that seem to be away may not be: they are asked before absence is said.
                ReadDecision::Agreed | ReadDecision::Merge if reading.is_hollow(plan) => {}
                ReadDecision::Agreed => return Ok(agreed(plan, reading, level)),
                ReadDecision::Merge => return self.merge(plan, row, reading, level, want),
                ReadDecision::Impossible if is_planted(Mutation::AbsentForUnknown) => {
                    return Ok(agreed(plan, reading, level));
                }
                ReadDecision::Impossible => return Err(too_few(plan, &reading)),
                ReadDecision::Fetch(owners) => {
                    for owner in reading.newly_fetched(owners) {
                        answers.push(self.ask_owner(owner, plan, row, want));
                    }
                }
                ReadDecision::Pending => {}
            }
            if reading.under_way == 0 {
                // Nobody is left that was not asked: what has come is not enough.
                if !self.ask_next(plan, row, want, &mut reading, &mut answers) {
                    return Err(too_few(plan, &reading));
                }
            }
            self.take_answer(plan, row, want, &mut reading, &mut answers).await;
        }
    }

    /// Asks the next owner in line, if there is one.
    fn ask_next(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        want: Want,
        reading: &mut Reading,
        answers: &mut Answers,
    ) -> bool {
        let Some(owner) = reading.waiting.pop_front() else {
            return false;
        };
        reading.under_way += 1;
        answers.push(self.ask_owner(owner, plan, row, want));
        true
    }

    /// Waits for one answer; asks one owner more if it fails or does not come in time.
    async fn take_answer(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        want: Want,
        reading: &mut Reading,
        answers: &mut Answers,
    ) {
        // What this node holds itself is there at once and needs no timer.
        let arrived = if let Some(answer) = answers.next().now_or_never() {
            answer
        } else if reading.waiting.is_empty() {
            answers.next().await
        } else {
            let hedge = self.site.clock.sleep(self.patience.hedge);
            match select(answers.next(), hedge).await {
                Either::Left((answer, _)) => answer,
                Either::Right(((), _)) => {
                    HEDGES.inc();
                    probe::sometimes("a read is hedged");
                    self.ask_next(plan, row, want, reading, answers);
                    return;
                }
            }
        };
        let Some((owner, told)) = arrived else {
            reading.under_way = 0;
            return;
        };
        reading.under_way -= 1;
        match told {
            Told::Whole(held) => {
                reading.heard.insert(owner);
                reading.tally.whole(owner, digest_of_held(held.record.as_ref()));
                reading.whole.insert(owner, held);
            }
            Told::Digest(digest) => {
                reading.heard.insert(owner);
                reading.told_of_one |= digest.is_some();
                reading.tally.digest(owner, digest);
                if digest.is_none() {
                    reading.whole.insert(owner, HeldRow::default());
                }
            }
            Told::Failed(reason) => {
                reading.heard.remove(&owner);
                reading.tally.failed(owner);
                reading.reasons.push(reason);
                self.ask_next(plan, row, want, reading, answers);
            }
        }
    }

    pub(super) fn ask_owner(
        &self,
        owner: NodeId,
        plan: &ReplicaPlan,
        row: &RowKey,
        want: Want,
    ) -> BoxFuture<'static, (NodeId, Told)> {
        let coordinator = self.clone();
        if owner == self.site.node {
            let (row, partition) = (row.clone(), plan.partition);
            let told = async move { (owner, coordinator.told_here(&row, partition, want).await) };
            return told.boxed();
        }
        let request =
            ReplicaRequest::Read { layout: plan.layout.version().0, row: RowName::of(row), want };
        async move {
            let told = match coordinator.ask(owner, &request, Bytes::new()).await {
                Ok((ReplicaReply::Row { record }, inline)) => {
                    Told::Whole(HeldRow { record, inline })
                }
                Ok((ReplicaReply::Digest { digest }, _)) => {
                    Told::Digest(digest.map(serde_bytes::ByteArray::into_array))
                }
                Ok((other, _)) => Told::Failed(format!("{}: {other:?}", owner.short())),
                Err(error) => Told::Failed(error.to_string()),
            };
            (owner, told)
        }
        .boxed()
    }

    /// What this node tells a read of its own.
    async fn told_here(&self, row: &RowKey, partition: Partition, want: Want) -> Told {
        if self.is_rebuilding(partition) {
            probe::sometimes("a copy that is being rebuilt does not count");
            return Told::Failed("this node is being rebuilt".into());
        }
        match self.replica.fetch(row, partition, want).await {
            Ok(held) if want == Want::Digest => Told::Digest(digest_of_held(held.record.as_ref())),
            Ok(held) => Told::Whole(held),
            Err(error) => Told::Failed(error.to_string()),
        }
    }

    /// What each owner holds of `row` by itself, in preference order; for operators.
    ///
    /// # Errors
    /// [`ReplicationError::NoLayout`] before `cluster init`.
    pub async fn holdings(
        &self,
        row: &RowKey,
        n: usize,
    ) -> Result<Vec<(NodeId, Result<Option<Bytes>, String>)>, ReplicationError> {
        let plan = ReplicaPlan::for_row(&self.layout, row, n, Level::All)?;
        let asked =
            plan.owners.iter().map(|&owner| self.ask_owner(owner, &plan, row, Want::Record));
        let told = futures_util::future::join_all(asked).await;
        Ok(told
            .into_iter()
            .map(|(owner, told)| match told {
                Told::Whole(held) => (owner, Ok(held.record)),
                Told::Digest(_) => (owner, Err("it sent a digest only".into())),
                Told::Failed(reason) => (owner, Err(reason)),
            })
            .collect())
    }

    /// Merges answers that differ, answers, and repairs the stale owners behind the client.
    fn merge(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        reading: Reading,
        level: Level,
        want: Want,
    ) -> Result<ReadReceipt, ReplicationError> {
        let schema = self
            .tables
            .schema(row.table)
            .ok_or_else(|| ReplicationError::Damaged(format!("unknown table {:?}", row.table)))?;
        let mut merged: Option<Bytes> = None;
        for record in reading.whole.values().filter_map(|held| held.record.as_ref()) {
            match schema.merge(merged.as_deref(), record).map(|merging| merging.merged) {
                Ok(Merged::Changed { record, .. }) => merged = Some(record),
                Ok(Merged::Unchanged) => {}
                // A record that cannot be read is no answer, and must not hide the others.
                Err(error) if reading.whole.len() > plan.reads() => {
                    tracing::warn!(%error, "a copy of a record cannot be read");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut inline = Bytes::new();
        if let Some(record) = &merged
            && let Some(facts) = schema.facts(record)?.inline
        {
            let matching = reading.whole.values().find(|held| facts.crc.matches(&held.inline));
            inline = matching.map(|held| held.inline.clone()).unwrap_or_default();
        }
        if want == Want::RecordAndBytes {
            let stale = reading.tally.stale(digest_of_held(merged.as_ref()));
            if let Some(record) = &merged {
                self.repair(plan, row, record, &inline, &stale);
            }
        } else {
            self.repair_with_bytes(row, usize::from(plan.n), level);
        }
        let served = Served { level, degraded: reading.is_degraded(plan) };
        Ok(ReadReceipt { record: merged, inline, standing: Standing::Minority, served })
    }

    /// Brings the merged record to owners that hold something else (Dynamo §5, read repair).
    fn repair(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        record: &Bytes,
        inline: &Bytes,
        stale: &[NodeId],
    ) {
        // Those who stand in are brought what they owe their owners by nobody.
        for &owner in stale.iter().filter(|node| plan.is_owner(**node)) {
            // What is not repaired now is found again by the next read.
            let Ok(place) = Arc::clone(&self.repairs).try_acquire_owned() else {
                return;
            };
            REPAIRS.inc();
            probe::sometimes("a read repairs an owner");
            let (record, inline) = (record.clone(), inline.clone());
            let work = if owner == self.site.node {
                repair_here(self.replica.clone(), row.clone(), plan, record, inline)
            } else {
                let bytes = (record, inline);
                self.send_row(owner, plan, row, bytes, Purpose::Repair).map(drop).boxed()
            };
            let work = work.map(move |()| drop(place)).boxed();
            self.site.tasks.spawn("read repair", work).detach();
        }
    }

    /// A head read found copies that differ: reads again with the bytes, which repairs.
    fn repair_with_bytes(&self, row: &RowKey, n: usize, level: Level) {
        let Ok(place) = Arc::clone(&self.repairs).try_acquire_owned() else {
            return;
        };
        let (coordinator, row) = (self.clone(), row.clone());
        let work = async move {
            if let Err(error) = coordinator.read(&row, n, level, Want::RecordAndBytes).await {
                tracing::debug!(%error, "read repair failed");
            }
            drop(place);
        };
        self.site.tasks.spawn("read repair", work.boxed()).detach();
    }
}

/// The receipt of a read whose answers are equal.
fn agreed(plan: &ReplicaPlan, reading: Reading, level: Level) -> ReadReceipt {
    let degraded = reading.is_degraded(plan);
    // Any whole answer will do: they are equal.
    let held = reading.whole.values().next().cloned().unwrap_or_default();
    let owners = reading.heard.iter().filter(|node| plan.is_owner(**node)).count();
    let by_owners = owners == reading.heard.len() && owners > plan.owners.len() / 2;
    ReadReceipt {
        record: held.record,
        inline: held.inline,
        standing: if by_owners { Standing::Quorum } else { Standing::Minority },
        served: Served { level, degraded },
    }
}

/// Brings the merged record to this node's own copy.
fn repair_here(
    replica: Arc<Replica>,
    row: RowKey,
    plan: &ReplicaPlan,
    record: Bytes,
    inline: Bytes,
) -> BoxFuture<'static, ()> {
    let (partition, n) = (plan.partition, plan.n);
    async move {
        let purpose = Purpose::Repair;
        let write = RowWrite { row: &row, partition, n, purpose, record: &record, inline: &inline };
        if let Err(error) = replica.write(write).await {
            tracing::debug!(%error, "read repair of the local copy failed");
        }
    }
    .boxed()
}

fn too_few(plan: &ReplicaPlan, reading: &Reading) -> ReplicationError {
    ReplicationError::Unavailable {
        answered: reading.whole.len(),
        needed: plan.reads(),
        // A read changes nothing, whoever answered.
        outcome: Outcome::None,
        reason: format!("partition {}: {}", plan.partition.as_u32(), reading.reasons.join("; ")),
    }
}
