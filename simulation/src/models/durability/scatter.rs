//! Repair times from scatter width: wide scatter rebuilds fast, and has more ways to lose
//! something.

use quorate::ring::Layout;

use super::scheme::{Hazard, SCHEMES, Scheme, nines};
use crate::models::plot::{Axis, Mark, Plot, Scale, Series};
use crate::models::table::{Table, count, number};

/// Bytes that a node holds.
const NODE_BYTES: f64 = 8e12;
/// What a node gives to repair, bytes per second, in each direction.
const REPAIR_BYTES_PER_SECOND: f64 = 50e6;
/// What one new disk takes in, bytes per second.
const DISK_BYTES_PER_SECOND: f64 = 150e6;
/// Hours until rebuilding begins, and who is that fast.
const DELAYS: [(f64, &str); 4] = [
    (0.25, "15 min: automation"),
    (1.0, "1 h: somebody on call"),
    (12.0, "12 h: next morning"),
    (72.0, "72 h: after the weekend"),
];
/// The size of the cluster in which scatter width is varied.
const NODES: f64 = 100.0;

/// Where the copies of a failed node are made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// On all nodes that are left: its partitions go to others by a change of layout.
    Others,
    /// On one new disk: the node comes back empty.
    OneDisk,
}

/// The cluster of the examples.
pub struct Reference {
    layout: Layout,
}

impl Reference {
    /// The cluster with this layout.
    #[must_use]
    pub const fn of(layout: Layout) -> Self {
        Self { layout }
    }

    /// Its layout.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How long it takes to rebuild what one node held.
    pub(super) fn rebuild_table(&self) -> String {
        let mut table = Table::new(&[
            "scheme",
            "scatter width",
            "sets of owners",
            "rebuilt on others",
            "on one new disk",
        ]);
        for scheme in SCHEMES {
            let owned = self.ownership(scheme);
            let scatter = owned.scatter().1;
            let hours = |target| format!("{:.1} h", rebuild_hours(scheme, scatter, target));
            table.row(&[
                scheme.name.to_owned(),
                format!("{scatter:.0}"),
                count(owned.copysets(scheme.fragments)),
                hours(Target::Others),
                hours(Target::OneDisk),
            ]);
        }
        table.text()
    }

    /// How often something is lost in a year.
    pub(super) fn losses_table(&self, of: Of) -> String {
        let schemes = SCHEMES.iter().map(|scheme| scheme.name);
        let heads: Vec<_> =
            ["rebuilding begins after", "onto"].into_iter().chain(schemes).collect();
        let mut table = Table::new(&heads);
        for (delay, who) in DELAYS {
            for (target, onto) in [(Target::Others, "others"), (Target::OneDisk, "one new disk")] {
                let first = [who.to_owned(), onto.to_owned()];
                let losses = SCHEMES.iter().map(|scheme| self.losses(*scheme, delay, target, of));
                table.row(&first.into_iter().chain(losses).collect::<Vec<_>>());
            }
        }
        table.text()
    }

    fn losses(&self, scheme: Scheme, delay: f64, target: Target, of: Of) -> String {
        let owned = self.ownership(scheme);
        let rebuild = rebuild_hours(scheme, owned.scatter().1, target);
        let hazard = Hazard { afr: super::AFR, repair_hours: delay + rebuild / 2.0 };
        let losses = scheme.losses_per_year(hazard);
        match of {
            Of::Stripe => format!("{losses:.1e} ({:.1})", nines(losses)),
            Of::Anything => {
                format!("{:.1e}", losses * owned.copysets(scheme.fragments) as f64)
            }
        }
    }
}

/// What a loss is a loss of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// One given stripe.
    Stripe,
    /// Any stripe of the cluster.
    Anything,
}

/// Hours to make anew what a node held, if the nodes that share data with it read for it.
fn rebuild_hours(scheme: Scheme, scatter: f64, target: Target) -> f64 {
    let read = NODE_BYTES * scheme.reads as f64 / (scatter * REPAIR_BYTES_PER_SECOND);
    let written = match target {
        Target::Others => NODE_BYTES / (scatter * REPAIR_BYTES_PER_SECOND),
        Target::OneDisk => NODE_BYTES / DISK_BYTES_PER_SECOND,
    };
    read.max(written) / 3_600.0
}

