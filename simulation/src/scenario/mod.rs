//! Scenarios: what runs in a world, and what must have held when it is over.
//!
//! A scenario is data drawn from a seed and a function that runs it. To add one, write a module
//! with a `run` like [`register::run`] and name it in [`ALL`].

pub mod objects;
pub mod register;
pub mod sloppy;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::entropy::Seed;
use crate::trace::{TextLog, TraceSummary};

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
    pub operations: BTreeMap<&'static str, u64>,
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
    /// Runs it.
    pub run: fn(Seed, RunOptions) -> anyhow::Result<Report>,
}

/// Every scenario.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "register",
        about: "three nodes write, echo and stream to one another while links and nodes fail",
        run: register::run,
    },
    Scenario {
        name: "objects",
        about: "real nodes serve objects while links, machines and clocks fail",
        run: objects::run,
    },
    Scenario {
        name: "sloppy",
        about: "sloppy buckets take writes while owners are away, and converge when they are back",
        run: sloppy::run,
    },
];

/// The scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<Scenario> {
    ALL.iter().find(|scenario| scenario.name == name).copied()
}
