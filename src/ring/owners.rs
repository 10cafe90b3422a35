//! The first slots of each list, under bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2018).
//!
//! # Invariants
//! 1. A filled row has distinct nodes, and no more of one zone than the roster's limit.
//! 2. `loads` counts exactly the filled slots of each node.

use super::placement::{Ground, Table, VACANT};
use super::repair;
use super::roster::{Rank, Roster};
use super::share::Shares;

/// How many slots are placed under bounded loads: the default number of copies.
pub(super) const OWNERS_PLACED: usize = 3;

/// Fills the first slots of `table`.
pub(super) fn place(ground: &Ground<'_>, table: &mut Table) {
    let mut owners = Owners::new(ground.roster, table.partitions(), table.width());
    owners.keep(&ground.previous);
    owners.fill(&ground.walks);
    owners.level();
    owners.spread_first_two();
    for partition in 0..table.partitions() {
        for (slot, rank) in owners.table.row(partition).iter().enumerate() {
            *table.slot_mut(partition, slot) = *rank;
        }
    }
}

/// The owners while they are being placed.
pub(super) struct Owners<'a> {
    pub(super) roster: &'a Roster,
    pub(super) shares: Shares,
    pub(super) table: Table,
    pub(super) loads: Vec<usize>,
    zone_limit: usize,
}

impl<'a> Owners<'a> {
    fn new(roster: &'a Roster, partitions: u32, width: usize) -> Self {
        let copies = OWNERS_PLACED.min(width);
        Self {
            roster,
            shares: Shares::new(roster, partitions, copies),
            table: Table::vacant(partitions, copies),
            loads: vec![0; roster.len()],
            zone_limit: roster.zone_limit(copies),
        }
    }

    /// How many partitions a node holds.
    pub(super) fn load(&self, rank: Rank) -> usize {
        self.loads[usize::from(rank)]
    }

    /// How full a node is, against its fair share.
    fn fullness(&self, rank: Rank) -> f64 {
        self.load(rank) as f64 / self.shares.fair(rank).max(f64::MIN_POSITIVE)
    }

    /// Whether `rank` may take `slot` of a row, whoever has that slot now.
    pub(super) fn admits(&self, partition: u32, slot: usize, rank: Rank) -> bool {
        let zone = self.roster.zone(rank);
        let mut of_zone = 0;
        for (other_slot, other) in self.table.row(partition).iter().enumerate() {
            if other_slot == slot || *other == VACANT {
                continue;
            }
            if *other == rank {
                return false;
            }
            of_zone += usize::from(self.roster.zone(*other) == zone);
        }
        of_zone < self.zone_limit
    }

    /// Gives a slot to `rank`, which the row admits, in place of whoever has it.
    pub(super) fn assign(&mut self, partition: u32, slot: usize, rank: Rank) {
        let before = std::mem::replace(self.table.slot_mut(partition, slot), rank);
        if before != VACANT {
            self.loads[usize::from(before)] -= 1;
        }
        self.loads[usize::from(rank)] += 1;
    }

    /// Takes over the owners of an earlier layout, wherever distinctness still permits them.
    fn keep(&mut self, previous: &Table) {
        let slots = self.table.width().min(previous.width());
        for partition in 0..self.table.partitions() {
            for slot in 0..slots {
                let rank = previous.row(partition)[slot];
                if rank != VACANT && self.admits(partition, slot, rank) {
                    self.assign(partition, slot, rank);
                }
            }
        }
    }

    /// Fills what is vacant, along each partition's walk.
    fn fill(&mut self, walks: &[Vec<Rank>]) {
        for (partition, walk) in (0..).zip(walks) {
            for slot in 0..self.table.width() {
                if self.table.row(partition)[slot] == VACANT {
                    self.fill_slot(partition, slot, walk);
                }
            }
        }
    }

    fn fill_slot(&mut self, partition: u32, slot: usize, walk: &[Rank]) {
        let admitted = |rank: &Rank| self.admits(partition, slot, *rank);
        // Nodes short of their least share come first, or they would take partitions from others
        // later: a second move for what one would do.
        let short = |rank: &Rank| self.load(*rank) < self.shares.least(*rank);
        let room = |rank: &Rank| self.load(*rank) < self.shares.most(*rank);
        let met = |fits: &dyn Fn(&Rank) -> bool| {
            walk.iter().copied().find(|rank| fits(rank) && admitted(rank))
        };
        let choice = met(&short)
            .or_else(|| met(&room))
            .or_else(|| self.emptiest(|rank| room(rank) && admitted(rank)));
        // Where nobody admitted has room, somebody takes more than it should until `level`: fair
        // shares are a feasible flow, so there is a chain of moves that relieves it.
        if let Some(rank) = choice.or_else(|| self.emptiest(admitted)) {
            self.assign(partition, slot, rank);
        }
    }

    fn emptiest(&self, fits: impl Fn(&Rank) -> bool) -> Option<Rank> {
        let by_fullness = |a: &Rank, b: &Rank| self.fullness(*a).total_cmp(&self.fullness(*b));
        self.roster.ranks().filter(fits).min_by(by_fullness)
    }

    /// Brings every node within its band: first by single moves, then by chains of moves.
    fn level(&mut self) {
        for rank in self.roster.ranks() {
            self.pull(rank);
        }
        for rank in self.roster.ranks() {
            self.push(rank);
        }
        repair::level(self);
    }

    /// Lets a node short of its least share take partitions over from nodes above theirs.
    fn pull(&mut self, rank: Rank) {
        if self.load(rank) >= self.shares.least(rank) {
            return;
        }
        for partition in self.roster.orbit(rank, self.table.partitions()) {
            if let Some(slot) = self.fullest_slot(partition, rank) {
                self.assign(partition, slot, rank);
                if self.load(rank) >= self.shares.least(rank) {
                    return;
                }
            }
        }
    }

    /// The slot of a row that `taker` may take from a node above its fair share.
    fn fullest_slot(&self, partition: u32, taker: Rank) -> Option<usize> {
        let row = self.table.row(partition);
        if row.contains(&taker) {
            return None;
        }
        let above = |holder: Rank| self.load(holder) as f64 > self.shares.fair(holder);
        (0..row.len())
            .filter(|slot| above(row[*slot]) && self.admits(partition, *slot, taker))
            .max_by(|a, b| self.fullness(row[*a]).total_cmp(&self.fullness(row[*b])))
    }

    /// Lets a node above its most hand partitions to nodes below their fair share.
    fn push(&mut self, rank: Rank) {
        for partition in self.roster.orbit(rank, self.table.partitions()) {
            if self.load(rank) <= self.shares.most(rank) {
                return;
            }
            let Some(slot) = self.table.row(partition).iter().position(|held| *held == rank) else {
                continue;
            };
            let below = |taker: &Rank| (self.load(*taker) as f64) < self.shares.fair(*taker);
            let taker = self.emptiest(|taker| below(taker) && self.admits(partition, slot, *taker));
            if let Some(taker) = taker.filter(|taker| self.load(*taker) < self.shares.most(*taker))
            {
                self.assign(partition, slot, taker);
            }
        }
    }

    /// Puts the first two owners of each row in different zones where the row has two, so that
    /// buckets of two copies are spread as well.
    fn spread_first_two(&mut self) {
        for partition in 0..self.table.partitions() {
            let [first, second, third] = *self.table.row(partition) else { return };
            let zone = |rank| self.roster.zone(rank);
            if zone(first) == zone(second) && zone(first) != zone(third) {
                *self.table.slot_mut(partition, 1) = third;
                *self.table.slot_mut(partition, 2) = second;
            }
        }
    }
}
