//! What all clients of a run share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use quorate::env::OsClock;

use super::hand::Hand;
use crate::client::Client;
use crate::history::{History, Kind};
use crate::place::Place;

/// Violations that are kept; more add nothing.
const VIOLATIONS_MAX: usize = 100;

/// What all clients of a run share.
pub struct Ground {
    pub(super) client: Client,
    pub(super) clock: Arc<OsClock>,
    pub(super) places: Vec<Place>,
    history: History,
    writes: AtomicU64,
    processes: AtomicU64,
    keepsakes: AtomicU64,
    stopping: AtomicBool,
    tally: Mutex<Tally>,
    violations: Mutex<Vec<String>>,
}

/// How requests ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered.
    pub served: u64,
    /// Not answered, or in doubt.
    pub refused: u64,
    /// What one of those was told.
    pub example: Option<String>,
}

impl Ground {
    /// A ground of the nodes at these places.
    #[must_use]
    pub fn new(
        client: Client,
        clock: Arc<OsClock>,
        places: Vec<Place>,
        history: History,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            clock,
            places,
            history,
            writes: AtomicU64::new(0),
            processes: AtomicU64::new(0),
            keepsakes: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            tally: Mutex::default(),
            violations: Mutex::default(),
        })
    }

    /// A new client, whose choices follow from `seed` and its number.
    #[must_use]
    pub fn hand(self: &Arc<Self>, seed: u64) -> Hand {
        Hand::new(Arc::clone(self), self.next_process(), seed)
    }

    /// The number of a process that never was before.
    pub(super) fn next_process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of a write that never was before.
    pub(super) fn next_write(&self) -> u64 {
        self.writes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of an object that is written once and never was before, below `most`.
    pub(super) fn next_keepsake(&self, most: u64) -> Option<u64> {
        let next = |number: u64| (number < most).then_some(number + 1);
        self.keepsakes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
    }

    /// How many objects there are that are written once.
    pub(super) fn keepsakes(&self) -> u64 {
        self.keepsakes.load(Ordering::Relaxed)
    }

    /// The history that all operations are told to.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    pub(super) fn count(&self, kind: Kind, error: Option<&str>) {
        let mut tally = self.tally.lock();
        match kind {
            Kind::Invoke => {}
            Kind::Ok => tally.served += 1,
            Kind::Fail | Kind::Info => {
                tally.refused += 1;
                tally.example = error.map(str::to_owned);
            }
        }
    }

    /// How requests ended since the last call.
    #[must_use]
    pub fn take_tally(&self) -> Tally {
        std::mem::take(&mut self.tally.lock())
    }

    /// The numbers of all nodes, from 1.
    #[must_use]
    pub fn nodes(&self) -> Vec<usize> {
        (1..=self.places.len()).collect()
    }

    /// Asks all clients to end after their current operations.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether clients were asked to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Notes that something that must hold did not.
    pub fn violation(&self, what: String) {
        let mut violations = self.violations.lock();
        if violations.len() < VIOLATIONS_MAX {
            violations.push(what);
        }
    }

    /// All violations so far.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }
}
