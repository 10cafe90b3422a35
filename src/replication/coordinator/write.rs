//! Writes: minted by an owner under the key's lock, sent to all owners at once.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::oneshot;

use crate::causality::{HybridTime, Stamp};
use crate::codec::{decode_message, encode_message};
use crate::env::{metrics, timeout_at};
use crate::membership::Liveness;
use crate::net::{Message, PeerError};
use crate::replication::error::ReplicationError;
use crate::replication::level::{Level, Outcome, Served};
use crate::replication::message::{
    COORDINATE_SERVICE, CoordinateReply, CoordinateRequest, ReplicaReply, ReplicaRequest, RowName,
};
use crate::replication::plan::ReplicaPlan;
use crate::replication::table::RowKey;
use crate::replication::tally::{Decision, WriteAnswer, WriteTally};
use crate::types::NodeId;

use super::Coordinator;

static WRITES: std::sync::LazyLock<prometheus::IntCounterVec> = std::sync::LazyLock::new(|| {
    metrics::counters("quorate_quorum_writes_total", "Replicated writes by outcome.", &["outcome"])
});

static REMINTED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter(
        "quorate_writes_minted_again_total",
        "Writes that met a newer one at another owner and were minted again above it.",
    )
});

static LATE_DROPPED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter(
        "quorate_late_writes_dropped_total",
        "Acknowledged writes that a slow owner was not waited for, being too many.",
    )
});

/// A write that reached its quorum.
#[derive(Clone, Debug)]
pub struct WriteReceipt {
    /// The record as it was minted.
    pub record: Bytes,
    /// How it was served.
    pub served: Served,
}

/// One owner's answer to a write.
pub(super) type Answer = (NodeId, WriteAnswer, Option<Remark>);

/// What an owner says besides its answer.
#[derive(Debug)]
pub(super) enum Remark {
    /// It took the write and held a newer one before.
    Newer(Stamp),
    /// It did not take the write.
    Refusal(Refusal),
}

/// Why an owner did not take a write.
#[derive(Debug)]
pub(super) enum Refusal {
    StaleBucket,
    Full(String),
    Other(String),
}

impl Coordinator {
    /// Writes `record`, whose version is not minted yet, to the owners of `row`.
    ///
    /// # Errors
    /// [`ReplicationError::Unavailable`] with what is known of the outcome.
    pub async fn write(
        &self,
        row: &RowKey,
        record: Bytes,
        inline: Bytes,
        n: usize,
        level: Level,
    ) -> Result<WriteReceipt, ReplicationError> {
        let plan = ReplicaPlan::for_row(&self.layout, row, n, level)?;
        let result = if plan.owners.contains(&self.site.node) {
            let own = self.write_as_owner(&plan, row, record.clone(), inline.clone(), level).await;
            match own {
                // Nothing was minted because of this node's own disk: others may have none of it.
                Err(ReplicationError::Full(_) | ReplicationError::Store(_))
                    if plan.owners.len() > 1 =>
                {
                    self.forward(&plan, row, record, inline, (n, level)).await
                }
                own => own,
            }
        } else {
            self.forward(&plan, row, record, inline, (n, level)).await
        };
        let outcome = match &result {
            Ok(_) => "reached",
            Err(ReplicationError::Unavailable { outcome: Outcome::Unknown, .. }) => "unknown",
            Err(_) => "none",
        };
        WRITES.with_label_values(&[outcome]).inc();
        result
    }

    /// Mints here, then asks all owners at once; returns at the quorum and lets the rest finish
    /// behind it.
    ///
    /// An owner that missed the last write of a key may have a slow clock and mint below it. The
    /// quorum meets the last write's quorum in an owner that says so; then the write is minted
    /// again, above what that owner holds. Whatever is newer still after that was written
    /// meanwhile, and may win.
    pub(super) async fn write_as_owner(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        record: Bytes,
        inline: Bytes,
        level: Level,
    ) -> Result<WriteReceipt, ReplicationError> {
        let mut floor = HybridTime::default();
        loop {
            let first = floor == HybridTime::default();
            let sent = self.send_minted(plan, row, record.clone(), inline.clone(), floor).await;
            let (minted, answers) = match sent {
                Ok(sent) => sent,
                // The first attempt may be on some owners already.
                Err(error) if first => return Err(error),
                Err(error) => return Err(unavailable(plan, 0, Outcome::Unknown, &error)),
            };
            let (served, newer) = match self.gather(plan, answers, level).await {
                Ok(gathered) => gathered,
                Err(error) if first => return Err(error),
                Err(error) => return Err(unavailable(plan, 0, Outcome::Unknown, &error)),
            };
            match newer {
                Some(newer) if first => {
                    REMINTED.inc();
                    floor = newer.time;
                }
                _ => return Ok(WriteReceipt { record: minted, served }),
            }
        }
    }

