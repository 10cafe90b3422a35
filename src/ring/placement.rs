//! From members to preference lists: the walk, the owners, the fallbacks.
//!
//! The first three slots of each list are placed under bounded loads and repaired until they
//! fit (`owners`, `repair`); the slots behind them follow, best effort (`tail`). Lists of an
//! earlier layout are kept slot by slot wherever they still fit, so a change moves little.

use super::owners::{self, OWNERS_PLACED};
use super::preference::LIST_LENGTH_MAX;
use super::roster::{Rank, Roster};
use super::tail;
use super::token::PartitionCount;

/// A slot that nobody has taken yet. No rank is this large (`MEMBERS_MAX`).
pub(super) const VACANT: Rank = Rank::MAX;

/// How many nodes of a walk are remembered for each partition.
const WALK_LENGTH: usize = 32;

/// Rows of ranks, one row per partition, all of one width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    width: usize,
    cells: Vec<Rank>,
}

impl Table {
    /// A table of vacant slots.
    pub(super) fn vacant(partitions: u32, width: usize) -> Self {
        Self { width, cells: vec![VACANT; partitions as usize * width] }
    }

    /// How many slots a row has.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// How many rows there are.
    pub(super) fn partitions(&self) -> u32 {
        (self.cells.len() / self.width) as u32
    }

    /// One partition's slots.
    pub(super) fn row(&self, partition: u32) -> &[Rank] {
        let start = partition as usize * self.width;
        &self.cells[start..start + self.width]
    }

    /// One slot, to be written.
    pub(super) fn slot_mut(&mut self, partition: u32, slot: usize) -> &mut Rank {
        &mut self.cells[partition as usize * self.width + slot]
    }

    /// All slots, row after row.
    pub(super) fn into_cells(self) -> Vec<Rank> {
        self.cells
    }
}

/// What placement works from.
pub(super) struct Ground<'a> {
    /// The nodes to place on.
    pub(super) roster: &'a Roster,
    /// The nodes met from each partition's token, in order.
    pub(super) walks: Vec<Vec<Rank>>,
    /// The lists to stay close to, in ranks of `roster`; vacant where a node is gone.
    pub(super) previous: Table,
}

/// Places all partitions on the nodes of `roster`, close to `previous` if there is one.
///
/// `previous` has a row per partition, of any width, in ranks of `roster`.
pub(super) fn place(roster: &Roster, partitions: PartitionCount, previous: Option<Table>) -> Table {
    let ring = roster.vnode_ring();
    let walk = |partition| ring.walk(partitions.start_of(partition), WALK_LENGTH);
    let ground = Ground {
        roster,
        walks: partitions.iter().map(walk).collect(),
        previous: previous.unwrap_or_else(|| Table::vacant(partitions.get(), 1)),
    };
    let width = roster.len().min(LIST_LENGTH_MAX);
    let mut table = Table::vacant(partitions.get(), width);
    owners::place(&ground, &mut table);
    for slot in OWNERS_PLACED.min(width)..width {
        tail::place(&ground, &mut table, slot);
    }
    table
}
