//! Writes: minted by an owner under the key's lock, sent to all owners at once.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use tokio::sync::oneshot;

use crate::causality::HybridTime;
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::env::{metrics, timeout_at};
use crate::membership::Liveness;
use crate::net::PeerError;
use crate::replication::companion::{Purpose, RowWrite};
use crate::replication::error::ReplicationError;
use crate::replication::level::{Level, Outcome, Served};
use crate::replication::message::{ReplicaReply, ReplicaRequest, ReplicaStanding, RowName};
use crate::replication::plan::ReplicaPlan;
use crate::replication::table::RowKey;
use crate::replication::tally::WriteAnswer;
use crate::replication::version::Version;
use crate::types::NodeId;

use super::Coordinator;
use super::forward::Attempt;
use super::spread::Spreading;

static WRITES: std::sync::LazyLock<prometheus::IntCounterVec> = std::sync::LazyLock::new(|| {
    metrics::counters("quorate_quorum_writes_total", "Replicated writes by outcome.", &["outcome"])
});

static REMINTED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter(
        "quorate_writes_minted_again_total",
        "Writes that met a newer one at another owner and were minted again above it.",
    )
});

/// A record that a client writes; its version is not minted yet.
#[derive(Clone, Debug)]
pub struct NewWrite {
    /// The record.
    pub record: Bytes,
    /// The bytes beside it.
    pub inline: Bytes,
    /// Copies that there should be.
    pub n: usize,
    /// How many of them make it a success.
    pub level: Level,
    /// When the client's request began, before the first byte that belongs to it was stored.
    pub begun: HybridTime,
}

/// A write that reached its quorum.
#[derive(Clone, Debug)]
pub struct WriteReceipt {
    /// The record as it was minted.
    pub record: Bytes,
    /// How it was served.
    pub served: Served,
}

/// One replica's answer to a write.
pub(super) type Answer = (NodeId, WriteAnswer, Option<Remark>);

/// What a replica says besides its answer.
#[derive(Debug)]
pub(super) enum Remark {
    /// It took the write and held a newer one before.
    Newer(Version),
    /// It did not take the write.
    Refusal(Refusal),
}

/// Why a replica did not take a write.
#[derive(Debug)]
pub(super) enum Refusal {
    StaleBucket,
    Full(String),
    Busy(String),
    ClockSkew(String),
    Other(String),
}

impl Coordinator {
    /// Writes a record to the owners of `row`, or, at sloppy levels, to those who stand in for
    /// owners that are away.
    ///
    /// # Errors
    /// [`ReplicationError::Unavailable`] with what is known of the outcome.
    pub async fn write(
        &self,
        row: &RowKey,
        write: NewWrite,
    ) -> Result<WriteReceipt, ReplicationError> {
        let plan = ReplicaPlan::for_row(&self.layout, row, write.n, write.level)?;
        let result = self.write_somewhere(&plan, row, &write).await;
        let outcome = match &result {
            Ok(_) => "reached",
            Err(ReplicationError::Unavailable { outcome: Outcome::Unknown, .. }) => "unknown",
            Err(_) => "none",
        };
        WRITES.with_label_values(&[outcome]).inc();
        result
    }

    /// Lets the first who can mint the write: a dot is minted only where the key's record is, or
    /// where it is kept for those who have it.
    async fn write_somewhere(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        write: &NewWrite,
    ) -> Result<WriteReceipt, ReplicationError> {
        let mut reasons = Vec::new();
        let mut last = None;
        let mut candidates = plan.candidates(self.site.node, &*self.peers);
        if self.site.check_clock().is_err() {
            // Whoever has the right time stamps, if there is anybody.
            candidates.sort_by_key(|candidate| *candidate == self.site.node);
        }
        for candidate in candidates {
            let attempt = if candidate == self.site.node {
                match self.write_here(plan, row, write).await {
                    Ok(receipt) => Attempt::Done(receipt),
                    // Nothing was minted because of this node alone: others may do it.
                    Err(
                        error @ (ReplicationError::Full(_)
                        | ReplicationError::Busy(_)
                        | ReplicationError::ClockSkew(_)
                        | ReplicationError::Store(_)),
                    ) => Attempt::AskAnother(error),
                    Err(error) => return Err(error),
                }
            } else {
                self.forward_to(candidate, plan, row, write).await?
            };
            match attempt {
                Attempt::Done(receipt) => return Ok(receipt),
                Attempt::AskAnother(error) => {
                    reasons.push(error.to_string());
                    last = Some(error);
                }
            }
        }
        match last {
            Some(
                error @ (ReplicationError::Full(_)
                | ReplicationError::Busy(_)
                | ReplicationError::ClockSkew(_)),
            ) => Err(error),
            _ => Err(unavailable(plan, 0, Outcome::None, &reasons.join("; "))),
        }
    }

