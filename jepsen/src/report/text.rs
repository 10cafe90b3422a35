//! A report for the terminal, shorter than a screen.

use super::markup::{plain, shortened};
use super::quantiles::{Quantiles, told};
use super::series::{Counts, name};
use super::strike::{Side, Strike, listed};
use super::{Report, count, word};
use crate::checker::{Finding, Verdict};

/// Lines that a report stays below.
pub const LINES_MAX: usize = 60;

/// Letters of a line.
const WIDTH: usize = 100;

/// Columns of what is shown over time.
const COLUMNS: usize = 72;

/// Lines of each part; more is told as a count.
const VERDICTS_MAX: usize = 6;
const STRIKES_MAX: usize = 10;
const NODES_MAX: usize = 7;
const FUNCTIONS_MAX: usize = 5;
const MISHAPS_MAX: usize = 5;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The report as text.
#[must_use]
pub fn text(report: &Report) -> String {
    let parts = [
        head(report),
        verdicts(report),
        strikes(report),
        availability(report),
        latency(report),
        mishaps(report),
    ];
    let lines = parts.into_iter().flatten();
    lines.map(|line| shortened(&plain(&line), WIDTH) + "\n").collect()
}

fn head(report: &Report) -> Vec<String> {
    let Report { title, promised, total, processes, .. } = report;
    let mut lines = vec![format!("{}: {title}", word(report.finding()))];
    if !promised.is_empty() {
        lines.push(format!("held to: {promised}"));
    }
    lines.push(format!(
        "{:.1} s, {} calls of {} processes through {} nodes: {} served, {} refused, {} unknown",
        report.seconds(report.ends),
        count(total.asked()),
        count(*processes),
        report.series.nodes.len(),
        count(total.served),
        count(total.refused),
        count(total.unknown),
    ));
    lines
}

/// The first `most` lines, and how many were left out.
fn some(title: &str, mut lines: Vec<String>, most: usize) -> Vec<String> {
    if lines.len() > most {
        let left = lines.len() + 1 - most;
        lines.truncate(most - 1);
        lines.push(format!("  and {left} more"));
    }
    if !lines.is_empty() {
        lines.insert(0, title.to_owned());
    }
    lines
}

fn verdicts(report: &Report) -> Vec<String> {
    let mut lines = vec!["PROMISES".to_owned()];
    if report.verdicts.is_empty() {
        lines.push("  unknown   nothing was checked".to_owned());
    }
    for verdict in report.verdicts.iter().take(VERDICTS_MAX) {
        lines.extend(verdict_lines(verdict));
    }
    lines
}

fn verdict_lines(verdict: &Verdict) -> Vec<String> {
    let figures = verdict.figures.iter().map(|(name, value)| format!("{name} {value}"));
    let figures = figures.collect::<Vec<_>>().join(", ");
    let finding = word(verdict.finding);
    let mut lines = vec![format!("  {finding:<9} {}: {figures}", verdict.checker)];
    if let Some(first) = verdict.violations.first() {
        let key = first.key.as_deref().unwrap_or_default();
        lines.push(format!("            {} times, as on {key}: {}", verdict.violated, first.what));
    }
    if let Some(doubt) = verdict.doubts.first().filter(|_| verdict.finding != Finding::Holds) {
        let more = verdict.doubts.len() - 1;
        let more = if more > 0 { format!(" (and {more} more doubts)") } else { String::new() };
        lines.push(format!("            doubt: {doubt}{more}"));
    }
    lines
}

fn strikes(report: &Report) -> Vec<String> {
    let line = |strike: &Strike| {
        let begins = report.seconds(strike.begins);
        let ends = strike.ends.map(|ends| format!("{:.1}", report.seconds(ends)));
        let ends = ends.unwrap_or_else(|| "?".to_owned());
        let side =
            |side: &Side| format!("{} {} served", listed(&side.nodes), side.counts.percent_told());
        let sides = strike.sides.iter().map(side).collect::<Vec<_>>().join(" | ");
        let rest = [strike.took_told().to_owned(), sides, strike.effect.clone()];
        let rest = rest.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        let (number, name, struck) = (strike.number, &strike.name, strike.struck());
        format!("  {number:>2} {begins:>6.1} - {ends:>5} s {name} {struck}: {rest}")
    };
    let idle = report.strikes.iter().filter(|one| one.took == super::strike::Took::Nothing).count();
    let title = format!("FAULTS: {}, of which {idle} did nothing", report.strikes.len());
    some(&title, report.strikes.iter().map(line).collect(), STRIKES_MAX)
}

