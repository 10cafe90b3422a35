//! Begins rounds: always on, spread over the interval, out of the way of clients.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select};

use crate::causality::HybridTime;
use crate::replication::error::ReplicationError;
use crate::ring::{Layout, Partition};
use crate::types::NodeId;

use super::agenda::{Due, Outcome, Redundancy};
use super::figures;
use super::inventory::{Inventory, Known};
use super::message::{Ask, Command, RepairReply};
use super::service::{Repair, Scope, unexpected};

/// Rounds that one node drives at once.
const ROUNDS_MAX: u64 = 4;

/// How often the agenda is looked at when nothing calls.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The longest pause between two rounds of routine.
const SPREAD_MAX: Duration = Duration::from_secs(2);

/// How long nothing more must have come to a partition before it is compared.
const QUIET: Duration = Duration::from_secs(2);

/// How long the others may take to tell what they know.
const INVENTORY_PATIENCE: Duration = Duration::from_secs(1);

impl Repair {
    /// Works from now on, until this is dropped.
    pub fn start(self: &Arc<Self>) {
        let tasks = &self.site().tasks;
        tasks.spawn("repair", follow(Arc::downgrade(self))).detach();
        let counting = Arc::downgrade(self);
        let count = async move {
            let Some(repair) = counting.upgrade() else { return };
            let clock = Arc::clone(&repair.site().clock);
            loop {
                let Some(repair) = counting.upgrade() else { return };
                match repair.count_all().await {
                    Ok(()) => return,
                    Err(error) => tracing::error!(%error, "leaves cannot be counted"),
                }
                clock.sleep(Duration::from_secs(30)).await;
            }
        };
        tasks.spawn("count of leaves", count.boxed()).detach();
    }

