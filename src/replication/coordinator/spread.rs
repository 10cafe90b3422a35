//! Spreads a minted write over its owners, and over those who stand in for them (Dynamo §4.6).
//!
//! # What can go wrong, and what answers it
//! - *An owner is known to be away.* The next living node of the preference list is asked at
//!   once to keep the write for it; the owner is not asked.
//! - *An owner refuses or cannot be reached.* The next one is asked when that is heard.
//! - *An owner is silent.* After [`Patience::silent`](super::Patience) somebody stands in for it;
//!   the owner may still answer, and the hint is then delivered in vain.
//! - *A stand-in fails.* The next one is asked, until there is none.
//! - *The quorum is reached before an owner fails.* The rest goes on behind the client's back,
//!   stand-ins included, so that an owner that missed an acknowledged write is owed a hint.
//! - *The gateway dies before that.* Then the owner is brought up by anti-entropy.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::env::probe;
use crate::env::{Monotonic, deadline_in, metrics};
use crate::membership::Liveness;
use crate::replication::companion::Purpose;
use crate::replication::error::ReplicationError;
use crate::replication::level::{Outcome, Served};
use crate::replication::plan::ReplicaPlan;
use crate::replication::table::RowKey;
use crate::replication::tally::{Decision, WriteAnswer, WriteTally};
use crate::replication::version::Version;
use crate::types::NodeId;

use super::Coordinator;
use super::write::{Answer, NewWrite, Refusal, Remark, unavailable};

static LATE_DROPPED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter(
        "quorate_late_writes_dropped_total",
        "Acknowledged writes that a slow owner was not waited for, being too many.",
    )
});

static STAND_INS: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter(
        "quorate_stand_ins_total",
        "Writes that another node was asked to keep for an owner that was away.",
    )
});

/// One write on its way.
pub(super) struct Spreading {
    coordinator: Coordinator,
    plan: ReplicaPlan,
    row: RowKey,
    write: NewWrite,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    tally: WriteTally,
    /// Living nodes that may be asked to stand in, best first.
    spare: VecDeque<NodeId>,
    /// When silent owners are given a stand-in.
    impatient_at: Option<Monotonic>,
    refusals: Vec<(NodeId, Refusal)>,
    answered: usize,
    newer: Option<Version>,
}

