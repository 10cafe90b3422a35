//! The command line.

mod failure;
mod mutations;
mod seeds;
mod sweep;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use quorate_simulation::scenario::{self, Scenario};

/// Deterministic simulation of a cluster: the same seed is the same run, everywhere.
#[derive(Parser)]
#[command(name = "quorate-simulation", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    seeds: seeds::Arguments,
}

#[derive(Subcommand)]
enum Command {
    /// Run what a failed seed left in a file.
    Replay(failure::Arguments),
    /// Plant each bug and see that it is found.
    Mutations(mutations::Arguments),
}

/// Does what it was told.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let good = match arguments.command {
        None => seeds::run(&arguments.seeds)?,
        Some(Command::Replay(arguments)) => failure::replay(&arguments)?,
        Some(Command::Mutations(arguments)) => mutations::run(&arguments)?,
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The scenario of that name, or all of them.
fn scenarios(name: Option<&str>) -> anyhow::Result<Vec<Scenario>> {
    let Some(name) = name else { return Ok(scenario::ALL.to_vec()) };
    let found = scenario::find(name);
    Ok(vec![found.with_context(|| format!("no scenario '{name}'; try --list"))?])
}
