//! A report as one page that needs nothing else: no scripts, nothing from elsewhere.

use super::chart;
use super::markup::{Escaped, shortened};
use super::quantiles::told;
use super::series::{Counts, name};
use super::strike::{Side, Strike, listed};
use super::witness::drawing;
use super::{Report, count, seconds, word};
use crate::checker::{Finding, Verdict, Violation};
use crate::history::{Entry, Kind};

const STYLE: &str = include_str!("page.css");

/// Breaches of one promise that a page tells in full.
const VIOLATIONS_MAX: usize = 20;

/// Letters of a value.
const VALUE_MAX: usize = 120;

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let title = Escaped(&report.title);
    let finding = report.finding();
    [
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
             http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
             'unsafe-inline'\">\n<meta name=\"viewport\" content=\"width=device-width, \
             initial-scale=1\">\n<title>{}: {title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<main>\n<h1><span class=\"finding {}\">{}</span> {title}</h1>\n",
            word(finding),
            class(finding),
            mark(finding),
        ),
        head(report),
        verdicts(report),
        availability(report),
        latency(report),
        faults(report),
        mishaps(report),
        "</main>\n</body>\n</html>\n".to_owned(),
    ]
    .concat()
}

const fn class(finding: Finding) -> &'static str {
    match finding {
        Finding::Holds => "holds",
        Finding::Violated => "violated",
        Finding::Unknown => "unknown",
    }
}

/// A finding in a word and a sign: colour alone tells nothing.
const fn mark(finding: Finding) -> &'static str {
    match finding {
        Finding::Holds => "\u{2713} holds",
        Finding::Violated => "\u{2717} violated",
        Finding::Unknown => "? unknown",
    }
}

fn head(report: &Report) -> String {
    let Report { promised, total, processes, strikes, .. } = report;
    let promised = if promised.is_empty() {
        String::new()
    } else {
        format!("<p>Held to: {}.</p>\n", Escaped(promised))
    };
    format!(
        "{promised}<p>{:.1} s, {} calls of {} processes through {} nodes: {} served, {} refused, \
         {} of unknown outcome; {} faults.</p>\n",
        report.seconds(report.ends),
        count(total.asked()),
        count(*processes),
        report.series.nodes.len(),
        count(total.served),
        count(total.refused),
        count(total.unknown),
        strikes.len(),
    )
}

fn verdicts(report: &Report) -> String {
    let mut out = "<section>\n<h2>Promises</h2>\n".to_owned();
    if report.verdicts.is_empty() {
        out += "<p>Nothing was checked.</p>\n";
    }
    for (number, verdict) in report.verdicts.iter().enumerate() {
        out += &one_verdict(report, number, verdict);
    }
    out + "</section>\n"
}

fn one_verdict(report: &Report, number: usize, verdict: &Verdict) -> String {
    let finding = verdict.finding;
    let figures = verdict.figures.iter();
    let figures = figures.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
    let mut out = format!(
        "<article class=\"verdict {}\">\n<h3><span class=\"finding {}\">{}</span> {}</h3>\n<p \
         class=\"faint\">{}</p>\n",
        class(finding),
        class(finding),
        mark(finding),
        Escaped(verdict.checker),
        Escaped(&figures.join("; ")),
    );
    if !verdict.doubts.is_empty() {
        let doubts = verdict.doubts.iter().take(VIOLATIONS_MAX);
        let doubts: String = doubts.map(|doubt| format!("<li>{}</li>", Escaped(doubt))).collect();
        out += &format!("<p>Doubts: {}</p>\n<ul>{doubts}</ul>\n", verdict.doubts.len());
    }
    if verdict.violated > 0 {
        let shown = verdict.violations.len().min(VIOLATIONS_MAX);
        let all = count(verdict.violated);
        out += &format!("<p>Violated {all} times; {shown} are shown.</p>\n");
    }
    for (place, violation) in verdict.violations.iter().take(VIOLATIONS_MAX).enumerate() {
        out += &one_violation(report, &format!("proof-{number}-{place}"), violation);
    }
    out + "</article>\n"
}

fn one_violation(report: &Report, id: &str, violation: &Violation) -> String {
    let key = violation.key.as_deref().map(|key| format!("{key}: ")).unwrap_or_default();
    let rows = violation.witness.iter().map(|entry| witness_row(report, entry)).collect();
    format!(
        "<details><summary>{}{}</summary>\n<figure>{}</figure>\n{}</details>\n",
        Escaped(&key),
        Escaped(&violation.what),
        drawing(id, violation),
        table(&["line", "s", "process", "", "call", "key", "value", "node", "error"], rows),
    )
}

fn witness_row(report: &Report, entry: &Entry) -> Vec<Cell> {
    let kind = match entry.kind {
        Kind::Invoke => "begins",
        Kind::Ok => "ok",
        Kind::Fail => "fails",
        Kind::Info => "unknown",
    };
    vec![
        Cell::Number(entry.index.to_string()),
        Cell::Number(format!("{:.3}", report.seconds(entry.time))),
        Cell::Text(entry.process.clone()),
        Cell::Text(kind.to_owned()),
        Cell::Text(entry.f.clone()),
        Cell::Text(entry.key.clone().unwrap_or_default()),
        Cell::Long(shortened(&entry.value.to_string(), VALUE_MAX)),
        Cell::Text(entry.node.map(name).unwrap_or_default()),
        Cell::Text(entry.error.clone().unwrap_or_default()),
    ]
}

