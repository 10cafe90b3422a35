use quorate_jepsen::checker::Finding;
use quorate_jepsen::checker::call::{Call, calls};
use quorate_jepsen::checker::listing::check;
use quorate_jepsen::checker::regular::Stale;
use quorate_jepsen::history::Entry;
use serde_json::json;

use super::model::{self, Draws, Load, Shape};
use super::mutation::{self, Mutation};
use super::script::history;

fn finding(text: &str) -> Finding {
    check(&history(text), Stale::Violation).unwrap().finding
}

#[test]
fn a_list_shows_what_was_put_before_it_began() {
    let text = "1 write a/1 1\n1 ok\n1 write b/1 2\n1 ok\n2 list a/\n2 ok ";

    assert_eq!(finding(&format!("{text} [\"a/1\"]")), Finding::Holds);
    assert_eq!(finding(&format!("{text} []")), Finding::Violated);
    assert_eq!(finding(&format!("{text} [\"a/1\",\"b/1\"]")), Finding::Violated);
}

#[test]
fn a_key_is_shown_once_and_in_order() {
    let text = "1 write a 1\n1 ok\n1 write b 2\n1 ok\n2 list\n2 ok ";

    assert_eq!(finding(&format!("{text} [\"a\",\"b\"]")), Finding::Holds);
    assert_eq!(finding(&format!("{text} [\"a\",\"b\",\"b\"]")), Finding::Violated);
    assert_eq!(finding(&format!("{text} [\"b\",\"a\"]")), Finding::Violated);
}

#[test]
fn a_key_that_is_deleted_meanwhile_may_show_or_not() {
    let text = "1 write a 1\n1 ok\n2 list\n1 delete a\n1 ok\n2 ok ";

    assert_eq!(finding(&format!("{text} [\"a\"]")), Finding::Holds);
    assert_eq!(finding(&format!("{text} []")), Finding::Holds);
}

#[test]
fn a_deleted_key_does_not_show_and_one_that_was_put_again_does() {
    let text = "1 write a 1\n1 ok\n1 delete a\n1 ok\n";

    assert_eq!(finding(&format!("{text} 2 list\n2 ok [\"a\"]")), Finding::Violated);
    assert_eq!(finding(&format!("{text} 2 list\n2 ok []")), Finding::Holds);
    let again = format!("{text} 1 write a 2\n1 ok\n");
    assert_eq!(finding(&format!("{again} 2 list\n2 ok []")), Finding::Violated);
}

#[test]
fn unknown_puts_and_deletes_may_show_or_hide_a_key_for_ever() {
    let put = "1 write a 1\n1 info\n2 delete a\n2 ok\n3 list\n3 ok ";
    let delete = "1 delete a\n1 info\n2 write a 1\n2 ok\n3 list\n3 ok ";

    for text in [put, delete] {
        assert_eq!(finding(&format!("{text} [\"a\"]")), Finding::Holds);
        assert_eq!(finding(&format!("{text} []")), Finding::Holds);
    }
}

#[test]
fn a_key_that_was_never_put_or_certainly_not_does_not_show_at_any_level() {
    for text in ["2 list\n2 ok [\"a\"]", "1 write a 1\n1 fail\n2 list\n2 ok [\"a\"]"] {
        assert_eq!(check(&history(text), Stale::Counted).unwrap().finding, Finding::Violated);
    }
}

#[test]
fn at_sloppy_levels_a_list_may_lag() {
    let text = "1 write a 1\n1 ok\n2 list\n2 ok []";

    let verdict = check(&history(text), Stale::Counted).unwrap();

    assert_eq!(verdict.finding, Finding::Holds);
    assert!(verdict.figures.contains(&("late".to_owned(), "1".to_owned())));
}

#[test]
fn histories_of_majorities_list_what_was_put() {
    for seed in 0..300 {
        let entries = model::history(&Shape::majorities(Load::List), seed);

        let verdict = check(&entries, Stale::Violation).unwrap();

        assert_eq!(verdict.finding, Finding::Holds, "seed {seed}: {verdict:#?}");
    }
}

fn lists<'a>(calls: &[Call<'a>]) -> Vec<Call<'a>> {
    calls.iter().filter(|call| call.f() == "list" && call.is_ok()).copied().collect()
}

fn shown(list: &Call<'_>) -> Vec<String> {
    serde_json::from_value(list.value().clone()).unwrap()
}

fn changed_list(
    entries: &[Entry],
    draws: &mut Draws,
    change: impl Fn(&mut Vec<String>),
) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let mut lists = lists(&calls);
    lists.retain(|list| !shown(list).is_empty());
    let list = draws.pick(&lists)?;
    let mut names = shown(list);
    change(&mut names);
    Some(mutation::answered(entries, mutation::end_line(list), json!(names)))
}

fn doubled(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    changed_list(entries, draws, |names| names.insert(0, names[0].clone()))
}

fn invented(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    changed_list(entries, draws, |names| names.push("kz".to_owned()))
}

/// A list lacks a key that no delete was near of.
fn hidden(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let mut places = Vec::new();
    for list in lists(&calls) {
        for name in shown(&list) {
            let of_key = |call: &&Call<'_>| call.key() == Some(name.as_str());
            let put = |call: &Call<'_>| call.f() == "write" && call.is_ok() && call.precedes(&list);
            let undone = |put: &Call<'_>| {
                calls
                    .iter()
                    .filter(of_key)
                    .any(|call| call.f() == "delete" && call.may_be() && !call.precedes(put))
            };
            if calls.iter().filter(of_key).any(|call| put(call) && !undone(call)) {
                let rest: Vec<String> =
                    shown(&list).into_iter().filter(|other| *other != name).collect();
                places.push((mutation::end_line(&list), rest));
            }
        }
    }
    let (line, rest) = draws.pick(&places)?;
    Some(mutation::answered(entries, *line, json!(rest)))
}

/// A list shows a key that was certainly deleted.
fn resurrected(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let mut places = Vec::new();
    for list in lists(&calls) {
        for delete in calls.iter().filter(|call| call.f() == "delete" && call.is_ok()) {
            let before = |put: &Call<'_>| put.precedes(delete) || put.begins() > list.ends();
            let mut puts = calls
                .iter()
                .filter(|call| call.f() == "write" && call.key() == delete.key() && call.may_be());
            if delete.precedes(&list) && puts.all(before) {
                let mut names = shown(&list);
                names.push(delete.key()?.to_owned());
                names.sort();
                places.push((mutation::end_line(&list), names));
            }
        }
    }
    let (line, names) = draws.pick(&places)?;
    Some(mutation::answered(entries, *line, json!(names)))
}

#[test]
fn every_doubled_invented_hidden_and_resurrected_key_is_found() {
    let shape = Shape { keys: 12, ..Shape::majorities(Load::List) };
    for (name, mutate) in [
        ("doubled", doubled as Mutation),
        ("invented", invented),
        ("hidden", hidden),
        ("resurrected", resurrected),
    ] {
        mutation::assert_found(name, &shape, mutate, |entries| {
            check(entries, Stale::Violation).unwrap().finding
        });
    }
}
