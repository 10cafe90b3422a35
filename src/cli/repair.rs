//! `quorate repair`: how many copies are proven, and what to do about it.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::admin::{RepairAction, RepairNode, RepairReport, RepairRequest, RepairRun};
use crate::env::{Clock, OsClock};
use crate::types::ByteCount;

use super::Output;
use super::client::AdminClient;
use super::report::Report;
use super::table::{Table, age, or_dash};

/// Characters of the progress bar.
const BAR: usize = 30;

#[derive(Subcommand, Debug)]
pub(super) enum RepairCommand {
    /// Prove all partitions now, and repair what differs; a paused repair goes on
    Start(StartArgs),
    /// Show how many copies are proven
    Status,
    /// Begin no more rounds, on any node that is up
    Pause,
    /// Go on
    Resume,
}

#[derive(Args, Debug)]
pub(super) struct StartArgs {
    /// This partition only
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Wait until all partitions were proven, and show progress
    #[arg(long, conflicts_with = "partition")]
    wait: bool,
}

/// Runs `quorate repair`.
pub(super) async fn run(
    admin: &AdminClient,
    command: RepairCommand,
    output: Output,
) -> anyhow::Result<Report> {
    let tell = |action, partition| RepairRequest { action, partition };
    let request = match &command {
        RepairCommand::Status => {
            let report: RepairReport = admin.get("/v1/repair").await?;
            return Report::of(output, &report, render);
        }
        RepairCommand::Start(args) => tell(RepairAction::Start, args.partition),
        RepairCommand::Pause => tell(RepairAction::Pause, None),
        RepairCommand::Resume => tell(RepairAction::Resume, None),
    };
    let mut report: RepairReport = admin.post("/v1/repair", &request).await?;
    if matches!(&command, RepairCommand::Start(args) if args.wait) {
        report = wait(admin, report).await?;
    }
    Report::of(output, &report, render)
}

async fn wait(admin: &AdminClient, mut report: RepairReport) -> anyhow::Result<RepairReport> {
    let clock = OsClock::new();
    loop {
        let done = report.run.as_ref().map_or(0, |run| run.done);
        if let Some(run) = &report.run {
            let line = bar(run, report.redundancy.partitions);
            drop(write!(std::io::stderr(), "\r{line}\u{1b}[K"));
        }
        if done >= report.redundancy.partitions {
            drop(writeln!(std::io::stderr()));
            return Ok(report);
        }
        clock.sleep(Duration::from_secs(1)).await;
        report = admin.get("/v1/repair").await?;
    }
}

/// The whole screen.
pub(super) fn render(report: &RepairReport) -> String {
    let redundancy = &report.redundancy;
    let paused = report.nodes.iter().filter(|node| node.paused).count();
    let state = match paused {
        0 => "running".to_owned(),
        _ => format!("paused on {paused} of {} nodes", report.nodes.len()),
    };
    let oldest = redundancy.oldest_proof_seconds.map(|seconds| format!("{} old", age(seconds)));
    let mut text = format!(
        "Repair {state} · each partition every {} · {}/{} partitions fully proven · oldest proof {}\n",
        age(report.interval_seconds),
        redundancy.proven,
        redundancy.partitions,
        or_dash(oldest)
    );
    if let Some(run) = &report.run {
        text.push_str(&bar(run, redundancy.partitions));
        text.push('\n');
    }
    if redundancy.rows_missing > 0 {
        text.push_str(&format!("{} rows wait for their bytes\n", redundancy.rows_missing));
    }
    text.push('\n');
    text.push_str(&nodes(&report.nodes));
    for node in &report.silent {
        text.push_str(&format!("{node} did not answer\n"));
    }
    let blocked = report
        .nodes
        .iter()
        .find_map(|node| node.purge_blocked.as_ref().map(|reason| (&node.name, reason)));
    if let Some((node, reason)) = blocked {
        text.push_str(&format!("\nTombstones wait to be purged: {reason} (says {node})\n"));
    }
    if !report.unproven.is_empty() {
        text.push_str(&format!("\nNot proven:\n{}", unproven(report)));
    }
    text
}

