//! `quorate config`: look at configuration files without starting a node.

use std::path::PathBuf;

use clap::Subcommand;

use crate::node::config::Config;

use super::report::Report;

#[derive(Subcommand, Debug)]
pub(super) enum ConfigCommand {
    /// Say whether a node would start with a file (and the environment)
    Check {
        /// The file
        file: PathBuf,
    },
}

/// Runs `quorate config`.
pub(super) fn run(command: ConfigCommand) -> anyhow::Result<Report> {
    let ConfigCommand::Check { file } = command;
    let config = Config::load(Some(&file), std::env::vars())?;
    config.check()?;
    Ok(Report::text(format!(
        "{} is fine: node '{}' in zone '{}', {}.\nNext: quorate server --config {}\n",
        file.display(),
        config.node.name,
        config.node.zone,
        match config.node.capacity.0 {
            0 => "a gateway".to_owned(),
            _ => format!("capacity {}", config.node.capacity),
        },
        file.display()
    )))
}
