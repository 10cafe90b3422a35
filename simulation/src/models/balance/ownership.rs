//! Who holds which slice of the data, however it came about, and what follows from it.

use quorate::ring::Layout;

use crate::entropy::mix;
use crate::models::figures::{choose, deviation};

/// A node, by its place in id order.
pub(super) type Place = u16;

/// Slices of all data and their owners.
///
/// # Invariants
/// 1. The weights add up to 1.
/// 2. The owners of a slice are distinct.
#[derive(Clone, Debug)]
pub struct Ownership {
    nodes: usize,
    copies: usize,
    weights: Vec<f64>,
    /// Row after row, `copies` owners for each slice.
    owners: Vec<Place>,
}

/// What nodes hold against what they should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// The fullest node's data against its fair share.
    pub most: f64,
    /// The emptiest node's.
    pub least: f64,
    /// The standard deviation of that ratio over all nodes.
    pub deviation: f64,
}

impl Ownership {
    /// The owners of all slices, `copies` for each, row after row.
    #[must_use]
    pub fn new(nodes: usize, copies: usize, weights: Vec<f64>, owners: Vec<Place>) -> Self {
        assert_eq!(weights.len() * copies, owners.len(), "each slice has all its owners");
        Self { nodes, copies, weights, owners }
    }

    /// Who owns what at `copies` copies in a layout, or at as many as it has nodes.
    #[must_use]
    pub fn of_layout(layout: &Layout, copies: usize) -> Self {
        let copies = copies.min(layout.storage_nodes());
        let count = layout.partitions().get();
        let mut owners = Vec::with_capacity(count as usize * copies);
        for partition in layout.partitions().iter() {
            let list = layout.preference_list(partition);
            owners.extend(list.owners(copies).iter().filter_map(|node| {
                let place = layout.members().binary_search_by_key(node, |member| member.node);
                place.ok().map(|place| place as Place)
            }));
        }
        let weights = vec![1.0 / f64::from(count); count as usize];
        Self::new(layout.members().len(), copies, weights, owners)
    }

    /// How many slices there are.
    #[must_use]
    pub fn slices(&self) -> usize {
        self.weights.len()
    }

    /// How many nodes there are.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.nodes
    }

    /// The owners of each slice.
    pub fn rows(&self) -> impl Iterator<Item = &[Place]> {
        self.owners.chunks_exact(self.copies)
    }

    /// What each node holds, in copies of everything.
    #[must_use]
    pub fn held(&self) -> Vec<f64> {
        let mut held = vec![0.0; self.nodes];
        for (row, weight) in self.rows().zip(&self.weights) {
            row.iter().for_each(|owner| held[usize::from(*owner)] += weight);
        }
        held
    }

    /// What nodes hold against `fair`, in the same order and unit.
    #[must_use]
    pub fn shares(&self, fair: &[f64]) -> Shares {
        let held = self.held();
        let ratios: Vec<f64> = held.iter().zip(fair).map(|(held, fair)| held / fair).collect();
        Shares {
            most: ratios.iter().copied().fold(0.0, f64::max),
            least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            deviation: deviation(&ratios),
        }
    }

    /// The least and the mean number of other nodes that a node shares data with.
    #[must_use]
    pub fn scatter(&self) -> (usize, f64) {
        let mut shared = vec![false; self.nodes * self.nodes];
        for row in self.rows() {
            for (one, other) in row.iter().flat_map(|one| row.iter().map(move |other| (one, other)))
            {
                shared[usize::from(*one) * self.nodes + usize::from(*other)] = true;
            }
        }
        // Everybody shares data with itself.
        let width = |row: &[bool]| row.iter().filter(|shared| **shared).count().saturating_sub(1);
        let widths: Vec<usize> = shared.chunks_exact(self.nodes).map(width).collect();
        let mean = widths.iter().sum::<usize>() as f64 / self.nodes as f64;
        (widths.into_iter().min().unwrap_or(0), mean)
    }

    /// How many distinct sets of `size` nodes own some slice together.
    #[must_use]
    pub fn copysets(&self, size: usize) -> usize {
        let mut keys = Vec::with_capacity(self.slices());
        for row in self.rows() {
            let mut row = row.to_vec();
            row.sort_unstable();
            add_subsets(&row, size, 0, &mut keys);
        }
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }

    /// How probable it is that `failed` nodes, taken at random, are a majority of the owners of
    /// some slice at `copies` copies.
    #[must_use]
    pub fn fatal(&self, copies: usize, failed: usize) -> f64 {
        // Of three owners a majority is two, but what counts there is the loss of all.
        let size = if copies == failed { failed } else { copies / 2 + 1 };
        assert_eq!(size, failed, "sets of another size are another question");
        self.copysets(size) as f64 / choose(self.nodes, failed)
    }
}

/// Adds a key for each set of `size` of these nodes; equal sets have equal keys, and with 128
/// bits others have others.
fn add_subsets(rest: &[Place], size: usize, key: u128, keys: &mut Vec<u128>) {
    if size == 0 {
        keys.push(key);
        return;
    }
    for (at, owner) in rest.iter().enumerate().take((rest.len() + 1).saturating_sub(size)) {
        let (high, low) = ((key >> 64) as u64, key as u64);
        let (high, low) =
            (mix(high ^ u64::from(*owner)), mix(low.wrapping_add(mix(u64::from(*owner)))));
        add_subsets(&rest[at + 1..], size - 1, u128::from(high) << 64 | u128::from(low), keys);
    }
}

#[cfg(test)]
mod tests {
    use super::Ownership;
    use crate::entropy::Seed;
    use crate::models::balance::{Capacities, ModelCluster};

    /// Four nodes, two slices: {0, 1, 2} with 70 % and {1, 2, 3} with 30 % of the data.
    fn small() -> Ownership {
        Ownership::new(4, 3, vec![0.7, 0.3], vec![2, 0, 1, 1, 3, 2])
    }

    #[test]
    fn a_node_holds_the_slices_that_name_it() {
        for (held, expected) in small().held().iter().zip([0.7, 1.0, 1.0, 0.3]) {
            assert!((held - expected).abs() < 1e-12);
        }
        let shares = small().shares(&[0.75; 4]);
        assert!((shares.most - 1.0 / 0.75).abs() < 1e-12);
        assert!((shares.least - 0.4).abs() < 1e-12);
    }

    #[test]
    fn copysets_are_sets_and_their_subsets() {
        assert_eq!(small().copysets(3), 2);
        // 01 02 12 and 12 13 23.
        assert_eq!(small().copysets(2), 5);
        assert!((small().fatal(3, 3) - 2.0 / 4.0).abs() < 1e-12);
    }

    #[test]
    fn nodes_share_data_with_those_in_a_row_with_them() {
        assert_eq!(small().scatter(), (2, 2.5));
    }

    #[test]
    fn every_partition_has_distinct_owners_in_distinct_zones() {
        for (capacities, copies) in [(Capacities::Equal, 3), (Capacities::Mixed, 5)] {
            let cluster = ModelCluster { seed: Seed(5), nodes: 12, zones: 3, capacities };
            let layout = cluster.layout().unwrap();
            let owned = Ownership::of_layout(&layout, copies);

            for row in owned.rows() {
                let mut distinct = row.to_vec();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), copies);
                let zone = |place: &u16| layout.members()[usize::from(*place)].zone.to_string();
                let mut zones: Vec<String> = row.iter().map(zone).collect();
                zones.sort_unstable();
                zones.dedup();
                assert_eq!(zones.len(), 3);
            }
            assert!((owned.held().iter().sum::<f64>() - copies as f64).abs() < 1e-9);
        }
    }
}
