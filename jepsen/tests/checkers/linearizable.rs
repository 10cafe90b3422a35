use quorate_jepsen::checker::linearizable::{check, operations_of};
use quorate_jepsen::checker::register::Action;
use quorate_jepsen::checker::search::{Found, Operation, first_without, search};
use quorate_jepsen::checker::witness::shorten;
use quorate_jepsen::checker::{Finding, call};
use quorate_jepsen::history::Entry;

use super::brute::is_linearizable;
use super::model::{self, Draws, Load, Shape};
use super::mutation;
use super::script::history;

fn finding(text: &str) -> Finding {
    check(&history(text)).unwrap().finding
}

#[test]
fn two_writes_at_once_may_be_read_in_either_order_and_not_in_both() {
    let writes = "1 write k 1\n2 write k 2\n1 ok\n2 ok\n";

    assert_eq!(finding(&format!("{writes} 3 read k\n3 ok 1")), Finding::Holds);
    assert_eq!(finding(&format!("{writes} 3 read k\n3 ok 2")), Finding::Holds);
    let both = format!("{writes} 3 read k\n3 ok 1\n3 read k\n3 ok 2\n3 read k\n3 ok 1");
    assert_eq!(finding(&both), Finding::Violated);
}

#[test]
fn a_write_under_way_may_be_seen_and_then_not_unseen() {
    let seen = "1 write k 1\n2 read k\n2 ok 1\n3 read k\n";

    assert_eq!(finding(&format!("{seen} 3 ok 1\n1 ok")), Finding::Holds);
    assert_eq!(finding(&format!("{seen} 3 ok null\n1 ok")), Finding::Violated);
}

#[test]
fn an_unknown_write_may_take_effect_at_any_later_time_and_only_once() {
    let text = "1 write k 1\n1 info\n2 write k 2\n2 ok\n3 read k\n3 ok 2\n3 read k\n3 ok 1\n";

    assert_eq!(finding(text), Finding::Holds);
    assert_eq!(finding(&format!("{text} 3 read k\n3 ok 2")), Finding::Violated);
}

#[test]
fn what_certainly_failed_is_never_seen() {
    assert_eq!(finding("1 write k 1\n1 fail\n2 read k\n2 ok 1"), Finding::Violated);
}

#[test]
fn a_missed_condition_is_an_observation_and_a_refusal_is_none() {
    let text = "1 write k 1\n1 ok\n2 cas k [1,2]\n";

    assert_eq!(finding(&format!("{text} 2 fail error=condition")), Finding::Violated);
    assert_eq!(finding(&format!("{text} 2 fail error=refused")), Finding::Holds);
}

#[test]
fn an_unread_unknown_write_may_be_why_a_condition_was_missed() {
    let text = "1 write k 1\n1 ok\n9 write k 9\n9 info\n2 cas k [1,2]\n2 fail error=condition";

    assert_eq!(finding(text), Finding::Holds);
}

#[test]
fn of_two_swaps_of_one_content_one_must_fail() {
    let text = "1 write k 1\n1 ok\n2 cas k [1,2]\n3 cas k [1,3]\n2 ok\n";

    assert_eq!(finding(&format!("{text} 3 ok")), Finding::Violated);
    assert_eq!(finding(&format!("{text} 3 fail error=condition")), Finding::Holds);
}

#[test]
fn keys_are_registers_of_their_own() {
    let text = "1 write a 1\n1 ok\n1 write b 2\n1 ok\n2 read a\n2 ok 1\n2 read b\n2 ok null";
    let verdict = check(&history(text)).unwrap();

    assert_eq!(verdict.finding, Finding::Violated);
    assert_eq!(verdict.violations.len(), 1);
    assert_eq!(verdict.violations[0].key.as_deref(), Some("b"));
}

