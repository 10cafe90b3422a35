//! The model of gossip beside chitchat itself, on a paused clock.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::net::SocketAddr;
use std::time::Duration;

use chitchat::transport::{ChannelTransport, Socket, Transport};
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, ChitchatMessage, Deserializable,
    FailureDetectorConfig, spawn_chitchat,
};
use quorate::membership::GossipConfig;
use quorate::types::NodeId;
use quorate_simulation::clock::WorldTime;
use quorate_simulation::entropy::Seed;
use quorate_simulation::models::figures::mean;
use quorate_simulation::models::gossip::{Settings, Traffic, detect};
use quorate_simulation::world::simulate;

const CLUSTER: &str = "0123456789abcdef";
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1_000 + number))
}

fn id(number: u16, boot: u64) -> ChitchatId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    ChitchatId::new(NodeId::from_bytes(bytes).to_string(), boot, address(number))
}

/// A node that is configured as the product configures its own, and knows `seeds`.
async fn start(
    transport: &ChannelTransport,
    number: u16,
    boot: u64,
    seeds: &[u16],
) -> ChitchatHandle {
    let config = ChitchatConfig {
        chitchat_id: id(number, boot),
        cluster_id: CLUSTER.to_owned(),
        gossip_interval: GossipConfig::INTERVAL,
        listen_addr: address(number),
        seed_nodes: seeds.iter().map(|seed| address(*seed).to_string()).collect(),
        failure_detector_config: FailureDetectorConfig::new(
            GossipConfig::PHI_THRESHOLD,
            GossipConfig::WINDOW,
            GossipConfig::INTERVAL_MAX,
            GossipConfig::INTERVAL,
            FORGOTTEN_AFTER,
        ),
        marked_for_deletion_grace_period: FORGOTTEN_AFTER,
        catchup_callback: None,
        extra_liveness_predicate: None,
    };
    spawn_chitchat(config, Vec::new(), transport).await.unwrap()
}

/// A cluster that has settled. Its nodes call their peers at different times.
async fn settled(
    transport: &ChannelTransport,
    time: &WorldTime,
    nodes: u16,
) -> Vec<ChitchatHandle> {
    let all: Vec<u16> = (0..nodes).collect();
    let mut handles = Vec::new();
    for number in &all {
        handles.push(start(transport, *number, 1, &all).await);
        time.sleep(GossipConfig::INTERVAL * 7 / 5 / u32::from(nodes) * 3).await;
    }
    time.sleep(Duration::from_secs(10)).await;
    handles
}

async fn is_live(handle: &ChitchatHandle, node: &ChitchatId) -> bool {
    handle.chitchat().lock().await.live_nodes().any(|live| live == node)
}

#[test]
fn chitchat_sends_as_many_bytes_as_the_model_says() {
    for nodes in [3, 10, 40] {
        let per_second = simulate(async {
            let (transport, time) = (ChannelTransport::default(), WorldTime::begin());
            let _handles = settled(&transport, &time, nodes).await;
            let before = transport.statistics();
            time.sleep(Duration::from_secs(20)).await;
            let after = transport.statistics();
            (after.num_bytes_total - before.num_bytes_total) as f64 / 20.0 / f64::from(nodes)
        })
        .unwrap();

        let traffic = Traffic::of(&Settings::configured(), usize::from(nodes));
        let ratio = per_second / (traffic.sent - traffic.facts);
        assert!(
            (ratio - 1.0).abs() < 0.03,
            "{nodes} nodes: {per_second} B/s, {ratio} of the model"
        );
    }
}