    /// Mints a record above `floor` and sends it to all owners.
    async fn send_minted(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        record: Bytes,
        inline: Bytes,
        floor: HybridTime,
    ) -> Result<(Bytes, FuturesUnordered<BoxFuture<'static, Answer>>), ReplicationError> {
        let (show, shown) = oneshot::channel();
        let local = self.local_mint((plan, row), record, inline.clone(), floor, show);
        let answers: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
        let record = match select(shown, local).await {
            Either::Left((Ok(record), local)) => {
                let me = self.site.node;
                answers.push(local.map(move |result| local_answer(me, result)).boxed());
                record
            }
            // The local copy refused before anything was minted, so nothing was done anywhere.
            Either::Left((Err(_), local)) => return Err(not_minted(local.await)),
            // The local copy may be durable already; then its record is waiting.
            Either::Right((result, mut shown)) => match shown.try_recv() {
                Ok(record) => {
                    let answer = local_answer(self.site.node, result);
                    answers.push(futures_util::future::ready(answer).boxed());
                    record
                }
                Err(_) => return Err(not_minted(result)),
            },
        };
        for &owner in plan.owners.iter().filter(|&&owner| owner != self.site.node) {
            answers.push(self.send_row(owner, plan, row, record.clone(), inline.clone()));
        }
        Ok((record, answers))
    }