#[test]
fn a_stale_read_among_many_calls_is_shown_by_three() {
    let mut text = String::new();
    for number in 1..=40 {
        text += &format!("1 write k {number}\n1 ok\n2 read k\n2 ok {number}\n");
    }
    text += "3 read k\n3 ok 7\n4 write k 41\n4 ok\n";

    let verdict = check(&history(&text)).unwrap();

    let witness = &verdict.violations[0].witness;
    let told: Vec<(&str, &str)> =
        witness.iter().map(|entry| (entry.process.as_str(), entry.f.as_str())).collect();
    assert_eq!(told.len(), 6, "{witness:?}");
    assert_eq!(told[4..], [("3", "read"), ("3", "read")]);
    assert!(verdict.violations[0].what.contains("a read that saw write 7"), "{verdict:?}");
}

#[test]
fn nothing_to_check_is_no_success() {
    assert_eq!(check(&[]).unwrap().finding, Finding::Unknown);
}

#[test]
fn what_is_no_history_is_refused() {
    let twice = "1 read k\n1 ok null";
    let entries = history(twice);
    let lines = |picked: &[usize]| -> Vec<Entry> {
        picked.iter().map(|place| entries[*place].clone()).collect()
    };

    assert!(check(&lines(&[1])).unwrap_err().to_string().contains("has not begun"));
    assert!(check(&lines(&[0, 0])).unwrap_err().to_string().contains("begins again"));
    assert!(check(&history("1 read k\n1 ok [1]")).is_err());
}

/// A few operations at random: of few contents, so that many are explained and many are not.
fn few(draws: &mut Draws) -> Vec<Operation> {
    let count = 2 + draws.below(6);
    let mut lines: Vec<u64> = (0..2 * count as u64).collect();
    for place in (1..lines.len()).rev() {
        lines.swap(place, draws.below(place + 1));
    }
    let contents = [None, Some(1), Some(2), Some(3)];
    let mut operations: Vec<Operation> = lines
        .chunks(2)
        .map(|pair| {
            let mut content = || contents[draws.below(contents.len())];
            let (one, other) = (content(), content());
            let action = match draws.below(10) {
                0..4 => Action::Read(one),
                4..7 => Action::Write(one),
                7..9 => Action::Swap(one, other),
                _ => Action::Unlike(one),
            };
            let certain = action.written().is_none() || !draws.chance(20);
            let ends = if certain { pair[0].max(pair[1]) } else { u64::MAX };
            Operation { begins: pair[0].min(pair[1]), ends, action }
        })
        .collect();
    // Short operations give more order than such of random length.
    if draws.chance(50) {
        let mut line = 0;
        for operation in &mut operations {
            operation.begins = line;
            line += 2 + 2 * draws.below(6) as u64;
            // Ends are odd and beginnings even: no line is both.
            let ends = operation.begins + 1 + 2 * draws.below(12) as u64;
            operation.ends = if operation.is_certain() { ends } else { u64::MAX };
        }
    }
    operations.sort_by_key(|operation| operation.begins);
    operations
}

#[test]
fn the_search_judges_as_one_that_tries_every_order() {
    let (mut explained, mut not) = (0, 0);
    for seed in 0..8_000 {
        let operations = few(&mut Draws::new(seed));

        let searched = search(&operations, 1_000_000).found;

        let expected = is_linearizable(&operations);
        assert_eq!(searched == Found::Order, expected, "seed {seed}: {operations:?}");
        *(if expected { &mut explained } else { &mut not }) += 1;
    }
    assert!(explained > 1_500 && not > 1_500, "{explained} {not}");
}

#[test]
fn the_first_answer_without_an_order_is_named() {
    let mut checked = 0;
    for seed in 0..4_000 {
        let operations = few(&mut Draws::new(seed));
        if search(&operations, 1_000_000).found != Found::None {
            continue;
        }

        let line = first_without(&operations, 1_000_000);

        let until = |line: u64| -> Vec<Operation> {
            operations.iter().filter_map(|one| one.known_at(line)).collect()
        };
        assert!(is_linearizable(&until(line - 1)), "seed {seed}: {operations:?}");
        assert!(!is_linearizable(&until(line)), "seed {seed}: {operations:?}");
        checked += 1;
    }
    assert!(checked > 1_000);
}

