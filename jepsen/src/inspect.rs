//! What can be done with the history of a run afterwards: check it, report on it, and hand it to
//! other judges.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::checker::progress::faults;
use crate::checker::suite::{self, Demands, Promise, UnknownName, Workload};
use crate::checker::{Finding, Verdict};
use crate::export::{edn::edn, porcupine::logs};
use crate::history::{Entry, FINAL_READS, NEMESIS, parse};
use crate::report::Report;
use crate::report::page::page;
use crate::report::text::text;

/// Nodes whose clocks are further off than this, plus what they need to notice, do not stamp.
const SKEW_UNDER_CLOCK_FAULTS: Duration = Duration::from_secs(10);

/// How a check ends: all held, something did not, or it could not tell or not be made.
const HELD: u8 = 0;
const VIOLATED: u8 = 1;
const UNKNOWN: u8 = 2;

/// Commands on histories.
#[derive(clap::Subcommand)]
pub enum Inspect {
    /// Checks a history: exit status 0 if promises hold, 1 if not, 2 if that is not known.
    Check(Subject),
    /// Shows what a history tells, here and as a page; exits as `check` does.
    Report {
        /// What is reported on.
        #[command(flatten)]
        subject: Subject,
        /// Write a page to this file.
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Writes a history in the forms of other checkers.
    #[command(group(clap::ArgGroup::new("form").required(true).multiple(true)))]
    Export {
        /// The history, as JSON lines.
        file: PathBuf,
        /// Jepsen's operation maps in EDN, for Knossos, to this file.
        #[arg(long, group = "form")]
        edn: Option<PathBuf>,
        /// Logs that Porcupine reads, one for each key, to this folder.
        #[arg(long, group = "form")]
        porcupine: Option<PathBuf>,
    },
}

/// A history, and what it is held to.
#[derive(clap::Args)]
pub struct Subject {
    /// The history, as JSON lines.
    file: PathBuf,
    /// What clients did: register, delete-recreate, lww, list, multipart, set, siblings, counter;
    /// as the history looks if it is not named.
    #[arg(long)]
    workload: Option<Named>,
    /// What they were promised: strong, strict or eventual; what the levels in the history
    /// promise, or strict if there are none. An lww workload is eventual.
    #[arg(long)]
    promise: Option<Promise>,
    /// Milliseconds by which clocks of nodes may differ: 20, or 10000 under faults of clocks.
    #[arg(long)]
    skew_ms: Option<u64>,
    /// Seconds after the last fault within which all must be served: 30, or as soon as final
    /// reads begin.
    #[arg(long)]
    progress_within: Option<u64>,
}

/// A workload, and what its name promises.
#[derive(Clone, Copy, Debug)]
struct Named {
    workload: Workload,
    promise: Option<Promise>,
}

impl std::str::FromStr for Named {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let promise = (text == "lww").then_some(Promise::Converging);
        Ok(Self { workload: text.parse()?, promise })
    }
}

impl Inspect {
    /// Does it, and tells on the terminal. The exit status; what cannot be read is not known to
    /// hold.
    #[must_use]
    pub fn run(&self) -> u8 {
        let done = match self {
            Self::Check(subject) => subject.check(),
            Self::Report { subject, html } => subject.report(html.as_deref()),
            Self::Export { file, edn, porcupine } => {
                export(file, edn.as_deref(), porcupine.as_deref())
            }
        };
        done.unwrap_or_else(|error| {
            eprintln!("Error: {error:#}");
            UNKNOWN
        })
    }
}

impl Subject {
    fn check(&self) -> anyhow::Result<u8> {
        let entries = read(&self.file)?;
        let demands = self.demands(&entries);
        let verdicts = suite::check(&entries, &demands)?;
        println!("held to: {}", promised(&demands));
        for verdict in &verdicts {
            tell(verdict);
        }
        Ok(status(suite::worst(&verdicts)))
    }

    fn report(&self, html: Option<&Path>) -> anyhow::Result<u8> {
        let entries = read(&self.file)?;
        let demands = self.demands(&entries);
        let verdicts = suite::check(&entries, &demands)?;
        let title = self.file.display().to_string();
        let mut report = Report::of(&title, &entries, verdicts)?;
        report.promised = promised(&demands);
        print!("{}", text(&report));
        if let Some(html) = html {
            write(html, &page(&report))?;
        }
        Ok(status(report.finding()))
    }

    fn demands(&self, entries: &[Entry]) -> Demands {
        let workload =
            self.workload.map_or_else(|| Workload::of_history(entries), |named| named.workload);
        let promise = self.promise.or(self.workload.and_then(|named| named.promise));
        let promise = promise.unwrap_or_else(|| Promise::of_history(entries));
        let mut demands = Demands::usual(workload, promise);
        let faults = faults(entries);
        if faults.iter().any(|fault| fault.name == "clock") {
            demands.skew = SKEW_UNDER_CLOCK_FAULTS;
        }
        if let Some(millis) = self.skew_ms {
            demands.skew = Duration::from_millis(millis);
        }
        let over = faults.iter().filter_map(|fault| fault.ends).max().unwrap_or(0);
        let is_final = |entry: &&Entry| entry.process == NEMESIS && entry.f == FINAL_READS;
        if let Some(finals) = entries.iter().find(is_final) {
            let after = Duration::from_nanos(finals.time.saturating_sub(over));
            demands.progress_within = demands.progress_within.min(after);
        }
        if let Some(seconds) = self.progress_within {
            demands.progress_within = Duration::from_secs(seconds);
        }
        demands
    }
}

fn promised(demands: &Demands) -> String {
    let promise = match demands.promise {
        Promise::Linearizable => "linearizable (strong)",
        Promise::Regular => "regular (strict)",
        Promise::Converging => "converging (eventual)",
    };
    let workload = format!("{:?}", demands.workload).to_lowercase();
    format!(
        "{workload}, {promise}; clocks within {} ms, all served {:.1} s after the last fault",
        demands.skew.as_millis(),
        demands.progress_within.as_secs_f64()
    )
}

fn tell(verdict: &Verdict) {
    let figures = verdict.figures.iter().map(|(name, value)| format!("{name} {value}"));
    let figures = figures.collect::<Vec<_>>().join(", ");
    println!("{} {}: {figures}", crate::report::word(verdict.finding), verdict.checker);
    for doubt in &verdict.doubts {
        println!("  doubt: {}", crate::report::markup::plain(doubt));
    }
    for violation in &verdict.violations {
        let key = violation.key.as_deref().unwrap_or_default();
        let what = crate::report::markup::plain(&format!("{key}: {}", violation.what));
        println!("  VIOLATION {what}");
        for entry in &violation.witness {
            println!("    {}", serde_json::to_string(entry).unwrap_or_default());
        }
    }
}

const fn status(finding: Finding) -> u8 {
    match finding {
        Finding::Holds => HELD,
        Finding::Violated => VIOLATED,
        Finding::Unknown => UNKNOWN,
    }
}

fn export(file: &Path, to_edn: Option<&Path>, folder: Option<&Path>) -> anyhow::Result<u8> {
    let entries = read(file)?;
    if let Some(path) = to_edn {
        write(path, &edn(&entries))?;
    }
    let Some(folder) = folder else { return Ok(HELD) };
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (number, (key, log)) in logs(&entries)?.iter().enumerate() {
        let name = format!("{number:05}.log");
        write(&folder.join(&name), log)?;
        println!("{name} {}", crate::report::markup::plain(key));
    }
    Ok(HELD)
}

fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("{} cannot be read", path.display()))?;
    parse(&text).with_context(|| format!("{} is no history", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}