fn availability(report: &Report) -> String {
    let step = seconds(report.series.step);
    let nodes: Vec<String> = report.series.nodes.keys().map(|node| name(*node)).collect();
    let mut titles = vec!["from, s"];
    titles.extend(nodes.iter().map(String::as_str));
    let rows = (0..report.series.steps()).map(|place| {
        let begin = Cell::Number(format!("{:.0}", seconds(report.series.begin_of(place))));
        let counts = report.series.nodes.values().map(|steps| {
            let counts = steps.get(place).copied().unwrap_or_default();
            Cell::Number(counts_told(counts))
        });
        std::iter::once(begin).chain(counts).collect()
    });
    format!(
        "<section>\n<h2>Who was served</h2>\n<figure>{}<figcaption>Calls by the moment they began, \
         {step:.0} s a bar: <span class=\"key served\"></span>served <span class=\"key \
         unknown\"></span>of unknown outcome <span class=\"key refused\"></span>refused. <span \
         class=\"key shadow\"></span>Faults, by their numbers in the table below. A gap: nobody \
         asked.</figcaption></figure>\n<details><summary>In numbers: served of asked</summary>\n{}\
         </details>\n</section>\n",
        chart::availability(report),
        table(&titles, rows.collect()),
    )
}

fn counts_told(counts: Counts) -> String {
    if counts.asked() == 0 {
        String::new()
    } else {
        format!("{}/{}", counts.served, counts.asked())
    }
}

fn latency(report: &Report) -> String {
    let functions = report.functions.iter().map(|(name, (counts, times))| {
        let mut row = vec![Cell::Text(name.clone())];
        row.extend([counts.served, counts.refused, counts.unknown].map(count).map(Cell::Number));
        let times = times.map(|times| [times.half, times.p95, times.p99, times.most].map(told));
        row.extend(times.unwrap_or_default().map(Cell::Number));
        row
    });
    let steps = report.series.times.iter().enumerate().map(|(place, times)| {
        let mut row = vec![Cell::Number(format!("{:.0}", seconds(report.series.begin_of(place))))];
        let times = times.map(|times| [times.half, times.p95, times.p99, times.most].map(told));
        row.extend(times.unwrap_or_default().map(Cell::Number));
        row
    });
    format!(
        "<section>\n<h2>How fast</h2>\n<figure>{}<figcaption>Of calls that were served: <span \
         class=\"stroke half\"></span>half <span class=\"stroke p95\"></span>95 % <span \
         class=\"stroke p99\"></span>99 % took no longer.</figcaption></figure>\n{}\
         <details><summary>Over time</summary>\n{}</details>\n</section>\n",
        chart::latency(report),
        table(
            &["call", "served", "refused", "unknown", "half", "95 %", "99 %", "most"],
            functions.collect()
        ),
        table(&["from, s", "half", "95 %", "99 %", "most"], steps.collect()),
    )
}

fn faults(report: &Report) -> String {
    if report.strikes.is_empty() {
        return "<section>\n<h2>Faults</h2>\n<p>There were none.</p>\n</section>\n".to_owned();
    }
    let rows = report.strikes.iter().map(|strike| fault_row(report, strike)).collect();
    let titles =
        ["", "fault", "from, s", "to, s", "nodes", "about", "", "what it did", "sides meanwhile"];
    format!("<section>\n<h2>Faults</h2>\n{}</section>\n", table(&titles, rows))
}

fn fault_row(report: &Report, strike: &Strike) -> Vec<Cell> {
    let moment = |time: u64| format!("{:.1}", report.seconds(time));
    let side =
        |side: &Side| format!("{}: {} served", listed(&side.nodes), side.counts.percent_told());
    let sides: Vec<String> = strike.sides.iter().map(side).collect();
    vec![
        Cell::Number(strike.number.to_string()),
        Cell::Text(strike.name.clone()),
        Cell::Number(moment(strike.begins)),
        Cell::Number(strike.ends.map_or_else(|| "no end".to_owned(), moment)),
        Cell::Text(strike.struck()),
        Cell::Long(strike.about.clone()),
        Cell::Text(strike.took_told().to_owned()),
        Cell::Long(strike.effect.clone()),
        Cell::Long(sides.join("; ")),
    ]
}

fn mishaps(report: &Report) -> String {
    if report.mishaps.is_empty() {
        return "<section>\n<h2>Errors</h2>\n<p>There were none.</p>\n</section>\n".to_owned();
    }
    let rows = report.mishaps.iter().map(|mishap| {
        let outcome = if mishap.outcome == Kind::Fail { "refused" } else { "unknown" };
        let nodes: Vec<usize> = mishap.nodes.iter().copied().collect();
        let functions: Vec<&str> = mishap.functions.iter().map(String::as_str).collect();
        vec![
            Cell::Number(count(mishap.count)),
            Cell::Text(outcome.to_owned()),
            Cell::Long(mishap.what.clone()),
            Cell::Text(functions.join(", ")),
            Cell::Text(listed(&nodes)),
        ]
    });
    let titles = ["calls", "outcome", "error", "call", "nodes"];
    format!("<section>\n<h2>Errors</h2>\n{}</section>\n", table(&titles, rows.collect()))
}

/// What stands in a table; it is escaped there.
enum Cell {
    Text(String),
    Long(String),
    Number(String),
}

fn table(titles: &[&str], rows: Vec<Vec<Cell>>) -> String {
    let head = titles.iter().map(|title| format!("<th scope=\"col\">{}</th>", Escaped(title)));
    let row = |cells: Vec<Cell>| {
        let cells = cells.iter().map(|cell| match cell {
            Cell::Text(text) => format!("<td>{}</td>", Escaped(text)),
            Cell::Long(text) => format!("<td class=\"long\">{}</td>", Escaped(text)),
            Cell::Number(text) => format!("<td class=\"number\">{}</td>", Escaped(text)),
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"table\"><table>\n<thead>\
         <tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table></div>\n",
        head.collect::<String>(),
        rows.into_iter().map(row).collect::<String>(),
    )
}
