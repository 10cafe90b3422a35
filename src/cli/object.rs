//! `quorate object`: look into one object.

use clap::Subcommand;

use crate::admin::{HistoryReport, WriteInfo};

use super::Output;
use super::client::{AdminClient, encoded};
use super::report::Report;
use super::table::{Table, moment, or_dash};

#[derive(Subcommand, Debug)]
pub(super) enum ObjectCommand {
    /// Show what stands under a key and which writes lost to concurrent ones
    History {
        /// The bucket's name
        bucket: String,
        /// The key
        key: String,
    },
}

/// Runs `quorate object`.
pub(super) async fn run(
    admin: &AdminClient,
    command: ObjectCommand,
    output: Output,
) -> anyhow::Result<Report> {
    let ObjectCommand::History { bucket, key } = command;
    let path = format!("/v1/object/history?bucket={}&key={}", encoded(&bucket), encoded(&key));
    let history: HistoryReport = admin.get(&path).await?;
    Report::of(output, &history, render_history)
}

/// What stands, then what lost.
pub(super) fn render_history(history: &HistoryReport) -> String {
    let mut text = format!("{}/{}\n", history.bucket, history.key);
    match &history.current {
        None => text.push_str("Nothing was ever written under this key.\n"),
        Some(current) => {
            text.push_str(&format!("Stands: {}\n", described(current)));
            text.push_str(&format!("Has seen: {}\n", current.vector.join(" ")));
        }
    }
    if history.lost.is_empty() {
        text.push_str("No write lost to a concurrent one in the last 30 days.\n");
    } else {
        text.push_str(&format!("Lost to a concurrent write: {}\n\n", history.lost.len()));
        let mut table = Table::new(&["When", "Node", ">Bytes", "ETag", "Stamp", "Lost to"]);
        for lost in &history.lost {
            table.row([
                moment(lost.unix_ms),
                lost.node.clone(),
                lost.size.map_or_else(|| "deletion".to_owned(), |size| size.to_string()),
                or_dash(lost.etag.clone()),
                lost.stamp.clone(),
                or_dash(lost.lost_to.clone()),
            ]);
        }
        text.push_str(&table.render());
    }
    if !history.unheard.is_empty() {
        let unheard = history.unheard.join(", ");
        text.push_str(&format!("\nThese owners did not answer and may know of more: {unheard}\n"));
    }
    text
}

fn described(write: &WriteInfo) -> String {
    match write.size {
        None => format!("a deletion of {} at {}", moment(write.unix_ms), write.stamp),
        Some(size) => format!(
            "{size} bytes, ETag {}, written {} at {}",
            or_dash(write.etag.clone()),
            moment(write.unix_ms),
            write.stamp
        ),
    }
}
