use quorate_jepsen::checker::suite::{Demands, Promise, Workload, check, worst};
use quorate_jepsen::checker::{Finding, content};
use quorate_jepsen::history::parse;

use super::model::{self, Load, Shape};
use super::script::history;

#[test]
fn right_histories_pass_all_checkers_of_their_workload() {
    for (shape, workload, promise) in [
        (Shape::atomic(Load::Cas), Workload::Register, Promise::Linearizable),
        (Shape::majorities(Load::List), Workload::Register, Promise::Regular),
        (Shape::sloppy(Load::Register), Workload::Register, Promise::Converging),
        (Shape::sloppy(Load::Siblings), Workload::Siblings, Promise::Converging),
        (Shape::sloppy(Load::Set), Workload::Set, Promise::Converging),
        (Shape::atomic(Load::Counter), Workload::Counter, Promise::Linearizable),
    ] {
        let shape = Shape { unknown: 0, failing: 0, ..shape };
        let entries = model::history(&shape, 7);
        let text: String =
            entries.iter().map(|entry| serde_json::to_string(entry).unwrap() + "\n").collect();
        let entries = parse(&text).unwrap();

        let verdicts = check(&entries, &Demands::usual(workload, promise)).unwrap();

        assert_eq!(worst(&verdicts), Finding::Holds, "{workload:?}: {verdicts:#?}");
    }
}

#[test]
fn what_a_history_is_held_to_follows_from_its_weakest_level() {
    let promise = |text: &str| Promise::of_history(&history(text));

    assert_eq!(promise("1 read k mode=strong\n1 ok null"), Promise::Linearizable);
    assert_eq!(promise("1 read k mode=strict\n1 ok null"), Promise::Regular);
    assert_eq!(
        promise("1 read k mode=strict\n1 ok null\n1 read k mode=eventual\n1 ok null"),
        Promise::Converging
    );
    assert_eq!(promise("1 read k\n1 ok null"), Promise::Regular);
}

#[test]
fn damaged_bodies_are_found_by_their_sum_their_length_and_by_what_the_reader_says() {
    let write = "1 write k 1 bytes=9 sha=aa\n1 ok\n2 read k\n";
    let finding = |end: &str| content::check(&history(&format!("{write}{end}"))).unwrap().finding;

    assert_eq!(finding("2 ok 1 bytes=9 sha=aa"), Finding::Holds);
    assert_eq!(finding("2 ok 1 bytes=9 sha=ab"), Finding::Violated);
    assert_eq!(finding("2 ok 1 bytes=8 sha=aa"), Finding::Violated);
    assert_eq!(finding("2 ok null error=unrecognised"), Finding::Violated);
}

#[test]
fn the_worst_finding_counts_and_no_verdict_is_no_success() {
    assert_eq!(worst(&[]), Finding::Unknown);
}
