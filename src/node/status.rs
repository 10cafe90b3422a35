//! How the cluster looks from this node.

use std::collections::{BTreeMap, BTreeSet};

use crate::admin::{ClusterStatus, Finding, Health, HealthLevel, NodeStatus, RingNode, RingReport};
use crate::membership::{Liveness, PeerState, facts};
use crate::replication::Level;
use crate::ring::{Capacity, Layout};
use crate::types::{ByteCount, NodeId, Zone};

use super::findings;
use super::redundancy::Proof;
use super::start::Node;

/// Copies that `status` and `ring` speak of: every bucket of this release has three.
const COPIES: usize = 3;

fn fact<'a>(peer: &'a PeerState, name: &str) -> Option<&'a str> {
    peer.facts.get(name).map(String::as_str)
}

fn number(peer: &PeerState, name: &str) -> Option<u64> {
    fact(peer, name)?.parse().ok()
}

fn capacity_bytes(capacity: Capacity) -> ByteCount {
    ByteCount(u64::from(capacity.0) << 30)
}

/// Partitions of which each node is among the owners, as a part of all copies.
fn shares(layout: &Layout) -> BTreeMap<NodeId, f64> {
    let mut counts: BTreeMap<NodeId, u32> = BTreeMap::new();
    for partition in layout.partitions().iter() {
        for &owner in layout.preference_list(partition).owners(COPIES) {
            *counts.entry(owner).or_default() += 1;
        }
    }
    let total: u32 = counts.values().sum();
    counts.into_iter().map(|(node, n)| (node, f64::from(n) / f64::from(total.max(1)))).collect()
}

/// Partitions whose owners are in as many zones as there can be.
fn well_spread(layout: &Layout) -> usize {
    let zones = |owners: &[NodeId]| {
        let zones: BTreeSet<&Zone> = owners
            .iter()
            .filter_map(|&owner| layout.member(owner).map(|member| &member.zone))
            .collect();
        zones.len()
    };
    let storing: Vec<NodeId> = layout
        .members()
        .iter()
        .filter(|member| member.capacity.owns())
        .map(|member| member.node)
        .collect();
    let wanted = zones(&storing).min(COPIES);
    layout
        .partitions()
        .iter()
        .filter(|&partition| zones(layout.preference_list(partition).owners(COPIES)) >= wanted)
        .count()
}

/// Partitions that are short of owners that are up.
struct Reach {
    unreadable: usize,
    short: usize,
}

fn reach(layout: &Layout, up: &dyn Fn(NodeId) -> bool) -> Reach {
    let mut reach = Reach { unreadable: 0, short: 0 };
    for partition in layout.partitions().iter() {
        let list = layout.preference_list(partition);
        let owners = list.owners(COPIES);
        let alive = owners.iter().filter(|&&owner| up(owner)).count();
        reach.unreadable += usize::from(alive < Level::Strict.writes(owners.len()));
        reach.short += usize::from(alive < owners.len());
    }
    reach
}

impl Node {
    /// The cluster as this node sees it.
    pub(super) fn cluster_status(
        &self,
        default_level: Level,
        proof: Option<&Proof>,
    ) -> ClusterStatus {
        let peers = self.membership.gossip().peers();
        let layout = self.membership.holder().current();
        let nodes = self.node_statuses(&peers, layout.as_deref());
        let more = self.membership_findings(&peers, &nodes);
        let health = health(&nodes, layout.as_deref(), (more, proof));
        let next = match &layout {
            None => Some(format!("quorate cluster init --expect {}", nodes.len())),
            Some(_) => health.findings.first().map(|finding| finding.next.clone()),
        };
        ClusterStatus {
            health,
            cluster_id: layout.as_ref().map(|layout| layout.cluster()),
            layout_version: layout.as_ref().map_or(0, |layout| layout.version().0),
            partitions: layout.as_ref().map_or(0, |layout| layout.partitions().get()),
            default_level,
            redundancy: proof.map(|proof| proof.redundancy.clone()),
            answered_by: self.coordinator.site().node,
            nodes,
            next,
        }
    }

    fn node_statuses(&self, peers: &[PeerState], layout: Option<&Layout>) -> Vec<NodeStatus> {
        let (now, heard) = (self.seams.clock.wall().0, self.seams.clock.monotonic());
        let memory = self.membership.memory();
        let clocks = &memory.clocks;
        let owns = layout.map(shares);
        let mut nodes: Vec<NodeStatus> = peers
            .iter()
            .map(|peer| NodeStatus {
                name: name_of(peer),
                node_id: peer.node,
                zone: Zone::new(fact(peer, facts::ZONE).unwrap_or("?")),
                address: peer.peer_address.to_string(),
                capacity: capacity_bytes(Capacity(
                    number(peer, facts::CAPACITY).and_then(|gib| gib.try_into().ok()).unwrap_or(0),
                )),
                used: number(peer, "used").map(ByteCount),
                free: number(peer, "free").map(ByteCount),
                liveness: peer.liveness,
                owns: owns.as_ref().map(|owns| owns.get(&peer.node).copied().unwrap_or(0.0)),
                layout_version: number(peer, facts::LAYOUT).unwrap_or(0),
                software_version: fact(peer, facts::VERSION).unwrap_or("?").to_owned(),
                uptime_seconds: number(peer, "started")
                    .filter(|_| peer.liveness == Liveness::Up)
                    .map(|started| now.saturating_sub(started) / 1_000),
                clock_offset_ms: match peer.node == self.coordinator.site().node {
                    true => Some(0),
                    false => clocks.ahead(peer.node, heard),
                },
                rebuilding: findings::rebuilt(peer),
            })
            .collect();
        for member in layout.map(Layout::members).unwrap_or_default() {
            if !nodes.iter().any(|node| node.node_id == member.node) {
                let known = memory.book.get(member.node);
                let address = known.as_ref().map(|known| known.address.to_string());
                nodes.push(NodeStatus {
                    name: known.map_or_else(|| member.node.short(), |known| known.name),
                    node_id: member.node,
                    zone: member.zone.clone(),
                    address: address.unwrap_or_else(|| "?".to_owned()),
                    capacity: capacity_bytes(member.capacity),
                    used: None,
                    free: None,
                    liveness: Liveness::Down,
                    owns: owns.as_ref().and_then(|owns| owns.get(&member.node).copied()),
                    layout_version: 0,
                    software_version: "?".to_owned(),
                    uptime_seconds: None,
                    clock_offset_ms: None,
                    rebuilding: None,
                });
            }
        }
        nodes.sort_by(|a, b| (&a.zone, &a.name).cmp(&(&b.zone, &b.name)));
        nodes
    }

