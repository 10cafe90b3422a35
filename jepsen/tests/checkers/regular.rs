use quorate_jepsen::checker::Finding;
use quorate_jepsen::checker::regular::{Stale, check};

use super::model::{self, Load, Shape};
use super::mutation;
use super::script::history;

fn finding(text: &str) -> Finding {
    check(&history(text), Stale::Violation).unwrap().finding
}

#[test]
fn a_read_sees_the_last_acknowledged_write() {
    let writes = "1 write k 1\n1 ok\n1 write k 2\n1 ok\n";

    assert_eq!(finding(&format!("{writes} 2 read k\n2 ok 2")), Finding::Holds);
    assert_eq!(finding(&format!("{writes} 2 read k\n2 ok 1")), Finding::Violated);
    assert_eq!(finding(&format!("{writes} 2 read k\n2 ok null")), Finding::Violated);
}

#[test]
fn a_read_beside_a_write_sees_it_or_not() {
    let text = "1 write k 1\n1 ok\n1 write k 2\n2 read k\n1 ok\n";

    assert_eq!(finding(&format!("{text} 2 ok 1")), Finding::Holds);
    assert_eq!(finding(&format!("{text} 2 ok 2")), Finding::Holds);
}

#[test]
fn new_and_then_old_is_counted_and_allowed_while_the_write_is_under_way() {
    let text = "1 write k 1\n1 ok\n1 write k 2\n2 read k\n2 ok 2\n3 read k\n3 ok 1\n1 ok";

    let verdict = check(&history(text), Stale::Violation).unwrap();

    assert_eq!(verdict.finding, Finding::Holds);
    assert!(verdict.figures.contains(&("inversions of reads".to_owned(), "1".to_owned())));
}

#[test]
fn a_deleted_object_does_not_come_back() {
    let text = "1 write k 1\n1 ok\n1 delete k\n1 ok\n";

    assert_eq!(finding(&format!("{text} 2 read k\n2 ok null")), Finding::Holds);
    assert_eq!(finding(&format!("{text} 2 read k\n2 ok 1")), Finding::Violated);
}

#[test]
fn an_unknown_delete_or_write_may_show_for_ever() {
    let text = "1 write k 1\n1 ok\n2 delete k\n2 info\n3 write k 3\n3 info\n1 write k 4\n1 ok\n";

    for seen in ["null", "3", "4"] {
        assert_eq!(finding(&format!("{text} 5 read k\n5 ok {seen}")), Finding::Holds, "{seen}");
    }
    assert_eq!(finding(&format!("{text} 5 read k\n5 ok 1")), Finding::Violated);
}

#[test]
fn of_several_deletes_a_read_saw_whichever_explains_it() {
    let text = "1 delete k\n1 ok\n1 write k 1\n1 ok\n1 delete k\n1 ok\n2 read k\n2 ok null";

    assert_eq!(finding(text), Finding::Holds);
}

#[test]
fn a_write_is_not_seen_before_it_begins_nor_under_another_key() {
    assert_eq!(finding("2 read k\n2 ok 1\n1 write k 1\n1 ok"), Finding::Violated);
    assert_eq!(finding("1 write j 1\n1 ok\n2 read k\n2 ok 1"), Finding::Violated);
}

#[test]
fn a_stale_read_is_shown_by_the_write_it_saw_the_one_it_missed_and_itself() {
    let text = "1 write k 1\n1 ok\n1 write k 2\n1 ok\n1 write k 3\n1 ok\n2 read k\n2 ok 1";

    let verdict = check(&history(text), Stale::Violation).unwrap();

    let lines: Vec<u64> = verdict.violations[0].witness.iter().map(|entry| entry.index).collect();
    assert_eq!(lines, [0, 1, 4, 5, 6, 7]);
    assert!(verdict.violations[0].what.contains("saw write 1, though write 3"), "{verdict:?}");
}

#[test]
fn histories_of_majorities_are_regular() {
    for seed in 0..300 {
        let entries = model::history(&Shape::majorities(Load::Register), seed);

        let verdict = check(&entries, Stale::Violation).unwrap();

        assert_eq!(verdict.finding, Finding::Holds, "seed {seed}: {verdict:#?}");
    }
}

#[test]
fn every_stale_lost_and_invented_read_is_found() {
    for (name, mutate) in [
        ("stale read", mutation::stale_read as mutation::Mutation),
        ("lost write", mutation::lost_write),
        ("invented content", mutation::invented_content),
        ("a failed write that shows", mutation::denied_write_shows),
    ] {
        mutation::assert_found(name, &Shape::majorities(Load::Register), mutate, |entries| {
            check(entries, Stale::Violation).unwrap().finding
        });
    }
}

#[test]
fn single_replicas_give_stale_reads_which_are_counted_where_they_are_allowed() {
    let mut stale = 0;
    for seed in 0..50 {
        let entries = model::history(&Shape::sloppy(Load::Register), seed);

        let counted = check(&entries, Stale::Counted).unwrap();
        let strict = check(&entries, Stale::Violation).unwrap();

        assert_eq!(counted.finding, Finding::Holds, "seed {seed}: {counted:#?}");
        stale += usize::from(strict.finding == Finding::Violated);
    }
    assert!(stale > 25, "{stale}");
}