    /// Mints here, then asks all others at once; returns at the quorum and lets the rest finish
    /// behind it.
    ///
    /// An owner that missed the last write of a key may have a slow clock and mint below it. The
    /// quorum meets the last write's quorum in an owner that says so; then the write is minted
    /// again, above what that owner holds. Whatever is newer still after that was written
    /// meanwhile, and may win.
    pub(super) async fn write_here(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        write: &NewWrite,
    ) -> Result<WriteReceipt, ReplicationError> {
        if plan.level.is_sloppy() {
            self.site.check_clock()?;
        }
        let mut above: Option<Version> = None;
        loop {
            let first = above.is_none();
            let spread = self.spread_minted(plan, row, write, above.as_ref()).await;
            let (minted, served, newer) = match spread {
                Ok(spread) => spread,
                // The first attempt may be on some owners already.
                Err(error) if first => return Err(error),
                Err(error) => return Err(unavailable(plan, 0, Outcome::Unknown, &error)),
            };
            match newer {
                Some(newer) if first && !is_planted(Mutation::NotMintedAgain) => {
                    REMINTED.inc();
                    probe::sometimes("a write is minted again above a newer one");
                    above = Some(newer);
                }
                _ => return Ok(WriteReceipt { record: minted, served }),
            }
        }
    }

    /// Mints a record above `above` and spreads it until its fate is certain.
    async fn spread_minted(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        write: &NewWrite,
        above: Option<&Version>,
    ) -> Result<(Bytes, Served, Option<Version>), ReplicationError> {
        let purpose = self.own_purpose(plan, write.begun);
        let (record, own) = self.mint_here(plan, row, write, (purpose, above)).await?;
        let minted = NewWrite { record: record.clone(), ..write.clone() };
        let mut spreading = Spreading::begin(self, plan, row, minted, (purpose, own));
        if above.is_some() && self.names_extents(row, &record)? {
            // Whoever frees bytes asks the owners alone whether a head names them.
            spreading.demand_owners();
        }
        let (served, newer) = spreading.decided().await?;
        probe::crash_point("write at its quorum, not answered");
        Ok((record, served, newer))
    }

    fn names_extents(&self, row: &RowKey, record: &[u8]) -> Result<bool, ReplicationError> {
        Ok(match self.tables.schema(row.table) {
            Some(schema) => schema.facts(record)?.names_extents,
            None => false,
        })
    }

    /// As what this node takes part in a write that it mints.
    fn own_purpose(&self, plan: &ReplicaPlan, begun: HybridTime) -> Purpose {
        if plan.is_owner(self.site.node) {
            return Purpose::Client { begun };
        }
        let away = |owner: &&NodeId| self.peers.liveness(**owner) == Liveness::Down;
        let owner = plan.owners.iter().find(away).or(plan.owners.last());
        match owner {
            Some(&owner) => Purpose::Hinted { owner, begun },
            None => Purpose::Client { begun },
        }
    }

    /// Mints a record; as soon as it is minted it is returned, with the answer to come.
    async fn mint_here(
        &self,
        plan: &ReplicaPlan,
        row: &RowKey,
        write: &NewWrite,
        (purpose, above): (Purpose, Option<&Version>),
    ) -> Result<(Bytes, BoxFuture<'static, Answer>), ReplicationError> {
        let (show, shown) = oneshot::channel();
        let me = self.site.node;
        let standing = self.standing.of(plan.partition);
        let local = self.local_mint((plan, row), write, (purpose, above.cloned()), show);
        match select(shown, local).await {
            Either::Left((Ok(record), local)) => {
                let answer = local.map(move |result| local_answer(me, standing, result)).boxed();
                Ok((record, answer))
            }
            // The local copy refused before anything was minted, so nothing was done anywhere.
            Either::Left((Err(_), local)) => Err(not_minted(local.await)),
            // The local copy may be durable already; then its record is waiting.
            Either::Right((result, mut shown)) => match shown.try_recv() {
                Ok(record) => {
                    let answer = local_answer(me, standing, result);
                    Ok((record, futures_util::future::ready(answer).boxed()))
                }
                Err(_) => Err(not_minted(result)),
            },
        }
    }