    /// The ring as the layout in force has it.
    pub(super) fn ring_report(&self) -> Option<RingReport> {
        let layout = self.membership.holder().current()?;
        let report = layout.report();
        let copies = layout.copies_report(COPIES);
        let names: BTreeMap<NodeId, String> = self
            .membership
            .gossip()
            .peers()
            .iter()
            .map(|peer| (peer.node, name_of(peer)))
            .collect();
        let owns = shares(&layout);
        let clamp = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let total: f64 = report.nodes.iter().map(|node| node.fair).sum();
        let mut nodes: Vec<RingNode> = report
            .nodes
            .iter()
            .map(|node| RingNode {
                name: names.get(&node.node).cloned().unwrap_or_else(|| node.node.short()),
                node_id: node.node,
                zone: node.zone.clone(),
                capacity: capacity_bytes(node.capacity),
                partitions: clamp(node.partitions),
                owns: owns.get(&node.node).copied().unwrap_or(0.0),
                fair: if total > 0.0 { node.fair / total } else { 0.0 },
                scatter_width: clamp(node.scatter_width),
            })
            .collect();
        nodes.sort_by(|a, b| (&a.zone, &a.name).cmp(&(&b.zone, &b.name)));
        Some(RingReport {
            layout_version: layout.version().0,
            partitions: layout.partitions().get(),
            n: u8::try_from(COPIES.min(layout.storage_nodes())).unwrap_or(u8::MAX),
            balance: copies.balance,
            zone_spread: clamp(well_spread(&layout)),
            nodes,
        })
    }
}

pub(super) fn name_of(peer: &PeerState) -> String {
    fact(peer, facts::NAME).map_or_else(|| peer.node.short(), str::to_owned)
}

fn health(
    nodes: &[NodeStatus],
    layout: Option<&Layout>,
    (more, proof): (Vec<Finding>, Option<&Proof>),
) -> Health {
    let up = nodes.iter().filter(|node| node.liveness == Liveness::Up).count();
    let mut findings = more;
    let mut parts = vec![format!("{up}/{} nodes up", nodes.len())];
    match layout {
        None => {
            parts.push("no layout yet".to_owned());
            findings.push(Finding {
                code: "NO_LAYOUT".to_owned(),
                level: HealthLevel::Critical,
                summary: "this cluster has no layout yet and serves nothing".to_owned(),
                next: format!("quorate cluster init --expect {}", nodes.len()),
            });
        }
        Some(layout) => {
            let alive = |id: NodeId| {
                nodes.iter().any(|node| node.node_id == id && node.liveness == Liveness::Up)
            };
            let reach = reach(layout, &alive);
            let partitions = layout.partitions().get();
            let served = partitions as usize - reach.unreadable;
            parts.push(format!("{served}/{partitions} partitions readable and writable (quorum)"));
            parts.push(format!("layout v{}", layout.version().0));
            findings.extend(reach_findings(&reach));
        }
    }
    for node in nodes.iter().filter(|node| node.liveness == Liveness::Down) {
        findings.push(Finding {
            code: "NODE_DOWN".to_owned(),
            level: HealthLevel::Warn,
            summary: format!("node {} ({}) is down", node.name, node.address),
            next: format!("start node {} again, and look at its log", node.name),
        });
    }
    if let Some(proof) = proof {
        parts.push(proof.summary());
        findings.extend(proof.findings());
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let level = findings.iter().map(|finding| finding.level).max().unwrap_or(HealthLevel::Ok);
    Health { level, summary: parts.join(" · "), findings }
}

fn reach_findings(reach: &Reach) -> Vec<Finding> {
    let mut findings = Vec::new();
    if reach.unreadable > 0 {
        findings.push(Finding {
            code: "PARTITION_UNAVAILABLE".to_owned(),
            level: HealthLevel::Critical,
            summary: format!(
                "{} partitions have fewer owners up than a quorum: their keys answer 503",
                reach.unreadable
            ),
            next: "start the nodes that are down".to_owned(),
        });
    }
    if reach.short > 0 {
        findings.push(Finding {
            code: "UNDER_REPLICATED".to_owned(),
            level: HealthLevel::Warn,
            summary: format!(
                "{} partitions have an owner down; what it misses is brought to it after its return",
                reach.short
            ),
            next: "start the nodes that are down".to_owned(),
        });
    }
    findings
}
