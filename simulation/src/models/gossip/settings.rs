//! What the model takes from the product and from chitchat.

use quorate::membership::GossipConfig;

/// How nodes gossip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The time between rounds, in seconds.
    pub interval: f64,
    /// How many peers a node calls in a round.
    pub fan_out: usize,
    /// Above this a peer counts as down.
    pub phi: f64,
    /// How many intervals between heartbeats are averaged,
    pub window: usize,
    /// together with so many that are as long as a round.
    pub prior: f64,
    /// Longer intervals are left out, in seconds.
    pub interval_max: f64,
    /// How often each node changes a fact about itself, in seconds: its sign of life.
    pub fact_every: f64,
}

impl Settings {
    /// As the product is built. Fan-out and prior are chitchat's constants (`GOSSIP_COUNT` and
    /// the weight of its additive smoothing), which it does not export; `tests/models_gossip.rs`
    /// compares the model with the real one.
    #[must_use]
    pub fn configured() -> Self {
        Self {
            interval: GossipConfig::INTERVAL.as_secs_f64(),
            fan_out: 3,
            phi: GossipConfig::PHI_THRESHOLD,
            window: GossipConfig::WINDOW,
            prior: 5.0,
            interval_max: GossipConfig::INTERVAL_MAX.as_secs_f64(),
            // Every fourth of the rounds of membership, which are 3 s apart.
            fact_every: 12.0,
        }
    }
}