    fn local_mint(
        &self,
        (plan, row): (&ReplicaPlan, &RowKey),
        record: Bytes,
        inline: Bytes,
        floor: HybridTime,
        show: oneshot::Sender<Bytes>,
    ) -> BoxFuture<'static, Result<(), ReplicationError>> {
        let (coordinator, row, partition) = (self.clone(), row.clone(), plan.partition);
        async move {
            let minted = move |record| drop(show.send(record));
            let mint = coordinator.replica.mint((&row, partition), &record, &inline, floor, minted);
            // A disk that hangs is an owner that does not answer.
            let clock = &*coordinator.site.clock;
            timeout_at(clock, coordinator.deadline(), mint).await.unwrap_or_else(|| {
                Err(ReplicationError::Unavailable {
                    answered: 0,
                    needed: 1,
                    outcome: Outcome::Unknown,
                    reason: "this node's disk did not answer in time".into(),
                })
            })
        }
        .boxed()
    }

    /// Sends a minted record to one other owner.
    pub(super) fn send_row(
        &self,
        owner: NodeId,
        plan: &ReplicaPlan,
        row: &RowKey,
        record: Bytes,
        inline: Bytes,
    ) -> BoxFuture<'static, Answer> {
        let coordinator = self.clone();
        let request = ReplicaRequest::Write {
            layout: plan.layout.version().0,
            row: RowName { table: row.table, routing: row.routing.clone(), sort: row.sort.clone() },
            record,
        };
        async move {
            match coordinator.ask(owner, &request, inline).await {
                Ok((reply, _)) => peer_answer(owner, reply),
                Err(error) => failed_answer(owner, &error),
            }
        }
        .boxed()
    }

    /// Brings a minted record to one peer's replica and waits until it is durable there.
    ///
    /// # Errors
    /// [`ReplicationError::Unavailable`] with what the peer said.
    pub async fn replicate(
        &self,
        peer: NodeId,
        row: &RowKey,
        record: Bytes,
    ) -> Result<(), ReplicationError> {
        let request = ReplicaRequest::Write {
            layout: self.layout()?.version().0,
            row: RowName { table: row.table, routing: row.routing.clone(), sort: row.sort.clone() },
            record,
        };
        let (outcome, reason) = match self.ask(peer, &request, Bytes::new()).await {
            Ok((ReplicaReply::Written { .. }, _)) => return Ok(()),
            Ok((other, _)) => (Outcome::None, format!("{other:?}")),
            Err(error) => (Outcome::Unknown, error.to_string()),
        };
        Err(ReplicationError::Unavailable { answered: 0, needed: 1, outcome, reason })
    }

    /// Counts answers until the write's fate is certain.
    async fn gather(
        &self,
        plan: &ReplicaPlan,
        mut answers: FuturesUnordered<BoxFuture<'static, Answer>>,
        level: Level,
    ) -> Result<(Served, Option<Stamp>), ReplicationError> {
        let mut tally = WriteTally::new(&plan.owners, plan.needed);
        let mut refusals = Vec::new();
        let mut answered = 0;
        let mut newer = None;
        while let Some((owner, answer, remark)) = answers.next().await {
            answered += usize::from(answer == WriteAnswer::Durable);
            match remark {
                Some(Remark::Newer(stamp)) => newer = newer.max(Some(stamp)),
                Some(Remark::Refusal(refusal)) => refusals.push((owner, refusal)),
                None => {}
            }
            match tally.record(owner, answer) {
                Decision::Pending => {}
                Decision::Reached => {
                    let me = self.site.node;
                    let absent = |owner: &NodeId| {
                        *owner != me && self.peers.liveness(*owner) == Liveness::Down
                    };
                    let degraded = !tally.complete_so_far() || plan.owners.iter().any(absent);
                    self.drain_behind(answers);
                    return Ok((Served { level, degraded }, newer));
                }
                // The other answers may still show that nobody has it: wait for them.
                Decision::Impossible if answers.is_empty() => break,
                Decision::Impossible => {}
            }
        }
        Err(refused(plan, &tally, answered, refusals))
    }

    /// Lets late owners take the write behind the client's back; each call has its deadline.
    fn drain_behind(&self, answers: FuturesUnordered<BoxFuture<'static, Answer>>) {
        if answers.is_empty() {
            return;
        }
        // Late answers hold their records and bytes: beyond a bound they are given up, and the
        // owners concerned are repaired when the key is read.
        let Ok(place) = Arc::clone(&self.late).try_acquire_owned() else {
            LATE_DROPPED.inc();
            return;
        };
        let late = answers.for_each(|(owner, _, remark)| async move {
            if let Some(Remark::Refusal(refusal)) = remark {
                tracing::debug!(%owner, ?refusal, "an owner missed a write");
            }
        });
        let late = late.map(move |()| drop(place));
        self.site.tasks.spawn("late write answers", late.boxed()).detach();
    }

    /// Hands the write to an owner: a dot is minted only where the key's record is.
    async fn forward(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        record: Bytes,
        inline: Bytes,
        (n, level): (usize, Level),
    ) -> Result<WriteReceipt, ReplicationError> {
        let request = CoordinateRequest {
            layout: plan.layout.version().0,
            row: RowName { table: row.table, routing: row.routing.clone(), sort: row.sort.clone() },
            record,
            n: u8::try_from(n).unwrap_or(u8::MAX),
            level,
            begun: self.site.now(),
            patience_millis: u64::try_from(self.patience.answer.as_millis()).unwrap_or(u64::MAX),
        };
        let body: Bytes = encode_message(&request)
            .map_err(|error| ReplicationError::Damaged(error.to_string()))?
            .into();
        let mut reasons = Vec::new();
        let owners = plan.nearest_first(self.site.node, &*self.peers);
        for owner in owners.into_iter().filter(|&owner| owner != self.site.node) {
            let message = Message { body: body.clone(), attachment: inline.clone() };
            let called =
                self.transport.call(owner, COORDINATE_SERVICE, message, self.deadline()).await;
            match called {
                Ok(answer) => match coordinated(&answer.body)? {
                    Forwarded::Done(receipt) => return Ok(receipt),
                    Forwarded::AskAnother(reason) => reasons.push(reason),
                },
                Err(error) if error.certainly_not_done() => reasons.push(error.to_string()),
                Err(error) => return Err(unavailable(plan, 0, Outcome::Unknown, &error)),
            }
        }
        Err(unavailable(plan, 0, Outcome::None, &reasons.join("; ")))
    }
}

