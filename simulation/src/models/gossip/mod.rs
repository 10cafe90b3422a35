//! How fast gossip spreads, how soon a death is noticed, and what both cost, against the size of
//! the cluster: chitchat as this project configures it.
//!
//! Left out: latency and loss of the network (an exchange takes no time, which is true of a data
//! centre, where it takes a thousandth of a round), and the time to compute.

mod bytes;
mod detection;
mod settings;
mod spread;

pub use bytes::{MESSAGE_BYTES_MAX, Traffic};
pub use detection::{Detected, Health, detect, health};
pub use settings::Settings;
pub use spread::{Exchanges, spread, spread_mean};

use super::figures::{mean, quantile};
use super::plot::{Axis, Mark, Plot, Scale, Series};
use super::table::{Table, count, number};
use super::{Effort, Report};
use crate::entropy::Seed;

/// The sizes of the documentation.
const SIZES: [usize; 6] = [3, 10, 30, 100, 300, 1_000];

/// What is known of gossip among so many nodes. Times in rounds of the gossip interval.
#[derive(Clone, Debug)]
struct Row {
    nodes: usize,
    spread: [f64; 4],
    theory: f64,
    detected: [f64; 3],
    health: Health,
    traffic: Traffic,
}

/// The tables and plots of the documentation.
///
/// # Errors
/// Never; other models may fail.
pub fn report(seed: Seed, effort: Effort) -> anyhow::Result<Report> {
    let settings = Settings::configured();
    let sizes = if effort == Effort::Full { &SIZES[..] } else { &SIZES[..4] };
    let rows: Vec<Row> = sizes.iter().map(|nodes| row(&settings, *nodes, seed, effort)).collect();
    let mut report = Report::default();
    report.say("gossip-spread", spread_table(&rows, &settings));
    report.say("gossip-detection", detection_table(&rows));
    report.say("gossip-bytes", bytes_table(&rows));
    report.plots = vec![
        ("gossip-spread", spread_plot(&rows)),
        ("gossip-detection", detection_plot(&rows)),
        ("gossip-bytes", bytes_plot(&settings)),
    ];
    Ok(report)
}

fn row(settings: &Settings, nodes: usize, seed: Seed, effort: Effort) -> Row {
    let seed = seed.of("gossip").with(nodes as u64);
    let lots = |what: &str, number: u32| seed.of(what).with(u64::from(number));
    let mut spreads: Vec<f64> = (0..effort.of(2_000))
        .map(|trial| spread(settings, nodes, Exchanges::Rounds, lots("spread", trial)))
        .collect();
    let mut deaths: Vec<f64> = (0..effort.of(300))
        .flat_map(|trial| detect(settings, nodes, lots("detect", trial)).seconds)
        .collect();
    let rounds = if effort == Effort::Full { 2_400 } else { 240 };
    Row {
        nodes,
        spread: [
            mean(&spreads),
            quantile(&mut spreads, 0.5),
            quantile(&mut spreads, 0.99),
            quantile(&mut spreads, 1.0),
        ],
        theory: spread_mean(nodes, settings.fan_out),
        detected: [0.0, 0.5, 1.0].map(|part| quantile(&mut deaths, part)),
        health: health(settings, nodes, rounds, seed.of("health")),
        traffic: Traffic::of(settings, nodes),
    }
}

fn spread_table(rows: &[Row], settings: &Settings) -> String {
    let mut table = Table::new(&[
        "nodes",
        "mean, rounds",
        "p50",
        "p99",
        "greatest",
        "p99, ms",
        "closed form, mean",
        "model ÷ closed form",
    ]);
    for row in rows {
        let [mean, middle, late, last] = row.spread;
        let two = |value: f64| format!("{value:.2}");
        table.row(&[
            count(row.nodes),
            two(mean),
            two(middle),
            two(late),
            two(last),
            format!("{:.0}", late * settings.interval * 1e3),
            two(row.theory),
            two(mean / row.theory),
        ]);
    }
    table.text()
}

