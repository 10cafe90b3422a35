//! Three nodes write, echo and stream to one another while links and nodes fail.
//!
//! It proves the simulated network, not a protocol: what a caller is told of a request must
//! agree with what its peer did. Done is applied once; unreachable and refused are never
//! applied; anything else is applied at most once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use quorate::codec::{decode_message, encode_message};
use quorate::env::{Clock, Entropy, Tasks};
use quorate::membership::{Gossip, Liveness};
use quorate::net::{
    BulkStream, Handler, HandlerError, Message, PeerError, RequestContext, ServiceId, Transport,
};
use quorate::types::NodeId;
use serde::{Deserialize, Serialize};

use super::{Plan, Report, RunOptions};
use crate::entropy::{Seed, mix};
use crate::faults::{self, CLOCKS, Fault, Kind, Machines, NETWORK};
use crate::trace::{Digest, Event};
use crate::world::{SimNode, World, WorldOptions, simulate};

/// Sets a register.
pub const WRITE: ServiceId = ServiceId(1);
/// Answers with the request's own bytes.
pub const ECHO: ServiceId = ServiceId(2);
/// Takes a stream of pieces and answers with their digest.
pub const STREAM: ServiceId = ServiceId(3);

/// How long a caller waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// After the faults, connections may take an idle timeout and a dial to come back.
const SETTLING: Duration = Duration::from_secs(10);

/// The plan that follows from `seed`.
#[must_use]
pub fn draw(seed: Seed, span: Duration) -> Plan {
    let kinds: [&[Kind]; 3] = [NETWORK, CLOCKS, &[Kind::Crash, Kind::CrashAll, Kind::Pause]];
    Plan { clients: 2, ..Plan::sized(seed, 3) }.with_swarm(seed, span, &kinds)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct OperationId(u64);

#[derive(Debug, Serialize, Deserialize)]
struct Write {
    operation: OperationId,
}

/// What the outcome of an operation permits its peer to have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Never,
    Unknown,
}

/// What all nodes did and were told; it outlives every boot, as a disk and an observer would.
#[derive(Default)]
struct Ledger {
    issued: u64,
    told: BTreeMap<OperationId, (NodeId, Outcome)>,
    applied: BTreeMap<OperationId, Vec<NodeId>>,
    operations: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

type SharedLedger = Arc<Mutex<Ledger>>;

/// Runs a plan.
///
/// # Errors
/// If the runtime cannot be made. Violations are in the report.
pub fn run(seed: Seed, plan: &Plan, options: RunOptions) -> anyhow::Result<Report> {
    Ok(simulate(run_plan(seed, plan, options))?)
}

/// Machines without disks.
struct Diskless {
    world: Arc<World>,
    ledger: SharedLedger,
    clients: u8,
}

impl Machines for Diskless {
    fn restart(&self, node: NodeId) {
        start(&self.world, &self.ledger, self.clients, node);
    }

    fn strike(&self, fault: Fault) {
        match fault.kind {
            Kind::Crash => self.world.crash(fault.node),
            Kind::CrashAll => self.world.nodes().into_iter().for_each(|n| self.world.crash(n)),
            _ => {}
        }
    }