/// What a scatter width costs and brings, three copies on a hundred nodes: mean repair hours,
/// losses per stripe and year, and per cluster and year of anything at all.
///
/// A node that shares data with `scatter` others needs at least `scatter / 2` sets of owners,
/// each of them counted on three nodes.
#[must_use]
pub fn scatter_curve(scatter: f64, delay: f64) -> (f64, f64, f64) {
    let scheme = SCHEMES[0];
    let repair_hours = delay + rebuild_hours(scheme, scatter, Target::Others) / 2.0;
    let losses = scheme.losses_per_year(Hazard { afr: super::AFR, repair_hours });
    let sets = NODES * scatter / 6.0;
    (repair_hours, losses, losses * sets)
}

pub(super) fn table() -> String {
    let mut table = Table::new(&[
        "scatter",
        "sets of owners",
        "begins after",
        "mean repair",
        "per stripe and year",
        "anything in the cluster, per year",
        "lost at once, GB",
    ]);
    for delay in [0.25, 12.0] {
        for scatter in [2.0, 6.0, 20.0, 66.0, 99.0] {
            let (hours, stripe, anything) = scatter_curve(scatter, delay);
            let sets = NODES * scatter / 6.0;
            table.row(&[
                number(scatter, 2),
                number(sets, 3),
                format!("{delay} h"),
                format!("{hours:.1} h"),
                format!("{stripe:.1e}"),
                format!("{anything:.1e}"),
                number(NODES * NODE_BYTES / 3.0 / sets / 1e9, 3),
            ]);
        }
    }
    table.text()
}

pub(super) fn plot() -> Plot {
    let curve = |name: &str, colour, mark, value: &dyn Fn(f64) -> f64| {
        let points = (0..=40).map(|step| {
            let scatter = 2.0 * (99.0_f64 / 2.0).powf(f64::from(step) / 40.0);
            (scatter, value(scatter))
        });
        Series::exact(name, colour, mark, &points.collect::<Vec<_>>())
    };
    Plot {
        title: "Scatter width, three copies on 100 nodes of 8 TB, AFR 2 %".to_owned(),
        x: Axis::new("nodes that a node shares data with", Scale::Logarithmic, 2.0, 99.0),
        y: Axis::new("losses per year", Scale::Logarithmic, 1e-14, 1e-6),
        series: vec![
            curve("anything, after 12 h", 1, Mark::Line, &|s| scatter_curve(s, 12.0).2),
            curve("anything, after 15 min", 0, Mark::Line, &|s| scatter_curve(s, 0.25).2),
            curve("a stripe, after 12 h", 1, Mark::Dashed, &|s| scatter_curve(s, 12.0).1),
            curve("a stripe, after 15 min", 0, Mark::Dashed, &|s| scatter_curve(s, 0.25).1),
        ],
        rules: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{SCHEMES, Target, rebuild_hours, scatter_curve};

    #[test]
    fn many_readers_rebuild_faster_than_one_disk_can_write() {
        let hours = |target| rebuild_hours(SCHEMES[0], 20.0, target);

        assert!((hours(Target::Others) - 8e12 / 1e9 / 3_600.0).abs() < 1e-9);
        assert!((hours(Target::OneDisk) - 8e12 / 150e6 / 3_600.0).abs() < 1e-9);
    }

    #[test]
    fn wider_scatter_is_safer_for_each_stripe() {
        let stripe = |scatter| scatter_curve(scatter, 0.25).1;

        assert!(stripe(99.0) < stripe(20.0) && stripe(20.0) < stripe(2.0));
    }

    #[test]
    fn when_waiting_dominates_wide_scatter_only_multiplies_the_ways_to_lose() {
        let anything = |scatter| scatter_curve(scatter, 72.0).2;

        assert!(anything(99.0) > anything(20.0));
    }
}
