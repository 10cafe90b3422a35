//! How many partitions each node should hold: capacity, clipped to what distinctness permits.

use super::roster::{Rank, Roster};

/// A node above its fair share by more than this factor hands partitions over.
const MOST_FACTOR: f64 = 1.05;
/// A node below its fair share by more than this factor takes partitions over.
const LEAST_FACTOR: f64 = 0.95;
/// Shares are sums of products of floats; a hair above a whole number is that number.
const ROUNDING: f64 = 1e-6;

/// The band in which each node's number of partitions should lie, by rank.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    fair: Vec<f64>,
    least: Vec<usize>,
    most: Vec<usize>,
}

impl Shares {
    /// The shares of all nodes for `copies` copies of each of `partitions` partitions.
    ///
    /// Water-filling: shares rise in proportion to capacity until all copies are placed; a node
    /// stops at one copy of everything, a zone between the bounds of invariant 2.
    pub(super) fn new(roster: &Roster, partitions: u32, copies: usize) -> Self {
        let zones = zones_of(roster, partitions, copies);
        let target = f64::from(partitions) * copies.min(roster.len()) as f64;
        let level = level_at(target, |level| zones.iter().map(|zone| zone.bounded(level)).sum());
        let mut fair = vec![0.0; roster.len()];
        for zone in &zones {
            let share = zone.bounded(level);
            let own_level = level_at(share, |level| zone.free(level));
            for (rank, capacity) in &zone.nodes {
                fair[usize::from(*rank)] = (own_level * capacity).min(zone.per_node);
            }
        }
        let everything = partitions as usize;
        let most = |fair: &f64| ((fair * MOST_FACTOR - ROUNDING).ceil() as usize).max(1);
        let least = |fair: &f64| (fair * LEAST_FACTOR + ROUNDING).floor() as usize;
        Self {
            most: fair.iter().map(|fair| most(fair).min(everything)).collect(),
            least: fair.iter().map(least).collect(),
            fair,
        }
    }

    /// A node's fair share, in partitions.
    pub(super) fn fair(&self, rank: Rank) -> f64 {
        self.fair[usize::from(rank)]
    }

    /// The fewest partitions a node should hold.
    pub(super) fn least(&self, rank: Rank) -> usize {
        self.least[usize::from(rank)]
    }

    /// The most partitions a node should hold.
    pub(super) fn most(&self, rank: Rank) -> usize {
        self.most[usize::from(rank)]
    }
}

/// One zone as the water sees it.
struct ZoneShare {
    nodes: Vec<(Rank, f64)>,
    per_node: f64,
    at_least: f64,
    at_most: f64,
}

impl ZoneShare {
    /// What the nodes of the zone hold at a level, each clipped to one copy of everything.
    fn free(&self, level: f64) -> f64 {
        self.nodes.iter().map(|(_, capacity)| (level * capacity).min(self.per_node)).sum()
    }

    /// The same within the bounds of the zone.
    fn bounded(&self, level: f64) -> f64 {
        self.free(level).clamp(self.at_least, self.at_most)
    }
}

fn zones_of(roster: &Roster, partitions: u32, copies: usize) -> Vec<ZoneShare> {
    let per_node = f64::from(partitions);
    let limit = roster.zone_limit(copies.min(roster.len()));
    let mut zones: Vec<ZoneShare> = (0..roster.zone_count())
        .map(|zone| ZoneShare {
            nodes: Vec::new(),
            per_node,
            at_least: per_node * roster.zone_size(zone).min(limit - 1) as f64,
            at_most: per_node * roster.zone_size(zone).min(limit) as f64,
        })
        .collect();
    for rank in roster.ranks() {
        zones[roster.zone(rank)].nodes.push((rank, f64::from(roster.capacity(rank))));
    }
    zones
}

/// The least level at which `filled`, which never falls, reaches `target`.
fn level_at(target: f64, filled: impl Fn(f64) -> f64) -> f64 {
    let enough = |level: f64| filled(level) >= target * (1.0 - 1e-12);
    let mut high = 1e-9;
    // Shares are at most 65,536 and capacities at least 1, so doubling ends long before this.
    for _ in 0..128 {
        if enough(high) {
            break;
        }
        high *= 2.0;
    }
    let mut low = 0.0;
    for _ in 0..128 {
        let middle = f64::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::Shares;
    use crate::ring::member::{Capacity, Member};
    use crate::ring::roster::Roster;
    use crate::types::{NodeId, Zone};

    fn roster(nodes: &[(&str, u32)]) -> Roster {
        let members: Vec<Member> = (1..)
            .zip(nodes)
            .map(|(byte, (zone, capacity))| Member {
                node: NodeId::from_bytes([byte; 16]),
                zone: Zone::new(*zone),
                capacity: Capacity(*capacity),
                tags: Vec::new(),
            })
            .collect();
        Roster::of(&members)
    }

    fn check(nodes: &[(&str, u32)], copies: usize, expected: &[f64]) {
        let roster = roster(nodes);
        let shares = Shares::new(&roster, 1024, copies);
        for (rank, expected) in roster.ranks().zip(expected) {
            let fair = shares.fair(rank) / 1024.0;
            assert!((fair - expected).abs() < 1e-6, "{nodes:?}: rank {rank} has {fair}");
        }
    }

    #[test]
    fn shares_follow_capacity() {
        check(&[("a", 1), ("a", 1), ("a", 2), ("a", 4)], 1, &[0.125, 0.125, 0.25, 0.5]);
        check(&[("a", 10), ("a", 10), ("a", 10), ("a", 10)], 3, &[0.75; 4]);
    }

    #[test]
    fn a_node_holds_at_most_one_copy_of_everything() {
        check(&[("a", 1), ("a", 1), ("a", 9)], 2, &[0.5, 0.5, 1.0]);
        check(&[("a", 1), ("a", 100), ("a", 9)], 3, &[1.0; 3]);
        check(&[("a", 1), ("a", 100)], 3, &[1.0; 2]);
    }

    #[test]
    fn zones_come_before_capacity() {
        check(&[("a", 1), ("b", 100), ("b", 300), ("c", 100)], 3, &[1.0, 0.25, 0.75, 1.0]);
        check(&[("a", 1), ("a", 1), ("b", 1), ("b", 1), ("b", 98)], 3, &[0.5, 0.5, 0.5, 0.5, 1.0]);
    }

    #[test]
    fn tiny_and_huge_capacities_stay_in_one_scale() {
        let roster = roster(&[("a", 1), ("a", u32::MAX), ("a", u32::MAX), ("a", u32::MAX)]);
        let shares = Shares::new(&roster, 65_536, 3);

        assert_eq!(shares.least(0), 0);
        assert!(shares.most(0) >= 1);
        assert_eq!(shares.most(1), 65_536);
    }
}
