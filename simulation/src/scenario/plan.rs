//! What a run consists of, as data: drawn from a seed, shrunk after a failure, read from a file.

use std::time::Duration;

use quorate::blob::UpkeepSettings;
use quorate::catalog::{CatalogLimits, CollectionSettings};
use quorate::replication::{HintLimits, Level, Patience, RepairSettings};
use quorate::types::{ByteCount, Key, NodeId};
use serde::{Deserialize, Serialize};

use crate::cluster::{ClusterOptions, Mains};
use crate::entropy::Seed;
use crate::faults::{Kind, Mix, PlannedFault, pick, plan};
use crate::world::World;

/// A run as data. Every scenario draws one; what it does not use is at rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How many nodes there are.
    pub nodes: u8,
    /// Partitions of the ring.
    pub partitions: u32,
    /// Copies of each row.
    pub copies: u8,
    /// The level of the bucket.
    pub level: Level,
    /// Clients of each gateway.
    pub clients: u8,
    /// How many keys they share.
    pub keys: u8,
    /// How long coordinators wait for an answer, in milliseconds.
    pub answer_millis: u64,
    /// How often partitions are proven, in seconds.
    pub interval_seconds: u64,
    /// How old a tombstone is when it is purged, in seconds.
    pub lag_seconds: u64,
    /// How long blocking work takes at most, in milliseconds.
    pub blocking_millis: u64,
    /// The size of a segment, in KiB.
    pub segment_kib: u64,
    /// How long a write is kept for an owner that is away, in seconds.
    pub hint_seconds: u64,
    /// Whether power goes out in the middle of steps of the storage.
    pub mains: Mains,
    /// What goes wrong, and when.
    pub faults: Vec<PlannedFault>,
}

impl Plan {
    /// A plan with the sizes and times that follow from `seed`, for that many nodes, and without
    /// faults.
    #[must_use]
    pub fn sized(seed: Seed, nodes: u8) -> Self {
        let draw = |what: &str, low, high| seed.of(what).between(low, high);
        let small = |what: &str, low, high| u8::try_from(draw(what, low, high)).unwrap_or(1);
        let many_copies = nodes >= 5 && draw("copies", 0, 3) == 0;
        // Repair in a hurry meets what is under way; repair at rest leaves it to hints and reads.
        let (interval_seconds, lag_seconds) = pick(seed.of("pace"), &PACES);
        Self {
            nodes,
            // Each proof reads the trees of a partition: where there are many, there are few.
            partitions: if interval_seconds < 60 {
                8
            } else {
                pick(seed.of("partitions"), &[8, 16, 32])
            },
            copies: if many_copies { 5 } else { 3 },
            level: Level::Strict,
            clients: small("clients", 1, 3),
            keys: small("keys", 3, 16),
            answer_millis: draw("answer", 1_000, 10_000),
            interval_seconds,
            lag_seconds,
            blocking_millis: draw("blocking", 0, 8),
            segment_kib: pick(seed.of("segments"), &[64, 256, 1_024]),
            hint_seconds: 24 * 3_600,
            mains: pick(seed.of("mains"), &[Mains::Steady, Mains::Unsteady]),
            faults: Vec::new(),
        }
    }

    /// Adds a swarm of these kinds of faults.
    #[must_use]
    pub fn with_swarm(mut self, seed: Seed, span: Duration, allowed: &[&[Kind]]) -> Self {
        let mix = Mix::swarm(seed.of("mix"), allowed);
        self.faults = plan(seed.of("faults"), &self.node_ids(), span, &mix);
        self
    }

    /// The nodes.
    #[must_use]
    pub fn node_ids(&self) -> Vec<NodeId> {
        (1..=self.nodes).map(World::node_id).collect()
    }

    /// Whether a fault of one of these kinds strikes.
    #[must_use]
    pub fn strikes(&self, kinds: &[Kind]) -> bool {
        self.faults.iter().any(|planned| kinds.contains(&planned.fault.kind))
    }

    /// Keys that lie in several folders.
    #[must_use]
    pub fn key_names(&self) -> Vec<Key> {
        let name = |number: u8| match number % 4 {
            0 => format!("a/{number:02}"),
            1 => format!("b/c/{number:02}"),
            2 => format!("b/{number:02}"),
            _ => format!("key-{number:02}"),
        };
        (0..self.keys).filter_map(|number| Key::new(name(number)).ok()).collect()
    }

    /// How long coordinators wait for an answer.
    #[must_use]
    pub const fn answer(&self) -> Duration {
        Duration::from_millis(self.answer_millis)
    }

    /// The cluster that it is about.
    #[must_use]
    pub fn cluster(&self) -> ClusterOptions {
        let limits = CatalogLimits {
            inline_max: ByteCount(512),
            attached_max: ByteCount::kib(4),
            bodies_max: 64,
            ..CatalogLimits::default()
        };
        let answer = self.answer();
        ClusterOptions {
            nodes: self.nodes,
            partitions: self.partitions,
            limits,
            patience: Patience { answer, ..Patience::default() },
            segment_size: ByteCount::kib(self.segment_kib),
            repair: RepairSettings {
                interval: Duration::from_secs(self.interval_seconds),
                purge_lag: Duration::from_secs(self.lag_seconds),
            },
            hints: HintLimits {
                age_max: Duration::from_secs(self.hint_seconds),
                ..HintLimits::default()
            },
            upkeep: UpkeepSettings { scrub_interval: Duration::from_secs(60) },
            collection: CollectionSettings {
                // Twice the longest that a request takes, as it is configured.
                read_grace: answer * 6,
                read_grace_min: answer * 6,
                uploads_kept: answer * 9,
            },
        }
    }
}

/// How often partitions are proven and how old tombstones are when they are purged, in seconds.
const PACES: [(u64, u64); 4] = [(600, 3_600), (600, 3_600), (20, 60), (5, 15)];
