//! A round of one partition: fence, exchanges of every two owners, proof, purge.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::causality::HybridTime;
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::replication::error::ReplicationError;
use crate::replication::site::CLOCK_DRIFT_MAX;
use crate::ring::Partition;
use crate::types::NodeId;

use super::agenda::Outcome;
use super::figures;
use super::local;
use super::message::{Ask, PairReport, RepairReply};
use super::proof::{Proof, agreeing};
use super::service::{Repair, Scope, unavailable, unexpected};

/// How long two other owners may exchange before their round goes on without them. What they
/// exchanged stays exchanged.
const MEETING: Duration = Duration::from_secs(300);

/// What the exchanges of a round came to.
#[derive(Default)]
struct Exchanges {
    complete: BTreeSet<(NodeId, NodeId)>,
    missing: BTreeMap<NodeId, u64>,
    failed: bool,
}

impl Exchanges {
    fn note(
        &mut self,
        partition: Partition,
        (one, other): (NodeId, NodeId),
        met: Result<PairReport, ReplicationError>,
    ) {
        let report = match met {
            Ok(report) => report,
            Err(error) => {
                tracing::debug!(%partition, %one, %other, %error, "an exchange failed");
                self.failed = true;
                return;
            }
        };
        self.missing.insert(one, report.missing_here);
        self.missing.insert(other, report.missing_there);
        if report.complete {
            self.complete.insert((one, other));
        }
    }
}

impl Repair {
    /// Proves a partition among those of its owners that are up, and purges its old tombstones
    /// if all are.
    pub(super) async fn prove(&self, partition: Partition) -> Result<Outcome, ReplicationError> {
        let scope = self.scope(partition)?;
        let mut owners = self.owners(&scope);
        if is_planted(Mutation::FallbackInProof) {
            let list = scope.layout.preference_list(partition);
            let up = list.all().iter().copied().filter(|node| self.is_up(*node));
            owners = up.take(owners.len()).collect();
        }
        let living: Vec<NodeId> =
            owners.iter().copied().filter(|owner| self.is_up(*owner)).collect();
        let by_age = is_planted(Mutation::PurgeByAge);
        let fence = match by_age {
            true => self.wanted_fence(partition).await?,
            false => self.fence_all(&scope).await,
        };
        probe::crash_point("fenced, not yet proven");
        // Everything that was admitted below the fences is durable, and every exchange begins
        // after this moment.
        let asked = self.started.lock().unwrap_or_default();
        // Whoever asked for it did so before, whatever the clocks say.
        let at = self.site().now().max(asked);
        let exchanges = self.exchange_pairs(&scope, &living).await?;
        let copies = agreeing(&living, &exchanges.complete, &exchanges.missing);
        let proof = Proof {
            at,
            copies,
            owners: owners.iter().copied().collect(),
            missing: exchanges.missing.values().sum(),
        };
        let (full, agreed) = (proof.is_full(), proof.copies.len() == living.len());
        self.tell(&scope, proof).await?;
        probe::crash_point("proven, not yet purged");
        if let (true, Some(fence)) = (full || by_age, fence) {
            self.purge_all(&scope, &owners, fence).await;
        }
        let outcome =
            if agreed && !exchanges.failed { Outcome::Proven } else { Outcome::LeftUndone };
        let label = match (outcome, full) {
            (Outcome::Proven, true) => "proven",
            (Outcome::Proven, false) => "owners away",
            (Outcome::LeftUndone, _) => "left undone",
        };
        figures::ROUNDS.with_label_values(&[label]).inc();
        Ok(outcome)
    }

    async fn exchange_pairs(
        &self,
        scope: &Scope,
        living: &[NodeId],
    ) -> Result<Exchanges, ReplicationError> {
        let me = self.me();
        let mut exchanges = Exchanges::default();
        for (place, &one) in living.iter().enumerate() {
            for &other in &living[place + 1..] {
                let met = match (one == me, other == me) {
                    (true, _) => self.exchange(scope, other).await,
                    (_, true) => self.exchange(scope, one).await.map(turned),
                    _ => self.let_meet(scope, one, other).await,
                };
                exchanges.note(scope.partition, (one, other), met);
                self.pause_for(Duration::ZERO).await;
            }
        }
        if living.contains(&me) {
            let partition = scope.partition;
            let missing = self.rows().scan_with(move |meta| local::read_missing(meta, partition));
            exchanges.missing.insert(me, missing.await?);
        }
        Ok(exchanges)
    }

    async fn let_meet(
        &self,
        scope: &Scope,
        one: NodeId,
        other: NodeId,
    ) -> Result<PairReport, ReplicationError> {
        let ask = Ask::Meet { peer: other };
        let (reply, _) = self.ask_for(scope, one, ask, Bytes::new(), MEETING).await?;
        match reply {
            RepairReply::Met { report } => Ok(report),
            other => Err(unexpected(&other)),
        }
    }

