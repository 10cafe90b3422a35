//! Which fault when, from a seed (pure).

use std::fmt;
use std::time::Duration;

use super::fault::{Fault, Kind};
use crate::arena::Quality;
use crate::content::mix;

/// A fault with its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// It begins so long after the run did.
    pub at: Duration,
    /// It ends so long after that.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// The faults of a run, in the order of their beginnings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// All of them.
    pub events: Vec<Event>,
}

/// Nothing happens before.
const QUIET: Duration = Duration::from_secs(2);

/// Faults and pauses of one lane, in milliseconds: at least, and so much more.
const FAULT_MS: (u64, u64) = (4_000, 6_000);
const PAUSE_MS: (u64, u64) = (1_500, 3_000);

impl Schedule {
    /// Faults of these kinds for `span`. Up to two lanes of faults overlap: one on the network,
    /// one on nodes.
    #[must_use]
    pub fn draw(kinds: &[Kind], nodes: usize, span: Duration, seed: u64) -> Self {
        let victim = 1 + place(mix(seed ^ 0x51_c7), nodes);
        let mut events = Vec::new();
        for (lane, is_of_lane) in [(1, is_of_network as fn(Kind) -> bool), (2, is_of_nodes)] {
            let kinds: Vec<Kind> = kinds.iter().copied().filter(|kind| is_of_lane(*kind)).collect();
            let draws = mix(seed ^ mix(lane));
            let mut lane = Lane { nodes, victim, draws };
            events.extend(lane.draw(&kinds, span));
        }
        events.sort_by_key(|event| event.at);
        Self { events }
    }
}

const fn is_of_network(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Halves
            | Kind::Ring
            | Kind::Bridge
            | Kind::OneWay
            | Kind::Flap
            | Kind::Loss
            | Kind::Delay
    )
}

const fn is_of_nodes(kind: Kind) -> bool {
    !is_of_network(kind)
}

fn place(draw: u64, count: usize) -> usize {
    usize::try_from(draw % count.max(1) as u64).unwrap_or_default()
}

struct Lane {
    nodes: usize,
    /// The only node whose data is ever destroyed.
    victim: usize,
    draws: u64,
}

impl Lane {
    fn draw(&mut self, kinds: &[Kind], span: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        if kinds.is_empty() {
            return events;
        }
        let mut at = QUIET;
        // Each kind has its turn; the order is drawn.
        let mut turns = Vec::new();
        loop {
            if turns.is_empty() {
                turns = kinds.to_vec();
            }
            let kind = turns.swap_remove(place(self.next(), turns.len()));
            let lasts = self.millis(FAULT_MS);
            if at + lasts > span && !events.is_empty() {
                return events;
            }
            let fault = self.fault(kind);
            events.push(Event { at, lasts, fault });
            at += lasts + self.millis(PAUSE_MS);
        }
    }

    const fn next(&mut self) -> u64 {
        self.draws = mix(self.draws);
        self.draws
    }

    fn millis(&mut self, (least, more): (u64, u64)) -> Duration {
        Duration::from_millis(least + self.next() % more)
    }

    fn node(&mut self) -> usize {
        1 + place(self.next(), self.nodes)
    }

    /// All nodes in a drawn order.
    fn shuffled(&mut self) -> Vec<usize> {
        let mut rest: Vec<usize> = (1..=self.nodes).collect();
        let mut order = Vec::new();
        while !rest.is_empty() {
            order.push(rest.swap_remove(place(self.next(), rest.len())));
        }
        order
    }

    fn some(&mut self, least: usize, most: usize) -> Vec<usize> {
        let count = least + place(self.next(), most.saturating_sub(least) + 1);
        let mut some = self.shuffled();
        some.truncate(count);
        some.sort_unstable();
        some
    }

