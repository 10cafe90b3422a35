//! The slots behind the first three: fallbacks, and the owners of wider codes. Best effort.

use super::placement::{Ground, Table, VACANT};
use super::roster::{Rank, Roster};
use super::share::Shares;

/// How many rows a node looks at for each partition that it lacks before it gives up.
const PULL_STEPS: usize = 32;

/// Fills one slot of every row; the slots before it are filled.
pub(super) fn place(ground: &Ground<'_>, table: &mut Table, slot: usize) {
    let mut column = Column::new(ground.roster, table, slot);
    column.keep(&ground.previous);
    for (partition, walk) in (0..).zip(&ground.walks) {
        if column.holder(partition) == VACANT {
            let choice = column.choose(partition, walk, &ground.previous);
            column.assign(partition, choice);
        }
    }
    for rank in ground.roster.ranks() {
        column.pull(rank);
    }
}

/// One slot of every row. Loads count the slots before it too.
struct Column<'a> {
    roster: &'a Roster,
    table: &'a mut Table,
    slot: usize,
    shares: Shares,
    loads: Vec<usize>,
    zone_limit: usize,
}

impl<'a> Column<'a> {
    fn new(roster: &'a Roster, table: &'a mut Table, slot: usize) -> Self {
        let mut loads = vec![0; roster.len()];
        for partition in 0..table.partitions() {
            for rank in &table.row(partition)[..slot] {
                loads[usize::from(*rank)] += 1;
            }
        }
        let shares = Shares::new(roster, table.partitions(), slot + 1);
        Self { roster, slot, shares, loads, zone_limit: roster.zone_limit(slot + 1), table }
    }

    fn holder(&self, partition: u32) -> Rank {
        self.table.row(partition)[self.slot]
    }

    fn load(&self, rank: Rank) -> usize {
        self.loads[usize::from(rank)]
    }

    fn fullness(&self, rank: Rank) -> f64 {
        self.load(rank) as f64 / self.shares.fair(rank).max(f64::MIN_POSITIVE)
    }

    fn assign(&mut self, partition: u32, rank: Rank) {
        let before = std::mem::replace(self.table.slot_mut(partition, self.slot), rank);
        if before != VACANT {
            self.loads[usize::from(before)] -= 1;
        }
        if rank != VACANT {
            self.loads[usize::from(rank)] += 1;
        }
    }

    /// Whether `rank` may follow the slots before this one.
    fn admits(&self, partition: u32, rank: Rank) -> bool {
        let before = &self.table.row(partition)[..self.slot];
        let zone = self.roster.zone(rank);
        !before.contains(&rank)
            && before.iter().filter(|other| self.roster.zone(**other) == zone).count()
                < self.zone_limit
    }

    /// Keeps the node that had this slot before, wherever it still fits: erasure-coded
    /// fragments live by slot.
    fn keep(&mut self, previous: &Table) {
        if previous.width() <= self.slot {
            return;
        }
        for partition in 0..self.table.partitions() {
            let rank = previous.row(partition)[self.slot];
            let fits = rank != VACANT
                && self.load(rank) < self.shares.most(rank)
                && self.admits(partition, rank);
            if fits {
                self.assign(partition, rank);
            }
        }
    }

    /// The node for a vacant slot: one that an earlier slot displaced, else along the walk.
    fn choose(&self, partition: u32, walk: &[Rank], previous: &Table) -> Rank {
        let row = previous.row(partition);
        let (before, after) = row.split_at((self.slot + 1).min(row.len()));
        // Whoever has a later slot is left there, or every slot behind would shift.
        let free =
            |rank: &Rank| *rank != VACANT && !after.contains(rank) && self.admits(partition, *rank);
        let short = |rank: &Rank| self.load(*rank) < self.shares.least(*rank);
        let room = |rank: &Rank| self.load(*rank) < self.shares.most(*rank);
        let candidates = || before.iter().chain(walk).copied();
        let met = |fits: &dyn Fn(&Rank) -> bool| candidates().find(|rank| free(rank) && fits(rank));
        met(&short).or_else(|| met(&room)).unwrap_or_else(|| self.least_bad(partition, after))
    }

    fn least_bad(&self, partition: u32, after: &[Rank]) -> Rank {
        let badness = |rank: &Rank| (after.contains(rank), self.fullness(*rank));
        self.roster
            .ranks()
            .filter(|rank| self.admits(partition, *rank))
            .min_by(|a, b| {
                let ((a_later, a_full), (b_later, b_full)) = (badness(a), badness(b));
                a_later.cmp(&b_later).then(a_full.total_cmp(&b_full))
            })
            // Rows are no longer than the roster, so somebody is always left.
            .unwrap_or(VACANT)
    }

    /// Lets a node short of its least share take slots over from nodes above theirs.
    fn pull(&mut self, rank: Rank) {
        let lacking = self.shares.least(rank).saturating_sub(self.load(rank));
        let steps = lacking * PULL_STEPS;
        for partition in self.roster.orbit(rank, self.table.partitions()).take(steps) {
            if self.load(rank) >= self.shares.least(rank) {
                return;
            }
            let holder = self.holder(partition);
            if holder == VACANT || holder == rank {
                continue;
            }
            let above = self.load(holder) as f64 > self.shares.fair(holder);
            if above && self.admits(partition, rank) {
                self.assign(partition, rank);
            }
        }
    }
}