#[test]
fn a_witness_has_no_order_either_and_nothing_that_could_be_left_out() {
    let mut lengths = 0;
    for seed in 0..4_000 {
        let operations = few(&mut Draws::new(seed));
        if search(&operations, 1_000_000).found != Found::None {
            continue;
        }

        let line = first_without(&operations, 1_000_000);
        let kept = shorten(&operations, line, 1_000_000);

        let kept: Vec<Operation> = kept.into_iter().map(|(_, operation)| operation).collect();
        assert!(!is_linearizable(&kept), "seed {seed}: {kept:?} of {operations:?}");
        for place in (0..kept.len()).filter(|place| kept[*place].action.written().is_none()) {
            let mut fewer = kept.clone();
            fewer.remove(place);
            assert!(is_linearizable(&fewer), "seed {seed}: {kept:?}");
        }
        lengths += operations.len() - kept.len();
    }
    assert!(lengths > 1_000, "little was left out: {lengths}");
}

#[test]
fn histories_of_one_copy_are_linearizable() {
    for load in [Load::Register, Load::Cas] {
        for seed in 0..150 {
            let entries = model::history(&Shape::atomic(load), seed);

            let verdict = check(&entries).unwrap();

            assert_eq!(verdict.finding, Finding::Holds, "seed {seed}: {verdict:#?}");
        }
    }
}

#[test]
fn every_stale_lost_and_invented_read_is_found() {
    for (name, mutate) in [
        ("stale read", mutation::stale_read as mutation::Mutation),
        ("lost write", mutation::lost_write),
        ("invented content", mutation::invented_content),
        ("a failed write that shows", mutation::denied_write_shows),
        ("new and then old", mutation::inversion),
        ("impossible cas", mutation::impossible_cas),
    ] {
        let load = if name == "impossible cas" { Load::Cas } else { Load::Register };
        mutation::assert_found(name, &Shape::atomic(load), mutate, |entries| {
            check(entries).unwrap().finding
        });
    }
}

#[test]
fn majorities_without_an_order_of_ballots_are_not_linearizable() {
    let shape = Shape { keys: 1, calls: 300, ..Shape::majorities(Load::Register) };
    let violated =
        |seed: &u64| check(&model::history(&shape, *seed)).unwrap().finding == Finding::Violated;
    let violated = (0..100).filter(violated).count();

    assert!(violated > 50, "{violated}");
}

#[test]
fn a_long_history_takes_hardly_more_states_than_calls() {
    for (keys, clients) in [(500, 20), (10, 20)] {
        let shape = Shape { keys, clients, calls: 50_000, ..Shape::atomic(Load::Cas) };
        let entries = model::history(&shape, 1);
        let calls = call::calls(&entries).unwrap();
        let (mut operations, mut states) = (0, 0);
        for calls in
            call::by_key(&calls, &quorate_jepsen::checker::register::FUNCTIONS).into_values()
        {
            let (_, steps) = operations_of(&calls).unwrap();
            operations += steps.len();
            let searched = search(&steps, 5_000_000);
            assert_eq!(searched.found, Found::Order);
            states += searched.states;
        }

        assert!(operations > 45_000, "{operations}");
        assert!(states < 20 * operations, "{states} states for {operations} calls");
    }
}

#[test]
fn a_search_that_takes_too_long_is_no_success() {
    let entries = model::history(&Shape { keys: 1, ..Shape::atomic(Load::Register) }, 1);
    let calls = call::calls(&entries).unwrap();
    let (_, operations) = operations_of(&calls).unwrap();

    assert_eq!(search(&operations, 5).found, Found::Unknown);
    assert_eq!(search(&operations, 5_000).found, Found::Order);
}
