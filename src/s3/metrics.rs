//! What the S3 front counts.

use std::sync::LazyLock;

use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use crate::env::metrics::{counter, counters, latencies};

/// Requests by operation and status class (`2xx`).
pub(super) static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters("quorate_s3_requests_total", "S3 requests answered.", &["operation", "status"])
});

/// Time until the answer's head, bodies in included, bodies out not.
pub(super) static LATENCY: LazyLock<HistogramVec> = LazyLock::new(|| {
    latencies("quorate_s3_request_seconds", "Time to the head of an answer.", &["operation"])
});

/// Body bytes received, framing not counted.
pub(super) static BYTES_IN: LazyLock<IntCounter> =
    LazyLock::new(|| counter("quorate_s3_bytes_in_total", "Bytes of S3 bodies received."));

/// Object bytes sent.
pub(super) static BYTES_OUT: LazyLock<IntCounter> =
    LazyLock::new(|| counter("quorate_s3_bytes_out_total", "Bytes of objects sent by S3."));