    fn fault(&mut self, kind: Kind) -> Fault {
        let all: Vec<usize> = (1..=self.nodes).collect();
        let minority = (self.nodes - 1) / 2;
        match kind {
            Kind::Halves | Kind::Ring | Kind::Bridge | Kind::OneWay => {
                let order = self.shuffled();
                Fault::Cut { kind, links: cut(kind, &order) }
            }
            Kind::Flap => {
                let period = Duration::from_millis(100 + self.next() % 700);
                Fault::Flap { node: self.node(), period }
            }
            Kind::Loss | Kind::Delay => {
                let links = self.bad_links();
                let quality = self.quality(kind);
                Fault::Links { kind, links, quality }
            }
            Kind::Kill => Fault::Kill { nodes: vec![self.node()] },
            Kind::KillSeveral => Fault::Kill { nodes: self.some(2.min(self.nodes), minority + 1) },
            Kind::KillAll => Fault::Kill { nodes: all },
            Kind::Pause => Fault::Pause { nodes: self.some(1, 2) },
            Kind::Power => Fault::Power { nodes: vec![self.node()] },
            Kind::PowerAll => Fault::Power { nodes: all },
            Kind::Clock => self.clock(),
            Kind::BitFlips => {
                let flips = 1 + u32::try_from(self.next() % 40).unwrap_or_default();
                Fault::BitFlips { node: self.victim, flips, seed: self.next() }
            }
            Kind::Truncate => Fault::Truncate { node: self.victim, seed: self.next() },
            Kind::FullDisk => Fault::FullDisk { node: self.node() },
            Kind::Wipe => Fault::Wipe { node: self.victim },
        }
    }

    /// Jumps of both sizes and directions: within and beyond what the nodes tolerate; or drift.
    fn clock(&mut self) -> Fault {
        let node = self.node();
        let sign = if self.next().is_multiple_of(2) { 1 } else { -1 };
        let size = match self.next() % 3 {
            0 => 400 + self.next() % 3_600,
            1 => 6_000 + self.next() % 54_000,
            _ => 0,
        };
        let size = i64::try_from(size).unwrap_or_default();
        let rate_percent = if size == 0 { [90, 105, 150][place(self.next(), 3)] } else { 100 };
        Fault::Clock { node, offset_ms: sign * size, rate_percent }
    }

    /// All links, or those of one node.
    fn bad_links(&mut self) -> Vec<(usize, usize)> {
        let node = self.node();
        let everywhere = self.next().is_multiple_of(2);
        let all = pairs(self.nodes);
        all.into_iter().filter(|(from, to)| everywhere || *from == node || *to == node).collect()
    }

    fn quality(&mut self, kind: Kind) -> Quality {
        if kind == Kind::Loss {
            return Quality {
                loss: 10 + self.next() % 190,
                duplicates: self.next() % 100,
                reorder: self.next() % 200,
                damage: self.next() % 30,
                delay: Duration::ZERO,
                jitter: Duration::from_millis(self.next() % 3),
            };
        }
        Quality {
            delay: Duration::from_millis(5 + self.next() % 195),
            jitter: Duration::from_millis(self.next() % 100),
            ..Quality::default()
        }
    }
}

fn pairs(nodes: usize) -> Vec<(usize, usize)> {
    let all = (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to).collect()
}

