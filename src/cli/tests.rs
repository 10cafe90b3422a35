//! What can be typed, and how answers look.

use clap::{CommandFactory, Parser};

use super::{Cli, Command, Output, next_step, ring, status};
use crate::admin::{
    AdminError, ClusterStatus, ErrorKind, Finding, Health, HealthLevel, Holding, Location,
    NodeStatus, Replica, RingNode, RingReport, Role,
};
use crate::membership::Liveness;
use crate::replication::Level;
use crate::types::{ByteCount, ClusterId, NodeId, Zone};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn refusal(line: &str) -> String {
    let error = parse(line).err().unwrap();
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

#[test]
fn the_commands_contradict_nothing() {
    Cli::command().debug_assert();
}

#[test]
fn what_the_documentation_types_is_understood() {
    for line in [
        "quorate server --config /etc/quorate.toml",
        "quorate server --dev --data /tmp/q",
        "quorate cluster init --expect 3",
        "quorate status -o json",
        "quorate --admin-url http://n2:9001 --token t ring",
        "quorate locate bucket a/b",
        "quorate bucket create b --level quorum --owner QK1",
        "quorate bucket info b",
        "quorate repair start --wait",
        "quorate repair start --partition 7",
        "quorate repair status -o json",
        "quorate repair pause",
        "quorate repair resume",
        "quorate key create app --access-key-id ID --secret-access-key S -o json",
        "quorate config check quorate.toml",
        "quorate kv get b a/b --level eventual --access-key-id i --secret-access-key s -o json",
        "quorate kv put b k v --w 3 --context c --access-key-id i --secret-access-key s",
        "quorate kv delete b k --endpoint https://n2:9005 --access-key-id i --secret-access-key s",
        "quorate kv list b --prefix a/ --delimiter / --access-key-id i --secret-access-key s",
        "quorate bench mixed --endpoint http://a:9000 --endpoint http://b:9000 --bucket b \
         --size 4KiB --concurrency 16 --duration 10s --pid 1 2 --access-key-id i \
         --secret-access-key s -o json",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn wrong_usage_says_what_is_missing() {
    assert!(refusal("quorate server").contains("--config"));
    assert!(refusal("quorate key create app --access-key-id ID").contains("--secret-access-key"));
    assert!(refusal("quorate cluster init --expect 0").contains("--expect"));
    assert!(refusal("quorate bucket create b --level strongest").contains("strongest"));
    assert!(refusal("quorate stauts").contains("status"));
}

#[test]
fn output_is_a_table_unless_asked_otherwise() {
    let cli = parse("quorate status").unwrap();

    assert_eq!(cli.global.output, Output::Table);
    assert!(matches!(cli.command, Command::Status));
}

fn node(name: &str, liveness: Liveness, capacity: ByteCount) -> NodeStatus {
    NodeStatus {
        name: name.to_owned(),
        node_id: NodeId::from_bytes([7; 16]),
        zone: Zone::new("a"),
        address: "10.0.0.1:9002".to_owned(),
        capacity,
        used: Some(ByteCount::gib(1)),
        free: None,
        liveness,
        owns: Some(1.0 / 3.0),
        layout_version: 1,
        software_version: "0.1.0".to_owned(),
        uptime_seconds: Some(421),
        clock_offset_ms: Some(-3),
        rebuilding: None,
    }
}

#[test]
fn status_shows_health_then_nodes_then_the_next_step() {
    let status = ClusterStatus {
        health: Health {
            level: HealthLevel::Warn,
            summary: "1/2 nodes up".to_owned(),
            findings: vec![Finding {
                code: "NODE_DOWN".to_owned(),
                level: HealthLevel::Warn,
                summary: "n2 is silent".to_owned(),
                next: "start it".to_owned(),
            }],
        },
        cluster_id: Some(ClusterId::from_bytes([1; 16])),
        layout_version: 1,
        partitions: 256,
        default_level: Level::Quorum,
        redundancy: None,
        answered_by: NodeId::from_bytes([7; 16]),
        nodes: vec![
            node("n1", Liveness::Up, ByteCount::gib(100)),
            node("n2", Liveness::Down, ByteCount(0)),
        ],
        next: Some("quorate key create NAME".to_owned()),
    };

    let screen = status::render(&status);

    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines[0], "HEALTH_WARN  1/2 nodes up");
    assert_eq!(lines[1], "  NODE_DOWN: n2 is silent");
    assert_eq!(lines[2], "    do: start it");
    assert!(lines[3].contains("layout v1 · 256 partitions"));
    assert!(lines[5].starts_with("State  Name  Zone  Address"));
    assert!(lines[6].contains("33.3%") && lines[6].contains("7m 1s") && lines[6].contains("-3 ms"));
    assert!(lines[7].starts_with("DOWN   n2"));
    assert_eq!(lines[9], "Next: quorate key create NAME");
}

#[test]
fn a_location_says_whether_the_owners_agree() {
    let replica = |name: &str, stamp: &str| Replica {
        name: name.to_owned(),
        node_id: NodeId::from_bytes([7; 16]),
        zone: Zone::new("a"),
        role: Role::Owner,
        liveness: Liveness::Up,
        holding: Holding::Object,
        stamp: Some(stamp.to_owned()),
    };
    let mut location = Location {
        bucket: "b".to_owned(),
        key: "k".to_owned(),
        token: "ff".to_owned(),
        partition: 255,
        layout_version: 1,
        replicas: vec![replica("n1", "5"), replica("n2", "5")],
    };

    let agreed = ring::render_location(&location);
    location.replicas.push(replica("n3", "4"));
    let torn = ring::render_location(&location);

    assert!(agreed.contains("The 2 owners that answered agree."), "{agreed}");
    assert!(torn.contains("The owners differ"), "{torn}");
}

#[test]
fn the_ring_shows_each_share() {
    let report = RingReport {
        layout_version: 1,
        partitions: 256,
        n: 3,
        balance: 1.02,
        zone_spread: 256,
        nodes: vec![RingNode {
            name: "n1".to_owned(),
            node_id: NodeId::from_bytes([7; 16]),
            zone: Zone::new("a"),
            capacity: ByteCount::gib(100),
            partitions: 128,
            owns: 0.5,
            fair: 0.5,
            scatter_width: 2,
        }],
    };

    let screen = ring::render_ring(&report);

    assert!(screen.contains("balance 1.020"), "{screen}");
    assert!(screen.contains("████████████············"), "{screen}");
}

#[test]
fn the_servers_advice_is_found_in_an_error() {
    let refusal = AdminError::new(ErrorKind::NotFound, "there is no bucket 'b'").next("list them");

    let error = anyhow::Error::from(refusal);

    assert_eq!(next_step(&error), Some("list them"));
    assert_eq!(format!("{error:#}"), "there is no bucket 'b'");
}