impl Spreading {
    /// Asks everybody who belongs to the write; `own` is what comes of it on this node, which
    /// takes part in it as `purpose` says.
    pub(super) fn begin(
        coordinator: &Coordinator,
        plan: &ReplicaPlan,
        row: &RowKey,
        write: NewWrite,
        (purpose, own): (Purpose, BoxFuture<'static, Answer>),
    ) -> Self {
        let me = coordinator.site.node;
        let up = |node: &NodeId| coordinator.peers.liveness(*node) == Liveness::Up;
        let spare: VecDeque<NodeId> =
            plan.fallbacks.iter().copied().filter(|node| *node != me && up(node)).collect();
        let impatient_at = (!spare.is_empty())
            .then(|| deadline_in(&*coordinator.site.clock, coordinator.patience.silent));
        let mut spreading = Self {
            coordinator: coordinator.clone(),
            plan: plan.clone(),
            row: row.clone(),
            write,
            answers: FuturesUnordered::new(),
            tally: WriteTally::new(&plan.owners, plan.writes()),
            spare,
            impatient_at,
            refusals: Vec::new(),
            answered: 0,
            newer: None,
        };
        spreading.answers.push(own);
        if let Purpose::Hinted { owner, .. } = purpose {
            spreading.tally.stand_in(owner, me);
        }
        for owner in plan.owners.clone().into_iter().filter(|owner| *owner != me) {
            if up(&owner) || !spreading.replace(owner) {
                let begun = spreading.write.begun;
                spreading.ask(owner, Purpose::Client { begun });
            }
        }
        spreading
    }

    /// From now on only owners count, and a majority of them.
    pub(super) fn demand_owners(&mut self) {
        self.spare.clear();
        self.tally.demand_owners();
    }

    fn ask(&mut self, node: NodeId, purpose: Purpose) {
        let bytes = (self.write.record.clone(), self.write.inline.clone());
        let sent = self.coordinator.send_row(node, &self.plan, &self.row, bytes, purpose);
        self.answers.push(sent);
    }

    /// Lets the next spare node stand in for `owner`; false if there is none, or somebody does.
    fn replace(&mut self, owner: NodeId) -> bool {
        if self.tally.has_stand_in(owner) {
            return true;
        }
        let Some(node) = self.spare.pop_front() else { return false };
        STAND_INS.inc();
        probe::sometimes("somebody stands in for an owner");
        self.tally.stand_in(owner, node);
        self.ask(node, Purpose::Hinted { owner, begun: self.write.begun });
        true
    }

    /// Waits until the write's fate is certain; the rest goes on behind.
    pub(super) async fn decided(mut self) -> Result<(Served, Option<Version>), ReplicationError> {
        loop {
            match self.tally.decision() {
                Decision::Reached => break,
                // The other answers may still show that nobody has it: wait for them.
                Decision::Pending | Decision::Impossible => {
                    if !self.step().await {
                        return Err(self.refused());
                    }
                }
            }
        }
        let me = self.coordinator.site.node;
        let absent = |owner: &NodeId| {
            *owner != me && self.coordinator.peers.liveness(*owner) == Liveness::Down
        };
        let degraded = !self.tally.complete_so_far() || self.plan.owners.iter().any(absent);
        let served = Served { level: self.plan.level, degraded };
        let newer = self.newer.take();
        self.go_on_behind();
        Ok((served, newer))
    }

    /// Takes one answer, or loses patience with those who are silent; false when all is heard.
    async fn step(&mut self) -> bool {
        let answer = match self.impatient_at {
            None => self.answers.next().await,
            Some(moment) => {
                let clock = Arc::clone(&self.coordinator.site.clock);
                match select(self.answers.next(), clock.sleep_until(moment)).await {
                    Either::Left((answer, _)) => answer,
                    Either::Right(((), _)) => {
                        self.impatient_at = None;
                        for owner in self.tally.unfilled() {
                            self.replace(owner);
                        }
                        return true;
                    }
                }
            }
        };
        let Some((node, answer, remark)) = answer else { return false };
        self.answered += usize::from(answer == WriteAnswer::Durable);
        let may_be_replaced =
            !matches!(remark, Some(Remark::Refusal(Refusal::StaleBucket | Refusal::ClockSkew(_))));
        match remark {
            Some(Remark::Newer(newer)) => {
                let known = self.newer.as_ref().map(Version::order);
                if known.is_none_or(|known| known < newer.order()) {
                    self.newer = Some(newer);
                }
            }
            Some(Remark::Refusal(refusal)) => self.refusals.push((node, refusal)),
            None => {}
        }
        self.tally.record(node, answer);
        if answer != WriteAnswer::Durable && may_be_replaced {
            for owner in self.tally.lost_by(node) {
                self.replace(owner);
            }
        }
        true
    }

    /// Lets late owners take the write behind the client's back; each call has its deadline.
    fn go_on_behind(mut self) {
        if self.answers.is_empty() {
            return;
        }
        // Late answers hold their records and bytes: beyond a bound they are given up, and the
        // owners concerned are brought up by anti-entropy.
        let Ok(place) = Arc::clone(&self.coordinator.late).try_acquire_owned() else {
            LATE_DROPPED.inc();
            self.note_missed();
            return;
        };
        let tasks = Arc::clone(&self.coordinator.site.tasks);
        let late = async move {
            while self.step().await {}
            self.note_missed();
            for (node, refusal) in &self.refusals {
                tracing::debug!(%node, ?refusal, "a replica missed a write");
            }
            drop(place);
        };
        tasks.spawn("late write answers", late.boxed()).detach();
    }

    /// An owner that is there and has not the write, nor anybody for it, is brought up soon.
    fn note_missed(&self) {
        let me = self.coordinator.site.node;
        let there = |owner: &NodeId| {
            *owner == me || self.coordinator.peers.liveness(*owner) == Liveness::Up
        };
        if self.tally.unfilled().iter().any(there) {
            self.coordinator.unsettled.note(self.plan.partition);
        }
    }

    fn refused(self) -> ReplicationError {
        let outcome = self.tally.outcome();
        let mut reasons = Vec::new();
        for (node, refusal) in self.refusals {
            match (refusal, outcome) {
                (Refusal::StaleBucket, Outcome::None) => return ReplicationError::StaleBucket,
                (Refusal::Full(reason), Outcome::None) => return ReplicationError::Full(reason),
                (Refusal::Busy(reason), Outcome::None) => return ReplicationError::Busy(reason),
                (Refusal::ClockSkew(reason), Outcome::None) => {
                    return ReplicationError::ClockSkew(reason);
                }
                (Refusal::StaleBucket, _) => {
                    reasons.push(format!("{}: stale bucket", node.short()));
                }
                (Refusal::Full(reason), _) => {
                    reasons.push(format!("{}: full: {reason}", node.short()));
                }
                (
                    Refusal::Busy(reason) | Refusal::ClockSkew(reason) | Refusal::Other(reason),
                    _,
                ) => {
                    reasons.push(reason);
                }
            }
        }
        unavailable(&self.plan, self.answered, outcome, &reasons.join("; "))
    }
}
