//! Peers over loopback, with the real seams: what a caller is promised, and what a hostile or
//! broken peer cannot do.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quorate::env::{Clock, Monotonic, OsClock, OsEntropy, Tasks, TokioTasks, deadline_in};
use quorate::membership::{ChitchatGossip, Gossip, GossipConfig, Liveness};
use quorate::net::{
    BulkStream, ClusterSecret, Handler, HandlerError, LinkFacts, Message, PeerError, PeerIdentity,
    QuicConfig, QuicLimits, QuicTransport, RequestContext, ServiceId, Transport,
};
use quorate::types::NodeId;
use tokio::runtime::Runtime;

const SECRET: &str = "a secret that every node of the test knows";
const ECHO: ServiceId = ServiceId(1);
const SLEEP: ServiceId = ServiceId(2);
const REFUSE: ServiceId = ServiceId(3);
const FAIL: ServiceId = ServiceId(4);
const LARGE: ServiceId = ServiceId(5);
const BREAK: ServiceId = ServiceId(6);

/// Facts that count what they hear.
#[derive(Default)]
struct Facts {
    heard: AtomicU64,
}

impl LinkFacts for Facts {
    fn outgoing(&self) -> (u64, u64) {
        (7, 42)
    }

    fn incoming(&self, _peer: NodeId, layout_version: u64, hybrid_time: u64) {
        assert_eq!((layout_version, hybrid_time), (7, 42));
        self.heard.fetch_add(1, Ordering::Relaxed);
    }
}

struct Answers {
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Handler for Answers {
    async fn call(
        &self,
        context: RequestContext,
        service: ServiceId,
        request: Message,
    ) -> Result<Message, HandlerError> {
        match service {
            ECHO => Ok(request),
            SLEEP => {
                assert!(context.deadline > self.clock.monotonic());
                self.clock.sleep(Duration::from_secs(600)).await;
                Ok(request)
            }
            LARGE => Ok(Message { body: request.body, attachment: vec![9; 3 << 20].into() }),
            FAIL => Err(HandlerError::Failed("the disk is full".to_owned())),
            _ => Err(HandlerError::Refused("not here".to_owned())),
        }
    }

    async fn bulk(
        &self,
        _context: RequestContext,
        service: ServiceId,
        header: Bytes,
        mut stream: BulkStream,
    ) -> Result<(), HandlerError> {
        let failed = |error: PeerError| HandlerError::Failed(error.to_string());
        stream.sender.send(header).await.map_err(failed)?;
        while let Some(piece) = stream.receiver.next().await.map_err(failed)? {
            if service == BREAK {
                return Ok(());
            }
            if service == FAIL {
                return Err(HandlerError::Failed("the disk is full".to_owned()));
            }
            stream.sender.send(piece).await.map_err(failed)?;
        }
        stream.sender.finish().await.map_err(failed)
    }
}

/// A node on a runtime of its own: dropping it is what SIGKILL is, no peer hears a goodbye.
struct TestNode {
    id: NodeId,
    transport: Arc<QuicTransport>,
    facts: Arc<Facts>,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
    gossip: Option<Arc<ChitchatGossip>>,
    runtime: Option<Runtime>,
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

impl TestNode {
    fn start(number: u8, secret: &str, port: u16) -> Self {
        let id = NodeId::from_bytes([number; 16]);
        let secret = ClusterSecret::parse(secret).unwrap();
        let identity = PeerIdentity::derive(&secret, id).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let clock: Arc<dyn Clock> = Arc::new(OsClock::new());
        let facts = Arc::new(Facts::default());
        let limits = QuicLimits { bulk_per_peer: 4, calls_per_peer: 64, ..QuicLimits::default() };
        let transport = QuicTransport::bind(
            QuicConfig { listen: loopback(port), identity, limits },
            Arc::clone(&clock),
            Arc::new(OsEntropy::new()),
            Arc::new(TokioTasks::current()),
            Arc::clone(&facts) as Arc<dyn LinkFacts>,
        )
        .unwrap();
        transport.serve(Arc::new(Answers { clock: Arc::clone(&clock) }));
        let address = transport.local_address().unwrap();
        drop(_inside);
        Self { id, transport, facts, clock, address, gossip: None, runtime: Some(runtime) }
    }

    fn pair() -> (Self, Self) {
        let (first, second) = (Self::start(1, SECRET, 0), Self::start(2, SECRET, 0));
        first.transport.learn(second.id, second.address);
        (first, second)
    }