fn detection_table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "nodes",
        "first to notice, s",
        "half of all, s",
        "last, s",
        "greatest φ of a healthy node",
        "healthy nodes suspected",
    ]);
    for row in rows {
        let two = |value: f64| format!("{value:.2}");
        let [first, middle, last] = row.detected;
        table.row(&[
            count(row.nodes),
            two(first),
            two(middle),
            two(last),
            two(row.health.phi_most),
            row.health.suspicions.to_string(),
        ]);
    }
    table.text()
}

fn bytes_table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "nodes",
        "digest, bytes",
        "longest message",
        "messages sent per node and second",
        "sent per node, KiB/s",
        "of it facts, KiB/s",
        "whole cluster, MiB/s",
        "fits",
    ]);
    for row in rows {
        let traffic = row.traffic;
        let kib = |bytes: f64| number(bytes / 1_024.0, 3);
        table.row(&[
            count(row.nodes),
            count(traffic.digest),
            count(traffic.longest),
            format!("{:.0}", traffic.messages),
            kib(traffic.sent),
            kib(traffic.facts),
            number(traffic.sent * row.nodes as f64 / 1_048_576.0, 3),
            if traffic.fits() { "yes".to_owned() } else { "**no**".to_owned() },
        ]);
    }
    table.text()
}

fn nodes_axis() -> Axis {
    Axis::new("nodes", Scale::Logarithmic, 3.0, 1_000.0)
}

fn over_nodes(rows: &[Row], value: impl Fn(&Row) -> f64) -> Vec<(f64, f64)> {
    rows.iter().map(|row| (row.nodes as f64, value(row))).collect()
}

fn spread_plot(rows: &[Row]) -> Plot {
    Plot {
        title: "Rounds until a change is known everywhere".to_owned(),
        x: nodes_axis(),
        y: Axis::new("rounds of 250 ms", Scale::Linear, 0.0, 4.0),
        series: vec![
            Series::exact("p99", 1, Mark::Dots, &over_nodes(rows, |row| row.spread[2])),
            Series::exact("mean", 0, Mark::Dots, &over_nodes(rows, |row| row.spread[0])),
            Series::exact("closed form", 0, Mark::Dashed, &over_nodes(rows, |row| row.theory)),
        ],
        rules: Vec::new(),
    }
}

fn detection_plot(rows: &[Row]) -> Plot {
    Plot {
        title: "Seconds until a killed node is seen as down".to_owned(),
        x: nodes_axis(),
        y: Axis::new("seconds", Scale::Linear, 0.0, 5.0),
        series: vec![
            Series::exact("last to notice", 4, Mark::Line, &over_nodes(rows, |r| r.detected[2])),
            Series::exact("half of all", 0, Mark::Line, &over_nodes(rows, |r| r.detected[1])),
            Series::exact("first", 2, Mark::Line, &over_nodes(rows, |r| r.detected[0])),
        ],
        rules: Vec::new(),
    }
}

fn bytes_plot(settings: &Settings) -> Plot {
    let sizes = [3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 895];
    let points = |value: &dyn Fn(Traffic) -> f64| -> Vec<(f64, f64)> {
        sizes.iter().map(|n| (*n as f64, value(Traffic::of(settings, *n)))).collect()
    };
    Plot {
        title: "What gossip costs".to_owned(),
        x: nodes_axis(),
        y: Axis::new("bytes, or bytes per second", Scale::Logarithmic, 100.0, 1e10),
        series: vec![
            Series::exact(
                "whole cluster, B/s",
                1,
                Mark::Line,
                &points(&|t| t.sent * t.nodes as f64),
            ),
            Series::exact("per node, B/s", 0, Mark::Line, &points(&|t| t.sent)),
            Series::exact("longest message, B", 2, Mark::Line, &points(&|t| t.longest as f64)),
        ],
        rules: vec![(MESSAGE_BYTES_MAX as f64, "64 KiB: the longest message".to_owned())],
    }
}