    fn relieve(&self, _fault: Fault) {}
}

async fn run_plan(seed: Seed, plan: &Plan, options: RunOptions) -> Report {
    let blocking_max = Duration::from_millis(3);
    let world_options =
        WorldOptions { text: options.text, blocking_max, ..WorldOptions::default() };
    let world = World::new(seed, world_options);
    let ledger = SharedLedger::default();
    let nodes = world.add_machines(plan.nodes);
    let machines =
        Diskless { world: Arc::clone(&world), ledger: Arc::clone(&ledger), clients: plan.clients };
    nodes.iter().for_each(|node| machines.restart(*node));

    world.time().sleep(Duration::from_secs(1)).await;
    faults::carry_out(&world, &plan.faults, &machines).await;
    faults::heal(&world, &nodes, &machines);
    world.time().sleep(SETTLING).await;

    check_settled(&world, &ledger).await;
    nodes.iter().for_each(|node| world.stop(*node));
    check_ledger(&ledger);
    let mut ledger = ledger.lock();
    ledger.violations.extend(world.panics());
    let report = Report {
        seed,
        trace: world.trace().summary(),
        operations: ledger.operations.clone(),
        passed: BTreeMap::new(),
        died: BTreeMap::new(),
        violations: ledger.violations.clone(),
        lines: world.trace().lines(),
    };
    world.shut_down();
    report
}

fn start(world: &Arc<World>, ledger: &SharedLedger, clients: u8, node: NodeId) {
    let Some(sim) = world.boot(node) else {
        return;
    };
    for (peer, address) in world.network().addresses() {
        sim.transport.learn(peer, address);
    }
    let clock = Arc::clone(&sim.clock);
    let entropy = sim.entropy.fork("handler");
    let peer = Peer { node, clock, entropy, ledger: Arc::clone(ledger) };
    sim.transport.serve(Arc::new(peer));
    sim.gossip.publish("boot", sim.boot.to_string());
    for _ in 0..clients {
        let client = Client {
            sim: sim.clone(),
            entropy: sim.entropy.fork("client"),
            peers: world.nodes(),
            world: Arc::downgrade(world),
            ledger: Arc::clone(ledger),
        };
        sim.tasks.spawn("client", Box::pin(client.work())).detach();
    }
}

struct Peer {
    node: NodeId,
    clock: Arc<crate::clock::SimClock>,
    entropy: Arc<dyn Entropy>,
    ledger: SharedLedger,
}

impl Peer {
    /// Applies a write, after and before a pause in which a crash may strike.
    async fn write(&self, request: Message) -> Result<Message, HandlerError> {
        let write: Write = decode_message(&request.body)
            .map_err(|error| HandlerError::Refused(error.to_string()))?;
        if self.entropy.below(20) == 0 {
            return Err(HandlerError::Refused("busy".to_owned()));
        }
        self.clock.sleep(Duration::from_millis(self.entropy.below(20))).await;
        self.ledger.lock().applied.entry(write.operation).or_default().push(self.node);
        self.clock.sleep(Duration::from_millis(self.entropy.below(20))).await;
        if self.entropy.below(50) == 0 {
            return Err(HandlerError::Failed("the answer was thrown away".to_owned()));
        }
        Ok(Message { body: request.body, attachment: Bytes::new() })
    }
}

#[async_trait]
impl Handler for Peer {
    async fn call(
        &self,
        _context: RequestContext,
        service: ServiceId,
        request: Message,
    ) -> Result<Message, HandlerError> {
        match service {
            WRITE => self.write(request).await,
            ECHO => Ok(request),
            other => Err(HandlerError::Refused(format!("no service {}", other.0))),
        }
    }

    async fn bulk(
        &self,
        _context: RequestContext,
        _service: ServiceId,
        header: Bytes,
        mut stream: BulkStream,
    ) -> Result<(), HandlerError> {
        let failed = |error: PeerError| HandlerError::Failed(error.to_string());
        let mut digest = Digest::of(&header).0;
        while let Some(piece) = stream.receiver.next().await.map_err(failed)? {
            digest = mix(digest ^ Digest::of(&piece).0);
        }
        let answer = Bytes::copy_from_slice(&digest.to_le_bytes());
        stream.sender.send(answer).await.map_err(failed)?;
        stream.sender.finish().await.map_err(failed)
    }
}

struct Client {
    sim: SimNode,
    entropy: Arc<dyn Entropy>,
    peers: Vec<NodeId>,
    world: std::sync::Weak<World>,
    ledger: SharedLedger,
}

impl Client {
    async fn work(self) {
        loop {
            self.sim.clock.sleep(Duration::from_millis(10 + self.entropy.below(90))).await;
            let place = usize::try_from(self.entropy.below(self.peers.len() as u64));
            let peer = self.peers[place.unwrap_or_default()];
            let (service, outcome) = match self.entropy.below(10) {
                0..6 => ("write", self.write(peer).await),
                6..9 => ("echo", self.echo(peer).await),
                _ => ("stream", self.stream(peer).await),
            };
            self.count(service, peer, &outcome);
        }
    }

    fn count(&self, service: &'static str, peer: NodeId, outcome: &Result<(), PeerError>) {
        let word = match outcome {
            Ok(()) => "done",
            Err(error) if error.certainly_not_done() => "not done",
            Err(_) => "unknown",
        };
        *self.ledger.lock().operations.entry(word).or_default() += 1;
        if let Some(world) = self.world.upgrade() {
            let from = self.sim.node;
            let digest = Digest::NONE;
            let event = Event { from, to: peer, kind: service, number: 0, digest, outcome: word };
            world.trace().record(event);
        }
    }