    fn soon(&self) -> Monotonic {
        deadline_in(&*self.clock, Duration::from_secs(10))
    }

    fn within(&self, millis: u64) -> Monotonic {
        deadline_in(&*self.clock, Duration::from_millis(millis))
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("the node runs").block_on(future)
    }

    fn call(&self, to: &Self, service: ServiceId, request: Message) -> Result<Message, PeerError> {
        self.run(self.transport.call(to.id, service, request, self.soon()))
    }

    fn join(&mut self, boot: u32, seeds: Vec<SocketAddr>) {
        let config = GossipConfig {
            cluster_id: "test".to_owned(),
            node: self.id,
            boot,
            advertise: self.address,
            seeds,
            interval: Duration::from_millis(250),
        };
        let starting = async {
            let tasks = Arc::new(TokioTasks::current());
            let clock = Arc::clone(&self.clock);
            ChitchatGossip::start(Arc::clone(&self.transport), config, clock, tasks).await
        };
        self.gossip = Some(self.run(starting).unwrap());
    }

    /// Waits until `met` holds for what gossip knows; false after `limit`.
    fn sees(&self, limit: Duration, met: impl Fn(&BTreeMap<NodeId, Liveness>) -> bool) -> bool {
        let gossip = self.gossip.as_ref().expect("the node gossips");
        let mut changes = gossip.changes();
        let deadline = deadline_in(&*self.clock, limit);
        let waiting = async {
            loop {
                let peers = gossip.peers().into_iter().map(|peer| (peer.node, peer.liveness));
                if met(&peers.collect()) {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        self.run(quorate::env::timeout_at(&*self.clock, deadline, waiting)).is_some()
    }

    fn kill(mut self) -> u16 {
        self.gossip.take();
        let port = self.address.port();
        self.runtime.take().expect("the node runs").shutdown_timeout(Duration::from_secs(2));
        port
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn pattern(length: usize, seed: usize) -> Bytes {
    (0..length).map(|at| ((at * 31 + seed * 17 + (at >> 8)) & 0xff) as u8).collect()
}

#[test]
fn a_request_is_answered_with_its_attachment_and_the_facts_of_both() {
    let (first, second) = TestNode::pair();
    for length in [0, 1, 5_000, 20 << 10, 40 << 10, 300 << 10, (4 << 20) - 6] {
        let request =
            Message { body: Bytes::from_static(b"body-1"), attachment: pattern(length, 3) };

        let answer = first.call(&second, ECHO, request.clone()).unwrap();

        assert_eq!(answer, request);
    }
    assert!(first.facts.heard.load(Ordering::Relaxed) >= 7);
    assert!(second.facts.heard.load(Ordering::Relaxed) >= 7);
    assert!(first.run(async { first.transport.round_trip(second.id) }).is_some());
}

#[test]
fn a_large_answer_to_a_small_request_arrives() {
    let (first, second) = TestNode::pair();

    let answer = first.call(&second, LARGE, b"x".to_vec().into()).unwrap();

    assert_eq!(answer.attachment.len(), 3 << 20);
}

#[test]
fn a_handlers_words_reach_the_caller() {
    let (first, second) = TestNode::pair();

    let refused = first.call(&second, REFUSE, Message::default()).unwrap_err();
    let failed = first.call(&second, FAIL, Message::default()).unwrap_err();

    assert!(matches!(&refused, PeerError::Refused { reason, .. } if reason == "not here"));
    assert!(refused.certainly_not_done());
    assert!(matches!(&failed, PeerError::Failed { reason, .. } if reason == "the disk is full"));
}

#[test]
fn many_callers_share_a_connection_and_the_surplus_is_refused_as_busy() {
    let (first, second) = TestNode::pair();
    let deadline = first.within(1_500);

    let results = first.run(async {
        let call = || first.transport.call(second.id, SLEEP, Message::default(), deadline);
        futures_util::future::join_all((0..80).map(|_| call())).await
    });

    let busy = |result: &Result<_, _>| matches!(result, Err(PeerError::Refused { reason, .. }) if reason == "busy");
    let late = |result: &Result<_, _>| matches!(result, Err(PeerError::TimedOut { .. }));
    assert_eq!(results.iter().filter(|result| busy(result)).count(), 16);
    assert_eq!(results.iter().filter(|result| late(result)).count(), 64);
}

#[test]
fn a_caller_stops_waiting_at_its_deadline() {
    let (first, second) = TestNode::pair();
    first.call(&second, ECHO, Message::default()).unwrap();
    let before = first.clock.monotonic();

    let calling = first.transport.call(second.id, SLEEP, Message::default(), first.within(200));
    let error = first.run(calling).unwrap_err();

    let took = first.clock.monotonic().since(before);
    assert!(matches!(error, PeerError::TimedOut { .. }), "{error}");
    assert!(took >= Duration::from_millis(190) && took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn an_oversized_request_is_refused_before_it_is_sent() {
    let (first, second) = TestNode::pair();
    let request = Message { body: Bytes::new(), attachment: vec![0; (4 << 20) + 1].into() };

    let error = first.call(&second, ECHO, request).unwrap_err();

    assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");
}

#[test]
fn an_unreachable_peer_fails_soon_and_then_at_once() {
    let first = TestNode::start(1, SECRET, 0);
    let silent = UdpSocket::bind(loopback(0)).unwrap();
    let nobody = NodeId::from_bytes([9; 16]);
    let call = || first.run(first.transport.call(nobody, ECHO, Message::default(), first.soon()));

    let unknown = call().unwrap_err();
    first.transport.learn(nobody, silent.local_addr().unwrap());
    let before = first.clock.monotonic();
    let dialled = call().unwrap_err();
    let dial = first.clock.monotonic().since(before);
    let again = call().unwrap_err();
    let pause = first.clock.monotonic().since(before) - dial;

    for error in [unknown, dialled, again] {
        assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");
    }
    assert!(dial < Duration::from_secs(3), "{dial:?}");
    assert!(pause < Duration::from_millis(20), "{pause:?}");
}

#[test]
fn a_node_does_not_call_itself() {
    let first = TestNode::start(1, SECRET, 0);

    let error = first.call(&first, ECHO, Message::default()).unwrap_err();

    assert!(error.to_string().contains("itself"), "{error}");
}

#[test]
fn a_taken_port_is_named() {
    let first = TestNode::start(1, SECRET, 0);
    let secret = ClusterSecret::parse(SECRET).unwrap();
    let identity = PeerIdentity::derive(&secret, NodeId::from_bytes([2; 16])).unwrap();
    let config = QuicConfig { listen: first.address, identity, limits: QuicLimits::default() };

    let result = first.run(async {
        let tasks = Arc::new(TokioTasks::current());
        let facts = Arc::new(Facts::default());
        let clock = Arc::clone(&first.clock);
        QuicTransport::bind(config, clock, Arc::new(OsEntropy::new()), tasks, facts)
    });

    let error = result.err().expect("the port is taken");
    assert!(error.to_string().contains(&first.address.to_string()), "{error}");
}

#[test]
fn bulk_travels_both_ways_unharmed() {
    let (first, second) = TestNode::pair();
    let pieces = 64;
    let header = Bytes::from_static(b"header");

    let received = first.run(async {
        let opening = first.transport.open(second.id, ECHO, header.clone(), first.soon());
        let BulkStream { mut sender, mut receiver } = opening.await.unwrap();
        let sending = async {
            for number in 0..pieces {
                sender.send(pattern(1 << 20, number)).await.unwrap();
            }
            sender.finish().await.unwrap();
        };
        let receiving = async {
            assert_eq!(receiver.next().await.unwrap(), Some(header.clone()));
            let mut count = 0;
            while let Some(piece) = receiver.next().await.unwrap() {
                assert_eq!(piece, pattern(1 << 20, count));
                count += 1;
            }
            count
        };
        futures_util::future::join(sending, receiving).await.1
    });

    assert_eq!(received, pieces);
}

#[test]
fn a_handlers_failure_ends_a_transfer_with_its_reason() {
    let (first, second) = TestNode::pair();

    let error = first.run(async {
        let opening = first.transport.open(second.id, FAIL, Bytes::new(), first.soon());
        let mut stream = opening.await.unwrap();
        stream.sender.send(pattern(100, 1)).await.unwrap();
        stream.receiver.next().await.unwrap();
        stream.receiver.next().await.unwrap_err()
    });

    assert!(matches!(&error, PeerError::Failed { reason, .. } if reason == "the disk is full"));
}

#[test]
fn a_transfer_that_the_other_side_dropped_is_broken_and_not_finished() {
    let (first, second) = TestNode::pair();

    let error = first.run(async {
        let opening = first.transport.open(second.id, BREAK, Bytes::new(), first.soon());
        let mut stream = opening.await.unwrap();
        stream.sender.send(pattern(100, 1)).await.unwrap();
        loop {
            match stream.receiver.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it looks finished"),
                Err(error) => break error,
            }
        }
    });

    assert!(matches!(error, PeerError::Lost { .. }), "{error}");
}

#[test]
fn a_sender_dropped_midway_is_an_error_at_the_receiver() {
    let (first, second) = TestNode::pair();

    let error = first.run(async {
        let opening = first.transport.open(second.id, ECHO, Bytes::new(), first.soon());
        let BulkStream { mut sender, mut receiver } = opening.await.unwrap();
        receiver.next().await.unwrap();
        sender.send(pattern(100, 1)).await.unwrap();
        assert_eq!(receiver.next().await.unwrap(), Some(pattern(100, 1)));
        drop(sender);
        // The handler hears of the break as an error and fails with it.
        receiver.next().await.unwrap_err()
    });

    assert!(
        matches!(&error, PeerError::Failed { reason, .. } if reason.contains("broke")),
        "{error}"
    );
}

#[test]
fn transfers_beyond_the_limit_are_refused_and_control_does_not_wait() {
    let (first, second) = TestNode::pair();

    first.run(async {
        let mut stuck = Vec::new();
        for _ in 0..4 {
            let opening = first.transport.open(second.id, ECHO, Bytes::new(), first.soon());
            let mut stream = opening.await.unwrap();
            stream.receiver.next().await.unwrap();
            // Nobody reads the echo, so both windows fill until nothing moves.
            let deadline = first.within(500);
            let filling = async { while stream.sender.send(pattern(1 << 20, 1)).await.is_ok() {} };
            assert!(quorate::env::timeout_at(&*first.clock, deadline, filling).await.is_none());
            stuck.push(stream);
        }
        let opening = first.transport.open(second.id, ECHO, Bytes::new(), first.soon());
        let refused = opening.await.unwrap().receiver.next().await.unwrap_err();
        let calling = first.transport.call(second.id, ECHO, Message::default(), first.within(500));

        assert!(matches!(refused, PeerError::Refused { .. }), "{refused}");
        calling.await.unwrap();
    });
}

#[test]
fn a_peer_that_restarts_on_its_port_is_found_again() {
    let (first, second) = TestNode::pair();
    first.call(&second, ECHO, Message::default()).unwrap();

    let port = second.kill();
    let second = TestNode::start(2, SECRET, port);
    let before = first.clock.monotonic();
    // The first call meets the connection of the former boot and may be lost with it.
    let calling = first.transport.call(second.id, ECHO, Message::default(), first.within(2_000));
    drop(first.run(calling));
    let again = first.call(&second, ECHO, b"again".to_vec().into());

    assert_eq!(again.unwrap().body, b"again"[..]);
    let took = first.clock.monotonic().since(before);
    assert!(took < Duration::from_secs(3), "it waited for the idle timeout: {took:?}");
}

#[test]
fn a_request_under_way_when_its_peer_restarts_is_lost() {
    let (first, second) = TestNode::pair();
    first.call(&second, ECHO, Message::default()).unwrap();
    let transport = Arc::clone(&first.transport);
    let (peer, deadline) = (second.id, first.soon());
    let handle = first.runtime.as_ref().unwrap().handle().clone();
    let waiting = std::thread::Builder::new()
        .spawn(move || handle.block_on(transport.call(peer, SLEEP, Message::default(), deadline)));
    first.run(first.clock.sleep(Duration::from_millis(200)));

    let port = second.kill();
    let _second = TestNode::start(2, SECRET, port);
    let error = waiting.unwrap().join().unwrap().unwrap_err();

    assert!(matches!(error, PeerError::Lost { .. }), "{error}");
    assert!(!error.certainly_not_done());
}

#[test]
fn another_cluster_secret_is_refused_both_ways() {
    let first = TestNode::start(1, SECRET, 0);
    let other = TestNode::start(2, "a secret of quite another cluster", 0);
    for (caller, callee) in [(&first, &other), (&other, &first)] {
        caller.transport.learn(callee.id, callee.address);

        let error = caller.call(callee, ECHO, Message::default()).unwrap_err();

        assert!(error.certainly_not_done());
        assert!(error.to_string().contains("another cluster secret?"), "{error}");
    }
}

#[test]
fn a_node_is_known_by_its_certificate_and_not_by_its_address() {
    let (first, second) = TestNode::pair();
    let third = NodeId::from_bytes([3; 16]);
    first.transport.learn(third, second.address);

    let error =
        first.run(first.transport.call(third, ECHO, Message::default(), first.soon())).unwrap_err();
    let node = first.run(first.transport.identify(second.address, first.soon())).unwrap();

    assert!(error.to_string().contains("another node"), "{error}");
    assert_eq!(node, second.id);
}

#[test]
fn random_bytes_at_the_port_change_nothing() {
    let (first, second) = TestNode::pair();
    let socket = UdpSocket::bind(loopback(0)).unwrap();
    for length in (1..1_400).step_by(3) {
        let noise = pattern(length, length);
        socket.send_to(&noise, second.address).unwrap();
        // As a long header of QUIC version 1, which is looked at more closely.
        let mut shaped = noise.to_vec();
        shaped[0] |= 0xc0;
        if length > 5 {
            shaped[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        socket.send_to(&shaped, second.address).unwrap();
    }

    assert!(first.call(&second, ECHO, Message::default()).is_ok());
}

#[test]
fn both_may_dial_at_once() {
    let (first, second) = TestNode::pair();
    second.transport.learn(first.id, first.address);
    let forth = first.transport.call(second.id, ECHO, Message::default(), first.soon());
    let back = second.transport.call(first.id, ECHO, Message::default(), second.soon());

    let (forth, back) = first.run(futures_util::future::join(forth, back));

    assert!(forth.is_ok() && back.is_ok());
    for _ in 0..10 {
        first.call(&second, ECHO, Message::default()).unwrap();
        second.call(&first, ECHO, Message::default()).unwrap();
    }
}

#[test]
fn three_nodes_meet_and_notice_a_death_a_return_and_a_fact() {
    let mut nodes: Vec<_> = (1..=3).map(|number| TestNode::start(number, SECRET, 0)).collect();
    let seeds: Vec<_> = nodes.iter().map(|node| node.address).collect();
    for node in &mut nodes {
        node.join(1, seeds.clone());
    }
    let limit = Duration::from_secs(3);
    let all_up = |peers: &BTreeMap<_, _>| {
        peers.len() == 3 && peers.values().all(|liveness| *liveness == Liveness::Up)
    };
    for node in &nodes {
        assert!(node.sees(limit, all_up), "not all are seen");
    }
    // Gossip has told the transport where the others are.
    nodes[0].call(&nodes[2], ECHO, Message::default()).unwrap();
    nodes[0].gossip.as_ref().unwrap().publish("zone", "z1".to_owned());
    let told =
        |node: &TestNode| node.gossip.as_ref().unwrap().peers()[0].facts.get("zone").cloned();
    let fact = nodes[1].sees(limit, |_| told(&nodes[1]).is_some());
    assert!(fact, "the fact did not arrive");

    let dead = nodes[2].id;
    let port = nodes.pop().unwrap().kill();

    let noticed = |peers: &BTreeMap<_, _>| peers.get(&dead) == Some(&Liveness::Down);
    assert!(nodes[0].sees(limit, noticed) && nodes[1].sees(limit, noticed), "not noticed");

    let mut back = TestNode::start(3, SECRET, port);
    back.join(2, seeds);
    assert!(nodes[0].sees(limit, all_up) && back.sees(limit, all_up), "the return was not seen");
    let boots = nodes[0].gossip.as_ref().unwrap().peers().into_iter().map(|peer| peer.boot);
    assert_eq!(boots.collect::<Vec<_>>(), [1, 1, 2]);
}

#[test]
fn a_node_that_pauses_for_a_second_is_not_taken_for_dead() {
    let mut nodes: Vec<_> = (1..=2).map(|number| TestNode::start(number, SECRET, 0)).collect();
    let seeds: Vec<_> = nodes.iter().map(|node| node.address).collect();
    for node in &mut nodes {
        node.join(1, seeds.clone());
    }
    let up = |peers: &BTreeMap<_, _>| peers.values().filter(|it| **it == Liveness::Up).count() == 2;
    assert!(nodes.iter().all(|node| node.sees(Duration::from_secs(3), up)));

    // Its one worker thread stands still, and with it all that the node does.
    let tasks = nodes[1].run(async { TokioTasks::current() });
    let (started, pausing) = std::sync::mpsc::channel();
    let pause = async move {
        started.send(()).unwrap();
        // A channel that nobody sends on is a thread's sleep.
        let (_sender, never) = std::sync::mpsc::channel::<()>();
        never.recv_timeout(Duration::from_secs(1)).unwrap_err();
    };
    tasks.spawn("pause", Box::pin(pause)).detach();
    pausing.recv().unwrap();

    let down = |peers: &BTreeMap<_, _>| peers.values().any(|it| *it == Liveness::Down);
    assert!(!nodes[0].sees(Duration::from_millis(2_500), down), "the pause was taken for death");
}

/// User and system time of this process.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// `cargo test --release --test peers -- --ignored --nocapture`: both ends in one process.
#[test]
#[ignore = "a measurement"]
fn measure_calls_and_bulk() {
    let (first, second) = TestNode::pair();
    first.call(&second, ECHO, Message::default()).unwrap();
    first.run(first.clock.sleep(Duration::from_millis(1_000)));
    for (length, callers) in [(256, 1), (256, 64), (4_096, 64)] {
        let rounds = 60_000 / if callers == 1 { 6 } else { 1 } / callers;
        let (wall, processor) = (first.clock.monotonic(), processor_time());
        first.run(async {
            let request = Message { body: pattern(length, 1), attachment: Bytes::new() };
            let caller = || async {
                for _ in 0..rounds {
                    let calling =
                        first.transport.call(second.id, ECHO, request.clone(), first.soon());
                    calling.await.unwrap();
                }
            };
            futures_util::future::join_all((0..callers).map(|_| caller())).await;
        });
        let calls = (rounds * callers) as f64;
        let wall = first.clock.monotonic().since(wall).as_secs_f64();
        let processor = (processor_time() - processor).as_secs_f64();
        println!(
            "{length} B, {callers} callers: {:.0} calls/s, {:.1} us processor each",
            calls / wall,
            processor / calls * 1e6
        );
    }
    measure_bulk(&first, &second);
}

#[test]
#[ignore = "a measurement"]
fn measure_how_soon_nodes_meet_and_a_death_is_noticed() {
    for _ in 0..5 {
        let mut nodes: Vec<_> = (1..=3).map(|number| TestNode::start(number, SECRET, 0)).collect();
        let seeds: Vec<_> = nodes.iter().map(|node| node.address).collect();
        let clock = Arc::clone(&nodes[0].clock);
        let began = clock.monotonic();
        for node in &mut nodes {
            node.join(1, seeds.clone());
        }
        let limit = Duration::from_secs(10);
        let up = |peers: &BTreeMap<_, _>| {
            peers.values().filter(|liveness| **liveness == Liveness::Up).count() == 3
        };
        assert!(nodes.iter().all(|node| node.sees(limit, up)));
        let met = clock.monotonic().since(began);
        // The detector has its samples by then.
        nodes[0].run(clock.sleep(Duration::from_secs(2)));
        nodes.pop().unwrap().kill();
        let died = clock.monotonic();
        assert!(nodes.iter().all(|node| node.sees(limit, |peers| !up(peers))));
        println!("met after {met:?}, death noticed after {:?}", clock.monotonic().since(died));
    }
}

fn measure_bulk(first: &TestNode, second: &TestNode) {
    let pieces = 1_024;
    let piece = pattern(1 << 20, 1);
    let (wall, processor) = (first.clock.monotonic(), processor_time());
    first.run(async {
        let opening = first.transport.open(second.id, ECHO, Bytes::new(), first.soon());
        let BulkStream { mut sender, mut receiver } = opening.await.unwrap();
        let sending = async {
            for _ in 0..pieces {
                sender.send(piece.clone()).await.unwrap();
            }
            sender.finish().await.unwrap();
        };
        let receiving = async { while receiver.next().await.unwrap().is_some() {} };
        futures_util::future::join(sending, receiving).await;
    });
    let wall = first.clock.monotonic().since(wall).as_secs_f64();
    let processor = (processor_time() - processor).as_secs_f64();
    let gib = 2.0 * pieces as f64 / 1024.0;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("both ends: {peak}");
    println!("bulk: {:.2} GiB/s, {:.2} s processor per GiB", gib / wall, processor / gib);
}