enum Forwarded {
    Done(WriteReceipt),
    AskAnother(String),
}

fn coordinated(body: &[u8]) -> Result<Forwarded, ReplicationError> {
    let reply =
        decode_message::<CoordinateReply>(body).map_err(|error| ReplicationError::Unavailable {
            answered: 0,
            needed: 1,
            outcome: Outcome::Unknown,
            reason: error.to_string(),
        })?;
    match reply {
        CoordinateReply::Written { record, served } => {
            Ok(Forwarded::Done(WriteReceipt { record, served }))
        }
        CoordinateReply::Unavailable { answered, needed, outcome, reason } => {
            Err(ReplicationError::Unavailable { answered, needed, outcome, reason })
        }
        CoordinateReply::StaleBucket => Err(ReplicationError::StaleBucket),
        CoordinateReply::Full { reason } => Err(ReplicationError::Full(reason)),
        CoordinateReply::Refused { reason } => Ok(Forwarded::AskAnother(reason)),
    }
}

fn local_answer(me: NodeId, result: Result<(), ReplicationError>) -> Answer {
    match result {
        Ok(()) => (me, WriteAnswer::Durable, None),
        // The batch was queued: a failed sync does not tell whether it will be found later.
        Err(error) => {
            let refusal = Refusal::Other(error.to_string());
            (me, WriteAnswer::Uncertain, Some(Remark::Refusal(refusal)))
        }
    }
}

fn peer_answer(owner: NodeId, reply: ReplicaReply) -> Answer {
    let refusal = match reply {
        ReplicaReply::Written { newer } => {
            let newer = newer.map(Remark::Newer);
            return (owner, WriteAnswer::Durable, newer);
        }
        ReplicaReply::StaleBucket => Refusal::StaleBucket,
        ReplicaReply::Full { reason } => Refusal::Full(reason),
        ReplicaReply::StaleLayout { version } => {
            Refusal::Other(format!("layout {version} is in force there"))
        }
        ReplicaReply::Refused { reason } => Refusal::Other(reason),
        other => {
            let reason = format!("unexpected answer {other:?}");
            let refusal = Remark::Refusal(Refusal::Other(reason));
            return (owner, WriteAnswer::Uncertain, Some(refusal));
        }
    };
    (owner, WriteAnswer::NotDone, Some(Remark::Refusal(refusal)))
}

fn failed_answer(owner: NodeId, error: &PeerError) -> Answer {
    let answer =
        if error.certainly_not_done() { WriteAnswer::NotDone } else { WriteAnswer::Uncertain };
    (owner, answer, Some(Remark::Refusal(Refusal::Other(error.to_string()))))
}

/// The local copy refused before it minted anything.
fn not_minted(result: Result<(), ReplicationError>) -> ReplicationError {
    match result {
        Ok(()) => ReplicationError::Damaged("a write was stored without being minted".into()),
        Err(ReplicationError::Store(crate::store::StoreError::Full { path })) => {
            ReplicationError::Full(path.display().to_string())
        }
        Err(error) => error,
    }
}

fn refused(
    plan: &ReplicaPlan,
    tally: &WriteTally,
    answered: usize,
    refusals: Vec<(NodeId, Refusal)>,
) -> ReplicationError {
    let outcome = tally.outcome();
    let mut reasons = Vec::new();
    for (owner, refusal) in refusals {
        match refusal {
            Refusal::StaleBucket if outcome == Outcome::None => {
                return ReplicationError::StaleBucket;
            }
            Refusal::Full(reason) if outcome == Outcome::None => {
                return ReplicationError::Full(reason);
            }
            Refusal::StaleBucket => reasons.push(format!("{}: stale bucket", owner.short())),
            Refusal::Full(reason) => reasons.push(format!("{}: full: {reason}", owner.short())),
            Refusal::Other(reason) => reasons.push(reason),
        }
    }
    unavailable(plan, answered, outcome, &reasons.join("; "))
}

fn unavailable(
    plan: &ReplicaPlan,
    answered: usize,
    outcome: Outcome,
    reason: &dyn std::fmt::Display,
) -> ReplicationError {
    ReplicationError::Unavailable {
        answered,
        needed: plan.needed,
        outcome,
        reason: format!("partition {}: {reason}", plan.partition.as_u32()),
    }
}
