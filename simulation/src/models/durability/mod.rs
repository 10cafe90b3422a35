//! How often data is lost for good: copies and erasure codes, failures alone and together.
//!
//! # Invariants
//! 1. No rare event is drawn: with the parameters of real clusters only exact chains speak, and
//!    lots are drawn at parameters where losses are frequent, to check those chains.
//! 2. Every figure is per stripe and year unless it says otherwise: what an object of one stripe,
//!    or one partition, risks.

mod markov;
mod scatter;
mod scheme;
mod trials;
mod zones;

use anyhow::Context;

use scatter::Of;
pub use scatter::{Reference, scatter_curve};
pub use scheme::{Hazard, SCHEMES, Scheme, YEAR_HOURS, nines};
pub use trials::{Losses, Repair};
pub use zones::Shocks;

use super::balance::{Capacities, ModelCluster, Ownership};
use super::figures::Estimate;
use super::plot::{Axis, Mark, Plot, Point, Scale, Series};
use super::table::{Table, number};
use super::{Effort, Report};
use crate::entropy::Seed;

/// Failures of a node's disk per year: what large fleets measure (2 to 4 %), not data sheets.
const AFR: f64 = 0.02;
/// The failures at which lots are drawn.
const AFR_DRAWN: f64 = 0.9;
/// Zones that go down in a year: each once in twenty.
const ZONE_OUTAGES: f64 = 0.05;

/// The tables and plots of the documentation.
///
/// # Errors
/// If a layout cannot be made.
pub fn report(seed: Seed, effort: Effort) -> anyhow::Result<Report> {
    let seed = seed.of("durability");
    let reference = Reference::new(seed)?;
    let drawn = drawn_rows(&reference, seed, effort)?;
    let mut report = Report::default();
    report.say("nines", nines_table());
    report.say("repair-time", repair_table());
    report.say("durability-check", drawn_table(&drawn));
    report.say("rebuild", reference.rebuild_table());
    report.say("durability-stripe", reference.losses_table(Of::Stripe));
    report.say("durability-cluster", reference.losses_table(Of::Anything));
    report.say("scatter-trade", scatter::table());
    report.say("zones", zones_table());
    report.say("zones-check", zones_check(seed, effort));
    report.plots = vec![
        ("nines", nines_plot()),
        ("durability-check", drawn_plot(&drawn)),
        ("scatter-trade", scatter::plot()),
        ("zones", zones_plot()),
    ];
    Ok(report)
}

