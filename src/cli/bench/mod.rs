//! `quorate bench`: load any S3 endpoint, check every byte that comes back, and measure.
//!
//! # Invariants
//! 1. An object's bytes follow from its key, so a read is checked without remembering a write.
//! 2. The client is one thread with kept connections; its own CPU time is reported beside the
//!    servers', so that nobody takes one for the other.
//! 3. What failed is counted by kind and never in the latencies.

pub(super) mod client;
mod content;
mod load;
mod report;
pub(super) mod sign;
mod stats;
pub(super) mod trust;
mod usage;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::env::{OsClock, TokioTasks};
use crate::node::config::Secret;
use crate::types::ByteCount;

use super::Output;
use super::report::{Exit, Report};

use client::{S3Client, Trust};
use load::{Load, Outcome};
use report::BenchReport;
use sign::Signer;
use usage::Usage;

/// Keys that reads and deletes work on unless `--keys` says otherwise.
const KEYS: u64 = 1_000;

#[derive(Args, Debug)]
pub(super) struct BenchArgs {
    /// What to do
    #[arg(value_enum)]
    operation: Operation,
    /// S3 endpoint; given several times, requests go round
    #[arg(long = "endpoint", env = "AWS_ENDPOINT_URL", value_name = "URL", required = true)]
    endpoints: Vec<String>,
    /// The bucket; created if it is not there
    #[arg(long)]
    bucket: String,
    /// Bytes of each object
    #[arg(long, default_value = "4KiB")]
    size: ByteCount,
    /// Requests under way at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    concurrency: u32,
    /// How long to measure, for instance 10s or 5m
    #[arg(long, default_value = "10s", value_parser = crate::node::config::parse_duration)]
    duration: Duration,
    /// What the keys begin with
    #[arg(long, default_value = "bench/")]
    prefix: String,
    /// How many keys: puts go round them (without end if not given); the other operations
    /// work on that many (1000 if not given)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    keys: Option<u64>,
    /// Reads among a mixed load, in percent
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: u8,
    /// The keys are there already, from an earlier run of the same prefix and size
    #[arg(long)]
    skip_fill: bool,
    /// A server's process: report its CPU time and memory (given several times: their sum)
    #[arg(long = "pid", value_name = "P", num_args = 1..)]
    pids: Vec<u32>,
    /// Trust this certificate (PEM) besides none other
    #[arg(long, value_name = "PEM", conflicts_with = "insecure")]
    ca_file: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long)]
    insecure: bool,
    /// The access key id
    #[arg(long, env = "AWS_ACCESS_KEY_ID", value_name = "ID")]
    access_key_id: String,
    /// The secret
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true, value_name = "SECRET")]
    secret_access_key: String,
    /// The region to sign for
    #[arg(long, env = "AWS_DEFAULT_REGION", default_value = "us-east-1")]
    region: String,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Operation {
    /// Write objects
    Put,
    /// Read objects
    Get,
    /// Read and write objects
    Mixed,
    /// List pages of 1000 keys
    List,
    /// Delete objects, each once
    Delete,
}

/// Runs `quorate bench`.
pub(super) async fn run(args: BenchArgs, output: Output) -> anyhow::Result<Report> {
    let trust = match (&args.ca_file, args.insecure) {
        (Some(file), _) => Trust::File(file.clone()),
        (None, true) => Trust::Anyone,
        (None, false) => Trust::System,
    };
    let secret = Secret::new(args.secret_access_key.clone());
    let signer = Signer::new(args.access_key_id.clone(), secret, args.region.clone());
    let clock = Arc::new(OsClock::new());
    let client =
        Arc::new(S3Client::new(&args.endpoints, &args.bucket, signer, &trust, clock.clone())?);
    client.ensure_bucket().await?;
    let load = Arc::new(Load::new(client, clock, &args));
    let tasks = TokioTasks::current();
    if args.operation != Operation::Put && !args.skip_fill {
        load.fill(&tasks).await?;
    }
    let before = Usage::of(&args.pids)?;
    let own_before = Usage::own()?;
    let outcome = load.measure(&tasks).await;
    let servers = Usage::of(&args.pids)?.since(&before);
    let client = Usage::own()?.since(&own_before);
    summarize(&args, outcome, client, servers, output)
}

fn summarize(
    args: &BenchArgs,
    outcome: Outcome,
    client: Usage,
    servers: Usage,
    output: Output,
) -> anyhow::Result<Report> {
    let exit = match outcome.damage.is_empty() && outcome.operations() > 0 {
        true => Exit::Ok,
        false => Exit::Failed,
    };
    let report = BenchReport::new(args, outcome, client, servers);
    Ok(Report::of(output, &report, BenchReport::render)?.exit(exit))
}