#[test]
fn chitchat_notices_a_death_as_soon_as_the_model_says() {
    for nodes in [3_u16, 20] {
        let noticed = simulate(async {
            let (transport, time) = (ChannelTransport::default(), WorldTime::begin());
            let mut noticed = Vec::new();
            for life in 0..8 {
                let transport = transport.clone();
                let mut handles = settled(&transport, &time, nodes).await;
                time.sleep(Duration::from_millis(37 * life)).await;
                handles.remove(0).abort();
                noticed.extend(times_to_notice(&handles, &time).await);
                for handle in handles {
                    handle.abort();
                }
                time.sleep(Duration::from_secs(1)).await;
            }
            noticed
        })
        .unwrap();

        let settings = Settings::configured();
        let trials = 0..100_u64;
        let model: Vec<f64> = trials
            .flat_map(|trial| detect(&settings, usize::from(nodes), Seed(trial)).seconds)
            .collect();
        // The product looks at chitchat's list every half round: a quarter of a round later.
        let looked = mean(&noticed) + settings.interval / 4.0;
        let ratio = looked / mean(&model);
        assert_eq!(noticed.len(), 8 * usize::from(nodes - 1));
        assert!((ratio - 1.0).abs() < 0.1, "{nodes} nodes: {looked} s, {ratio} of the model");
    }
}

/// Seconds until each node takes node 0 for dead, as soon as it does.
async fn times_to_notice(handles: &[ChitchatHandle], time: &WorldTime) -> Vec<f64> {
    let (victim, died) = (id(0, 1), time.elapsed());
    let mut waiting: Vec<&ChitchatHandle> = handles.iter().collect();
    let mut noticed = Vec::new();
    while !waiting.is_empty() && time.elapsed() < died + Duration::from_secs(20) {
        time.sleep(Duration::from_millis(5)).await;
        let mut still = Vec::new();
        for handle in waiting {
            if is_live(handle, &victim).await {
                still.push(handle);
            } else {
                noticed.push((time.elapsed() - died).as_secs_f64());
            }
        }
        waiting = still;
    }
    noticed
}

/// A SYN of a node that knows of so many nodes, by chitchat's wire format.
fn syn_of(known: u16) -> ChitchatMessage {
    let mut bytes = 45_139_u16.to_le_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend(known.to_le_bytes());
    for number in 1..=known {
        let name = id(number, 1).node_id;
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend([4, 10, 0, 0, 1]);
        bytes.extend((1_000 + number).to_le_bytes());
        bytes.extend([1_u64, 0, 0].iter().flat_map(|version| version.to_le_bytes()));
    }
    bytes.extend((CLUSTER.len() as u16).to_le_bytes());
    bytes.extend(CLUSTER.as_bytes());
    ChitchatMessage::deserialize(&mut &bytes[..]).unwrap()
}

async fn answered(known: u16) -> bool {
    let (transport, time) = (ChannelTransport::default(), WorldTime::begin());
    let _node = start(&transport, 0, 1, &[]).await;
    let mut peer: Box<dyn Socket> = transport.open(address(1)).await.unwrap();
    peer.send(address(0), syn_of(known)).await.unwrap();
    let mut answered = false;
    for _ in 0..10 {
        let pause = std::pin::pin!(time.sleep(Duration::from_millis(100)));
        let message = std::pin::pin!(peer.recv());
        if let futures_util::future::Either::Left((message, _)) =
            futures_util::future::select(message, pause).await
        {
            answered |= matches!(message.unwrap().1, ChitchatMessage::SynAck { .. });
        }
    }
    answered
}

#[test]
fn chitchat_answers_up_to_the_size_that_the_model_names_and_not_beyond() {
    let settings = Settings::configured();
    // The node itself is one of those that its digest names.
    for (known, fits) in [(894, true), (895, false)] {
        let traffic = Traffic::of(&settings, usize::from(known) + 1);

        assert_eq!(traffic.fits(), fits);
        assert_eq!(simulate(answered(known)).unwrap(), fits, "{known} known");
    }
}

#[test]
fn every_life_of_a_node_counts() {
    let known = simulate(async {
        let (transport, time) = (ChannelTransport::default(), WorldTime::begin());
        let watcher = start(&transport, 0, 1, &[]).await;
        for boot in 1..=5 {
            let node = start(&transport, 1, boot, &[0]).await;
            time.sleep(Duration::from_secs(1)).await;
            node.abort();
            time.sleep(Duration::from_secs(1)).await;
        }
        time.sleep(Duration::from_secs(3_600)).await;
        watcher.chitchat().lock().await.node_states().len()
    })
    .unwrap();

    assert_eq!(known, 6);
}
