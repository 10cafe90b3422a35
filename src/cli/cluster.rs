//! `quorate cluster`: form a cluster.

use std::time::Duration;

use clap::Subcommand;

use crate::admin::{InitReport, InitRequest};

use super::Output;
use super::client::AdminClient;
use super::report::Report;

#[derive(Subcommand, Debug)]
pub(super) enum ClusterCommand {
    /// Write the first layout, once on one node of a new cluster
    Init {
        /// How many nodes to wait for, this one included
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        expect: u32,
        /// How long to wait for them, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u32,
    },
}

/// Runs `quorate cluster`.
pub(super) async fn run(
    admin: &AdminClient,
    command: ClusterCommand,
    output: Output,
) -> anyhow::Result<Report> {
    let ClusterCommand::Init { expect, wait } = command;
    let request = InitRequest { expect, wait_seconds: wait };
    let made: InitReport = admin.post("/v1/cluster/init", &request).await?;
    Report::of(output, &made, initialized)
}

/// How long `command` may take.
pub(super) fn patience(command: &ClusterCommand) -> Duration {
    let ClusterCommand::Init { wait, .. } = command;
    // The nodes sync the layout after they have found each other.
    Duration::from_secs(u64::from(*wait) + 30)
}

fn initialized(made: &InitReport) -> String {
    format!(
        "Cluster {} has {} node{}: {}. Layout v{} is on stable storage on all of them.\n\
         Next: quorate key create NAME\n",
        made.cluster_id,
        made.nodes.len(),
        if made.nodes.len() == 1 { "" } else { "s" },
        made.nodes.join(", "),
        made.layout_version
    )
}
