//! Balance, movement and scatter width of the real layouts, beside plain consistent hashing.

mod cluster;
mod hash_ring;
mod ownership;

use std::time::Duration;

use anyhow::Context;
use quorate::codec::encode_format;
use quorate::ring::Layout;
use quorate::types::NodeId;

pub use cluster::{Capacities, ModelCluster, partitions_for};
pub use hash_ring::HashedCluster;
pub use ownership::{Ownership, Shares};

use super::plot::{Axis, Mark, Plot, Scale, Series};
use super::table::{Table, count, number};
use super::{Effort, Report};
use crate::entropy::Seed;

/// Virtual nodes of the plain ring that layouts are compared with: as many as placement's own
/// ring has.
const VNODES: u32 = 256;
/// How many nodes fail at once in the question of what that loses.
const FAILURES: usize = 3;

/// What is measured of one way to place copies.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What each node holds against its fair share.
    pub shares: Shares,
    /// Copies that move when a node joins, in units of what it then holds.
    pub joined: f64,
    /// Copies that move when a node leaves, in units of what it held.
    pub left: f64,
    /// The least and the mean number of nodes that a node shares data with.
    pub scatter: (usize, f64),
    /// Distinct sets of owners.
    pub copysets: usize,
    /// How probable it is that three nodes, taken at random, hold a majority of the owners of
    /// some data: of three copies all, of five copies three.
    pub fatal_triples: f64,
}

/// A layout, measured.
#[derive(Clone, Debug)]
pub struct Row {
    /// The cluster.
    pub cluster: ModelCluster,
    /// The number of copies.
    pub copies: usize,
    /// The number of partitions.
    pub partitions: u32,
    /// What is true of the layout.
    pub layout: Measured,
    /// What is true of the plain ring.
    pub plain: Measured,
    /// Copies moved when a node joins, and the fewest that could be.
    pub join: (usize, usize),
    /// Copies moved when a node leaves, and the fewest that could be.
    pub leave: (usize, usize),
    /// How many bytes the layout has when shipped.
    pub bytes: usize,
    /// The processor time of the first layout, and of the one after a join.
    pub took: (Duration, Duration),
}

/// All rows of the documentation.
///
/// # Errors
/// If a layout cannot be made.
pub fn rows(seed: Seed, effort: Effort) -> anyhow::Result<Vec<Row>> {
    let sizes: &[u32] = if effort == Effort::Full { &[3, 10, 100, 1_000] } else { &[3, 10] };
    let mut rows = Vec::new();
    for nodes in sizes.iter().copied() {
        for capacities in [Capacities::Equal, Capacities::Mixed] {
            for zones in [1, 3] {
                let placed = Placed::new(ModelCluster { seed, nodes, zones, capacities })?;
                for copies in [3, 5].into_iter().filter(|copies| nodes as usize >= *copies) {
                    rows.push(placed.measure(copies)?);
                }
            }
        }
    }
    rows.sort_by_key(|row| row.copies);
    Ok(rows)
}

/// A cluster before and after changes, in layouts and on plain rings.
pub struct Placed {
    cluster: ModelCluster,
    /// Before, with a node more, with a node less.
    layouts: [Layout; 3],
    rings: [HashedCluster; 3],
    joiner: NodeId,
    leaver: NodeId,
    took: (Duration, Duration),
}

impl Placed {
    /// Places a cluster's copies.
    ///
    /// # Errors
    /// If a layout cannot be made.
    pub fn new(cluster: ModelCluster) -> anyhow::Result<Self> {
        let (members, more) = (cluster.members(), cluster.grown().members());
        let fewer = members[1..].to_vec();
        let (first, took_first) = timed(|| cluster.layout());
        let first = first.context("the first layout")?;
        let (grown, took_next) = timed(|| first.next(more.clone()));
        let grown = grown.context("a node more")?;
        let shrunk = first.next(fewer.clone()).context("a node less")?;
        Ok(Self {
            cluster,
            layouts: [first, grown, shrunk],
            rings: [&members, &more, &fewer].map(|members| HashedCluster::new(members, VNODES)),
            joiner: more.last().context("a cluster has nodes")?.node,
            leaver: members[0].node,
            took: (took_first, took_next),
        })
    }

