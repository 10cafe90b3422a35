//! Histories for judges of other makers (pure).
//!
//! # Invariants
//! 1. Nothing is claimed that the history does not: what is in doubt stays so.
//! 2. A process whose call is in doubt never calls again; other judges would take that for an
//!    answer, or refuse it.

pub mod edn;
pub mod porcupine;

use std::collections::BTreeMap;

use crate::history::{Entry, Kind, NEMESIS};

/// Numbers for processes: another one after each call in doubt, and for those that are called by
/// names.
#[derive(Debug)]
struct Processes {
    current: BTreeMap<String, u64>,
    next: u64,
}

impl Processes {
    fn of(entries: &[Entry]) -> Self {
        let numbers = entries.iter().filter_map(|entry| entry.process.parse::<u64>().ok());
        Self { current: BTreeMap::new(), next: numbers.max().map_or(0, |most| most + 1) }
    }

    /// The number under which a line is told; nothing for the nemesis.
    fn number(&mut self, entry: &Entry) -> Option<u64> {
        if entry.process == NEMESIS {
            return None;
        }
        let current = match self.current.get(&entry.process) {
            Some(number) => *number,
            None => entry.process.parse().unwrap_or_else(|_| self.fresh()),
        };
        let next = if entry.kind == Kind::Info { self.fresh() } else { current };
        self.current.insert(entry.process.clone(), next);
        Some(current)
    }

    /// A number that nobody else has.
    const fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}
