//! `quorate status`: the health line, the nodes, the next step.

use crate::admin::{ClusterStatus, HealthLevel, NodeStatus, Rebuilt};
use crate::membership::Liveness;

use super::Output;
use super::client::AdminClient;
use super::report::{Exit, Report};
use super::table::{Table, age, or_dash, percent};

/// Runs `quorate status`.
pub(super) async fn run(admin: &AdminClient, output: Output) -> anyhow::Result<Report> {
    let status: ClusterStatus = admin.get("/v1/status").await?;
    let exit = match status.health.level {
        HealthLevel::Ok => Exit::Ok,
        HealthLevel::Warn => Exit::Warn,
        HealthLevel::Critical => Exit::Critical,
    };
    Ok(Report::of(output, &status, render)?.exit(exit))
}

/// The whole screen.
pub(super) fn render(status: &ClusterStatus) -> String {
    let mut text = format!("{}  {}\n", status.health.level.name(), status.health.summary);
    for finding in &status.health.findings {
        text.push_str(&format!("  {}: {}\n", finding.code, finding.summary));
        if !finding.next.is_empty() {
            text.push_str(&format!("    do: {}\n", finding.next));
        }
    }
    text.push_str(&cluster_line(status));
    text.push('\n');
    text.push_str(&nodes(status));
    if let Some(next) = &status.next {
        text.push_str(&format!("\nNext: {next}\n"));
    }
    text
}

fn cluster_line(status: &ClusterStatus) -> String {
    match status.cluster_id {
        Some(id) => format!(
            "Cluster {} · layout v{} · {} partitions · buckets are created at level {}\n",
            id.short(),
            status.layout_version,
            status.partitions,
            status.default_level
        ),
        None => "No cluster yet: the first layout is still to be written\n".to_owned(),
    }
}

fn nodes(status: &ClusterStatus) -> String {
    let mut table = Table::new(&[
        "State",
        "Name",
        "Zone",
        "Address",
        ">Capacity",
        ">Used",
        ">Free",
        ">Owns",
        ">Layout",
        "Version",
        ">Uptime",
        ">Clock",
        "Id",
    ]);
    for node in &status.nodes {
        table.row(row(node));
    }
    table.render()
}

fn row(node: &NodeStatus) -> [String; 13] {
    let state = match (node.liveness, node.rebuilding, node.capacity.0) {
        (Liveness::Down, ..) => "DOWN".to_owned(),
        (Liveness::Up, Some(Rebuilt { done, total }), _) => format!("rebuilding {done}/{total}"),
        (Liveness::Up, None, 0) => "up (gateway)".to_owned(),
        (Liveness::Up, None, _) => "up".to_owned(),
    };
    [
        state,
        node.name.clone(),
        node.zone.to_string(),
        node.address.clone(),
        node.capacity.to_string(),
        or_dash(node.used),
        or_dash(node.free),
        or_dash(node.owns.map(percent)),
        format!("v{}", node.layout_version),
        node.software_version.clone(),
        or_dash(node.uptime_seconds.map(age)),
        or_dash(node.clock_offset_ms.map(|offset| format!("{offset:+} ms"))),
        node.node_id.short(),
    ]
}