    /// Measures it at a number of copies.
    ///
    /// # Errors
    /// If the layout cannot be encoded.
    pub fn measure(&self, copies: usize) -> anyhow::Result<Row> {
        let [first, grown, shrunk] = &self.layouts;
        let (join, leave) = (first.movement(grown, copies), first.movement(shrunk, copies));
        let held = |layout: &Layout, node| layout.owned_by(node, copies).count() as f64;
        let layout = Measured {
            joined: ratio(join.moved as f64, held(grown, self.joiner)),
            left: ratio(leave.moved as f64, held(first, self.leaver)),
            ..Measured::of(
                &Ownership::of_layout(first, copies),
                &self.cluster.fair_copies(first, copies),
                copies,
            )
        };
        Ok(Row {
            cluster: self.cluster,
            copies,
            partitions: first.partitions().get(),
            layout,
            plain: self.measure_plain(copies),
            join: (join.moved, join.minimum),
            leave: (leave.moved, leave.minimum),
            bytes: encode_format(first)?.len(),
            took: self.took,
        })
    }

    fn measure_plain(&self, copies: usize) -> Measured {
        let [first, grown, shrunk] = &self.rings;
        let owned = first.ownership(copies);
        let held =
            |ring: &HashedCluster, owned: &Ownership, node| owned.held()[ring.place_of(node)];
        Measured {
            joined: ratio(
                grown.gained_from(first, copies),
                held(grown, &grown.ownership(copies), self.joiner),
            ),
            left: ratio(shrunk.gained_from(first, copies), held(first, &owned, self.leaver)),
            ..Measured::of(&owned, &self.cluster.proportional_copies(copies), copies)
        }
    }
}

impl Measured {
    /// What follows from who owns what; nothing of changes.
    fn of(owned: &Ownership, fair: &[f64], copies: usize) -> Self {
        Self {
            shares: owned.shares(fair),
            joined: 0.0,
            left: 0.0,
            scatter: owned.scatter(),
            copysets: owned.copysets(copies.min(owned.nodes())),
            fatal_triples: owned.fatal(copies, FAILURES),
        }
    }
}

fn ratio(moved: f64, held: f64) -> f64 {
    if held > 0.0 { moved / held } else { 0.0 }
}

/// Does some work; with the processor time that it took, where the system tells.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = processor_time();
    let done = work();
    (done, processor_time().saturating_sub(before))
}

/// How long this thread has had a processor: other programs must not show in the figures.
fn processor_time() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = told.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// The tables and plots of the documentation.
///
/// # Errors
/// If a layout cannot be made.
pub fn report(seed: Seed, effort: Effort) -> anyhow::Result<Report> {
    let rows = rows(seed, effort)?;
    let mut report = Report::default();
    report.say("balance", balance_table(&rows));
    report.say("movement", movement_table(&rows));
    report.say("scatter", scatter_table(&rows));
    report.say("layout-cost", cost_table(&rows));
    report.plots = vec![("balance", balance_plot(&rows)), ("copysets", copyset_plot(&rows))];
    Ok(report)
}

/// The cells that name a row.
fn names(row: &Row) -> [String; 4] {
    let capacities = match row.cluster.capacities {
        Capacities::Equal => "equal",
        Capacities::Mixed => "1:2:4",
    };
    [
        row.copies.to_string(),
        count(row.cluster.nodes as usize),
        row.cluster.zones.to_string(),
        capacities.to_owned(),
    ]
}

fn cells<const N: usize>(row: &Row, figures: [String; N]) -> Vec<String> {
    names(row).into_iter().chain(figures).collect()
}

