//! This node as a minter of writes: its hybrid clock and its actors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::causality::{Actor, HybridClock, HybridTime, Stamp, Stints};
use crate::env::mutation::{Mutation, is_planted};
use crate::env::{Clock, Entropy, Tasks};
use crate::membership::Clocks;
use crate::net::LinkFacts;
use crate::types::NodeId;

use super::error::ReplicationError;
use super::version::Version;

/// How far a peer's clock may lead before its time is not followed.
pub const CLOCK_DRIFT_MAX: Duration = Duration::from_secs(5);

/// This node's identity and seams, shared by everything that coordinates.
pub struct Site {
    /// This node.
    pub node: NodeId,
    /// How often it has been started, this time included.
    pub boot: u32,
    /// Its clocks.
    pub clock: Arc<dyn Clock>,
    /// Its randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Its tasks.
    pub tasks: Arc<dyn Tasks>,
    /// How its peers' wall clocks stand to its own.
    pub clocks: Arc<Clocks>,
    hybrid: Mutex<HybridClock>,
    stints: Stints,
    layout_version: AtomicU64,
    /// The hybrid time that a peer told last.
    heard: AtomicU64,
}

impl Site {
    /// A site whose stamps continue above `floor`.
    #[must_use]
    pub fn new(
        node: NodeId,
        boot: u32,
        floor: HybridTime,
        seams: (Arc<dyn Clock>, Arc<dyn Entropy>, Arc<dyn Tasks>),
    ) -> Arc<Self> {
        let (clock, entropy, tasks) = seams;
        Arc::new(Self {
            node,
            boot,
            clock,
            entropy,
            tasks,
            clocks: Arc::default(),
            hybrid: Mutex::new(HybridClock::new(floor, CLOCK_DRIFT_MAX)),
            stints: Stints::new(node, boot),
            layout_version: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        })
    }

    /// The version of a write of the row with the hash `row` that replaces `current`, which is
    /// what this replica holds, and `above`, which another owner is known to hold.
    /// Also tells this node's own clock, which a record from the future does not drag along.
    pub(crate) fn mint(
        &self,
        row: u64,
        current: Option<&Version>,
        above: Option<&Version>,
    ) -> (Version, HybridTime) {
        let wall = self.clock.wall().0;
        let time_of = |version: &Version| version.stamp.time;
        let seen = current.map_or(HybridTime::default(), time_of);
        let floor = above.map_or(HybridTime::default(), time_of);
        let (time, clock) = {
            let mut hybrid = self.hybrid.lock();
            let least = match is_planted(Mutation::StampBelowSeen) {
                true => HybridTime::default(),
                false => seen.max(floor),
            };
            (hybrid.tick_above(wall, least), hybrid.last())
        };
        let stamp = Stamp { time, node: self.node };
        let era = current.map_or(0, |version| version.era);
        // What another owner holds was acknowledged before this write: it is no rival.
        let base = match (current.cloned(), above) {
            (Some(mut current), Some(above)) => {
                current.absorb(above);
                Some(current)
            }
            (current, above) => current.or_else(|| above.cloned()),
        };
        let actor = match is_planted(Mutation::ReuseActors) {
            true => Actor { node: self.node, boot: 0, stint: 0 },
            false => self.stints.actor(row, current.map(|version| &version.seen)),
        };
        let mut version = Version::succeed(base.as_ref(), actor, stamp, era);
        // A write that met a newer one is minted again: what stands here is its first attempt.
        let attempt = current.filter(|current| current.stamp.node == self.node);
        version.repeats = attempt
            .filter(|current| above.is_some_and(|above| above.order() > current.order()))
            .map(|current| current.dot);
        (version, clock)
    }

