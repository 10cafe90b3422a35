//! Runs scenarios over many seeds, shows one seed in full, and plants bugs to see them found.

mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> anyhow::Result<ExitCode> {
    commands::run(commands::Arguments::parse())
}