fn balance_table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "N",
        "nodes",
        "zones",
        "capacities",
        "partitions",
        "max ÷ fair",
        "min ÷ fair",
        "deviation",
        "plain: max ÷ fair",
        "min ÷ fair",
        "deviation",
    ]);
    for row in rows {
        let (own, plain) = (row.layout.shares, row.plain.shares);
        let percent = |part: f64| format!("{:.1} %", part * 100.0);
        table.row(&cells(
            row,
            [
                count(row.partitions as usize),
                format!("{:.3}", own.most),
                format!("{:.3}", own.least),
                percent(own.deviation),
                format!("{:.3}", plain.most),
                format!("{:.3}", plain.least),
                percent(plain.deviation),
            ],
        ));
    }
    table.text()
}

fn movement_table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "N",
        "nodes",
        "zones",
        "capacities",
        "join: moved / minimum",
        "leave: moved / minimum",
        "join: moved ÷ joiner's",
        "leave: moved ÷ leaver's",
        "plain: join",
        "leave",
    ]);
    for row in rows {
        let counts =
            |(moved, minimum): (usize, usize)| format!("{} / {}", count(moved), count(minimum));
        let two = |value: f64| format!("{value:.2}");
        table.row(&cells(
            row,
            [
                counts(row.join),
                counts(row.leave),
                two(row.layout.joined),
                two(row.layout.left),
                two(row.plain.joined),
                two(row.plain.left),
            ],
        ));
    }
    table.text()
}

fn scatter_table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "N",
        "nodes",
        "zones",
        "capacities",
        "scatter: least",
        "mean",
        "copysets",
        "three nodes fail",
        "plain: scatter",
        "copysets",
        "three nodes fail",
    ]);
    for row in rows {
        let percent = |part: f64| format!("{} %", number(part * 100.0, 3));
        table.row(&cells(
            row,
            [
                row.layout.scatter.0.to_string(),
                format!("{:.1}", row.layout.scatter.1),
                count(row.layout.copysets),
                percent(row.layout.fatal_triples),
                format!("{:.1}", row.plain.scatter.1),
                count(row.plain.copysets),
                percent(row.plain.fatal_triples),
            ],
        ));
    }
    table.text()
}

fn cost_table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "nodes",
        "zones",
        "capacities",
        "partitions",
        "first layout, ms",
        "after a join, ms",
        "shipped, KiB",
    ]);
    for row in rows.iter().filter(|row| row.copies == 3) {
        let [_, nodes, zones, capacities] = names(row);
        // The system counts in ticks of some milliseconds.
        let milliseconds = |took: Duration| match took.as_millis() {
            0..10 => "below 10".to_owned(),
            more => number(more as f64, 2),
        };
        table.row(&[
            nodes,
            zones,
            capacities,
            count(row.partitions as usize),
            milliseconds(row.took.0),
            milliseconds(row.took.1),
            number(row.bytes as f64 / 1_024.0, 3),
        ]);
    }
    table.text()
}

/// The points of the rows with three copies, mixed capacities and three zones.
fn over_nodes(rows: &[Row], value: impl Fn(&Row) -> f64) -> Vec<(f64, f64)> {
    rows.iter()
        .filter(|row| row.copies == 3 && row.cluster.zones == 3)
        .filter(|row| row.cluster.capacities == Capacities::Mixed)
        .map(|row| (f64::from(row.cluster.nodes), value(row)))
        .collect()
}

fn nodes_axis() -> Axis {
    Axis::new("nodes", Scale::Logarithmic, 3.0, 1_000.0)
}