    /// Whether this node may stamp writes that nobody else need agree to.
    ///
    /// # Errors
    /// [`ReplicationError::ClockSkew`] if most peers say that its clock is wrong.
    pub(crate) fn check_clock(&self) -> Result<(), ReplicationError> {
        let checked = self.clocks.check(self.clock.monotonic());
        checked.map_err(|fault| ReplicationError::ClockSkew(fault.to_string()))
    }

    /// Whether others would take what this node stamps: not for a while if its clock was ahead of
    /// theirs and was set right. Its stamps never go back, and nobody else's are so late.
    ///
    /// # Errors
    /// [`ReplicationError::ClockSkew`] if its stamps are too far ahead of its peers' clocks.
    pub(crate) fn check_stamps(&self) -> Result<(), ReplicationError> {
        let last = self.hybrid.lock().last().millis();
        let theirs = HybridTime(self.heard.load(Ordering::Relaxed)).millis();
        let ahead = last.saturating_sub(theirs.max(self.clock.wall().0));
        // Whoever has no peers to be outvoted by goes on.
        let is_one_of_many = self.clocks.median(self.clock.monotonic()).is_some();
        if u128::from(ahead) <= CLOCK_DRIFT_MAX.as_millis() || !is_one_of_many {
            return Ok(());
        }
        Err(ReplicationError::ClockSkew(format!(
            "the clock of node {} was ahead: its stamps are, for another {ahead} ms",
            self.node.short()
        )))
    }

    /// Whether a new write stamped at `time` may be taken here: not if it is far ahead of this
    /// node's clock and of its own stamps, unless that clock is itself known to be wrong.
    pub(crate) fn check_stamp(&self, time: HybridTime) -> Result<(), ReplicationError> {
        let own = self.hybrid.lock().last().millis().max(self.clock.wall().0);
        let ahead = time.millis().saturating_sub(own);
        if u128::from(ahead) <= CLOCK_DRIFT_MAX.as_millis() || self.check_clock().is_err() {
            return Ok(());
        }
        Err(ReplicationError::ClockSkew(format!(
            "the write is stamped {ahead} ms ahead of the clock of node {}",
            self.node.short()
        )))
    }

    /// The moment `told` of a peer's clock on this node's: a clock that is known to be so slow
    /// that its node's stamps do not follow this node's is put right.
    pub(crate) fn seen_here(&self, peer: NodeId, told: HybridTime) -> HybridTime {
        let ahead = self.clocks.ahead(peer, self.clock.monotonic()).unwrap_or(0);
        let behind = u64::try_from(-ahead).unwrap_or(0);
        if u128::from(behind) <= CLOCK_DRIFT_MAX.as_millis() {
            return told;
        }
        HybridTime::from_millis(told.millis().saturating_add(behind))
    }

    /// Makes every later write count from a new actor: a dot was minted that is not stored here.
    pub(crate) fn forget_actors(&self) {
        self.stints.forget_all();
    }

    /// Makes the next write of the row with the hash `row` count from a new actor: this node's
    /// record of it is being removed.
    pub(crate) fn forget_row(&self, row: u64) {
        self.stints.forget(row);
    }

    /// A time that no earlier write of this node has.
    pub fn now(&self) -> HybridTime {
        let wall = self.clock.wall().0;
        self.hybrid.lock().tick(wall)
    }

    /// Notes which layout is in force, for the headers of frames.
    pub fn set_layout_version(&self, version: u64) {
        self.layout_version.store(version, Ordering::Release);
    }
}

impl LinkFacts for Site {
    fn outgoing(&self) -> (u64, u64) {
        (self.layout_version.load(Ordering::Acquire), self.hybrid.lock().last().0)
    }

    fn incoming(&self, peer: NodeId, _layout_version: u64, hybrid_time: u64) {
        let wall = self.clock.wall().0;
        self.heard.store(hybrid_time, Ordering::Relaxed);
        if let Err(error) = self.hybrid.lock().observe(wall, HybridTime(hybrid_time)) {
            tracing::debug!(%peer, %error, "a peer's clock is not followed");
        }
    }
}
