//! What a benchmark prints.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::table::Table;
use crate::types::ByteCount;

use super::load::Outcome;
use super::stats::Latencies;
use super::usage::Usage;
use super::{BenchArgs, Operation};

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;

/// One operation's figures.
#[derive(Debug, Serialize)]
struct Measured {
    operation: Operation,
    operations: u64,
    operations_per_second: f64,
    mib_per_second: f64,
    latency_ms: Latencies,
}

/// What processes spent on the run.
#[derive(Debug, Serialize)]
struct Spent {
    cpu_seconds: f64,
    cpu_us_per_operation: f64,
    /// Not given if no object bytes moved.
    cpu_seconds_per_gib: Option<f64>,
    rss_max_bytes: u64,
}

impl Spent {
    fn new(usage: Usage, operations: u64, bytes: u64) -> Self {
        let per_operation = usage.cpu_seconds * 1e6 / operations.max(1) as f64;
        let per_gib = usage.cpu_seconds / (bytes as f64 / GIB);
        Self {
            cpu_seconds: rounded(usage.cpu_seconds),
            cpu_us_per_operation: rounded(per_operation),
            cpu_seconds_per_gib: (bytes > 0).then_some(rounded(per_gib)),
            rss_max_bytes: usage.rss_max.0,
        }
    }

    fn line(&self) -> String {
        let per_gib = self
            .cpu_seconds_per_gib
            .map_or_else(String::new, |seconds| format!(", {seconds:.2} s per GiB"));
        format!(
            "{:.2} s CPU: {:.1} µs per operation{per_gib}; at most {} resident",
            self.cpu_seconds,
            self.cpu_us_per_operation,
            ByteCount(self.rss_max_bytes)
        )
    }
}

/// The whole answer of `quorate bench`.
#[derive(Debug, Serialize)]
pub(super) struct BenchReport {
    operation: Operation,
    endpoints: Vec<String>,
    object_bytes: u64,
    concurrency: u32,
    seconds: f64,
    measured: Vec<Measured>,
    errors: BTreeMap<String, u64>,
    damage: Vec<String>,
    client: Spent,
    servers: Option<Spent>,
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

impl BenchReport {
    /// The figures of a run.
    pub(super) fn new(args: &BenchArgs, outcome: Outcome, client: Usage, servers: Usage) -> Self {
        let (operations, bytes) = (outcome.operations(), outcome.bytes());
        let seconds = outcome.elapsed.as_secs_f64().max(0.001);
        let measured = outcome
            .done
            .into_iter()
            .map(|(operation, (histogram, bytes))| Measured {
                operation,
                operations: histogram.count(),
                operations_per_second: rounded(histogram.count() as f64 / seconds),
                mib_per_second: rounded(bytes as f64 / MIB / seconds),
                latency_ms: histogram.latencies(),
            })
            .collect();
        Self {
            operation: args.operation,
            endpoints: args.endpoints.clone(),
            object_bytes: args.size.0,
            concurrency: args.concurrency,
            seconds: rounded(seconds),
            measured,
            errors: outcome.errors,
            damage: outcome.damage,
            client: Spent::new(client, operations, bytes),
            servers: (!args.pids.is_empty()).then(|| Spent::new(servers, operations, bytes)),
        }
    }

    /// The figures for people.
    pub(super) fn render(&self) -> String {
        let mut text = format!(
            "{} of {} by {} for {:.1} s\n\n",
            name(self.operation),
            ByteCount(self.object_bytes),
            self.concurrency,
            self.seconds
        );
        text.push_str(&self.figures());
        for (kind, count) in &self.errors {
            text.push_str(&format!("{count} failed: {kind}\n"));
        }
        for damage in &self.damage {
            text.push_str(&format!("WRONG BYTES  {damage}\n"));
        }
        if let Some(servers) = &self.servers {
            text.push_str(&format!("\nServers  {}", servers.line()));
        }
        text.push_str(&format!("\nClient   {}\n", self.client.line()));
        text
    }

    fn figures(&self) -> String {
        let mut table = Table::new(&[
            "",
            ">Operations",
            ">op/s",
            ">MiB/s",
            ">mean ms",
            ">p50",
            ">p90",
            ">p99",
            ">p99.9",
            ">max",
        ]);
        for line in &self.measured {
            let latency = &line.latency_ms;
            let times =
                [latency.mean, latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max];
            let counts = [
                name(line.operation).to_owned(),
                line.operations.to_string(),
                format!("{:.1}", line.operations_per_second),
                format!("{:.1}", line.mib_per_second),
            ];
            table.row(counts.into_iter().chain(times.map(|time| format!("{time:.2}"))));
        }
        table.render()
    }
}

fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Put => "put",
        Operation::Get => "get",
        Operation::Mixed => "mixed",
        Operation::List => "list",
        Operation::Delete => "delete",
    }
}
