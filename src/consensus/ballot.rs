//! Ballots: what orders the rounds of one key, and names each round once and for ever.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::causality::{HybridTime, Stamp};
use crate::types::NodeId;

/// One round of one key.
///
/// Rule 1, two values under one ballot break everything: a ballot is never drawn twice. The
/// serial counts the rounds of one process, whatever its clock does; the boot counter, fsynced at
/// start, tells processes of one node apart; a node id is never used again on another disk.
/// So (node, boot, serial) alone is unique, and time only gives an order that follows the wall
/// clock where clocks agree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// The bucket's consistency level in time: a later level supersedes an earlier one,
    /// whatever the clocks said then (rule 13).
    #[serde(rename = "e")]
    pub era: u32,
    /// When the round began, moved ahead of what it must exceed.
    #[serde(rename = "t")]
    pub time: HybridTime,
    /// Whose round it is.
    #[serde(rename = "n")]
    pub node: NodeId,
    /// How often that node had been started.
    #[serde(rename = "b")]
    pub boot: u32,
    /// Counts the ballots of that boot, from 1.
    #[serde(rename = "s")]
    pub serial: u64,
}

impl Ballot {
    /// Below every ballot that is ever drawn: what an acceptor has promised before any round.
    pub const NONE: Self =
        Self { era: 0, time: HybridTime(0), node: NodeId::from_bytes([0; 16]), boot: 0, serial: 0 };

    /// The ballot of a write that no round decided, from the time before its bucket was strong
    /// (rule 13): last-write-wins orders become ballots of their era, so that the first round
    /// adopts the greatest. `boot` and `counter` are those of the write's dot: they tell writes
    /// apart that a node stamped alike before and after a crash.
    #[must_use]
    pub const fn legacy(era: u32, stamp: Stamp, boot: u32, counter: u64) -> Self {
        Self { era, time: stamp.time, node: stamp.node, boot, serial: counter }
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { era, time, node, boot, serial } = self;
        write!(f, "{era}/{time:?}/{}.{boot}.{serial}", node.short())
    }
}

/// Draws the ballots of one process. There is one per process, shared by all its rounds.
#[derive(Debug)]
pub struct Mint {
    node: NodeId,
    boot: u32,
    serial: u64,
}

impl Mint {
    /// The mint of a node in its `boot`th life; the counter is on stable storage before this is
    /// called, or a ballot could come twice.
    #[must_use]
    pub const fn new(node: NodeId, boot: u32) -> Self {
        Self { node, boot, serial: 0 }
    }

    /// A ballot of `era` that was never drawn before, later than `above`, which is the greatest
    /// time that refused the operation's earlier tries.
    ///
    /// Rule 2: `now` is the node's hybrid clock and `above` what peers claim. However far ahead
    /// that is, only this ballot follows it; the clock itself is not dragged along.
    pub fn draw(&mut self, era: u32, now: HybridTime, above: HybridTime) -> Ballot {
        let time = now.max(HybridTime(above.0.saturating_add(1)));
        self.serial = self.serial.saturating_add(1);
        Ballot { era, time, node: self.node, boot: self.boot, serial: self.serial }
    }

    /// The ballot to have promised together with the acceptance of `of` (rule 8): the least that
    /// this process can draw above it, so that it stands in nobody's way for long.
    pub fn draw_next(&mut self, of: Ballot) -> Ballot {
        self.serial = self.serial.saturating_add(1);
        Ballot { boot: self.boot, node: self.node, serial: self.serial, ..of }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Ballot, Mint};
    use crate::causality::{HybridTime, Stamp};
    use crate::types::NodeId;

    fn node(name: u8) -> NodeId {
        NodeId::from_bytes([name; 16])
    }

    proptest! {
        /// Clocks stand still, jump back, and are pushed: no ballot comes twice.
        #[test]
        fn no_ballot_is_drawn_twice(
            draws in prop::collection::vec((0_u8..3, 0_u32..2, 0_u64..4, 0_u64..4, 0_u8..8), 1..200),
        ) {
            let mut boots = [0_u32; 3];
            let mut mints = [0_u8, 1, 2].map(|name| Mint::new(node(name), 0));
            let mut drawn = BTreeSet::new();
            for (who, era, now, above, restart) in draws {
                let (mint, boot) = (&mut mints[usize::from(who)], &mut boots[usize::from(who)]);
                if restart == 0 {
                    *boot += 1;
                    *mint = Mint::new(node(who), *boot);
                }

                let ballot = mint.draw(era, HybridTime(now), HybridTime(above));
                let next = mint.draw_next(ballot);

                prop_assert!(drawn.insert(ballot) && drawn.insert(next));
                prop_assert!(ballot.time > HybridTime(above) && ballot.time >= HybridTime(now));
                prop_assert!(next > ballot && next.time == ballot.time);
            }
        }

        #[test]
        fn era_comes_before_time_and_time_before_the_rest(
            a in (0_u32..3, 0_u64..3, 0_u8..3, 0_u32..3, 0_u64..3),
            b in (0_u32..3, 0_u64..3, 0_u8..3, 0_u32..3, 0_u64..3),
        ) {
            let ballot = |(era, time, name, boot, serial): (u32, u64, u8, u32, u64)| Ballot {
                era, time: HybridTime(time), node: node(name), boot, serial,
            };

            prop_assert_eq!(ballot(a).cmp(&ballot(b)), a.cmp(&b));
            prop_assert!(ballot(a) >= Ballot::NONE);
        }
    }

    #[test]
    fn any_round_of_a_later_era_supersedes_a_last_write_wins_stamp_from_the_future() {
        let stamp = Stamp { time: HybridTime(u64::MAX), node: node(9) };

        let old = Ballot::legacy(0, stamp, 4, 7);
        let round = Mint::new(node(1), 1).draw(1, HybridTime(5), HybridTime(0));

        assert!(round > old && old > Ballot::NONE);
    }

    #[test]
    fn one_boot_is_never_taken_for_another() {
        let [mut before, mut after] = [1, 2].map(|boot| Mint::new(node(1), boot));

        let first = before.draw(1, HybridTime(5), HybridTime(0));
        let again = after.draw(1, HybridTime(5), HybridTime(0));

        assert_ne!(first, again);
    }
}
