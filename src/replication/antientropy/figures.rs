//! What `/metrics` says about repair.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use crate::env::metrics;

/// Bytes of messages sent to compare and repair copies.
pub(super) static BYTES_SENT: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter("quorate_repair_bytes_sent_total", "Bytes of repair messages sent to peers.")
});

/// Rows that exchanges moved or erased.
pub(super) static ROWS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "quorate_repair_rows_total",
        "Rows that exchanges with other owners pulled, pushed or erased.",
        &["how"],
    )
});

/// Exchanges between two owners.
pub(super) static EXCHANGES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "quorate_repair_exchanges_total",
        "Exchanges of a partition with another owner, by how they ended.",
        &["outcome"],
    )
});

/// Rounds that this node drove.
pub(super) static ROUNDS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "quorate_repair_rounds_total",
        "Rounds of a partition that this node drove, by how they ended.",
        &["outcome"],
    )
});

/// Sums that did not match their rows.
pub(super) static CORRECTED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "quorate_repair_leaves_corrected_total",
        "Sums of Merkle leaves that did not match the rows below them, and were corrected.",
    )
});

/// Tombstones erased.
pub(super) static PURGED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter("quorate_tombstones_purged_total", "Tombstones purged after their proof.")
});

/// Partitions that this node knows to be fully proven, and freshly.
pub(super) static PROVEN: LazyLock<IntGauge> = LazyLock::new(|| {
    metrics::gauge(
        "quorate_partitions_proven",
        "Partitions among whose owners this node is, with a fresh proof that all copies agree.",
    )
});

/// The age of the oldest of those proofs.
pub(super) static OLDEST: LazyLock<IntGauge> = LazyLock::new(|| {
    metrics::gauge(
        "quorate_repair_oldest_proof_seconds",
        "Age of the oldest full proof of a partition of this node; -1 if one has none.",
    )
});

/// Whether tombstones could not be purged when that was last tried.
pub(super) static BLOCKED: LazyLock<IntGauge> = LazyLock::new(|| {
    metrics::gauge(
        "quorate_repair_purge_blocked",
        "1 if tombstones wait for a node that is away, as of the last round.",
    )
});
