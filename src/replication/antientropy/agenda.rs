//! Which partition is proven next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::env::Monotonic;
use crate::ring::Partition;

/// The pause after a first failure, doubled with each further one.
const AGAIN: Duration = Duration::from_secs(2);
const AGAIN_MAX: Duration = Duration::from_secs(120);

/// What is known of a partition that this node drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Redundancy {
    /// Copies that were proven last.
    pub(super) copies: usize,
    /// How old the last proof is; `None` if there is none.
    pub(super) age: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    urgent: bool,
    under_way: bool,
    failures: u32,
    not_before: Option<Monotonic>,
}

/// Why a partition is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// It was never proven, or something happened to it.
    Now,
    /// Its proof is old.
    Routine,
}

/// Attempts and wishes; proofs are looked up where they are kept.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: BTreeMap<Partition, Entry>,
}

impl Agenda {
    /// Proves a partition soon, whatever its age.
    pub(super) fn hurry(&mut self, partition: Partition) {
        let entry = self.entries.entry(partition).or_default();
        (entry.urgent, entry.failures, entry.not_before) = (true, 0, None);
    }

    /// The partition to prove next: fewest proven copies first, then the oldest proof. It counts
    /// as under way until [`Agenda::ended`].
    pub(super) fn next(
        &mut self,
        now: Monotonic,
        interval: Duration,
        driven: impl Iterator<Item = (Partition, Redundancy)>,
    ) -> Option<(Partition, Due)> {
        let least = driven
            .filter_map(|(partition, redundancy)| {
                let entry = self.entries.get(&partition).copied().unwrap_or_default();
                let early = entry.not_before.is_some_and(|moment| now < moment);
                if entry.under_way || early {
                    return None;
                }
                let due = match redundancy.age {
                    _ if entry.urgent || entry.failures > 0 => Due::Now,
                    None => Due::Now,
                    Some(age) if age >= interval => Due::Routine,
                    Some(_) => return None,
                };
                let age = redundancy.age.unwrap_or(Duration::MAX);
                Some((due, redundancy.copies, std::cmp::Reverse(age), partition))
            })
            .min()?;
        let (due, .., partition) = least;
        let entry = self.entries.entry(partition).or_default();
        (entry.under_way, entry.urgent) = (true, false);
        Some((partition, due))
    }

    /// A round of this partition ended; one that left something undone is tried again soon.
    pub(super) fn ended(&mut self, partition: Partition, now: Monotonic, outcome: Outcome) {
        let entry = self.entries.entry(partition).or_default();
        entry.under_way = false;
        match outcome {
            Outcome::Proven => (entry.failures, entry.not_before) = (0, None),
            Outcome::LeftUndone => {
                let doubled = AGAIN.saturating_mul(1 << entry.failures.min(6));
                entry.failures = entry.failures.saturating_add(1);
                entry.not_before = Some(now + doubled.min(AGAIN_MAX));
            }
        }
    }
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All owners that are up agree.
    Proven,
    /// They do not, or are not known to.
    LeftUndone,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Agenda, Due, Outcome, Redundancy};
    use crate::env::Monotonic;
    use crate::ring::Partition;

    const INTERVAL: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn state(number: u32, copies: usize, age: Option<u64>) -> (Partition, Redundancy) {
        (Partition(number), Redundancy { copies, age: age.map(Duration::from_secs) })
    }

    #[test]
    fn what_was_never_proven_comes_first_then_fewest_copies_then_the_oldest_proof() {
        let mut agenda = Agenda::default();
        let states = [
            state(0, 3, Some(700)),
            state(1, 2, Some(650)),
            state(2, 3, Some(900)),
            state(3, 0, None),
            state(4, 3, Some(10)),
        ];

        let mut order = Vec::new();
        while let Some((partition, due)) = agenda.next(at(0), INTERVAL, states.iter().copied()) {
            order.push((partition.as_u32(), due));
        }

        let routine = [1, 2, 0].map(|number| (number, Due::Routine));
        assert_eq!(order, [&[(3, Due::Now)][..], &routine].concat());
    }

    #[test]
    fn a_fresh_proof_is_renewed_at_once_if_somebody_came_back() {
        let mut agenda = Agenda::default();
        let states = [state(0, 3, Some(1))];
        assert_eq!(agenda.next(at(0), INTERVAL, states.iter().copied()), None);

        agenda.hurry(Partition(0));

        let next = agenda.next(at(0), INTERVAL, states.iter().copied());
        assert_eq!(next, Some((Partition(0), Due::Now)));
        agenda.ended(Partition(0), at(1), Outcome::Proven);
        assert_eq!(agenda.next(at(1), INTERVAL, states.iter().copied()), None);
    }

    #[test]
    fn what_failed_is_tried_again_after_longer_and_longer_pauses() {
        let mut agenda = Agenda::default();
        let states = [state(0, 3, Some(1))];
        agenda.hurry(Partition(0));
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let began = now;
            while agenda.next(at(now), INTERVAL, states.iter().copied()).is_none() {
                now += 1;
            }
            pauses.push(now - began);
            agenda.ended(Partition(0), at(now), Outcome::LeftUndone);
        }

        assert_eq!(pauses, [0, 2, 4, 8, 16, 32, 64, 120, 120]);
    }

    #[test]
    fn a_partition_is_in_one_round_at_a_time() {
        let mut agenda = Agenda::default();
        let states = [state(0, 0, None)];

        assert!(agenda.next(at(0), INTERVAL, states.iter().copied()).is_some());
        agenda.hurry(Partition(0));

        assert_eq!(agenda.next(at(0), INTERVAL, states.iter().copied()), None);
    }
}
