//! Charts as SVG: who was served, and how fast, over time, with faults behind.

use super::markup::Escaped;
use super::quantiles::{Quantiles, told};
use super::series::{Counts, name, ratio};
use super::strike::Strike;
use super::{Report, seconds};

/// The width of a chart; all lengths are in its units.
pub const WIDTH: f64 = 640.0;

const LEFT: f64 = 76.0;
const RIGHT: f64 = WIDTH - 12.0;

/// A row of faults above a chart.
const LANE: f64 = 20.0;
/// Rows of faults that are told apart.
const LANES_MAX: usize = 4;

/// A node's row.
const ROW: f64 = 46.0;
const ROW_GAP: f64 = 8.0;

/// The height of the plot of latencies.
const PLOT: f64 = 220.0;

/// Room for the labels of the axis of time.
const FOOT: f64 = 30.0;

/// The narrowest that a fault is drawn.
const NARROWEST: f64 = 2.0;

/// Where times lie.
struct Frame<'a> {
    report: &'a Report,
    /// The row of each fault.
    lanes: Vec<usize>,
    /// Seconds from left to right.
    span: f64,
}

impl<'a> Frame<'a> {
    fn of(report: &'a Report) -> Self {
        let last = report.series.begin_of(report.series.steps());
        Self { report, lanes: lanes(&report.strikes), span: seconds(last).max(1e-9) }
    }