fn heads(first: &[&'static str]) -> Vec<&'static str> {
    first.iter().copied().chain(SCHEMES.iter().map(|scheme| scheme.name)).collect()
}

fn rate_and_nines(losses: f64) -> String {
    format!("{losses:.1e} ({:.1})", nines(losses))
}

fn nines_table() -> String {
    let mut table = Table::new(&heads(&["AFR", "mean repair"]));
    for (afr, hours) in
        [(0.01, 6.0), (0.02, 1.0), (0.02, 6.0), (0.02, 24.0), (0.02, 156.0), (0.05, 24.0)]
    {
        let hazard = Hazard { afr, repair_hours: hours };
        let losses = SCHEMES.iter().map(|scheme| rate_and_nines(scheme.losses_per_year(hazard)));
        let first = [format!("{:.0} %", afr * 100.0), format!("{hours:.0} h")];
        table.row(&first.into_iter().chain(losses).collect::<Vec<_>>());
    }
    table.text()
}

fn repair_table() -> String {
    let mut table = Table::new(&heads(&["AFR"]));
    for afr in [0.01, 0.02, 0.05] {
        let hours = SCHEMES
            .iter()
            .map(|scheme| format!("{} h", number(scheme.repair_hours_for(afr, 1e-11), 2)));
        let first = [format!("{:.0} %", afr * 100.0)];
        table.row(&first.into_iter().chain(hours).collect::<Vec<_>>());
    }
    table.text()
}

fn nines_plot() -> Plot {
    let curve = |(colour, scheme): (usize, &Scheme)| {
        let point = |step: u32| {
            let hours = 0.1 * 10.0_f64.powf(f64::from(step) / 10.0);
            (hours, scheme.losses_per_year(Hazard { afr: AFR, repair_hours: hours }))
        };
        Series::exact(scheme.name, colour, Mark::Line, &(0..=35).map(point).collect::<Vec<_>>())
    };
    Plot {
        title: "Losses of a stripe per year, AFR 2 %, failures alone".to_owned(),
        x: Axis::new("mean hours from failure to repair", Scale::Logarithmic, 0.1, 300.0),
        y: Axis::new("losses per stripe and year", Scale::Logarithmic, 1e-25, 1e-5),
        series: SCHEMES.iter().enumerate().map(curve).collect(),
        rules: vec![(1e-11, "eleven nines".to_owned())],
    }
}

/// A cluster's drawn losses beside what should come out.
struct Drawn {
    scheme: Scheme,
    hours: f64,
    losses: Losses,
    exact: f64,
    closed: f64,
}

fn drawn_rows(reference: &Reference, seed: Seed, effort: Effort) -> anyhow::Result<Vec<Drawn>> {
    let mut rows = Vec::new();
    for scheme in SCHEMES {
        let owned = reference.ownership(scheme);
        for hours in [50.0, 150.0] {
            let hazard = Hazard { afr: AFR_DRAWN, repair_hours: hours };
            let repair = Repair::of_mean(hours);
            anyhow::ensure!((repair.mean() - hours).abs() < 1e-9, "half of the mean is delay");
            let rate = hazard.failures_per_hour();
            let lots = seed.of(scheme.name).with(hours as u64);
            let losses = trials::cluster(scheme, &owned, rate, repair, effort.of(4_000), lots);
            let (exact, closed) = (scheme.losses_per_year(hazard), scheme.closed_form(hazard));
            rows.push(Drawn { scheme, hours, losses, exact, closed });
        }
    }
    Ok(rows)
}

fn with_interval(estimate: Estimate) -> String {
    format!("{} ± {}", number(estimate.mean, 3), number(estimate.within, 2))
}

fn drawn_table(rows: &[Drawn]) -> String {
    let mut table = Table::new(&[
        "scheme",
        "mean repair",
        "drawn, per partition and year",
        "exact chain",
        "closed form",
        "drawn ÷ chain",
        "events per year",
        "partitions lost in one",
    ]);
    for row in rows {
        table.row(&[
            row.scheme.name.to_owned(),
            format!("{:.0} h", row.hours),
            with_interval(row.losses.per_partition),
            number(row.exact, 3),
            number(row.closed, 3),
            format!("{:.2}", row.losses.per_partition.mean / row.exact),
            number(row.losses.events, 3),
            number(row.losses.per_event, 3),
        ]);
    }
    table.text()
}

fn drawn_plot(rows: &[Drawn]) -> Plot {
    let mut series = Vec::new();
    for (colour, scheme) in SCHEMES.iter().enumerate() {
        let curve = |step: u32| {
            let hours = 20.0 * 10.0_f64.powf(f64::from(step) / 10.0);
            (hours, scheme.losses_per_year(Hazard { afr: AFR_DRAWN, repair_hours: hours }))
        };
        let curve: Vec<_> = (0..=13).map(curve).collect();
        series.push(Series::exact(scheme.name, colour, Mark::Line, &curve));
        let dots = rows.iter().filter(|row| row.scheme == *scheme).map(|row| {
            let Estimate { mean, within } = row.losses.per_partition;
            Point { x: row.hours, y: mean, low: (mean - within).max(1e-9), high: mean + within }
        });
        let (name, points) = ("drawn".to_owned(), dots.collect());
        series.push(Series { name, colour, mark: Mark::Dots, points });
    }
    Plot {
        title: "Drawn losses on real layouts, and the exact chain, AFR 90 %".to_owned(),
        x: Axis::new("mean hours from failure to repair", Scale::Logarithmic, 20.0, 400.0),
        y: Axis::new("losses per partition and year", Scale::Logarithmic, 1e-5, 1.0),
        series,
        rules: Vec::new(),
    }
}

fn zones_table() -> String {
    let mut table = Table::new(&heads(&["nodes that a zone's outage takes"]));
    let counts = SCHEMES.iter().map(|scheme| {
        let zones = zones::in_three_zones(*scheme).map(|count| count.to_string());
        format!("{} of {}", zones.join(", "), scheme.tolerated)
    });
    let first = "*fragments in each zone, of which so many may be lost*".to_owned();
    table.row(&[first].into_iter().chain(counts).collect::<Vec<_>>());
    for lost in [0.0, 0.001, 0.01, 0.1, 1.0] {
        let losses = SCHEMES.iter().map(|scheme| rate_and_nines(with_shocks(*scheme, lost)));
        let first = format!("{} %", number(lost * 100.0, 1));
        table.row(&[first].into_iter().chain(losses).collect::<Vec<_>>());
    }
    table.text()
}

fn with_shocks(scheme: Scheme, lost: f64) -> f64 {
    let hazard = Hazard { afr: AFR, repair_hours: 6.0 };
    zones::losses_per_year(scheme, hazard, Shocks { per_year: ZONE_OUTAGES, lost })
}

fn zones_check(seed: Seed, effort: Effort) -> String {
    let hazard = Hazard { afr: 0.8, repair_hours: 150.0 };
    let shocks = Shocks { per_year: 1.0, lost: 0.3 };
    let mut table = Table::new(&["scheme", "drawn, per stripe and year", "exact chain"]);
    for scheme in SCHEMES {
        let lots = seed.of("zones").of(scheme.name);
        let drawn = zones::drawn(scheme, hazard, shocks, effort.of(400_000), lots);
        let exact = zones::losses_per_year(scheme, hazard, shocks);
        table.row(&[scheme.name.to_owned(), with_interval(drawn), number(exact, 3)]);
    }
    table.text()
}

fn zones_plot() -> Plot {
    let curve = |(colour, scheme): (usize, &Scheme)| {
        let point = |step: u32| {
            let lost = 1e-4 * 10.0_f64.powf(f64::from(step) / 10.0);
            (lost * 100.0, with_shocks(*scheme, lost.min(1.0)))
        };
        Series::exact(scheme.name, colour, Mark::Line, &(0..=40).map(point).collect::<Vec<_>>())
    };
    Plot {
        title: "A zone goes down once in 20 years; AFR 2 %, repair 6 h, three zones".to_owned(),
        x: Axis::new("% of its nodes that do not come back", Scale::Logarithmic, 0.01, 100.0),
        y: Axis::new("losses per stripe and year", Scale::Logarithmic, 1e-18, 1.0),
        series: SCHEMES.iter().enumerate().map(curve).collect(),
        rules: vec![(1e-11, "eleven nines".to_owned())],
    }
}

/// The cluster that examples speak of: thirty nodes in three zones.
fn thirty_nodes(seed: Seed) -> ModelCluster {
    ModelCluster { seed, nodes: 30, zones: 3, capacities: Capacities::Equal }
}

impl Reference {
    /// The cluster of the examples.
    ///
    /// # Errors
    /// If its layout cannot be made.
    fn new(seed: Seed) -> anyhow::Result<Self> {
        let layout = thirty_nodes(seed).layout().context("thirty nodes")?;
        Ok(Self::of(layout))
    }

    pub(super) fn ownership(&self, scheme: Scheme) -> Ownership {
        Ownership::of_layout(self.layout(), scheme.fragments)
    }
}
