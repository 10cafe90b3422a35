//! What `/metrics` says about local storage.

use std::sync::LazyLock;

use prometheus::{Histogram, HistogramVec, IntCounter, IntGauge};

use crate::env::metrics;

/// Row commits that were made durable.
pub(super) static COMMITS: LazyLock<IntCounter> =
    LazyLock::new(|| metrics::counter("quorate_store_commits_total", "Row commits made durable."));

/// Groups of commits, one synced write each.
pub(super) static COMMIT_GROUPS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "quorate_store_commit_groups_total",
        "Groups of row commits; commits per group is the group size.",
    )
});

/// Commits that wait for their group.
pub(super) static COMMIT_QUEUE: LazyLock<IntGauge> =
    LazyLock::new(|| metrics::gauge("quorate_store_commit_queue", "Row commits that wait."));

static WRITE_LATENCY: LazyLock<HistogramVec> = LazyLock::new(|| {
    metrics::latencies(
        "quorate_store_write_seconds",
        "Time of one group's write and sync, by what was written.",
        &["what"],
    )
});

/// Time of one group of row commits.
pub(super) static COMMIT_LATENCY: LazyLock<Histogram> =
    LazyLock::new(|| WRITE_LATENCY.with_label_values(&["rows"]));

/// Time of one group of segment writes.
pub(super) static SEGMENT_LATENCY: LazyLock<Histogram> =
    LazyLock::new(|| WRITE_LATENCY.with_label_values(&["segments"]));

/// Synced groups of segment writes.
pub(super) static SEGMENT_SYNCS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter("quorate_store_segment_syncs_total", "Syncs of segment files.")
});

/// Extents sealed.
pub(super) static SEALS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter("quorate_store_extents_sealed_total", "Extents made durable.")
});

/// Payload bytes written to segments.
pub(super) static BYTES_APPENDED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter("quorate_store_segment_bytes_written_total", "Chunk bytes written.")
});

/// Payload bytes read from segments.
pub(super) static BYTES_READ: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter("quorate_store_segment_bytes_read_total", "Chunk bytes read and verified.")
});

/// Chunks that could not be read or did not match their checksum.
pub(super) static DAMAGED_READS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter("quorate_store_damaged_reads_total", "Chunks that failed their check.")
});

/// Rows that could not be read because their block fails its checksum.
pub(super) static DAMAGED_ROWS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter("quorate_store_damaged_rows_total", "Rows whose table failed its check.")
});

/// Spans of segments found damaged when they were opened.
pub(super) static DAMAGED_SPANS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter("quorate_store_damaged_spans_total", "Damaged spans found at start.")
});

/// Bytes of chunks that compactions wrote once more.
pub(super) static BYTES_COMPACTED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "quorate_store_compaction_bytes_written_total",
        "Chunk bytes that compactions copied out of segments.",
    )
});

/// Bytes of segments that compactions removed.
pub(super) static BYTES_FREED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "quorate_store_compaction_bytes_freed_total",
        "Bytes of segments that compactions removed.",
    )
});

/// Segments that compactions removed.
pub(super) static SEGMENTS_REMOVED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter("quorate_store_segments_removed_total", "Segments that compactions removed.")
});
