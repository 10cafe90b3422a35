//! What the key-value front counts.

use std::sync::LazyLock;

use prometheus::{HistogramVec, IntCounterVec};

use crate::env::metrics::{counters, latencies};

/// Requests by operation and status class (`2xx`).
pub(super) static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters("quorate_kv_requests_total", "KV requests answered.", &["operation", "status"])
});

/// Time until the answer's head.
pub(super) static LATENCY: LazyLock<HistogramVec> = LazyLock::new(|| {
    latencies("quorate_kv_request_seconds", "Time to the head of a KV answer.", &["operation"])
});
