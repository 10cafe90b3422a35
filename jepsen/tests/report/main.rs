//! Reports show what the history says, of whatever it consists, and exports say it in the exact
//! form that other judges read.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod export;
mod inspect;
mod page;
#[path = "../checkers/script.rs"]
mod script;
mod text;

use quorate_jepsen::checker::suite::{self, Demands, Promise, Workload};
use quorate_jepsen::history::Entry;
use quorate_jepsen::report::Report;

/// The report of a history of registers.
fn report(title: &str, entries: &[Entry]) -> Report {
    let demands = Demands::usual(Workload::Register, Promise::Regular);
    let verdicts = suite::check(entries, &demands).unwrap();
    Report::of(title, entries, verdicts).unwrap()
}

/// Two sides for a second: one goes on, the other refuses, and one call stays in doubt. Then a
/// fault that does nothing, and a stale read.
fn split() -> Vec<Entry> {
    let text = r#"
        1 write k 1 node=1
        1 ok
        +1000 nemesis halves {"phase":"begin","links":[[1,2],[2,1],[1,3],[3,1]]}
        2 write k 2 node=1
        +99 2 fail error=503
        3 write k 3 node=2
        +9 3 ok
        4 write k 4 node=3
        +499 4 info error=timeout
        +100 nemesis halves {"phase":"end","took_effect":true,"effect":{"packets":7}}
        +1000 nemesis pause {"phase":"begin","nodes":[2]} node=2
        nemesis pause {"phase":"end","took_effect":false,"effect":{"stopped":0}} node=2
        5 read k node=1
        +199 5 ok 1
    "#;
    script::history(text)
}

/// How much time a chart of the report shows.
fn series_seconds(report: &Report) -> f64 {
    let nanos = report.series.begin_of(report.series.steps());
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}
