//! Starts a real cluster, breaks it, and says whether what it promised held.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use quorate_jepsen::scenario::{Options, Verdict, kill_all, kill_one};

/// Fault tests on real processes.
#[derive(Parser)]
#[command(name = "quorate-jepsen", version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// SIGKILL of one of three nodes under load; it returns later.
    KillOne(Common),
    /// SIGKILL of all three nodes under load, and a restart.
    KillAll(Common),
}

#[derive(clap::Args)]
struct Common {
    /// How long the load lasts.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The server's binary.
    #[arg(long, default_value = "target/release/quorate")]
    binary: PathBuf,
    /// What the clients' choices follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the history to this file, as JSON lines.
    #[arg(long)]
    history: Option<PathBuf>,
}

impl Common {
    fn options(self) -> Options {
        Options {
            binary: self.binary,
            span: Duration::from_secs(self.seconds),
            seed: self.seed,
            history: self.history,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let (name, verdict) = match Arguments::parse().scenario {
        Scenario::KillOne(common) => ("kill-one", kill_one(&common.options()).await?),
        Scenario::KillAll(common) => ("kill-all", kill_all(&common.options()).await?),
    };
    Ok(tell(name, &verdict))
}

fn tell(name: &str, verdict: &Verdict) -> ExitCode {
    for violation in &verdict.violations {
        println!("VIOLATION {violation}");
    }
    if let Some(folder) = &verdict.folder {
        println!("the nodes' folders and logs are kept in {}", folder.display());
    }
    let (operations, keys) = (verdict.operations, verdict.keys);
    if verdict.violations.is_empty() {
        println!("verdict: {name} held: {operations} operations, {keys} keys audited everywhere");
        ExitCode::SUCCESS
    } else {
        println!(
            "verdict: {name} VIOLATED {} times in {operations} operations",
            verdict.violations.len()
        );
        ExitCode::FAILURE
    }
}
