//! What runs have passed: coverage marks, and crash points with the machines that died there.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate::types::NodeId;

/// Every crash point in the product: a test compares this list with the sources.
pub const POINTS: &[&str] = &[
    "body stored, head not written",
    "bucket fenced, not yet deleted",
    "completion written down, object not made",
    "copies synced, rows not moved",
    "extent fetched, row not refreshed",
    "extent freed, note not struck off",
    "extent registered, not noted",
    "fenced, not yet proven",
    "floor raised",
    "floor raised, nothing purged yet",
    "hints delivered, not struck off",
    "minted row durable",
    "object made, upload not marked",
    "proven, not yet purged",
    "row durable",
    "segment synced, rows not derived",
    "segments settled, not unlinked",
    "write at its quorum, not answered",
];

/// Every coverage mark in the product: a test compares this list with the sources.
pub const MARKS: &[&str] = &[
    "a completion is taken up again",
    "a copy that is being rebuilt does not count",
    "a damaged chunk is found",
    "a dead segment is removed",
    "a fence keeps a late write out",
    "a guest's row is kept for another owner",
    "a hint is delivered",
    "a read is hedged",
    "a read repairs an owner",
    "a row that was outlived is kept out",
    "a seal is replayed",
    "a torn tail is cut",
    "a write is minted again above a newer one",
    "a write meets a bucket that was changed",
    "an aged hint is settled with the other owners",
    "an exchange erases what was purged elsewhere",
    "an extent is fetched",
    "an extent is freed",
    "an orphan is freed",
    "concurrent values meet",
    "leaves are counted again",
    "somebody stands in for an owner",
    "tombstones are purged",
];

/// A machine that is to die at a crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    /// The node.
    pub node: NodeId,
    /// The point.
    pub point: &'static str,
}

/// Counters by name.
pub type Counts = BTreeMap<&'static str, u64>;

#[derive(Default)]
struct State {
    passed: Counts,
    died: Counts,
    armed: Vec<Armed>,
}

/// What one run has passed. Clones are one.
#[derive(Clone, Default)]
pub struct Coverage {
    state: Arc<Mutex<State>>,
}

impl Coverage {
    /// Lets a machine die when it passes a point next.
    pub fn arm(&self, armed: Armed) {
        self.state.lock().armed.push(armed);
    }

    /// A machine need not die any more.
    pub fn disarm(&self, node: NodeId) {
        self.state.lock().armed.retain(|armed| armed.node != node);
    }

    /// Counts a mark or a point.
    pub fn pass(&self, name: &'static str) {
        *self.state.lock().passed.entry(name).or_default() += 1;
    }

    /// Whether the machine is to die now, which it does once.
    #[must_use]
    pub fn dies(&self, node: NodeId, point: &'static str) -> bool {
        let mut state = self.state.lock();
        let armed = state.armed.iter().position(|armed| *armed == Armed { node, point });
        let Some(place) = armed else { return false };
        state.armed.remove(place);
        *state.died.entry(point).or_default() += 1;
        true
    }

    /// How often each mark and point was passed.
    #[must_use]
    pub fn passed(&self) -> Counts {
        self.state.lock().passed.clone()
    }

    /// How many machines died at each point.
    #[must_use]
    pub fn died(&self) -> Counts {
        self.state.lock().died.clone()
    }
}
