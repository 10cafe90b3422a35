//! `quorate hints`: what is kept for owners that were away.

use crate::admin::HintsReport;
use crate::membership::Liveness;

use super::Output;
use super::client::AdminClient;
use super::report::Report;
use super::table::{Table, age, or_dash};

/// Runs `quorate hints`.
pub(super) async fn run(admin: &AdminClient, output: Output) -> anyhow::Result<Report> {
    let report: HintsReport = admin.get("/v1/hints").await?;
    Report::of(output, &report, render)
}

/// The whole screen.
pub(super) fn render(report: &HintsReport) -> String {
    let mut text = String::new();
    let rows: u64 = report.hints.iter().map(|hints| hints.rows).sum();
    if rows == 0 {
        text.push_str("Nothing is kept for owners that were away.\n");
    } else {
        let mut table = Table::new(&["Kept for", "State", "Kept by", ">Rows", ">Bytes", ">Oldest"]);
        for hints in &report.hints {
            let state = match hints.liveness {
                Liveness::Up => "up, being delivered",
                Liveness::Down => "DOWN",
            };
            table.row([
                hints.kept_for.clone(),
                state.to_owned(),
                hints.kept_by.clone(),
                hints.rows.to_string(),
                hints.bytes.to_string(),
                or_dash(hints.oldest_seconds.map(age)),
            ]);
        }
        text.push_str(&table.render());
    }
    if !report.unheard.is_empty() {
        text.push_str(&format!("Not heard from: {}\n", report.unheard.join(", ")));
    }
    text
}