    fn deadline(&self) -> quorate::env::Monotonic {
        self.sim.clock.monotonic() + PATIENCE
    }

    async fn write(&self, peer: NodeId) -> Result<(), PeerError> {
        let operation = {
            let mut ledger = self.ledger.lock();
            ledger.issued += 1;
            let operation = OperationId(ledger.issued);
            // Until the peer answers, and for ever if this node crashes now.
            ledger.told.insert(operation, (peer, Outcome::Unknown));
            operation
        };
        let body = encode_message(&Write { operation }).unwrap_or_default();
        let answer = self.sim.transport.call(peer, WRITE, body.into(), self.deadline()).await;
        let outcome = match &answer {
            Ok(_) => Outcome::Done,
            Err(error) if error.certainly_not_done() => Outcome::Never,
            Err(_) => Outcome::Unknown,
        };
        self.ledger.lock().told.insert(operation, (peer, outcome));
        answer.map(|_| ())
    }

    fn bytes(&self, length: u64) -> Bytes {
        (0..length).flat_map(|_| self.entropy.next_u64().to_le_bytes()).collect()
    }

    async fn echo(&self, peer: NodeId) -> Result<(), PeerError> {
        let sent = Message { body: self.bytes(4), attachment: self.bytes(64) };
        let heard = self.sim.transport.call(peer, ECHO, sent.clone(), self.deadline()).await?;
        if heard != sent {
            self.violation("an echo came back with other bytes");
        }
        Ok(())
    }

    async fn stream(&self, peer: NodeId) -> Result<(), PeerError> {
        let header = self.bytes(1);
        let mut digest = Digest::of(&header).0;
        let mut stream = self.sim.transport.open(peer, STREAM, header, self.deadline()).await?;
        for _ in 0..self.entropy.below(12) {
            let piece = self.bytes(1 + self.entropy.below(512));
            digest = mix(digest ^ Digest::of(&piece).0);
            stream.sender.send(piece).await?;
        }
        stream.sender.finish().await?;
        while let Some(answer) = stream.receiver.next().await? {
            if answer[..] != digest.to_le_bytes() {
                self.violation("a stream arrived with other bytes");
            }
        }
        Ok(())
    }

    fn violation(&self, what: &str) {
        self.ledger.lock().violations.push(what.to_owned());
    }
}

/// With every fault healed, all nodes reach and believe in one another.
async fn check_settled(world: &Arc<World>, ledger: &SharedLedger) {
    let nodes = world.nodes();
    let Some(probe) = nodes.first().and_then(|node| world.boot(*node)) else {
        return;
    };
    for (peer, address) in world.network().addresses() {
        probe.transport.learn(peer, address);
    }
    world.time().sleep(Duration::from_secs(3)).await;
    for peer in nodes.iter().filter(|node| **node != probe.node) {
        let deadline = probe.clock.monotonic() + PATIENCE;
        let request = Message::from(b"still there?".to_vec());
        if let Err(error) = probe.transport.call(*peer, ECHO, request, deadline).await {
            ledger.lock().violations.push(format!("after healing: {error}"));
        }
    }
    let peers = probe.gossip.peers();
    let up = peers.iter().filter(|peer| peer.liveness == Liveness::Up).count();
    if up != nodes.len() {
        let what = format!("after healing: gossip holds {up} of {} for up", nodes.len());
        ledger.lock().violations.push(what);
    }
}

/// What callers were told agrees with what peers did.
fn check_ledger(ledger: &SharedLedger) {
    let mut ledger = ledger.lock();
    let mut violations = Vec::new();
    for (operation, (peer, outcome)) in &ledger.told {
        let applied = ledger.applied.get(operation).map_or(&[][..], Vec::as_slice);
        let right = match outcome {
            Outcome::Done => applied == [*peer],
            Outcome::Never => applied.is_empty(),
            Outcome::Unknown => applied.is_empty() || applied == [*peer],
        };
        if !right {
            violations.push(format!(
                "write {} to {} was told {outcome:?} and applied at {applied:?}",
                operation.0,
                peer.short()
            ));
        }
    }
    ledger.violations.extend(violations);
}
