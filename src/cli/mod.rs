//! The command line: the server, and the operator's tools, which are clients of the admin API.
//!
//! # Invariants
//! 1. Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 warning, 4 critical.
//! 2. Answers go to stdout, whole or not at all; errors, progress and logs go to stderr.
//! 3. `-o json` prints one JSON value with stable names and nothing else.
//! 4. An error says what happened, to what, and what to type next.

mod bench;
mod bucket;
mod client;
mod cluster;
mod config;
mod hints;
mod key;
mod kv;
mod object;
mod repair;
mod report;
mod ring;
mod server;
mod status;
mod table;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::admin::AdminError;
use crate::node::config::Secret;

use client::AdminClient;
use report::{Exit, Report};

/// A leaderless, Dynamo-style key-value and blob store with an Amazon S3 front.
#[derive(Parser, Debug)]
#[command(name = "quorate", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Args, Debug)]
struct Global {
    /// Any node's admin API
    #[arg(
        long,
        global = true,
        env = "QUORATE_ADMIN_URL",
        default_value = "http://127.0.0.1:9001",
        value_name = "URL"
    )]
    admin_url: String,
    /// The admin API's bearer token
    #[arg(long, global = true, env = "QUORATE_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How answers are printed
    #[arg(short = 'o', long = "output", global = true, value_enum, default_value = "table")]
    output: Output,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a node
    Server(server::ServerArgs),
    /// Form a cluster
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Show the cluster's health and nodes (exit code 3: warning, 4: critical)
    Status,
    /// Show who owns how much of the ring
    Ring,
    /// Show what is kept for owners that were away
    Hints,
    /// Show where a key lies and what each replica has of it
    Locate(ring::LocateArgs),
    /// Create, list, show, change and delete buckets
    #[command(subcommand)]
    Bucket(bucket::BucketCommand),
    /// Look into objects
    #[command(subcommand)]
    Object(object::ObjectCommand),
    /// Create, list, show and delete S3 credentials
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Prove that all copies agree, and repair what does not
    #[command(subcommand)]
    Repair(repair::RepairCommand),
    /// Read, write, delete and list keys of the key-value API
    #[command(subcommand)]
    Kv(kv::KvCommand),
    /// Look at configuration files
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Load an S3 endpoint and measure it
    Bench(bench::BenchArgs),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(report) => {
            // A reader that went away (`| head`) is no failure.
            drop(std::io::stdout().write_all(report.text.as_bytes()));
            report.exit.into()
        }
        Err(error) => {
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            if let Some(next) = next_step(&error) {
                drop(writeln!(std::io::stderr(), "Next: {next}"));
            }
            Exit::Failed.into()
        }
    }
}

/// What the server advises, if it does.
fn next_step(error: &anyhow::Error) -> Option<&str> {
    let next = &error.downcast_ref::<AdminError>()?.next;
    (!next.is_empty()).then_some(next.as_str())
}

fn execute(cli: Cli) -> anyhow::Result<Report> {
    // The server uses all cores. A client is leaner on one thread, and a benchmark must leave
    // the cores to what it measures.
    let mut builder = match cli.command {
        Command::Server(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build().context("the runtime cannot start")?;
    runtime.block_on(Box::pin(dispatch(cli)))
}

async fn dispatch(cli: Cli) -> anyhow::Result<Report> {
    let Cli { global, command } = cli;
    let output = global.output;
    let admin = || AdminClient::new(&global.admin_url, global.token.clone().map(Secret::new));
    match command {
        Command::Server(args) => Box::pin(server::run(args)).await,
        Command::Cluster(command) => {
            let admin = admin()?.patient(cluster::patience(&command));
            cluster::run(&admin, command, output).await
        }
        Command::Status => status::run(&admin()?, output).await,
        Command::Ring => ring::run(&admin()?, output).await,
        Command::Hints => hints::run(&admin()?, output).await,
        Command::Locate(args) => ring::locate(&admin()?, args, output).await,
        Command::Bucket(command) => bucket::run(&admin()?, command, output).await,
        Command::Object(command) => object::run(&admin()?, command, output).await,
        Command::Key(command) => key::run(&admin()?, command, output).await,
        Command::Repair(command) => repair::run(&admin()?, command, output).await,
        Command::Kv(command) => Box::pin(kv::run(command, output)).await,
        Command::Config(command) => config::run(command),
        Command::Bench(args) => Box::pin(bench::run(args, output)).await,
    }
}
