use std::time::Duration;

use quorate_jepsen::checker::Finding;
use quorate_jepsen::checker::progress::{check, faults};

use super::script::history;

const CUT: &str = "1 read k node=1\n1 ok null\n2 read k node=2\n2 ok null\n\
                   nemesis cut {\"phase\":\"begin\"}\n1 read k node=1\n1 info error=late\n\
                   +100 nemesis cut {\"phase\":\"end\"}\n";

fn finding(text: &str) -> Finding {
    check(&history(text), Duration::from_millis(50)).unwrap().finding
}

#[test]
fn after_the_last_fault_every_request_is_served() {
    let late = format!("{CUT}+100 1 read k node=1\n1 ok null\n2 read k node=2\n2 ok null\n");

    assert_eq!(finding(&late), Finding::Holds);
    assert_eq!(finding(&format!("{late} 1 read k node=1\n1 fail error=503")), Finding::Violated);
    assert_eq!(finding(&format!("{late} 1 read k node=1\n1 info")), Finding::Violated);
    assert_eq!(finding(&format!("{late} 1 read k node=1")), Finding::Violated);
}

#[test]
fn a_missed_condition_is_served() {
    let late = format!("{CUT}+100 1 cas k [1,2] node=1\n1 fail error=condition\n");

    assert_eq!(finding(&format!("{late} 2 read k node=2\n2 ok null")), Finding::Holds);
}

#[test]
fn failures_soon_after_a_fault_are_allowed() {
    let text = format!(
        "{CUT} 1 read k node=1\n1 fail error=503\n\
         +100 1 read k node=1\n1 ok null\n2 read k node=2\n2 ok null"
    );

    assert_eq!(finding(&text), Finding::Holds);
}

#[test]
fn a_node_that_nobody_asked_afterwards_is_no_success() {
    assert_eq!(finding(&format!("{CUT}+100 1 read k node=1\n1 ok null")), Finding::Unknown);
    assert_eq!(finding(CUT), Finding::Unknown);
}

#[test]
fn a_fault_without_an_end_is_no_success() {
    let text = "nemesis cut {\"phase\":\"begin\"}\n+500 1 read k node=1\n1 ok null";

    assert_eq!(finding(text), Finding::Unknown);
}

#[test]
fn faults_are_paired_by_name_and_node_and_moments_stand_alone() {
    let text = "nemesis kill node=1 {\"phase\":\"begin\"}\nnemesis kill node=2 {\"phase\":\"begin\"}\n\
                nemesis kill node=1 {\"phase\":\"end\"}\nnemesis start node=1\n\
                nemesis final-reads {\"phase\":\"begin\"}";

    let found = faults(&history(text));

    let told: Vec<_> = found
        .iter()
        .map(|fault| (fault.name.as_str(), fault.node, fault.begins, fault.ends))
        .collect();
    assert_eq!(
        told,
        [
            ("kill", Some(1), 1_000_000, Some(3_000_000)),
            ("kill", Some(2), 2_000_000, None),
            ("start", Some(1), 4_000_000, Some(4_000_000)),
        ]
    );
}
