//! What gossip sends: chitchat's wire format, counted.

use super::settings::Settings;

/// A node's id as text, with its length.
const NODE_ID: usize = 2 + 32;
/// A node as chitchat names it: id, generation, IPv4 address and port.
const CHITCHAT_ID: usize = NODE_ID + 8 + 1 + 4 + 2;
/// A node in a digest: its name, heartbeat, and two versions.
const DIGEST_ENTRY: usize = CHITCHAT_ID + 3 * 8;
/// Magic number, protocol version, kind of message.
const HEADER: usize = 2 + 1 + 1;
/// The name of the cluster, with its length: 8 bytes in hexadecimal.
const CLUSTER_ID: usize = 2 + 16;
/// What chitchat wants to have left for news when it answers a SYN; with less it panics.
const ROOM_FOR_NEWS: usize = 100;
/// A delta that says nothing.
const EMPTY_DELTA: usize = 1;
/// A sign of life in a delta, before compression: whose it is, from which versions on, then key
/// `alive`, a value of boot, life and time, version, deleted or not.
const FACT: usize = 1 + CHITCHAT_ID + 2 * 8 + 1 + (2 + 5) + (2 + 36) + 8 + 1;

/// What a message may have: chitchat counts with 65,507 bytes, the transport with 65,536.
pub const MESSAGE_BYTES_MAX: usize = 65_507;

/// What one node sends, and on average receives, in a healthy cluster where nothing changes but
/// the signs of life. Without the overhead of QUIC, UDP and IP, which is about 4 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// How many nodes there are. Former lives of restarted nodes count too, for 12 h.
    pub nodes: usize,
    /// The bytes of one digest.
    pub digest: usize,
    /// The bytes of a SYN-ACK without news.
    pub longest: usize,
    /// Messages per second.
    pub messages: f64,
    /// Bytes per second.
    pub sent: f64,
    /// The part of them that is facts, at most: chitchat compresses them.
    pub facts: f64,
}

impl Traffic {
    /// The traffic of a cluster of so many nodes, each of which has been started once.
    #[must_use]
    pub fn of(settings: &Settings, nodes: usize) -> Self {
        let digest = 2 + nodes * DIGEST_ENTRY;
        let (syn, ack) = (HEADER + digest + CLUSTER_ID, HEADER + EMPTY_DELTA);
        let syn_ack = HEADER + digest + EMPTY_DELTA;
        // All members are seeds, so chitchat calls no seed beyond its live peers.
        let calls = settings.fan_out.min(nodes - 1) as f64 / settings.interval;
        // Each node learns each other's news once, from somebody.
        let facts = (nodes - 1) as f64 * FACT as f64 / settings.fact_every;
        Self {
            nodes,
            digest,
            longest: syn.max(syn_ack),
            messages: 3.0 * calls,
            sent: calls * (syn + syn_ack + ack) as f64 + facts,
            facts,
        }
    }

    /// Whether chitchat can still answer: it fills what its digest leaves of a message.
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.digest + 1 + ROOM_FOR_NEWS <= MESSAGE_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::Traffic;
    use crate::models::gossip::Settings;

    #[test]
    fn a_digest_of_895_nodes_is_the_greatest_that_fits() {
        let traffic = |nodes| Traffic::of(&Settings::configured(), nodes);

        assert!(traffic(895).fits());
        assert!(!traffic(896).fits());
    }

    #[test]
    fn what_a_node_sends_grows_with_the_nodes_and_not_with_their_square() {
        let sent = |nodes| Traffic::of(&Settings::configured(), nodes).sent;

        assert!((sent(400) / sent(100) - 4.0).abs() < 0.05);
    }
}
