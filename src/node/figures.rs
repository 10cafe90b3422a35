//! Figures of the whole node: memory, disk, peers; set now and then from what the floors below
//! tell.

use std::sync::LazyLock;

use prometheus::{IntGauge, IntGaugeVec};
use tikv_jemalloc_ctl::{epoch, stats};

use crate::env::metrics::{gauge, gauges};
use crate::membership::{Liveness, PeerState};
use crate::store::{DiskSpace, MetaFigures, SegmentFigures};

static MEMORY: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "quorate_memory_bytes",
        "Memory by kind: allocated and resident as the allocator counts, RocksDB's memtables and block cache.",
        &["kind"],
    )
});
static PEERS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges("quorate_gossip_peers", "Nodes that gossip knows, this one included.", &["liveness"])
});
static DISK: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "quorate_disk_bytes",
        "The data folder's file system, and what is kept on it.",
        &["kind"],
    )
});
static SEGMENTS: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("quorate_segments", "Segment files of bodies."));
static OPEN_EXTENTS: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("quorate_open_extents", "Extents that are being written."));
static ROWS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges("quorate_rows_estimated", "Rows of each table, as RocksDB estimates.", &["table"])
});

fn set(gauge: &IntGauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Sets what memory tells.
fn memory(meta: &MetaFigures) {
    // The allocator's figures are cached until its epoch moves.
    let counted =
        epoch::advance().and_then(|_| Ok((stats::allocated::read()?, stats::resident::read()?)));
    if let Ok((allocated, resident)) = counted {
        set(&MEMORY.with_label_values(&["allocated"]), allocated as u64);
        set(&MEMORY.with_label_values(&["resident"]), resident as u64);
    }
    set(&MEMORY.with_label_values(&["memtables"]), meta.memtable_bytes);
    set(&MEMORY.with_label_values(&["block_cache"]), meta.cache_bytes);
}

/// Sets every figure of the node.
pub(super) fn show(
    meta: &MetaFigures,
    segments: &SegmentFigures,
    space: DiskSpace,
    peers: &[PeerState],
) {
    memory(meta);
    let up = peers.iter().filter(|peer| peer.liveness == Liveness::Up).count();
    set(&PEERS.with_label_values(&["up"]), up as u64);
    set(&PEERS.with_label_values(&["down"]), (peers.len() - up) as u64);
    set(&DISK.with_label_values(&["free"]), space.free);
    set(&DISK.with_label_values(&["total"]), space.total);
    set(&DISK.with_label_values(&["tables"]), meta.disk_bytes);
    set(&DISK.with_label_values(&["segments"]), segments.bytes);
    set(&DISK.with_label_values(&["segments_live"]), segments.live_bytes);
    set(&DISK.with_label_values(&["segments_dead"]), segments.dead_bytes);
    set(&SEGMENTS, segments.segments);
    set(&OPEN_EXTENTS, segments.open_extents);
    for (table, rows) in &meta.rows_estimated {
        set(&ROWS.with_label_values(&[table]), *rows);
    }
}