/// A line like `[######......]  50%  128/256 partitions · 10.6/s · 12s left`.
fn bar(run: &RepairRun, partitions: u32) -> String {
    let part = |of: u64| u64::from(run.done) * of / u64::from(partitions.max(1));
    let filled = usize::try_from(part(BAR as u64)).unwrap_or(BAR).min(BAR);
    let (full, rest) = ("#".repeat(filled), ".".repeat(BAR - filled));
    let mut line =
        format!("[{full}{rest}] {:>3}%  {}/{partitions} partitions", part(100), run.done);
    if run.done >= partitions {
        return line;
    }
    if run.elapsed_seconds > 0 {
        let rate = f64::from(run.done) / run.elapsed_seconds as f64;
        line.push_str(&format!(" · {rate:.1}/s"));
    }
    if let Some(left) = run.left_seconds {
        line.push_str(&format!(" · {} left", age(left)));
    }
    line
}

fn nodes(nodes: &[RepairNode]) -> String {
    let mut table = Table::new(&[
        "Node",
        "State",
        ">Rounds",
        ">Pulled",
        ">Pushed",
        ">Purged",
        ">Corrected",
        ">Sent",
    ]);
    for node in nodes {
        let state = match (node.building, node.paused) {
            (true, _) => "building",
            (_, true) => "paused",
            _ => "running",
        };
        table.row([
            node.name.clone(),
            state.to_owned(),
            node.rounds_under_way.to_string(),
            node.rows_pulled.to_string(),
            node.rows_pushed.to_string(),
            node.tombstones_purged.to_string(),
            node.leaves_corrected.to_string(),
            ByteCount(node.bytes_sent).to_string(),
        ]);
    }
    table.render()
}

fn unproven(report: &RepairReport) -> String {
    const SHOWN: usize = 10;
    let mut table = Table::new(&[">Partition", ">Copies", ">Full proof", ">Rows without bytes"]);
    for partition in report.unproven.iter().take(SHOWN) {
        table.row([
            partition.partition.to_string(),
            format!("{}/{}", partition.copies, partition.wanted),
            partition.full_proof_seconds.map_or_else(|| "never".to_owned(), |s| age(s) + " ago"),
            partition.rows_missing.to_string(),
        ]);
    }
    let mut text = table.render();
    let all = report.redundancy.partitions.saturating_sub(report.redundancy.proven);
    if all as usize > SHOWN {
        text.push_str(&format!("and {} more\n", all as usize - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{bar, render};
    use crate::admin::{Redundancy, RepairNode, RepairReport, RepairRun, Unproven};
    use crate::types::NodeId;

    fn report() -> RepairReport {
        RepairReport {
            redundancy: Redundancy {
                partitions: 256,
                proven: 255,
                never_proven: 1,
                rows_missing: 2,
                oldest_proof_seconds: None,
                fresh_seconds: 1800,
                short: 0,
            },
            interval_seconds: 600,
            run: Some(run(128)),
            nodes: vec![RepairNode {
                name: "n1".to_owned(),
                node_id: NodeId::from_bytes([1; 16]),
                paused: true,
                building: false,
                rounds_under_way: 1,
                rows_pulled: 7,
                rows_pushed: 8,
                tombstones_purged: 9,
                leaves_corrected: 0,
                bytes_sent: 2048,
                purge_blocked: Some("node 01020304 is away".to_owned()),
            }],
            silent: vec!["n2".to_owned()],
            unproven: vec![Unproven {
                partition: 17,
                copies: 2,
                wanted: 3,
                full_proof_seconds: None,
                rows_missing: 2,
            }],
        }
    }

    fn run(done: u32) -> RepairRun {
        let left = Some(12);
        RepairRun { started_unix_ms: 0, elapsed_seconds: 12, done, left_seconds: left }
    }

    #[test]
    fn progress_shows_a_bar_a_rate_and_the_time_left() {
        let line = bar(&run(128), 256);

        assert_eq!(
            line,
            "[###############...............]  50%  128/256 partitions · 10.7/s · 12s left"
        );
        assert!(bar(&run(256), 256).ends_with("100%  256/256 partitions"));
    }

    #[test]
    fn the_screen_says_what_is_not_proven_and_why() {
        let screen = render(&report());

        for wanted in [
            "paused on 1 of 1 nodes",
            "255/256 partitions fully proven",
            "2 rows wait for their bytes",
            "n2 did not answer",
            "Tombstones wait to be purged: node 01020304 is away (says n1)",
            "17     2/3       never",
        ] {
            assert!(screen.contains(wanted), "'{wanted}' is missing in:\n{screen}");
        }
    }
}