/// The links that are cut in this shape; `order` says who has which place in it.
fn cut(kind: Kind, order: &[usize]) -> Vec<(usize, usize)> {
    let nodes = order.len();
    let half = nodes / 2;
    let side = |place: usize| usize::from(place >= half);
    // In a ring each node hears so many on each side of it that they are a majority with it.
    let reach = (nodes / 2).div_ceil(2);
    let is_cut = |from: usize, to: usize| match kind {
        Kind::Halves => side(from) != side(to),
        Kind::OneWay => side(from) == 0 && side(to) == 1,
        // The last one is on both sides.
        Kind::Bridge => from != nodes - 1 && to != nodes - 1 && side(from) != side(to),
        Kind::Ring => {
            let distance = from.abs_diff(to);
            distance.min(nodes - distance) > reach
        }
        _ => false,
    };
    pairs(nodes)
        .into_iter()
        .map(|(from, to)| (from - 1, to - 1))
        .filter(|(from, to)| is_cut(*from, *to))
        .map(|(from, to)| (order[from], order[to]))
        .collect()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            let (from, to) = (event.at.as_secs_f64(), (event.at + event.lasts).as_secs_f64());
            writeln!(f, "  {from:6.1} s to {to:6.1} s  {}", event.fault)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{Fault, Kind, Schedule, cut};

    const SPAN: Duration = Duration::from_secs(120);

    fn hears(links: &[(usize, usize)], node: usize, nodes: usize) -> BTreeSet<usize> {
        (1..=nodes).filter(|from| !links.contains(&(*from, node))).collect()
    }

    #[test]
    fn a_schedule_follows_from_its_seed() {
        let kinds = Kind::all();

        assert_eq!(Schedule::draw(&kinds, 5, SPAN, 7), Schedule::draw(&kinds, 5, SPAN, 7));
        assert_ne!(Schedule::draw(&kinds, 5, SPAN, 7), Schedule::draw(&kinds, 5, SPAN, 8));
    }

    #[test]
    fn every_kind_has_its_turn_and_ends_in_time() {
        for kind in Kind::all() {
            let schedule = Schedule::draw(&[kind], 5, SPAN, 3);

            assert!(schedule.events.len() > 5, "{kind}");
            assert!(schedule.events.iter().all(|event| event.at + event.lasts <= SPAN));
        }
    }

    #[test]
    fn even_a_short_run_has_a_fault() {
        let schedule = Schedule::draw(&[Kind::Halves], 3, Duration::from_secs(1), 3);

        assert_eq!(schedule.events.len(), 1);
    }

    #[test]
    fn data_is_destroyed_at_one_node_only() {
        for seed in 0..50 {
            let schedule = Schedule::draw(&Kind::all(), 5, SPAN * 4, seed);
            let struck = schedule.events.iter().filter_map(|event| match &event.fault {
                Fault::BitFlips { node, .. } | Fault::Truncate { node, .. } => Some(*node),
                Fault::Wipe { node } => Some(*node),
                _ => None,
            });
            assert!(struck.collect::<BTreeSet<_>>().len() <= 1);
        }
    }

    #[test]
    fn halves_hear_themselves_only() {
        let links = cut(Kind::Halves, &[1, 2, 3, 4, 5]);

        assert_eq!(hears(&links, 1, 5), [1, 2].into());
        assert_eq!(hears(&links, 4, 5), [3, 4, 5].into());
    }

    #[test]
    fn in_a_ring_every_node_hears_a_majority_and_no_two_the_same() {
        for nodes in [4, 5, 6, 7] {
            let order: Vec<usize> = (1..=nodes).collect();
            let links = cut(Kind::Ring, &order);

            let heard: BTreeSet<BTreeSet<usize>> =
                order.iter().map(|node| hears(&links, *node, nodes)).collect();

            assert!(heard.iter().all(|heard| heard.len() > nodes / 2), "{nodes}: {heard:?}");
            assert!(nodes == 4 || heard.len() == nodes, "{nodes}: {heard:?}");
        }
    }

    #[test]
    fn a_bridge_hears_all_and_is_heard_by_all() {
        let links = cut(Kind::Bridge, &[1, 2, 3, 4, 5]);

        assert_eq!(hears(&links, 5, 5).len(), 5);
        assert_eq!(hears(&links, 1, 5), [1, 2, 5].into());
        assert_eq!(hears(&links, 3, 5), [3, 4, 5].into());
    }

    #[test]
    fn one_way_is_cut_in_one_direction() {
        let links = cut(Kind::OneWay, &[1, 2, 3]);

        assert_eq!(links, [(1, 2), (1, 3)]);
    }
}
