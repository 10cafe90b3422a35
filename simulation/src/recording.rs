//! A run in a file: what a failed seed leaves, and what a regression test runs again.

use std::time::Duration;

use quorate::env::mutation::Mutation;
use serde::{Deserialize, Serialize};

use crate::entropy::Seed;
use crate::mutations;
use crate::scenario::{Plan, Report, RunOptions, Scenario};
use crate::trace::TextLog;

/// Everything that makes a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The scenario's name.
    pub scenario: String,
    /// What all is drawn from that the plan does not say.
    pub seed: u64,
    /// How long faults and clients are at work, in simulated seconds.
    pub seconds: u64,
    /// The bug that is planted.
    pub mutation: Option<String>,
    /// What happens.
    pub plan: Plan,
}

impl Recording {
    /// A run that can be written down.
    #[must_use]
    pub fn of(
        scenario: Scenario,
        seed: Seed,
        span: Duration,
        mutation: Option<Mutation>,
        plan: Plan,
    ) -> Self {
        Self {
            scenario: scenario.name.to_owned(),
            seed: seed.0,
            seconds: span.as_secs(),
            mutation: mutation.map(|mutation| mutation.name().to_owned()),
            plan,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// If there is no such scenario or bug, or the run cannot be made.
    pub fn run(&self, text: TextLog) -> anyhow::Result<Report> {
        let scenario = mutations::scenario_of(&self.scenario)?;
        let mutation = self.mutation.as_deref().map(mutations::find).transpose()?;
        let options = RunOptions { span: Duration::from_secs(self.seconds), text };
        mutations::run_plan(mutation, scenario, (Seed(self.seed), &self.plan), options)
    }
}