    /// The partitions whose rounds this node drives: it is the first of their owners that is up.
    fn driven<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = Partition> + 'a {
        let copies = self.most_copies();
        layout.partitions().iter().filter(move |partition| {
            let list = layout.preference_list(*partition);
            let first = list.owners(copies).iter().copied().find(|owner| self.is_up(*owner));
            first == Some(self.me())
        })
    }

    fn redundancy(&self, partition: Partition, now_millis: u64) -> Redundancy {
        let age = |at: HybridTime| Duration::from_millis(now_millis.saturating_sub(at.millis()));
        self.proofs.look(partition, |proven| Redundancy {
            copies: proven.map_or(0, |proven| proven.last.copies.len()),
            age: proven.map(|proven| age(proven.last.at)),
        })
    }

    /// Begins the next round, if one is due; how long to wait before the next.
    fn begin_next(self: &Arc<Self>) -> Option<Duration> {
        let paused = self.paused.load(Ordering::Acquire) || !self.built.load(Ordering::Acquire);
        if paused || self.tallies.under_way.load(Ordering::Acquire) >= ROUNDS_MAX {
            return None;
        }
        let layout = self.coordinator.layout().ok()?;
        let clock = &self.site().clock;
        let (now, wall) = (clock.monotonic(), clock.wall().0);
        let driven: Vec<Partition> = self.driven(&layout).collect();
        let states = driven.iter().map(|partition| (*partition, self.redundancy(*partition, wall)));
        let (partition, due) = self.agenda.lock().next(now, self.settings.interval, states)?;
        self.tallies.under_way.fetch_add(1, Ordering::AcqRel);
        let repair = Arc::downgrade(self);
        let round = async move {
            let Some(repair) = repair.upgrade() else { return };
            let outcome = repair.prove(partition).await.unwrap_or_else(|error| {
                tracing::debug!(%partition, %error, "a round failed");
                Outcome::LeftUndone
            });
            let now = repair.site().clock.monotonic();
            repair.agenda.lock().ended(partition, now, outcome);
            repair.tallies.under_way.fetch_sub(1, Ordering::AcqRel);
            repair.wake.notify_one();
        };
        self.site().tasks.spawn("repair round", round.boxed()).detach();
        let rounds = u32::try_from(driven.len()).unwrap_or(u32::MAX).max(1);
        let spread = (self.settings.interval / 2 / rounds).min(SPREAD_MAX);
        Some(if due == Due::Routine { spread } else { Duration::ZERO }.max(self.strain()))
    }

    /// Proves everything soon that is shared with `peer`.
    pub(super) fn hurry_with(&self, peer: NodeId) {
        let Ok(layout) = self.coordinator.layout() else { return };
        let copies = self.most_copies();
        let shared = layout.owned_by(peer, copies);
        let mut agenda = self.agenda.lock();
        for partition in shared {
            if layout.preference_list(partition).is_owner(self.me(), copies) {
                agenda.hurry(partition);
            }
        }
        drop(agenda);
        self.wake.notify_one();
    }

    /// Proves a partition soon.
    pub(super) fn hurry_one(&self, partition: Partition) {
        self.agenda.lock().hurry(partition);
        self.wake.notify_one();
    }

    /// Has those partitions proven soon whose owners are known to have parted.
    fn settle(self: &Arc<Self>, layout: &Arc<Layout>) {
        for partition in self.coordinator.unsettled.take_quiet(QUIET) {
            let list = layout.preference_list(partition);
            let owners = list.owners(self.most_copies());
            let Some(driver) = owners.iter().copied().find(|owner| self.is_up(*owner)) else {
                continue;
            };
            if driver == self.me() {
                self.hurry_one(partition);
                continue;
            }
            let (repair, layout) = (Arc::downgrade(self), Arc::clone(layout));
            let tell = async move {
                let Some(repair) = repair.upgrade() else { return };
                let scope = Scope { layout, partition };
                if repair.ask(&scope, driver, Ask::Hurry, Bytes::new()).await.is_err() {
                    // Somebody else may drive it by then.
                    repair.coordinator.unsettled.note(partition);
                }
            };
            self.site().tasks.spawn("repair hurry", tell.boxed()).detach();
        }
    }

    /// Proves a partition soon, or all of them.
    pub(super) fn hurry(
        &self,
        partition: Option<Partition>,
        since: HybridTime,
    ) -> Result<(), ReplicationError> {
        let layout = self.coordinator.layout()?;
        let mut agenda = self.agenda.lock();
        match partition {
            Some(partition) => agenda.hurry(partition),
            None => layout.partitions().iter().for_each(|partition| agenda.hurry(partition)),
        }
        *self.started.lock() = Some(since);
        drop(agenda);
        self.wake.notify_one();
        Ok(())
    }

    /// Tells every member that is up that this node has started: it may have missed writes.
    fn say_returned(self: &Arc<Self>, layout: &Arc<Layout>) {
        for member in layout.members().iter().filter(|member| member.node != self.me()) {
            let (repair, peer) = (Arc::downgrade(self), member.node);
            let scope = Scope { layout: Arc::clone(layout), partition: Partition(0) };
            let say = async move {
                let Some(repair) = repair.upgrade() else { return };
                if let Err(error) = repair.ask(&scope, peer, Ask::Returned, Bytes::new()).await {
                    tracing::debug!(%peer, %error, "a peer does not know that this node is back");
                }
            };
            self.site().tasks.spawn("repair hello", say.boxed()).detach();
        }
        self.hurry_with(self.me());
    }

    /// Shows what this node knows of its own partitions.
    fn show(&self) {
        let Ok(layout) = self.coordinator.layout() else { return };
        let copies = self.most_copies();
        let now = self.site().clock.wall().0;
        let fresh = u64::try_from(self.settings.fresh().as_millis()).unwrap_or(u64::MAX);
        let (mut proven, mut oldest) = (0, Some(0));
        for partition in layout.owned_by(self.me(), copies) {
            let full = self.proofs.look(partition, |proven| proven.and_then(|proven| proven.full));
            let age = full.map(|at| now.saturating_sub(at.millis()));
            proven += i64::from(age.is_some_and(|age| age <= fresh));
            oldest = oldest.and_then(|oldest: u64| Some(oldest.max(age?)));
        }
        figures::PROVEN.set(proven);
        let seconds = oldest.map(|millis| i64::try_from(millis / 1_000).unwrap_or(i64::MAX));
        figures::OLDEST.set(seconds.unwrap_or(-1));
    }

    /// What all members that are up know of all partitions; those that do not answer within a
    /// second are left out. Before that, tells them `command`.
    ///
    /// # Errors
    /// [`ReplicationError::NoLayout`] before `cluster init`; or if this node's storage fails.
    pub async fn inventory(&self, command: Command) -> Result<Inventory, ReplicationError> {
        let layout = self.coordinator.layout()?;
        self.obey(command).await?;
        let scope = Scope { layout: Arc::clone(&layout), partition: Partition(0) };
        let others = layout.members().iter().map(|member| member.node);
        let others = others.filter(|node| *node != self.me() && self.is_up(*node));
        let asking = others.map(|peer| {
            let ask = match command {
                Command::Tell => Ask::Inventory,
                command => Ask::Control { command },
            };
            let scope = &scope;
            async move {
                let asked = self.ask_for(scope, peer, ask, Bytes::new(), INVENTORY_PATIENCE);
                let known: Result<Known, ReplicationError> = match asked.await? {
                    (RepairReply::Inventory { known }, _) => Ok(known),
                    (other, _) => Err(unexpected(&other)),
                };
                known.map(|known| (peer, known))
            }
        });
        let told = futures_util::future::join_all(asking).await;
        let mut told: BTreeMap<NodeId, Known> = told.into_iter().flatten().collect();
        told.insert(self.me(), self.known().await?);
        let copies = self.most_copies();
        let expected = layout.partitions().iter().map(|partition| {
            let list = layout.preference_list(partition);
            (partition, list.owners(copies).iter().copied().collect())
        });
        Ok(Inventory::assemble(expected, told))
    }
}

/// Looks at the agenda for as long as there is a repair.
fn follow(repair: Weak<Repair>) -> BoxFuture<'static, ()> {
    let work = async move {
        let mut seen = Seen::default();
        loop {
            let Some(repair) = repair.upgrade() else { return };
            repair.look_around(&mut seen);
            let clock = Arc::clone(&repair.site().clock);
            match repair.begin_next() {
                Some(pause) if pause.is_zero() => {}
                Some(pause) => clock.sleep(pause).await,
                None => {
                    repair.show();
                    let called = std::pin::pin!(repair.wake.notified());
                    select(called, clock.sleep(LOOK_AGAIN)).await;
                }
            }
        }
    };
    work.boxed()
}

/// What was seen of the others.
#[derive(Default)]
struct Seen {
    greeted: bool,
    up: BTreeMap<NodeId, bool>,
}

impl Repair {
    /// Says once that this node is back, and hurries for others that are.
    fn look_around(self: &Arc<Self>, seen: &mut Seen) {
        let Ok(layout) = self.coordinator.layout() else { return };
        if !std::mem::replace(&mut seen.greeted, true) {
            self.say_returned(&layout);
        }
        self.settle(&layout);
        for node in layout.members().iter().map(|member| member.node) {
            let now = self.is_up(node);
            if seen.up.insert(node, now) == Some(false) && now {
                self.hurry_with(node);
            }
        }
    }
}
