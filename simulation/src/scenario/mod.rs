//! Scenarios: what runs in a world, and what must have held when it is over.
//!
//! A scenario draws a plan, which is data, from a seed, and runs it. To add one, write a module
//! with a `draw` and a `run` like [`register`]'s and name it in [`ALL`].

pub mod buckets;
pub mod graves;
pub mod objects;
mod plan;
pub mod register;
pub mod set;
pub mod sloppy;
pub mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::coverage::Counts;
use crate::entropy::Seed;
use crate::trace::{TextLog, TraceSummary};

pub use plan::Plan;

/// How a scenario is run, whatever it is.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// How long faults and clients are at work, in simulated time.
    pub span: Duration,
    /// Whether the trace keeps text.
    pub text: TextLog,
}

/// What came of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed that it followed from.
    pub seed: Seed,
    /// The trace's hash and counters.
    pub trace: TraceSummary,
    /// Operations by how they ended.
    pub operations: Counts,
    /// How often coverage marks and crash points were passed.
    pub passed: Counts,
    /// How many machines died at each crash point.
    pub died: Counts,
    /// What should have held and did not; empty for a good run.
    pub violations: Vec<String>,
    /// The text log, if asked for.
    pub lines: Vec<String>,
}

impl Report {
    /// How many faults of each kind struck.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        let faults = self.trace.counts.iter().filter(|((kind, _), _)| *kind == "fault");
        faults.map(|((_, outcome), count)| (*outcome, *count)).collect()
    }
}

/// A scenario that the command line can name.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it tries, in one line.
    pub about: &'static str,
    /// Draws its plan.
    pub draw: fn(Seed, Duration) -> Plan,
    /// Runs a plan.
    pub run: fn(Seed, &Plan, RunOptions) -> anyhow::Result<Report>,
}

impl Scenario {
    /// Draws the plan of a seed and runs it.
    ///
    /// # Errors
    /// If the run cannot be made. Violations are in the report.
    pub fn run_seed(&self, seed: Seed, options: RunOptions) -> anyhow::Result<Report> {
        (self.run)(seed, &(self.draw)(seed, options.span), options)
    }
}

/// Every scenario.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "register",
        about: "three nodes write, echo and stream to one another while links and nodes fail",
        draw: register::draw,
        run: register::run,
    },
    Scenario {
        name: "objects",
        about: "real nodes serve objects while links, machines, disks and clocks fail",
        draw: objects::draw,
        run: objects::run,
    },
    Scenario {
        name: "sloppy",
        about: "sloppy buckets take writes while owners are away, and converge when they are back",
        draw: sloppy::draw,
        run: sloppy::run,
    },
    Scenario {
        name: "graves",
        about: "what was deleted and purged does not come back, whoever was away and brings it",
        draw: graves::draw,
        run: graves::run,
    },
    Scenario {
        name: "set",
        about: "elements are added and listed while a machine is emptied and its disk rots",
        draw: set::draw,
        run: set::run,
    },
    Scenario {
        name: "buckets",
        about: "buckets are created, filled, emptied and deleted, all at once",
        draw: buckets::draw,
        run: buckets::run,
    },
];

/// The scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<Scenario> {
    ALL.iter().find(|scenario| scenario.name == name).copied()
}