    fn x(&self, after: f64) -> f64 {
        LEFT + (after / self.span).clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn top(&self) -> f64 {
        let rows = self.lanes.iter().max().map_or(0, |most| most + 1);
        4.0 + LANE * f64::from(u32::try_from(rows).unwrap_or_default())
    }

    fn window(&self, strike: &Strike) -> (f64, f64) {
        let from = self.x(self.report.seconds(strike.begins));
        let until = strike.ends.map_or(self.span, |ends| self.report.seconds(ends));
        let from = from.min(RIGHT - NARROWEST);
        (from, (self.x(until) - from).max(NARROWEST))
    }

    /// The names of faults above, and their shadows from `top` to `bottom`.
    fn faults(&self) -> String {
        let mut out = String::new();
        for (strike, lane) in self.report.strikes.iter().zip(&self.lanes) {
            let (x, width) = self.window(strike);
            let y = 2.0 + LANE * f64::from(u32::try_from(*lane).unwrap_or_default());
            let words = words(self.report, strike);
            let (height, middle) = (LANE - 3.0, x + width / 2.0);
            out += &format!(
                "<g><title>{words}</title><rect class=\"lane\" x=\"{x:.1}\" y=\"{y:.1}\" \
                 width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"/><text class=\"lane-number\" \
                 x=\"{middle:.1}\" y=\"{:.1}\">{}</text></g>\n",
                y + height - 4.0,
                strike.number,
                words = Escaped(&words),
            );
        }
        out
    }

    fn shadows(&self, node: Option<usize>, y: f64, height: f64) -> String {
        let of_node = |strike: &&Strike| node.is_none_or(|node| strike.strikes(node));
        let strikes = self.report.strikes.iter().filter(of_node);
        let rect = |strike: &Strike| {
            let (x, width) = self.window(strike);
            format!(
                "<rect class=\"shadow\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
                 height=\"{height:.1}\"/>\n"
            )
        };
        strikes.map(rect).collect()
    }

    fn axis(&self, y: f64) -> String {
        let step = tick(self.span);
        let mut out = format!(
            "<line class=\"axis\" x1=\"{LEFT:.1}\" y1=\"{y:.1}\" x2=\"{RIGHT:.1}\" y2=\"{y:.1}\"/>\n"
        );
        for number in 0..=8_u32 {
            let at = step * f64::from(number);
            if at > self.span * 0.97 {
                break;
            }
            let (x, below) = (self.x(at), y + 20.0);
            out += &format!(
                "<line class=\"axis\" x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{below:.1}\">{at:.0} s</text>\n",
                y + 5.0
            );
        }
        out
    }
}

/// The share of calls that was served, a row for each node.
#[must_use]
pub fn availability(report: &Report) -> String {
    let frame = Frame::of(report);
    let mut out = frame.faults();
    let mut y = frame.top();
    for (node, steps) in &report.series.nodes {
        let all = steps.iter().fold(Counts::default(), |all, step| all.and(*step));
        out += &format!(
            "<text class=\"label\" x=\"4\" y=\"{:.1}\">{}</text>\
             <text class=\"label faint\" x=\"4\" y=\"{:.1}\">{}</text>\n",
            y + 18.0,
            name(*node),
            y + 38.0,
            all.percent_told(),
        );
        out += &frame.shadows(Some(*node), y - 2.0, ROW + 4.0);
        for (place, counts) in steps.iter().enumerate() {
            out += &bar(&frame, place, *counts, y);
        }
        y += ROW + ROW_GAP;
    }
    out += &frame.axis(y);
    let nodes = report.series.nodes.len();
    let description = format!(
        "{} of {} calls were served, {} refused, {} are of unknown outcome; {nodes} nodes, {} \
         faults. The numbers follow as a table.",
        report.total.served,
        report.total.asked(),
        report.total.refused,
        report.total.unknown,
        report.strikes.len(),
    );
    svg("availability", ["Share of calls served over time, by node", &description], &out, y + FOOT)
}

/// Calls of one step: from below served, unknown, refused.
fn bar(frame: &Frame<'_>, place: usize, counts: Counts, y: f64) -> String {
    if counts.asked() == 0 {
        return String::new();
    }
    let series = &frame.report.series;
    let (from, until) = (seconds(series.begin_of(place)), seconds(series.begin_of(place + 1)));
    let (x, width) = (frame.x(from), (frame.x(until) - frame.x(from) - 0.4).max(0.4));
    let mut out = format!(
        "<g><title>{} from {from:.0} s: {} served, {} unknown, {} refused</title>",
        if series.nodes.len() > 1 { "calls" } else { "all calls" },
        counts.served,
        counts.unknown,
        counts.refused
    );
    let mut below = y + ROW;
    for (class, part) in
        [("served", counts.served), ("unknown", counts.unknown), ("refused", counts.refused)]
    {
        let height = ROW * ratio(part, counts.asked());
        below -= height;
        if part > 0 {
            out += &format!(
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{below:.2}\" width=\"{width:.1}\" \
                 height=\"{height:.2}\"/>"
            );
        }
    }
    out + "</g>\n"
}

type Pick = fn(&Quantiles) -> u64;

/// The lines of the chart of latencies, and their classes.
const LINES: [(&str, Pick); 3] =
    [("half", |times| times.half), ("p95", |times| times.p95), ("p99", |times| times.p99)];

/// How long calls took that were served, on a logarithmic scale.
#[must_use]
pub fn latency(report: &Report) -> String {
    let frame = Frame::of(report);
    let top = frame.top() + 6.0;
    let bottom = top + PLOT;
    let (low, high) = decades(report);
    let height = |nanos: u64| {
        let at = (seconds(nanos).max(1e-6).log10() - f64::from(low)) / f64::from(high - low);
        bottom - at.clamp(0.0, 1.0) * PLOT
    };
    let mut out = frame.faults() + &frame.shadows(None, top, PLOT);
    for decade in low..=high {
        let y = bottom - PLOT * f64::from(decade - low) / f64::from(high - low);
        out += &format!(
            "<line class=\"grid\" x1=\"{LEFT:.1}\" y1=\"{y:.1}\" x2=\"{RIGHT:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"label end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            LEFT - 6.0,
            y + 5.0,
            decade_told(decade),
        );
    }
    for (class, pick) in LINES {
        out += &line(&frame, class, &|times| height(pick(times)));
    }
    out += &frame.axis(bottom);
    let worst = report.functions.values().filter_map(|(_, times)| *times);
    let most = worst.map(|times| times.most).max().map_or_else(|| "none".to_owned(), told);
    let description =
        format!("The slowest call that was served took: {most}. The numbers follow as a table.");
    let title = "Latency of calls that were served, over time, on a logarithmic scale";
    svg("latency", [title, &description], &out, bottom + FOOT)
}

fn line(frame: &Frame<'_>, class: &str, height: &dyn Fn(&Quantiles) -> f64) -> String {
    let series = &frame.report.series;
    let half = seconds(series.step) / 2.0;
    let mut path = String::new();
    let mut is_open = false;
    for (place, times) in series.times.iter().enumerate() {
        let Some(times) = times else {
            is_open = false;
            continue;
        };
        let (x, y) = (frame.x(seconds(series.begin_of(place)) + half), height(times));
        // A short stroke of its own shows a step with none beside it.
        let stroke =
            if is_open { format!("L{x:.1} {y:.1}") } else { format!("M{x:.1} {y:.1}h0.1") };
        path += &stroke;
        is_open = true;
    }
    if path.is_empty() { path } else { format!("<path class=\"line {class}\" d=\"{path}\"/>\n") }
}

/// Powers of ten, in seconds, between which all lines lie.
fn decades(report: &Report) -> (i32, i32) {
    let times = || report.series.times.iter().flatten();
    let decade = |nanos: u64| -> i32 {
        let steps = [1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
        let reached = steps.iter().filter(|step| nanos >= **step).count();
        i32::try_from(reached).unwrap_or_default() - 7 + i32::from(nanos >= 10_000_000_000)
    };
    let low = times().map(|times| times.half).min().map_or(-3, decade);
    let high = times().map(|times| times.p99).max().map_or(0, |nanos| decade(nanos) + 1);
    (low, high.max(low + 1))
}

fn decade_told(decade: i32) -> String {
    match decade {
        ..=-4 => format!("{:.0} us", 10_f64.powi(decade + 6)),
        -3..=-1 => format!("{:.0} ms", 10_f64.powi(decade + 3)),
        _ => format!("{:.0} s", 10_f64.powi(decade)),
    }
}

/// A row for each fault, so that faults of one row do not overlap, if rows suffice.
fn lanes(strikes: &[Strike]) -> Vec<usize> {
    let mut ends: Vec<u64> = Vec::new();
    strikes
        .iter()
        .map(|strike| {
            let until = strike.ends.unwrap_or(u64::MAX);
            let free = ends.iter().position(|end| *end <= strike.begins);
            let lane = free.unwrap_or(ends.len()).min(LANES_MAX - 1);
            match ends.get_mut(lane) {
                Some(end) => *end = until.max(*end),
                None => ends.push(until),
            }
            lane
        })
        .collect()
}

/// A fault in one line.
fn words(report: &Report, strike: &Strike) -> String {
    let ends = strike
        .ends
        .map_or_else(|| "the end".to_owned(), |ends| format!("{:.1} s", report.seconds(ends)));
    let (number, name, struck) = (strike.number, &strike.name, strike.struck());
    let begins = report.seconds(strike.begins);
    format!("{number}: {name} {struck} from {begins:.1} s to {ends}, {}", strike.took_told())
}

/// Seconds between the labels of an axis.
fn tick(span: f64) -> f64 {
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 3_600.0];
    steps.into_iter().find(|step| span / step <= 6.0).unwrap_or(span / 6.0)
}

/// A drawing with its title and what it shows, for those who do not see it.
#[must_use]
pub fn svg(id: &str, [title, description]: [&str; 2], content: &str, height: f64) -> String {
    format!(
        "<svg role=\"img\" aria-labelledby=\"{id}-title {id}-description\" viewBox=\"0 0 {WIDTH:.0} \
         {height:.0}\" xmlns=\"http://www.w3.org/2000/svg\"><title id=\"{id}-title\">{}</title>\
         <desc id=\"{id}-description\">{}</desc>\n{content}</svg>\n",
        Escaped(title),
        Escaped(description),
    )
}
