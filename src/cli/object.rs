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

#[cfg(test)]
mod tests {
    use super::render_history;
    use crate::admin::{HistoryReport, WriteInfo};

    fn write(stamp: &str, size: Option<u64>, lost_to: Option<&str>) -> WriteInfo {
        WriteInfo {
            stamp: stamp.to_owned(),
            unix_ms: 1_795_255_500_000,
            node: "n1".to_owned(),
            size,
            etag: size.map(|size| format!("etag-{size}")),
            lost_to: lost_to.map(str::to_owned),
            vector: vec!["n1.4.0:2".to_owned()],
        }
    }

    #[test]
    fn a_history_shows_what_stands_then_what_lost_then_who_did_not_answer() {
        let history = HistoryReport {
            bucket: "b".to_owned(),
            key: "k".to_owned(),
            current: Some(write("0009", Some(104), None)),
            lost: vec![write("0008", Some(101), Some("0009")), write("0007", None, Some("0008"))],
            unheard: vec!["n3".to_owned()],
        };

        let screen = render_history(&history);

        let lines: Vec<&str> = screen.lines().collect();
        assert_eq!(lines[0], "b/k");
        assert!(lines[1].starts_with("Stands: 104 bytes, ETag etag-104, written 2026-11-21"));
        assert_eq!(lines[2], "Has seen: n1.4.0:2");
        assert_eq!(lines[3], "Lost to a concurrent write: 2");
        assert!(lines[6].contains("etag-101") && lines[6].contains("0009"));
        assert!(lines[7].contains("deletion"));
        assert!(lines[9].ends_with("may know of more: n3"));
    }
}
