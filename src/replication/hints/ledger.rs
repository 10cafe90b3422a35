//! How much is kept for whom, and when to keep no more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;
use crate::env::{UnixMillis, metrics};
use crate::replication::companion::{Guard, Incoming, Purpose, Verdict};
use crate::replication::error::ReplicationError;
use crate::replication::site::Site;
use crate::types::{ByteCount, NodeId};

static ROWS: std::sync::LazyLock<prometheus::IntGauge> = std::sync::LazyLock::new(|| {
    metrics::gauge("quorate_hints", "Rows that this node keeps for owners that were away.")
});

static BYTES: std::sync::LazyLock<prometheus::IntGauge> = std::sync::LazyLock::new(|| {
    metrics::gauge("quorate_hint_bytes", "Bytes of rows kept for owners that were away.")
});

static REFUSED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter(
        "quorate_hints_refused_total",
        "Writes that this node did not keep for an owner, because its limit was reached.",
    )
});

/// How much one node keeps for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintLimits {
    /// Bytes of rows, all owners together; beyond it new ones are refused. Default 1 GiB.
    pub bytes_max: ByteCount,
    /// The age of an owner's oldest hint from which new ones for it are refused, and from which
    /// what is kept is brought to the other owners instead. Default 24 h.
    pub age_max: Duration,
}

impl Default for HintLimits {
    fn default() -> Self {
        Self { bytes_max: ByteCount::gib(1), age_max: Duration::from_secs(24 * 3600) }
    }
}

/// What one node keeps for one owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintFigures {
    /// Rows.
    pub rows: u64,
    /// Their bytes, without those of extents.
    pub bytes: u64,
    /// When the oldest of their writes began; `None` if there are none.
    pub oldest: Option<HybridTime>,
}

/// The sums over this node's hints, near enough for limits: counted when hints are looked
/// through, estimated in between.
pub struct HintLedger {
    site: Arc<Site>,
    limits: HintLimits,
    owners: Mutex<BTreeMap<NodeId, HintFigures>>,
}

impl HintLedger {
    /// A ledger without entries.
    #[must_use]
    pub fn new(site: Arc<Site>, limits: HintLimits) -> Arc<Self> {
        Arc::new(Self { site, limits, owners: Mutex::default() })
    }

    /// What is kept for each owner.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<NodeId, HintFigures> {
        self.owners.lock().clone()
    }

    /// Replaces the estimates by what was counted.
    pub(super) fn set(&self, counted: BTreeMap<NodeId, HintFigures>) {
        let mut owners = self.owners.lock();
        *owners = counted;
        show(&owners);
    }

    /// An owner is owed nothing more.
    pub(super) fn clear(&self, owner: NodeId) {
        let mut owners = self.owners.lock();
        owners.remove(&owner);
        show(&owners);
    }

    /// Whether what is kept for `owner` has been kept for too long.
    pub(super) fn is_aged(&self, owner: NodeId) -> bool {
        let oldest = self.owners.lock().get(&owner).and_then(|figures| figures.oldest);
        oldest.is_some_and(|oldest| self.age(oldest) > self.limits.age_max)
    }

    /// Whether more is kept than there should be.
    pub(super) fn is_full(&self) -> bool {
        let bytes: u64 = self.owners.lock().values().map(|figures| figures.bytes).sum();
        bytes >= self.limits.bytes_max.0
    }

    fn age(&self, since: HybridTime) -> Duration {
        let UnixMillis(now) = self.site.clock.wall();
        Duration::from_millis(now.saturating_sub(since.millis()))
    }

    fn keep(&self, owner: NodeId, begun: HybridTime, bytes: u64) -> Result<(), ReplicationError> {
        if self.is_full() {
            REFUSED.inc();
            let reason = format!("this node keeps {} of hints already", self.limits.bytes_max);
            return Err(ReplicationError::Busy(reason));
        }
        if self.is_aged(owner) {
            REFUSED.inc();
            let reason = format!("{} has been away for longer than hints are kept", owner.short());
            return Err(ReplicationError::Busy(reason));
        }
        let mut owners = self.owners.lock();
        let figures = owners.entry(owner).or_default();
        figures.rows += 1;
        figures.bytes += bytes;
        figures.oldest = Some(figures.oldest.map_or(begun, |oldest| oldest.min(begun)));
        show(&owners);
        Ok(())
    }
}

impl Guard for HintLedger {
    fn judge(&self, incoming: &Incoming<'_>) -> Result<Verdict, ReplicationError> {
        if let Purpose::Hinted { owner, begun } = incoming.purpose {
            self.keep(owner, begun, incoming.bytes)?;
        }
        Ok(Verdict::Take)
    }
}

fn show(owners: &BTreeMap<NodeId, HintFigures>) {
    let sum = |of: fn(&HintFigures) -> u64| {
        i64::try_from(owners.values().map(of).sum::<u64>()).unwrap_or(i64::MAX)
    };
    ROWS.set(sum(|figures| figures.rows));
    BYTES.set(sum(|figures| figures.bytes));
}
