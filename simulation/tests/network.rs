//! The simulated network keeps the promises of `quorate::net`, and its faults show as they
//! would on a real one.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quorate::env::{Clock, Monotonic};
use quorate::membership::{Gossip, Liveness};
use quorate::net::{
    BulkStream, Handler, HandlerError, LinkFacts, Message, PeerError, RequestContext, ServiceId,
    Transport,
};
use quorate::types::NodeId;
use quorate_simulation::clock::SimClock;
use quorate_simulation::entropy::Seed;
use quorate_simulation::world::{SimNode, World, WorldOptions, simulate};

const ECHO: ServiceId = ServiceId(1);
const SLOW: ServiceId = ServiceId(2);
const REFUSE: ServiceId = ServiceId(3);
const PANIC: ServiceId = ServiceId(4);

/// Counts what reaches it; takes 500 ms where the service is `SLOW`.
struct Counter {
    clock: Arc<SimClock>,
    calls: Arc<AtomicU64>,
}

#[async_trait]
impl Handler for Counter {
    async fn call(
        &self,
        _context: RequestContext,
        service: ServiceId,
        request: Message,
    ) -> Result<Message, HandlerError> {
        match service {
            REFUSE => return Err(HandlerError::Refused("no".to_owned())),
            PANIC => panic!("planted"),
            SLOW => self.clock.sleep(Duration::from_millis(500)).await,
            _ => {}
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(request)
    }

    /// Sends every piece back; fails at the piece `fail`.
    async fn bulk(
        &self,
        _context: RequestContext,
        _service: ServiceId,
        _header: Bytes,
        mut stream: BulkStream,
    ) -> Result<(), HandlerError> {
        let failed = |error: PeerError| HandlerError::Failed(error.to_string());
        while let Some(piece) = stream.receiver.next().await.map_err(failed)? {
            if &piece[..] == b"fail" {
                return Err(HandlerError::Failed("asked to".to_owned()));
            }
            stream.sender.send(piece).await.map_err(failed)?;
        }
        stream.sender.finish().await.map_err(failed)
    }
}

struct Pair {
    world: Arc<World>,
    one: SimNode,
    other: SimNode,
    calls: Arc<AtomicU64>,
}

impl Pair {
    fn new() -> Self {
        let world = World::new(Seed(11), WorldOptions::default());
        let nodes = world.add_machines(2);
        let calls = Arc::new(AtomicU64::new(0));
        let one = boot(&world, nodes[0], &calls);
        let other = boot(&world, nodes[1], &calls);
        Self { world, one, other, calls }
    }

    async fn call(&self, service: ServiceId, patience: Duration) -> Result<Message, PeerError> {
        let request = Message { body: Bytes::from_static(b"hello"), attachment: Bytes::new() };
        self.one.transport.call(self.other.node, service, request, self.deadline(patience)).await
    }

