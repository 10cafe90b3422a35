//! What the simulation counts is what the product marks: a mark that nobody counts, or that is
//! counted and not there, proves nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use quorate::env::mutation::Mutation;
use quorate_simulation::coverage::{MARKS, POINTS};
use quorate_simulation::mutations::{self, TABLE};

/// The literals that `call("…")` has in the product's sources.
fn literals(call: &str) -> Vec<String> {
    let mut found = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut |text| {
        for rest in text.split(&format!("probe::{call}(\"")).skip(1) {
            found.push(rest.split('"').next().unwrap().to_owned());
        }
    });
    found
}

fn read(folder: &Path, look: &mut dyn FnMut(&str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            look(&fs::read_to_string(path).unwrap());
        }
    }
}

fn assert_lists(call: &str, listed: &[&str]) {
    let found = literals(call);
    let distinct: BTreeSet<&str> = found.iter().map(String::as_str).collect();

    assert_eq!(found.len(), distinct.len(), "a name stands for one place: {found:?}");
    assert_eq!(distinct, listed.iter().copied().collect::<BTreeSet<_>>(), "{call}");
    assert!(listed.is_sorted(), "{call}");
}

#[test]
fn every_crash_point_of_the_product_is_one_that_machines_die_at() {
    assert_lists("crash_point", POINTS);
}

#[test]
fn every_mark_of_the_product_is_counted() {
    assert_lists("sometimes", MARKS);
}

#[test]
fn a_bug_is_in_the_table_once_at_most() {
    let mut in_table: Vec<Mutation> = TABLE.iter().map(|entry| entry.mutation).collect();
    let listed = in_table.len();
    in_table.sort_unstable();
    in_table.dedup();

    assert_eq!(in_table.len(), listed);
    assert!(listed > 0);
}

#[test]
fn the_documentation_shows_the_table_of_planted_bugs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulation.md");

    assert!(
        fs::read_to_string(path).unwrap().contains(&mutations::table()),
        "put the output of `quorate-simulation mutations --table` there"
    );
}