    fn local_mint(
        &self,
        (plan, row): (&ReplicaPlan, &RowKey),
        write: &NewWrite,
        (purpose, above): (Purpose, Option<Version>),
        show: oneshot::Sender<Bytes>,
    ) -> BoxFuture<'static, Result<(), ReplicationError>> {
        let (coordinator, row, partition, n) = (self.clone(), row.clone(), plan.partition, plan.n);
        let (record, inline) = (write.record.clone(), write.inline.clone());
        async move {
            let minted = move |record| drop(show.send(record));
            let write =
                RowWrite { row: &row, partition, n, purpose, record: &record, inline: &inline };
            let mint = coordinator.replica.mint(write, above.as_ref(), minted);
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

    /// Sends a minted record to one other node.
    pub(super) fn send_row(
        &self,
        node: NodeId,
        plan: &ReplicaPlan,
        row: &RowKey,
        (record, inline): (Bytes, Bytes),
        purpose: Purpose,
    ) -> BoxFuture<'static, Answer> {
        let coordinator = self.clone();
        let request = ReplicaRequest::Write {
            layout: plan.layout.version().0,
            row: RowName::of(row),
            n: plan.n,
            purpose,
            record,
        };
        async move {
            match coordinator.ask(node, &request, inline).await {
                Ok((reply, _)) => peer_answer(node, reply),
                Err(error) => failed_answer(node, &error),
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
        n: u8,
        record: Bytes,
    ) -> Result<(), ReplicationError> {
        let request = ReplicaRequest::Write {
            layout: self.layout()?.version().0,
            row: RowName::of(row),
            n,
            purpose: Purpose::Repair,
            record,
        };
        let (outcome, reason) = match self.ask(peer, &request, Bytes::new()).await {
            Ok((ReplicaReply::Written { .. }, _)) => return Ok(()),
            Ok((other, _)) => (Outcome::None, format!("{other:?}")),
            Err(error) => (Outcome::Unknown, error.to_string()),
        };
        Err(ReplicationError::Unavailable { answered: 0, needed: 1, outcome, reason })
    }
}

fn local_answer(
    me: NodeId,
    standing: ReplicaStanding,
    result: Result<(), ReplicationError>,
) -> Answer {
    match result {
        Ok(()) if standing == ReplicaStanding::Counted => (me, WriteAnswer::Durable, None),
        Ok(()) => (me, WriteAnswer::Uncertain, Some(rebuilding(me))),
        // The batch was queued: a failed sync does not tell whether it will be found later.
        Err(error) => {
            let refusal = Refusal::Other(error.to_string());
            (me, WriteAnswer::Uncertain, Some(Remark::Refusal(refusal)))
        }
    }
}

/// A replica that is being rebuilt has the write, and counts for nothing.
fn rebuilding(node: NodeId) -> Remark {
    Remark::Refusal(Refusal::Other(format!("{} is being rebuilt", node.short())))
}

fn peer_answer(node: NodeId, reply: ReplicaReply) -> Answer {
    let refusal = match reply {
        ReplicaReply::Written { standing: ReplicaStanding::Rebuilding, .. } => {
            return (node, WriteAnswer::Uncertain, Some(rebuilding(node)));
        }
        ReplicaReply::Written { newer, .. } => {
            let newer = newer.map(|newer| Remark::Newer(*newer));
            return (node, WriteAnswer::Durable, newer);
        }
        ReplicaReply::StaleBucket => Refusal::StaleBucket,
        ReplicaReply::Full { reason } => Refusal::Full(reason),
        ReplicaReply::Busy { reason } => Refusal::Busy(reason),
        ReplicaReply::ClockSkew { reason } => Refusal::ClockSkew(reason),
        ReplicaReply::StaleLayout { version } => {
            Refusal::Other(format!("layout {version} is in force there"))
        }
        ReplicaReply::Refused { reason } => Refusal::Other(reason),
        other => {
            let reason = format!("unexpected answer {other:?}");
            let refusal = Remark::Refusal(Refusal::Other(reason));
            return (node, WriteAnswer::Uncertain, Some(refusal));
        }
    };
    (node, WriteAnswer::NotDone, Some(Remark::Refusal(refusal)))
}

fn failed_answer(node: NodeId, error: &PeerError) -> Answer {
    let answer =
        if error.certainly_not_done() { WriteAnswer::NotDone } else { WriteAnswer::Uncertain };
    (node, answer, Some(Remark::Refusal(Refusal::Other(error.to_string()))))
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

pub(super) fn unavailable(
    plan: &ReplicaPlan,
    answered: usize,
    outcome: Outcome,
    reason: &dyn std::fmt::Display,
) -> ReplicationError {
    ReplicationError::Unavailable {
        answered,
        needed: plan.writes(),
        outcome,
        reason: format!("partition {}: {reason}", plan.partition.as_u32()),
    }
}
