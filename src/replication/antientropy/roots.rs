//! Roots that were computed before. A round compares every partition with every other owner, and
//! most trees are as they were: a root over all leaves costs some two thousand hashes, to see
//! that nothing changed costs one.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::merkle::{Fingerprint, LeafSums, Root};
use crate::ring::Partition;

use super::message::TreeName;

/// The last root of each tree, and of which leaves it is the root.
#[derive(Default)]
pub(super) struct Roots {
    known: Mutex<BTreeMap<(Partition, TreeName), (Fingerprint, Root)>>,
}

impl Roots {
    /// The roots of a partition's trees.
    pub(super) fn of(
        &self,
        partition: Partition,
        trees: &BTreeMap<TreeName, LeafSums>,
    ) -> BTreeMap<TreeName, Root> {
        let root =
            |(tree, sums): (&TreeName, &LeafSums)| (*tree, self.of_tree((partition, *tree), sums));
        trees.iter().map(root).collect()
    }

    fn of_tree(&self, name: (Partition, TreeName), sums: &LeafSums) -> Root {
        let fingerprint = sums.fingerprint();
        if let Some((of, root)) = self.known.lock().get(&name)
            && *of == fingerprint
        {
            return *root;
        }
        let root = sums.root();
        self.known.lock().insert(name, (fingerprint, root));
        root
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Roots;
    use crate::merkle::{Leaf, LeafSums};
    use crate::replication::antientropy::message::TreeName;
    use crate::replication::table::TableId;

    #[test]
    fn a_changed_tree_has_its_new_root_and_another_partition_its_own() {
        let roots = Roots::default();
        let tree = TreeName { table: TableId::Objects, n: 3 };
        let mut sums = LeafSums::default();
        for step in 0..3 {
            sums.add(Leaf::new(step).unwrap(), 7);
            let mut other = sums.clone();
            other.add(Leaf::new(9).unwrap(), 1);
            for (partition, sums) in [(1, &sums), (2, &other), (1, &sums)] {
                let trees = BTreeMap::from([(tree, sums.clone())]);
                assert_eq!(roots.of(partition.into(), &trees)[&tree], sums.root());
            }
        }
    }
}