/// How many steps share a column.
fn per_column(report: &Report) -> usize {
    report.series.steps().div_ceil(COLUMNS).max(1)
}

fn availability(report: &Report) -> Vec<String> {
    let per_column = per_column(report);
    let column = super::seconds(report.series.step.saturating_mul(per_column as u64));
    let mut lines = vec![format!("SERVED, a column for {column:.0} s; '.' if nobody asked")];
    if !report.strikes.is_empty() {
        lines.push(format!("  {:<12}|{}|", "faults", fault_line(report, per_column)));
    }
    let mut rows = Vec::new();
    for (node, steps) in &report.series.nodes {
        let all = steps.iter().fold(Counts::default(), |all, step| all.and(*step));
        let bars: String = steps
            .chunks(per_column)
            .map(|steps| steps.iter().fold(Counts::default(), |all, step| all.and(*step)))
            .map(|counts| counts.percent().map_or('.', |percent| bar(percent / 100.0)))
            .collect();
        rows.push(format!("  {:<4}{:>7} |{bars}|", name(*node), all.percent_told()));
    }
    let left = rows.len().saturating_sub(NODES_MAX);
    rows.truncate(NODES_MAX);
    lines.extend(rows);
    if left > 0 {
        lines.push(format!("  and {left} more nodes"));
    }
    lines
}

fn fault_line(report: &Report, per_column: usize) -> String {
    let columns = report.series.steps().div_ceil(per_column);
    let time = |column: usize| report.begins + report.series.begin_of(column * per_column);
    (0..columns)
        .map(|column| {
            let lasts = |strike: &&Strike| {
                strike.begins < time(column + 1)
                    && strike.ends.is_none_or(|ends| ends >= time(column))
            };
            match report.strikes.iter().filter(lasts).count() {
                0 => ' ',
                1 => '-',
                _ => '=',
            }
        })
        .collect()
}

/// A bar for a share of 1: the whole one for all, and none but that.
fn bar(share: f64) -> char {
    let place = BARS.iter().zip(1_u32..).find(|(_, eighth)| share < f64::from(*eighth) / 7.0);
    place.map_or('█', |(bar, _)| *bar)
}

fn latency(report: &Report) -> Vec<String> {
    let line = |(name, (counts, times)): (&String, &(Counts, Option<Quantiles>))| {
        let times = times.map(|times| [times.half, times.p95, times.p99, times.most].map(told));
        let [half, p95, p99, most] = times.unwrap_or_default();
        let served = count(counts.served);
        format!("  {name:<14}{served:>9} {half:>8} {p95:>8} {p99:>8} {most:>8}")
    };
    let title = format!(
        "{:<16}{:>9} {:>8} {:>8} {:>8} {:>8}",
        "LATENCY", "served", "half", "95 %", "99 %", "most"
    );
    let mut lines = some(&title, report.functions.iter().map(line).collect(), FUNCTIONS_MAX);
    let slowest: Vec<u64> = report
        .series
        .times
        .chunks(per_column(report))
        .map(|steps| steps.iter().flatten().map(|times| times.p99).max().unwrap_or(0))
        .collect();
    let most = slowest.iter().copied().max().unwrap_or(0);
    if most > 0 {
        let share = |nanos: u64| super::seconds(nanos) / super::seconds(most);
        let bars: String = slowest
            .iter()
            .map(|nanos| if *nanos == 0 { '.' } else { bar(share(*nanos) * 0.999) })
            .collect();
        lines.push(format!("  99 %{:>7} |{bars}|", told(most)));
    }
    lines
}

fn mishaps(report: &Report) -> Vec<String> {
    let lines = report.mishaps.iter().map(|mishap| {
        let outcome = if mishap.outcome == crate::history::Kind::Fail { "fail" } else { "info" };
        let nodes: Vec<usize> = mishap.nodes.iter().copied().collect();
        format!("  {:>7} {outcome} {} ({})", count(mishap.count), mishap.what, listed(&nodes))
    });
    some("ERRORS", lines.collect(), MISHAPS_MAX)
}
