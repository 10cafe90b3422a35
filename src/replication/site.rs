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

    /// Whether a new write stamped at `time` may be taken here: not if it is far ahead of this
    /// node's clock, unless that clock is itself known to be wrong.
    pub(crate) fn check_stamp(&self, time: HybridTime) -> Result<(), ReplicationError> {
        let ahead = time.millis().saturating_sub(self.clock.wall().0);
        if u128::from(ahead) <= CLOCK_DRIFT_MAX.as_millis() || self.check_clock().is_err() {
            return Ok(());
        }
        Err(ReplicationError::ClockSkew(format!(
            "the write is stamped {ahead} ms ahead of the clock of node {}",
            self.node.short()
        )))
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
        if let Err(error) = self.hybrid.lock().observe(wall, HybridTime(hybrid_time)) {
            tracing::debug!(%peer, %error, "a peer's clock is not followed");
        }
    }
}
