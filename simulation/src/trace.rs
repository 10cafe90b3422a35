//! What happened in a run, folded into one number that two runs can compare.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate::codec::Crc32c;
use quorate::net::Message;
use quorate::types::NodeId;

use crate::clock::WorldTime;
use crate::entropy::{fnv1a, mix};

/// A checkpoint of the hash is kept each so many events, to find where two runs part.
const CHECKPOINT_EVENTS: u64 = 1_000;

/// The text log keeps this many lines; later ones are counted and not kept.
const LINES_MAX: usize = 200_000;

/// A digest of bytes: equal bytes have equal digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Digest {
    /// No bytes.
    pub const NONE: Self = Self(0);

    /// The digest of `bytes`: length and CRC-32C.
    #[must_use]
    pub fn of(bytes: &Bytes) -> Self {
        Self(mix(bytes.len() as u64) ^ u64::from(Crc32c::of(bytes).0))
    }

    /// The digest of a message's body and attachment.
    #[must_use]
    pub fn of_message(message: &Message) -> Self {
        Self(mix(Self::of(&message.body).0) ^ Self::of(&message.attachment).0)
    }
}

/// One thing that happened between two nodes (or to one: then both are the same).
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Who caused it.
    pub from: NodeId,
    /// Whom it reached.
    pub to: NodeId,
    /// What kind of thing: `call`, `answer`, `piece`, `gossip`, `fault`, or a scenario's word.
    pub kind: &'static str,
    /// The service asked, or another number that tells events of a kind apart.
    pub number: u64,
    /// The bytes that it carried.
    pub digest: Digest,
    /// How it ended.
    pub outcome: &'static str,
}

impl Event {
    /// Something that happened to `node` alone.
    #[must_use]
    pub const fn at(node: NodeId, kind: &'static str, number: u64, outcome: &'static str) -> Self {
        Self { from: node, to: node, kind, number, digest: Digest::NONE, outcome }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, kind, number, digest, outcome } = self;
        let (from, to) = (from.short(), to.short());
        write!(f, "{from} -> {to} {kind} {number} {:016x} {outcome}", digest.0)
    }
}

/// Whether the trace keeps a line of text per event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextLog {
    /// Only the hash and the counters.
    Off,
    /// A line per event, up to 200,000.
    On,
}

struct State {
    hash: u64,
    events: u64,
    checkpoints: Vec<u64>,
    counts: BTreeMap<(&'static str, &'static str), u64>,
    lines: Vec<String>,
}

/// A rolling 64-bit hash over all events of a run and their times.
pub struct Trace {
    time: WorldTime,
    text: TextLog,
    state: Mutex<State>,
}

/// The comparable summary of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSummary {
    /// The hash over all events.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// The hash after each 1,000 events.
    pub checkpoints: Vec<u64>,
    /// How many events of each (kind, outcome).
    pub counts: BTreeMap<(&'static str, &'static str), u64>,
    /// When it was taken.
    pub simulated: Duration,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(time: WorldTime, text: TextLog) -> Arc<Self> {
        let state = State {
            hash: 0,
            events: 0,
            checkpoints: Vec::new(),
            counts: BTreeMap::new(),
            lines: Vec::new(),
        };
        Arc::new(Self { time, text, state: Mutex::new(state) })
    }

    /// Folds one event in, at the current simulated time.
    pub fn record(&self, event: Event) {
        let now = self.time.elapsed();
        let mut state = self.state.lock();
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let words = [
            nanos,
            fnv1a(event.from.as_bytes()),
            fnv1a(event.to.as_bytes()),
            fnv1a(event.kind.as_bytes()),
            event.number,
            event.digest.0,
            fnv1a(event.outcome.as_bytes()),
        ];
        state.hash = words.into_iter().fold(state.hash, |hash, word| mix(hash ^ word));
        state.events += 1;
        if state.events.is_multiple_of(CHECKPOINT_EVENTS) {
            let hash = state.hash;
            state.checkpoints.push(hash);
        }
        *state.counts.entry((event.kind, event.outcome)).or_default() += 1;
        if self.text == TextLog::On && state.lines.len() < LINES_MAX {
            state.lines.push(format!("{:>12.6} {event}", now.as_secs_f64()));
        }
    }

    /// The summary up to now.
    #[must_use]
    pub fn summary(&self) -> TraceSummary {
        let state = self.state.lock();
        TraceSummary {
            hash: state.hash,
            events: state.events,
            checkpoints: state.checkpoints.clone(),
            counts: state.counts.clone(),
            simulated: self.time.elapsed(),
        }
    }

    /// The text log, if it is on.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.state.lock().lines.clone()
    }
}
