//! What the peer transport counts.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::transport::{Message, PeerError, ServiceId};
use crate::env::metrics;

static CALLS: LazyLock<HistogramVec> = LazyLock::new(|| {
    metrics::latencies(
        "quorate_peer_call_seconds",
        "Requests to peers, from the call to its answer",
        &["service", "result"],
    )
});

static BYTES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "quorate_peer_bytes_total",
        "Payload bytes of frames and bulk pieces, before encryption",
        &["direction"],
    )
});

static BYTES_OUT: LazyLock<IntCounter> = LazyLock::new(|| BYTES.with_label_values(&["out"]));
static BYTES_IN: LazyLock<IntCounter> = LazyLock::new(|| BYTES.with_label_values(&["in"]));

static CONNECTIONS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    metrics::gauges("quorate_peer_connections", "Open connections with peers", &["class"])
});

static REFUSALS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "quorate_peer_refusals_total",
        "Requests of peers refused before a handler saw them, and failed handshakes",
        &["reason"],
    )
});

/// Counts one finished call.
pub(super) fn called(service: ServiceId, result: &Result<Message, PeerError>, took: Duration) {
    let result = match result {
        Ok(_) => "ok",
        Err(PeerError::Unreachable { .. }) => "unreachable",
        Err(PeerError::TimedOut { .. }) => "timed_out",
        Err(PeerError::Lost { .. }) => "lost",
        Err(PeerError::Refused { .. }) => "refused",
        Err(PeerError::Failed { .. }) => "failed",
    };
    let service = service.0.to_string();
    CALLS.with_label_values(&[service.as_str(), result]).observe(took.as_secs_f64());
}

pub(super) fn sent(bytes: usize) {
    BYTES_OUT.inc_by(bytes as u64);
}

pub(super) fn received(bytes: usize) {
    BYTES_IN.inc_by(bytes as u64);
}

pub(super) fn refused(reason: &'static str) {
    REFUSALS.with_label_values(&[reason]).inc();
}

/// An open connection, counted until it is dropped.
pub(super) struct Counted(&'static str);

impl Counted {
    pub(super) fn new(class: &'static str) -> Self {
        CONNECTIONS.with_label_values(&[class]).inc();
        Self(class)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        CONNECTIONS.with_label_values(&[self.0]).dec();
    }
}