fn balance_plot(rows: &[Row]) -> Plot {
    let series = |name: &str, colour, value: &dyn Fn(&Row) -> f64| {
        Series::exact(name, colour, Mark::Line, &over_nodes(rows, value))
    };
    Plot {
        title: "Fullest and emptiest node, N = 3, three zones, capacities 1:2:4".to_owned(),
        x: nodes_axis(),
        y: Axis::new("partitions held ÷ fair share", Scale::Linear, 0.4, 1.6),
        series: vec![
            series("Quorate, fullest", 0, &|row| row.layout.shares.most),
            series("Quorate, emptiest", 0, &|row| row.layout.shares.least),
            series("plain ring, fullest", 1, &|row| row.plain.shares.most),
            series("plain ring, emptiest", 1, &|row| row.plain.shares.least),
        ],
        rules: vec![(1.05, "1.05".to_owned()), (0.95, "0.95".to_owned())],
    }
}

fn copyset_plot(rows: &[Row]) -> Plot {
    let series = |name: &str, colour, value: &dyn Fn(&Row) -> f64| {
        Series::exact(name, colour, Mark::Line, &over_nodes(rows, value))
    };
    Plot {
        title: "Three nodes lost at once: is some partition lost? N = 3, three zones".to_owned(),
        x: nodes_axis(),
        y: Axis::new("probability", Scale::Logarithmic, 1e-4, 1.0),
        series: vec![
            series("Quorate", 0, &|row| row.layout.fatal_triples),
            series("plain ring, 256 vnodes", 1, &|row| row.plain.fatal_triples),
        ],
        rules: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Capacities, ModelCluster, Placed, Row, rows};
    use crate::entropy::Seed;
    use crate::models::Effort;

    #[test]
    fn equal_seeds_give_equal_rows_but_for_the_time_they_took() {
        let timeless = |seed| {
            let took = (Duration::ZERO, Duration::ZERO);
            let rows = rows(seed, Effort::Quick).unwrap().into_iter();
            rows.map(|row| format!("{:?}", Row { took, ..row })).collect::<Vec<_>>()
        };

        assert_eq!(timeless(Seed(1)), timeless(Seed(1)));
        assert_ne!(timeless(Seed(1)), timeless(Seed(2)));
    }

    fn three_copies(nodes: u32, zones: usize, capacities: Capacities) -> Row {
        let cluster = ModelCluster { seed: Seed(1), nodes, zones, capacities };
        Placed::new(cluster).unwrap().measure(3).unwrap()
    }

    #[test]
    fn no_node_is_further_than_its_band_from_its_fair_share() {
        for capacities in [Capacities::Equal, Capacities::Mixed] {
            let row = three_copies(10, 3, capacities);

            let partition = 1.0 / (f64::from(row.partitions) / 10.0);
            assert!(row.layout.shares.most <= 1.05 + partition, "{:?}", row.layout.shares);
            assert!(row.layout.shares.least >= 0.95 - partition, "{:?}", row.layout.shares);
            assert!(row.plain.shares.most > row.layout.shares.most);
        }
    }

    #[test]
    fn a_node_that_joins_or_leaves_moves_about_what_it_holds() {
        let row = three_copies(10, 3, Capacities::Equal);

        assert!(row.join.0 >= row.join.1 && row.join.0 <= row.join.1 + row.join.1 / 2);
        assert!((row.plain.joined - 1.0).abs() < 0.3, "{}", row.plain.joined);
        assert!((row.plain.left - 1.0).abs() < 1e-9, "{}", row.plain.left);
    }

    #[test]
    fn three_nodes_of_three_are_everybody() {
        let row = three_copies(3, 3, Capacities::Equal);

        for measured in [&row.layout, &row.plain] {
            assert_eq!((measured.scatter.0, measured.copysets), (2, 1));
            assert!((measured.fatal_triples - 1.0).abs() < 1e-9);
            assert!((measured.shares.most - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn copies_in_three_zones_leave_most_triples_harmless() {
        // Of the triples of nine nodes, 27 of 84 have one node in each of three zones.
        let row = three_copies(9, 3, Capacities::Equal);

        assert!(row.layout.copysets <= 27);
        assert!(row.layout.fatal_triples <= 27.0 / 84.0 + 1e-9);
        assert!(row.layout.scatter.0 <= 6);
    }
}