    fn deadline(&self, patience: Duration) -> Monotonic {
        self.one.clock.monotonic() + patience
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn open(&self) -> BulkStream {
        let deadline = self.deadline(Duration::from_secs(1));
        self.one.transport.open(self.other.node, ECHO, Bytes::new(), deadline).await.unwrap()
    }

    async fn sleep(&self, millis: u64) {
        self.world.time().sleep(Duration::from_millis(millis)).await;
    }
}

fn boot(world: &Arc<World>, node: NodeId, calls: &Arc<AtomicU64>) -> SimNode {
    let sim = world.boot(node).unwrap();
    for (peer, address) in world.network().addresses() {
        sim.transport.learn(peer, address);
    }
    let counter = Counter { clock: Arc::clone(&sim.clock), calls: Arc::clone(calls) };
    sim.transport.serve(Arc::new(counter));
    sim
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_answer_comes_back_with_the_same_bytes_after_a_round_trip() {
    simulate(async {
        let pair = Pair::new();

        let answer = pair.call(ECHO, SECOND).await.unwrap();

        assert_eq!(&answer.body[..], b"hello");
        let elapsed = pair.world.time().elapsed();
        assert!((4..=25).contains(&elapsed.as_millis()), "{elapsed:?}");
        assert!(pair.one.transport.round_trip(pair.other.node).is_some());
    })
    .unwrap();
}

#[test]
fn a_cut_before_the_first_connection_is_unreachable_and_nothing_arrives() {
    simulate(async {
        let pair = Pair::new();
        pair.world.network().cut(pair.one.node, pair.other.node);

        let error = pair.call(ECHO, SECOND).await.unwrap_err();

        assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");
        pair.world.network().heal(pair.one.node, pair.other.node);
        pair.sleep(5_000).await;
        assert_eq!(pair.calls(), 0);
    })
    .unwrap();
}

#[test]
fn a_cut_under_an_open_connection_is_silence_and_then_loss() {
    simulate(async {
        let pair = Pair::new();
        pair.call(ECHO, SECOND).await.unwrap();
        pair.world.network().cut(pair.one.node, pair.other.node);

        let early = pair.call(ECHO, SECOND).await.unwrap_err();
        let late = pair.call(ECHO, 10 * SECOND).await.unwrap_err();
        let later = pair.call(ECHO, SECOND).await.unwrap_err();

        assert!(matches!(early, PeerError::TimedOut { .. }), "{early}");
        assert!(matches!(late, PeerError::Lost { .. }), "{late}");
        assert!(matches!(later, PeerError::Unreachable { .. }), "{later}");
        assert_eq!(pair.calls(), 1);
    })
    .unwrap();
}

#[test]
fn a_short_cut_only_delays() {
    simulate(async {
        let pair = Pair::new();
        pair.call(ECHO, SECOND).await.unwrap();
        pair.world.network().cut(pair.one.node, pair.other.node);
        let healed = async {
            pair.sleep(500).await;
            pair.world.network().heal(pair.one.node, pair.other.node);
        };

        let (answer, ()) = futures_util::future::join(pair.call(ECHO, 5 * SECOND), healed).await;

        assert!(answer.is_ok());
        assert!(pair.world.time().elapsed() >= Duration::from_millis(500));
    })
    .unwrap();
}

#[test]
fn a_one_way_cut_of_the_answers_leaves_the_request_done_and_unanswered() {
    simulate(async {
        let pair = Pair::new();
        pair.call(ECHO, SECOND).await.unwrap();
        pair.world.network().cut(pair.other.node, pair.one.node);

        let error = pair.call(ECHO, SECOND).await.unwrap_err();

        assert!(matches!(error, PeerError::TimedOut { .. }), "{error}");
        assert!(!error.certainly_not_done());
        assert_eq!(pair.calls(), 2);
    })
    .unwrap();
}

#[test]
fn a_crash_loses_calls_in_flight_and_a_restart_is_a_new_connection() {
    simulate(async {
        let mut pair = Pair::new();
        pair.call(ECHO, SECOND).await.unwrap();
        let crash = async {
            pair.sleep(100).await;
            pair.world.crash(pair.other.node);
        };
        let (lost, ()) = futures_util::future::join(pair.call(SLOW, 30 * SECOND), crash).await;
        let gone = pair.call(ECHO, SECOND).await.unwrap_err();
        pair.other = boot(&pair.world, pair.other.node, &pair.calls);

        let answer = pair.call(ECHO, SECOND).await;

        assert!(matches!(lost, Err(PeerError::Lost { .. })), "{lost:?}");
        assert!(matches!(gone, PeerError::Unreachable { .. }), "{gone}");
        assert!(answer.is_ok());
        assert_eq!(pair.calls(), 2);
    })
    .unwrap();
}

#[test]
fn a_call_right_after_a_crash_is_uncertain_and_not_unreachable() {
    simulate(async {
        let pair = Pair::new();
        pair.call(ECHO, SECOND).await.unwrap();

        pair.world.crash(pair.other.node);
        let error = pair.call(ECHO, SECOND).await.unwrap_err();

        assert!(matches!(error, PeerError::TimedOut { .. }), "{error}");
    })
    .unwrap();
}

#[test]
fn a_request_over_a_connection_to_an_earlier_boot_is_lost_and_not_handled() {
    simulate(async {
        let mut pair = Pair::new();
        pair.call(ECHO, SECOND).await.unwrap();
        pair.other = boot(&pair.world, pair.other.node, &pair.calls);

        let lost = pair.call(ECHO, 30 * SECOND).await;
        let again = pair.call(ECHO, SECOND).await;

        assert!(matches!(lost, Err(PeerError::Lost { .. })), "{lost:?}");
        assert!(again.is_ok());
        assert_eq!(pair.calls(), 2);
    })
    .unwrap();
}

#[test]
fn an_orderly_stop_is_noticed_at_once() {
    simulate(async {
        let pair = Pair::new();
        let stop = async {
            pair.sleep(100).await;
            pair.world.stop(pair.other.node);
        };

        let (lost, ()) = futures_util::future::join(pair.call(SLOW, 30 * SECOND), stop).await;

        assert!(matches!(lost, Err(PeerError::Lost { .. })), "{lost:?}");
        assert!(pair.world.time().elapsed() < Duration::from_millis(150));
    })
    .unwrap();
}

#[test]
fn a_slow_link_makes_a_call_miss_its_deadline_and_the_peer_still_does_it() {
    simulate(async {
        let pair = Pair::new();
        pair.call(ECHO, SECOND).await.unwrap();
        let slow = pair.world.network().usual_quality().slow(Duration::from_millis(400));
        pair.world.network().set_quality(pair.one.node, pair.other.node, slow);

        let error = pair.call(ECHO, Duration::from_millis(300)).await.unwrap_err();
        pair.sleep(1_000).await;

        assert!(matches!(error, PeerError::TimedOut { .. }), "{error}");
        assert_eq!(pair.calls(), 2);
        assert!(pair.call(ECHO, 2 * SECOND).await.is_ok());
    })
    .unwrap();
}

#[test]
fn a_deadline_that_has_passed_sends_nothing() {
    simulate(async {
        let pair = Pair::new();
        pair.call(ECHO, SECOND).await.unwrap();

        let error = pair.call(ECHO, Duration::ZERO).await.unwrap_err();
        pair.sleep(100).await;

        assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");
        assert_eq!(pair.calls(), 1);
    })
    .unwrap();
}

#[test]
fn a_reset_loses_what_is_in_flight_and_the_next_call_dials_again() {
    simulate(async {
        let pair = Pair::new();
        pair.call(ECHO, SECOND).await.unwrap();
        let reset = async {
            pair.sleep(50).await;
            pair.world.network().reset(pair.one.node, pair.other.node);
        };

        let (lost, ()) = futures_util::future::join(pair.call(SLOW, 5 * SECOND), reset).await;

        assert!(matches!(lost, Err(PeerError::Lost { .. })), "{lost:?}");
        assert!(pair.call(ECHO, SECOND).await.is_ok());
    })
    .unwrap();
}

#[test]
fn refusals_and_panics_of_a_handler_are_told_apart() {
    simulate(async {
        let pair = Pair::new();

        let refused = pair.call(REFUSE, SECOND).await.unwrap_err();
        let failed = pair.call(PANIC, SECOND).await.unwrap_err();

        assert!(matches!(refused, PeerError::Refused { .. }), "{refused}");
        assert!(matches!(failed, PeerError::Failed { .. }), "{failed}");
        assert_eq!(pair.world.panics(), ["peer request: planted"]);
    })
    .unwrap();
}

#[test]
fn a_peer_without_a_known_address_is_unreachable_and_identify_learns_it() {
    simulate(async {
        let world = World::new(Seed(3), WorldOptions::default());
        let nodes = world.add_machines(2);
        let one = world.boot(nodes[0]).unwrap();
        let other = boot(&world, nodes[1], &Arc::new(AtomicU64::new(0)));
        let deadline = one.clock.monotonic() + 5 * SECOND;
        let request = || Message::from(b"hello".to_vec());

        let before = one.transport.call(other.node, ECHO, request(), deadline).await;
        let found = one.transport.identify(other.address, deadline).await.unwrap();
        let after = one.transport.call(other.node, ECHO, request(), deadline).await;

        assert!(matches!(before, Err(PeerError::Unreachable { .. })));
        assert_eq!(found, other.node);
        assert!(after.is_ok());
    })
    .unwrap();
}

#[test]
fn a_peer_that_was_dialled_calls_back_over_the_same_connection() {
    simulate(async {
        let world = World::new(Seed(3), WorldOptions::default());
        let nodes = world.add_machines(2);
        let calls = Arc::new(AtomicU64::new(0));
        let one = boot(&world, nodes[0], &calls);
        // It learns no address.
        let other = world.boot(nodes[1]).unwrap();
        let deadline = one.clock.monotonic() + 5 * SECOND;
        let request = || Message::from(b"hello".to_vec());
        let refused = one.transport.call(other.node, ECHO, request(), deadline).await;

        let back = other.transport.call(one.node, ECHO, request(), deadline).await;
        let own = other.transport.call(other.node, ECHO, request(), deadline).await;

        assert!(matches!(refused, Err(PeerError::Refused { .. })), "{refused:?}");
        assert!(back.is_ok());
        assert!(matches!(own, Err(PeerError::Unreachable { .. })), "{own:?}");
    })
    .unwrap();
}

#[test]
fn a_failed_dial_is_not_repeated_at_once() {
    simulate(async {
        let pair = Pair::new();
        pair.world.crash(pair.other.node);
        pair.call(ECHO, 10 * SECOND).await.unwrap_err();
        let before = pair.world.time().elapsed();

        let error = pair.call(ECHO, 10 * SECOND).await.unwrap_err();

        assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");
        assert_eq!(pair.world.time().elapsed(), before);
        boot(&pair.world, pair.other.node, &pair.calls);
        pair.sleep(100).await;
        assert!(pair.call(ECHO, 10 * SECOND).await.is_ok());
    })
    .unwrap();
}

#[test]
fn a_bulk_transfer_arrives_whole_and_in_order() {
    simulate(async {
        let pair = Pair::new();
        let mut stream = pair.open().await;
        let BulkStream { sender, receiver } = &mut stream;
        let send = async {
            for number in 0..20_u8 {
                sender.send(Bytes::from(vec![number; 1_000])).await.unwrap();
            }
            sender.finish().await.unwrap();
        };
        let receive = async {
            let mut numbers = Vec::new();
            while let Some(piece) = receiver.next().await.unwrap() {
                assert_eq!(piece.len(), 1_000);
                numbers.push(piece[0]);
            }
            numbers
        };

        let ((), numbers) = futures_util::future::join(send, receive).await;

        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        assert!(receiver.next().await.unwrap().is_none());
    })
    .unwrap();
}

#[test]
fn a_transfer_that_is_dropped_without_a_finish_is_broken_off_and_not_finished() {
    simulate(async {
        let pair = Pair::new();
        let BulkStream { mut sender, mut receiver } = pair.open().await;
        sender.send(Bytes::from_static(b"piece")).await.unwrap();

        drop(sender);
        let piece = receiver.next().await.unwrap();
        let end = receiver.next().await;

        assert_eq!(piece.as_deref(), Some(&b"piece"[..]));
        // The handler saw the break as an error, and its own error came back.
        assert!(matches!(end, Err(PeerError::Failed { .. })), "{end:?}");
    })
    .unwrap();
}

#[test]
fn a_handler_that_fails_breaks_the_transfer_off_both_ways() {
    simulate(async {
        let pair = Pair::new();
        let BulkStream { mut sender, mut receiver } = pair.open().await;

        sender.send(Bytes::from_static(b"fail")).await.unwrap();
        let end = receiver.next().await;
        pair.sleep(100).await;
        let mut sent = Ok(());
        for _ in 0..10 {
            sent = sent.and(sender.send(Bytes::from_static(b"more")).await);
        }

        assert!(matches!(end, Err(PeerError::Failed { .. })), "{end:?}");
        assert!(matches!(sent, Err(PeerError::Lost { .. })), "{sent:?}");
    })
    .unwrap();
}

#[test]
fn a_crash_of_the_peer_ends_a_transfer_with_loss() {
    simulate(async {
        let pair = Pair::new();
        let BulkStream { mut sender, mut receiver } = pair.open().await;
        sender.send(Bytes::from_static(b"piece")).await.unwrap();
        receiver.next().await.unwrap();

        pair.world.crash(pair.other.node);
        let end = receiver.next().await;

        assert!(matches!(end, Err(PeerError::Lost { .. })), "{end:?}");
    })
    .unwrap();
}

#[test]
fn a_transfer_waits_while_the_window_of_its_peer_is_full() {
    simulate(async {
        let pair = Pair::new();
        // Nobody reads the echoes, so after two windows each way the handler stops reading.
        let BulkStream { mut sender, receiver } = pair.open().await;
        let mut sent = 0;
        let pour = async {
            loop {
                sender.send(Bytes::from_static(b"piece")).await.unwrap();
                sent += 1;
            }
        };

        let deadline = pair.deadline(10 * SECOND);
        let end: Option<()> = quorate::env::timeout_at(&*pair.one.clock, deadline, pour).await;

        assert!(end.is_none());
        assert!(sent < 40, "{sent} pieces were taken in");
        drop(receiver);
    })
    .unwrap();
}

#[derive(Default)]
struct Facts {
    out: u64,
    heard: AtomicU64,
}

impl LinkFacts for Facts {
    fn outgoing(&self) -> (u64, u64) {
        (1, self.out)
    }

    fn incoming(&self, _peer: NodeId, _layout_version: u64, hybrid_time: u64) {
        self.heard.fetch_max(hybrid_time, Ordering::Relaxed);
    }
}

#[test]
fn link_facts_ride_on_requests_and_answers() {
    simulate(async {
        let pair = Pair::new();
        let ours = Arc::new(Facts { out: 100, ..Facts::default() });
        let theirs = Arc::new(Facts { out: 200, ..Facts::default() });
        pair.one.transport.link_facts(Arc::clone(&ours) as Arc<dyn LinkFacts>);
        pair.other.transport.link_facts(Arc::clone(&theirs) as Arc<dyn LinkFacts>);

        pair.call(ECHO, SECOND).await.unwrap();

        assert_eq!(theirs.heard.load(Ordering::Relaxed), 100);
        assert_eq!(ours.heard.load(Ordering::Relaxed), 200);
    })
    .unwrap();
}

fn liveness(sim: &SimNode, of: NodeId) -> Option<Liveness> {
    sim.gossip.peers().into_iter().find(|peer| peer.node == of).map(|peer| peer.liveness)
}

#[test]
fn gossip_spreads_facts_and_shows_a_crash_after_two_seconds() {
    simulate(async {
        let pair = Pair::new();
        let changes = pair.one.gossip.changes();
        pair.other.gossip.publish("zone", "b".to_owned());
        pair.sleep(1_000).await;
        let peers = pair.one.gossip.peers();
        let zone = peers.iter().find_map(|peer| peer.facts.get("zone").cloned());

        pair.world.crash(pair.other.node);
        pair.sleep(1_500).await;
        let soon = liveness(&pair.one, pair.other.node);
        pair.sleep(1_500).await;
        let late = liveness(&pair.one, pair.other.node);

        assert_eq!(zone.as_deref(), Some("b"));
        assert_eq!((soon, late), (Some(Liveness::Up), Some(Liveness::Down)));
        assert!(changes.has_changed().unwrap());
    })
    .unwrap();
}

#[test]
fn a_node_that_is_cut_off_shows_as_down_and_returns_after_healing() {
    simulate(async {
        let pair = Pair::new();
        let (one, other) = (pair.one.node, pair.other.node);
        pair.sleep(1_000).await;
        pair.world.network().cut(one, other);
        pair.world.network().cut(other, one);
        pair.sleep(3_000).await;
        let cut = (liveness(&pair.one, other), liveness(&pair.other, one));

        pair.world.network().heal(one, other);
        pair.world.network().heal(other, one);
        pair.sleep(1_000).await;
        let healed = (liveness(&pair.one, other), liveness(&pair.other, one));

        assert_eq!(cut, (Some(Liveness::Down), Some(Liveness::Down)));
        assert_eq!(healed, (Some(Liveness::Up), Some(Liveness::Up)));
    })
    .unwrap();
}
