//! `quorate ring` and `quorate locate`: who owns what.

use clap::Args;

use crate::admin::{Holding, Location, RingReport, Role};
use crate::membership::Liveness;

use super::Output;
use super::client::{AdminClient, encoded};
use super::report::Report;
use super::table::{Table, or_dash, percent};

#[derive(Args, Debug)]
pub(super) struct LocateArgs {
    /// The bucket's name
    bucket: String,
    /// The key
    key: String,
}

/// Runs `quorate ring`.
pub(super) async fn run(admin: &AdminClient, output: Output) -> anyhow::Result<Report> {
    let ring: RingReport = admin.get("/v1/ring").await?;
    Report::of(output, &ring, render_ring)
}

/// Runs `quorate locate`.
pub(super) async fn locate(
    admin: &AdminClient,
    args: LocateArgs,
    output: Output,
) -> anyhow::Result<Report> {
    let path = format!("/v1/locate?bucket={}&key={}", encoded(&args.bucket), encoded(&args.key));
    let location: Location = admin.get(&path).await?;
    Report::of(output, &location, render_location)
}

/// The ring as a table with a bar for each node.
pub(super) fn render_ring(ring: &RingReport) -> String {
    let mut text = format!(
        "Layout v{} · {} partitions · {} copies · balance {:.3} (1 is perfect) · \
         {}/{} partitions in as many zones as there can be\n\n",
        ring.layout_version,
        ring.partitions,
        ring.n,
        ring.balance,
        ring.zone_spread,
        ring.partitions
    );
    let mut table = Table::new(&[
        "Name",
        "Zone",
        ">Capacity",
        ">Partitions",
        ">Owns",
        ">Fair",
        ">Peers",
        "",
        "Id",
    ]);
    for node in &ring.nodes {
        table.row([
            node.name.clone(),
            node.zone.to_string(),
            node.capacity.to_string(),
            node.partitions.to_string(),
            percent(node.owns),
            percent(node.fair),
            node.scatter_width.to_string(),
            bar(node.owns),
            node.node_id.short(),
        ]);
    }
    text.push_str(&table.render());
    text
}

fn bar(part: f64) -> String {
    const WIDTH: usize = 24;
    let filled = (part.clamp(0.0, 1.0) * WIDTH as f64).round() as usize;
    format!("{}{}", "█".repeat(filled), "·".repeat(WIDTH - filled))
}

/// A key's replicas in preference order.
pub(super) fn render_location(location: &Location) -> String {
    let mut text = format!(
        "{}/{}\nToken {} · partition {} · layout v{}\n\n",
        location.bucket, location.key, location.token, location.partition, location.layout_version
    );
    let mut table = Table::new(&["Role", "Name", "Zone", "State", "Has", "Stamp", "Id"]);
    for replica in &location.replicas {
        table.row([
            match replica.role {
                Role::Owner => "owner",
                Role::Fallback => "fallback",
            }
            .to_owned(),
            replica.name.clone(),
            replica.zone.to_string(),
            match replica.liveness {
                Liveness::Up => "up",
                Liveness::Down => "DOWN",
            }
            .to_owned(),
            holding(replica.holding).to_owned(),
            or_dash(replica.stamp.clone()),
            replica.node_id.short(),
        ]);
    }
    text.push_str(&table.render());
    if let Some(line) = agreement(location) {
        text.push_str(&format!("\n{line}\n"));
    }
    text
}

fn holding(holding: Holding) -> &'static str {
    match holding {
        Holding::Object => "object",
        Holding::Deleted => "tombstone",
        Holding::Nothing => "nothing",
        Holding::Unknown => "unknown",
    }
}

/// Whether the owners that answered have the same.
fn agreement(location: &Location) -> Option<String> {
    let known: Vec<_> = location
        .replicas
        .iter()
        .filter(|replica| replica.role == Role::Owner && replica.holding != Holding::Unknown)
        .map(|replica| (replica.holding, &replica.stamp))
        .collect();
    let first = known.first()?;
    Some(match known.iter().all(|one| one == first) {
        true => format!("The {} owners that answered agree.", known.len()),
        false => {
            "The owners differ; a read of the key that asks the one behind repairs it.".to_owned()
        }
    })
}
