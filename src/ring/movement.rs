//! What a change of layout copies, against what it would have to.

use serde::Serialize;

use super::layout::Layout;
use super::roster::Roster;
use super::share::Shares;

/// The copies that a change of layout moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Movement {
    /// Copies of partitions that a node gains.
    pub moved: usize,
    /// The fewest that any layout of the same members could gain that keeps every node within
    /// the same bounds: 5 % around its fair share, or what the new layout gives it. Never more
    /// than `moved`. New zones may demand more, for they split copies that lie together.
    pub minimum: usize,
}

impl Layout {
    /// What the change from this layout to `to` moves, at `n` copies.
    ///
    /// Meant for two layouts of one cluster; if they differ in their number of partitions, every
    /// copy moves.
    #[must_use]
    pub fn movement(&self, to: &Self, n: usize) -> Movement {
        if self.partitions() != to.partitions() {
            let copies = to.loads(n).iter().sum();
            return Movement { moved: copies, minimum: copies };
        }
        let mut moved = 0;
        for partition in to.partitions().iter() {
            let (before, after) = (self.preference_list(partition), to.preference_list(partition));
            moved += after.owners(n).iter().filter(|node| !before.is_owner(**node, n)).count();
        }
        Movement { moved, minimum: self.movement_minimum(to, n) }
    }

    /// Every node below its bounds must gain up to them, and of what is wanted nothing is there
    /// already but what the nodes hold within theirs; whichever is more.
    fn movement_minimum(&self, to: &Self, n: usize) -> usize {
        let roster = Roster::of(to.members());
        let shares = Shares::new(&roster, to.partitions().get(), n);
        let (before, after) = (self.loads(n), to.loads(n));
        let wanted: usize = after.iter().sum();
        let load_before = |node| {
            let index = self.members().binary_search_by_key(&node, |member| member.node);
            index.map_or(0, |index| before[index])
        };
        let (mut gains, mut kept) = (0, 0);
        for (member, after) in to.members().iter().zip(&after) {
            let before = load_before(member.node);
            let band = roster.rank_of(member.node);
            let least = band.map_or(0, |rank| shares.least(rank)).min(*after);
            let most = band.map_or(0, |rank| shares.most(rank)).max(*after);
            gains += least.saturating_sub(before);
            kept += before.min(most);
        }
        gains.max(wanted.saturating_sub(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::Movement;
    use crate::ring::properties::{cluster_id, members};
    use crate::ring::{Layout, PartitionCount};

    #[test]
    fn a_layout_with_the_same_members_moves_nothing() {
        let layout = Layout::first(cluster_id(), PartitionCount::DEFAULT, members(7, 3)).unwrap();

        let next = layout.next(members(7, 3)).unwrap();

        for n in 1..=7 {
            assert_eq!(layout.movement(&next, n), Movement { moved: 0, minimum: 0 }, "{n}");
        }
    }

    #[test]
    fn replacing_all_nodes_moves_everything() {
        let layout = Layout::first(cluster_id(), PartitionCount::DEFAULT, members(6, 3)).unwrap();

        let next = layout.next(members(12, 3).split_off(6)).unwrap();

        assert_eq!(layout.movement(&next, 3), Movement { moved: 768, minimum: 768 });
    }
}
