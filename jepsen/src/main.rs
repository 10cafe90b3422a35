//! Starts a real cluster, breaks it, and says whether what it promised held.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use futures_util::future::{Either, select};
use quorate::env::OsClock;
use quorate_jepsen::arena::sandbox;
use quorate_jepsen::folder::sweep;
use quorate_jepsen::inspect::Inspect;
use quorate_jepsen::matrix::{Matrix, all_held, possible, table};
use quorate_jepsen::nemesis::Mix;
use quorate_jepsen::run::{Order, Ran, run as run_one};
use quorate_jepsen::scenario::{Options, Verdict, kill_all, kill_one};
use quorate_jepsen::split_sides::{Conflicts, split_sides};
use quorate_jepsen::workload::Workload;
use tokio::signal::unix::{SignalKind, signal};

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
    /// Five nodes split 2|3 with writers on both sides, healed and compared.
    SplitSides(Split),
    /// One workload under faults of these kinds.
    Run(One),
    /// Workloads by mixes of faults, each on a fresh cluster.
    Matrix(Many),
    #[command(flatten)]
    Inspect(Inspect),
}

impl Scenario {
    /// Whether nodes need addresses and disks of their own.
    const fn needs_sandbox(&self) -> bool {
        matches!(self, Self::SplitSides(_) | Self::Run(_) | Self::Matrix(_))
    }
}

/// How a run ends that could not be done on this machine.
const SKIPPED: u8 = 77;

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

#[derive(clap::Args)]
struct Split {
    /// Take it for a violation if more is listed as lost than the last write of one side.
    #[arg(long)]
    strict_conflicts: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Many {
    /// The workloads; all if none is named.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// The mixes: letters (s links, c clocks, m machines and disks, d processes, p partitions,
    /// x stored data) or kinds joined with `+`.
    #[arg(long, value_delimiter = ',', default_value = "p,d,s,m,x,c,cp,cdp,scmdp")]
    mixes: Vec<Mix>,
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    common: Common,
}

impl Many {
    fn matrix(self) -> Matrix {
        let Self { mut workloads, mixes, size, common } = self;
        if workloads.is_empty() {
            workloads = Workload::all();
        }
        let one = One { workload: Workload::Register, mix: Mix::default(), size, common };
        Matrix { workloads, mixes, base: one.order() }
    }
}

#[derive(clap::Args)]
struct Size {
    /// How many nodes, 3 to 7.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=7))]
    nodes: u8,
    /// How many clients, 4 to 20.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(4..=20))]
    clients: u8,
}

#[derive(clap::Args)]
struct One {
    /// What clients do: register, delete-recreate, lww, list, set, multipart, siblings.
    workload: Workload,
    /// Letters as scmdpx, or kinds of faults joined with `+`, or none.
    mix: Mix,
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    common: Common,
}

impl One {
    fn order(self) -> Order {
        Order {
            binary: self.common.binary,
            workload: self.workload,
            mix: self.mix,
            nodes: usize::from(self.size.nodes),
            clients: usize::from(self.size.clients),
            span: Duration::from_secs(self.common.seconds),
            seed: self.common.seed,
            history: self.common.history,
        }
    }
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

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Scenario::Inspect(inspect) = &arguments.scenario {
        return Ok(ExitCode::from(inspect.run()));
    }
    if arguments.scenario.needs_sandbox() {
        if !sandbox::is_inside() {
            let missing = sandbox::missing();
            if missing.is_empty() {
                sandbox::enter()?;
            }
            println!("SKIPPED: this machine lacks {}", missing.join(", "));
            return Ok(ExitCode::from(SKIPPED));
        }
        sandbox::furnish()?;
    }
    let swept = sweep();
    if swept > 0 {
        println!("removed {swept} folders of runs that were cut short");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let interrupted = std::pin::pin!(interrupt());
        let work = std::pin::pin!(run(arguments.scenario));
        match select(work, interrupted).await {
            Either::Left((ended, _)) => ended,
            Either::Right((caught, _)) => {
                caught?;
                println!("interrupted");
                Ok(ExitCode::FAILURE)
            }
        }
    })
}

/// Resolves when the runner is asked to end; what it started ends with it.
async fn interrupt() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    select(Box::pin(terminate.recv()), Box::pin(interrupt.recv())).await;
    Ok(())
}

async fn run(scenario: Scenario) -> anyhow::Result<ExitCode> {
    let (name, verdict) = match scenario {
        Scenario::KillOne(common) => ("kill-one", kill_one(&common.options()).await?),
        Scenario::KillAll(common) => ("kill-all", kill_all(&common.options()).await?),
        Scenario::Inspect(inspect) => return Ok(ExitCode::from(inspect.run())),
        Scenario::Run(one) => {
            let mut order = one.order();
            order.mix = match possible(order.workload, &order.mix) {
                Ok(mix) => mix,
                Err(why) => {
                    println!("SKIPPED: {why}");
                    return Ok(ExitCode::from(SKIPPED));
                }
            };
            return Ok(show(&run_one(&order, Arc::new(OsClock::new())).await?));
        }
        Scenario::Matrix(many) => {
            let clock = Arc::new(OsClock::new());
            let mut tell = |_: &Order, ran: &Ran| {
                show(ran);
            };
            let results = many.matrix().run(&clock, &mut tell).await?;
            println!("{}", table(&results));
            return Ok(if all_held(&results) { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Scenario::SplitSides(split) => {
            let conflicts = match split.strict_conflicts {
                true => Conflicts::Exact,
                false => Conflicts::Lenient,
            };
            ("split-sides", split_sides(&split.common.options(), conflicts).await?)
        }
    };
    Ok(tell(name, &verdict))
}

fn show(ran: &Ran) -> ExitCode {
    for note in &ran.notes {
        println!("{note}");
    }
    for verdict in &ran.verdicts {
        println!("{:?} {}: {:?}", verdict.finding, verdict.checker, verdict.figures);
        for doubt in &verdict.doubts {
            println!("  doubt: {doubt}");
        }
        for violation in verdict.violations.iter().take(5) {
            println!("  VIOLATION {}", violation.what);
        }
    }
    for violation in &ran.violations {
        println!("VIOLATION {violation}");
    }
    if let Some(folder) = &ran.folder {
        println!("the nodes' folders and logs are kept in {}", folder.display());
    }
    if ran.is_idle() {
        println!("NO FAULT TOOK EFFECT: this run proves nothing");
    }
    if ran.held() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