    /// Stores a proof, here and at the other owners. They may miss it: a later one comes.
    async fn tell(&self, scope: &Scope, proof: Proof) -> Result<(), ReplicationError> {
        let others = proof.owners.iter().copied().filter(|owner| *owner != self.me());
        let others: Vec<NodeId> = others.filter(|owner| self.is_up(*owner)).collect();
        let telling = others.into_iter().map(|owner| {
            self.ask(scope, owner, Ask::Proven { proof: proof.clone() }, Bytes::new())
        });
        let told = futures_util::future::join_all(telling);
        let (noted, _) =
            futures_util::future::join(self.proofs.note(scope.partition, proof.clone()), told)
                .await;
        noted
    }

    /// Raises this node's fence; what it keeps for others that began before everything else.
    pub(super) async fn fence(
        &self,
        partition: Partition,
        fence: HybridTime,
    ) -> Result<Option<HybridTime>, ReplicationError> {
        self.floors.raise_fence(partition, fence).await?;
        self.hints.oldest(partition).await
    }

    /// Raises the fence on every member, if there is something to purge and all are there and
    /// keep nothing older for anybody: the first step of a purge. `None` if not now.
    async fn fence_all(&self, scope: &Scope) -> Option<HybridTime> {
        match self.try_fence_all(scope).await {
            Ok(fence) => {
                if fence.is_some() {
                    figures::BLOCKED.set(0);
                    *self.blocked.lock() = None;
                }
                fence
            }
            Err(error) => {
                figures::BLOCKED.set(1);
                *self.blocked.lock() = Some(error.to_string());
                None
            }
        }
    }

    async fn try_fence_all(&self, scope: &Scope) -> Result<Option<HybridTime>, ReplicationError> {
        let Some(fence) = self.wanted_fence(scope.partition).await? else { return Ok(None) };
        if self.coordinator.is_rebuilding(scope.partition) {
            return Err(unavailable("this node is being rebuilt".to_owned()));
        }
        let members = scope.layout.members().iter().map(|member| member.node);
        let members: Vec<NodeId> = members.collect();
        if let Some(away) = members.iter().find(|member| !self.is_up(**member)) {
            return Err(unavailable(format!("node {} is away", away.short())));
        }
        let margin = u64::try_from(CLOCK_DRIFT_MAX.as_millis()).unwrap_or(u64::MAX);
        let safe = HybridTime::from_millis(fence.millis().saturating_add(margin));
        let fencing = members.iter().map(|member| self.fence_at(scope, *member, fence));
        let fenced = futures_util::future::join_all(fencing).await;
        for (member, oldest) in members.iter().zip(fenced) {
            let named = |what: String| unavailable(format!("node {}: {what}", member.short()));
            let oldest = oldest.map_err(|error| named(error.to_string()))?;
            if oldest.is_some_and(|oldest| oldest <= safe) {
                return Err(named("it keeps an older write for an owner that was away".to_owned()));
            }
        }
        Ok(Some(fence))
    }

    async fn fence_at(
        &self,
        scope: &Scope,
        member: NodeId,
        fence: HybridTime,
    ) -> Result<Option<HybridTime>, ReplicationError> {
        if member == self.me() {
            return self.fence(scope.partition, fence).await;
        }
        match self.ask(scope, member, Ask::Fence { fence }, Bytes::new()).await? {
            (RepairReply::Fenced { oldest }, _) => Ok(oldest),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The floor up to which a purge is worth while now: there are tombstones, or the floor is
    /// so old that orphaned bytes wait for it.
    async fn wanted_fence(
        &self,
        partition: Partition,
    ) -> Result<Option<HybridTime>, ReplicationError> {
        let lag = u64::try_from(self.settings.purge_lag.as_millis()).unwrap_or(u64::MAX);
        let now = self.site().now().millis();
        let fence = HybridTime::from_millis(now.saturating_sub(lag));
        let floor = self.floors.of(partition);
        // A first proof is not kept waiting for a purge.
        let first = self.proofs.look(partition, |proven| proven.is_none());
        if first || fence <= floor.purged || fence <= floor.fence {
            return Ok(None);
        }
        let old = fence.millis().saturating_sub(floor.purged.millis()) > lag;
        let trees = self.rows().scan_with(move |meta| local::read_trees(meta, partition));
        Ok((old || trees.await?.gone > 0).then_some(fence))
    }

    /// The last step of a purge: every owner raises its floor and erases what lies below. One
    /// that cannot now takes the floor over in its next exchange.
    async fn purge_all(&self, scope: &Scope, owners: &[NodeId], floor: HybridTime) {
        let purging = owners.iter().map(|owner| async move {
            if *owner == self.me() {
                return self.purge(scope.partition, floor).await.map(drop);
            }
            self.ask(scope, *owner, Ask::Purge { purge: floor }, Bytes::new()).await.map(drop)
        });
        for purged in futures_util::future::join_all(purging).await {
            if let Err(error) = purged {
                let partition = scope.partition;
                tracing::warn!(%partition, %error, "an owner takes a purge later");
            }
        }
    }
}

/// The report as the other side would give it.
fn turned(report: PairReport) -> PairReport {
    PairReport { missing_here: report.missing_there, missing_there: report.missing_here, ..report }
}
