//! Losses counted in drawn lives of whole clusters, on real layouts.

use super::scheme::{Scheme, YEAR_HOURS};
use crate::entropy::Seed;
use crate::models::balance::Ownership;
use crate::models::draws::Draws;
use crate::models::figures::{Estimate, mean};

/// How many independent parts a trial has, for its confidence interval.
const BATCHES: u32 = 20;

/// How a cluster repairs what a failed node held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repair {
    /// Hours until rebuilding begins.
    pub delay: f64,
    /// Hours from its begin until everything is rebuilt, partition after partition.
    pub rebuild: f64,
}

impl Repair {
    /// A repair that takes so long on average, half of it waiting.
    #[must_use]
    pub const fn of_mean(hours: f64) -> Self {
        Self { delay: hours / 2.0, rebuild: hours }
    }

    /// Hours until a partition is whole again, on average.
    #[must_use]
    pub const fn mean(self) -> f64 {
        self.delay + self.rebuild / 2.0
    }
}

/// What a cluster lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// Losses of a partition, per partition and year.
    pub per_partition: Estimate,
    /// Failures that lost at least one partition, per year of the cluster.
    pub events: f64,
    /// Partitions lost in such an event.
    pub per_event: f64,
}

/// Losses of a cluster: nodes fail alone, and lose what they hold; each partition is rebuilt at
/// some moment of the rebuild. What is lost is counted and begun anew.
#[must_use]
pub(super) fn cluster(
    scheme: Scheme,
    owned: &Ownership,
    failures_per_hour: f64,
    repair: Repair,
    years: u32,
    seed: Seed,
) -> Losses {
    let span = f64::from(years.div_ceil(BATCHES));
    let mut lost = Vec::new();
    let (mut events, mut partitions) = (0_u32, 0_u32);
    for number in 0..BATCHES {
        let mut life = Life::new(scheme, owned, seed.with(u64::from(number)));
        life.run(failures_per_hour, repair, span * YEAR_HOURS);
        lost.push(f64::from(life.partitions_lost) / span / owned.slices() as f64);
        events += life.events;
        partitions += life.partitions_lost;
    }
    Losses {
        per_partition: Estimate::of(&lost),
        events: f64::from(events) / span / f64::from(BATCHES),
        per_event: mean(&[f64::from(partitions) / f64::from(events.max(1))]),
    }
}

/// One drawn life of a cluster.
struct Life {
    fragments: usize,
    tolerated: usize,
    /// For each node the slots that it owns, by their place in `whole_at`.
    slots: Vec<Vec<usize>>,
    /// When each slot of each partition holds its fragment again.
    whole_at: Vec<f64>,
    /// When each partition as a whole does.
    all_whole_at: Vec<f64>,
    draws: Draws,
    events: u32,
    partitions_lost: u32,
}

impl Life {
    fn new(scheme: Scheme, owned: &Ownership, seed: Seed) -> Self {
        let mut slots = vec![Vec::new(); owned.nodes()];
        for (partition, row) in owned.rows().enumerate() {
            for (slot, owner) in row.iter().enumerate() {
                slots[usize::from(*owner)].push(partition * scheme.fragments + slot);
            }
        }
        Self {
            fragments: scheme.fragments,
            tolerated: scheme.tolerated,
            slots,
            whole_at: vec![0.0; owned.slices() * scheme.fragments],
            all_whole_at: vec![0.0; owned.slices()],
            draws: Draws::new(seed),
            events: 0,
            partitions_lost: 0,
        }
    }

    fn run(&mut self, failures_per_hour: f64, repair: Repair, hours: f64) {
        let rate = failures_per_hour * self.slots.len() as f64;
        let mut now = self.draws.wait(rate);
        while now < hours {
            let node = self.draws.below(self.slots.len());
            self.fail(node, now, repair);
            now += self.draws.wait(rate);
        }
    }

    fn fail(&mut self, node: usize, now: f64, repair: Repair) {
        let mut lost = 0;
        for slot in &self.slots[node] {
            let whole_at = now + repair.delay + repair.rebuild * self.draws.unit();
            self.whole_at[*slot] = whole_at;
            let partition = slot / self.fragments;
            let before = self.all_whole_at[partition];
            self.all_whole_at[partition] = before.max(whole_at);
            if before <= now {
                continue;
            }
            let first = partition * self.fragments;
            let row = &mut self.whole_at[first..first + self.fragments];
            if row.iter().filter(|whole_at| **whole_at > now).count() > self.tolerated {
                lost += 1;
                row.fill(0.0);
                self.all_whole_at[partition] = 0.0;
            }
        }
        self.partitions_lost += lost;
        self.events += u32::from(lost > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Repair, cluster};
    use crate::entropy::Seed;
    use crate::models::balance::{Capacities, ModelCluster, Ownership};
    use crate::models::durability::{Hazard, SCHEMES};

    #[test]
    fn a_drawn_cluster_loses_partitions_as_often_as_the_chain_says() {
        let cluster_of_30 =
            ModelCluster { seed: Seed(1), nodes: 30, zones: 3, capacities: Capacities::Equal };
        let layout = cluster_of_30.layout().unwrap();
        let hazard = Hazard { afr: 0.9, repair_hours: 50.0 };
        for scheme in &SCHEMES[..3] {
            let owned = Ownership::of_layout(&layout, scheme.fragments);
            let (rate, repair) = (hazard.failures_per_hour(), Repair::of_mean(50.0));

            let losses = cluster(*scheme, &owned, rate, repair, 200, Seed(1));

            // Nodes that fail again while they are refilled are in the lives and not in the
            // chain: some hundredths.
            let ratio = losses.per_partition.mean / scheme.losses_per_year(hazard);
            let sure = losses.per_partition.within / losses.per_partition.mean;
            assert!((ratio - 1.0).abs() < 0.1 + 1.5 * sure, "{}: {ratio} {losses:?}", scheme.name);
            assert!(losses.per_event >= 1.0);
        }
    }
}
