//! Figures for `/metrics`: every floor declares its own beside the code that counts.
//!
//! Counting is free of effects on what a node does, so it needs no seam; nodes that share a
//! process (as in the simulation) share their counters.

use prometheus::core::Collector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    TextEncoder,
};

/// Upper bounds of latency buckets, in seconds: 0.25 ms to 30 s.
const LATENCY_BUCKETS: [f64; 16] = [
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];

#[expect(clippy::expect_used, reason = "names and labels are literals; each metric has a test run")]
fn registered<C: Collector + Clone + 'static>(made: prometheus::Result<C>) -> C {
    let collector = made.expect("a metric's literal name and labels are well-formed");
    prometheus::register(Box::new(collector.clone())).expect("a metric is declared once");
    collector
}

/// Declares a counter. Call once per name, from a `LazyLock`.
#[must_use]
pub fn counter(name: &str, help: &str) -> IntCounter {
    registered(IntCounter::new(name, help))
}

/// Declares a counter with labels.
#[must_use]
pub fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(IntCounterVec::new(Opts::new(name, help), labels))
}

/// Declares a gauge.
#[must_use]
pub fn gauge(name: &str, help: &str) -> IntGauge {
    registered(IntGauge::new(name, help))
}

/// Declares a gauge with labels.
#[must_use]
pub fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(IntGaugeVec::new(Opts::new(name, help), labels))
}

/// Declares a latency histogram, in seconds.
#[must_use]
pub fn latencies(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
    registered(HistogramVec::new(options, labels))
}

/// Everything declared and counted so far, in Prometheus' text format.
#[must_use]
pub fn exposition() -> String {
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&prometheus::gather(), &mut text) {
        tracing::warn!(%error, "metrics could not be encoded");
    }
    String::from_utf8(text).unwrap_or_default()
}
