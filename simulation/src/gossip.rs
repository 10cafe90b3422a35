//! The twin of gossip: heartbeats and facts that spread from node to node, seeded.
//!
//! What reaches a node indirectly counts: while a third node can talk to both ends of a cut,
//! the ends hold one another for alive, as they do with scuttlebutt.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate::env::{Clock, Entropy, Monotonic, Tasks};
use quorate::membership::{Gossip, Liveness, PeerState};
use quorate::types::NodeId;
use tokio::sync::watch;

use crate::clock::SimClock;
use crate::network::SimNetwork;
use crate::tasks::SimTasks;
use crate::trace::{Digest, Event};

/// A node tells others what it knows this often (plus up to a quarter).
const INTERVAL: Duration = Duration::from_millis(200);

/// How many others it tells each time.
const FANOUT: usize = 3;

/// A node whose heartbeat stood still for this long is held for down.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Each datagram of such a number arrives a second time, so much later.
const TWICE_EVERY: u64 = 7;
const TWICE_AFTER: Duration = Duration::from_millis(900);

/// What travels: what one node said of itself.
#[derive(Clone, Debug)]
struct Rumour {
    boot: u32,
    heartbeat: u64,
    revision: u64,
    address: SocketAddr,
    facts: BTreeMap<String, String>,
}

struct Entry {
    rumour: Rumour,
    heard: Monotonic,
    liveness: Liveness,
}

struct View {
    entries: BTreeMap<NodeId, Entry>,
    changes: u64,
    watchers: Vec<watch::Sender<u64>>,
}

impl View {
    fn changed(&mut self) {
        self.changes += 1;
        let changes = self.changes;
        self.watchers.retain(|watcher| watcher.send(changes).is_ok());
    }
}

/// All gossiping nodes of a world, latest boots only.
pub struct GossipField {
    network: Arc<SimNetwork>,
    members: Mutex<BTreeMap<NodeId, Arc<SimGossip>>>,
}

impl GossipField {
    /// A field without nodes.
    #[must_use]
    pub fn new(network: Arc<SimNetwork>) -> Arc<Self> {
        Arc::new(Self { network, members: Mutex::default() })
    }

    /// Lets every node go.
    pub(crate) fn clear(&self) {
        let members = std::mem::take(&mut *self.members.lock());
        drop(members);
    }

    fn member(&self, node: NodeId) -> Option<Arc<SimGossip>> {
        self.members.lock().get(&node).cloned()
    }
}

/// Who joins the field.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Which boot of it.
    pub boot: u32,
    /// Where it listens.
    pub address: SocketAddr,
}

/// One boot's gossip.
pub struct SimGossip {
    member: Member,
    clock: SimClock,
    view: Mutex<View>,
}

impl SimGossip {
    /// Joins the field and gossips among `tasks` until they are stopped.
    #[must_use]
    pub fn join(
        field: &Arc<GossipField>,
        member: Member,
        clock: SimClock,
        tasks: &SimTasks,
        entropy: Arc<dyn Entropy>,
    ) -> Arc<Self> {
        let rumour = Rumour {
            boot: member.boot,
            heartbeat: 1,
            revision: 1,
            address: member.address,
            facts: BTreeMap::new(),
        };
        let own = Entry { rumour, heard: clock.monotonic(), liveness: Liveness::Up };
        let view = View {
            entries: BTreeMap::from([(member.node, own)]),
            changes: 0,
            watchers: Vec::new(),
        };
        let gossip = Arc::new(Self { member, clock, view: Mutex::new(view) });
        let replaced = field.members.lock().insert(member.node, Arc::clone(&gossip));
        drop(replaced);
        let rounds = Arc::clone(&gossip).rounds(Arc::clone(field), entropy);
        tasks.spawn("gossip", Box::pin(rounds)).detach();
        gossip
    }

    async fn rounds(self: Arc<Self>, field: Arc<GossipField>, entropy: Arc<dyn Entropy>) {
        loop {
            let rumours = self.beat(&field);
            for target in self.targets(&field, &*entropy) {
                let delivery =
                    deliver(Arc::clone(&field), self.member.node, target, rumours.clone());
                field.network.couriers().spawn("gossip", Box::pin(delivery)).detach();
            }
            let jitter = Duration::from_millis(entropy.below(50));
            self.clock.sleep(INTERVAL + jitter).await;
        }
    }

    /// Counts this node's heartbeat up, looks who fell silent, and says what is known.
    fn beat(&self, field: &GossipField) -> BTreeMap<NodeId, Rumour> {
        let now = self.clock.monotonic();
        let mut view = self.view.lock();
        let mut fallen = 0;
        for (node, entry) in &mut view.entries {
            if *node == self.member.node {
                entry.rumour.heartbeat += 1;
                entry.heard = now;
            } else if entry.liveness == Liveness::Up && now.since(entry.heard) > SILENCE_MAX {
                entry.liveness = Liveness::Down;
                fallen += 1;
                self.note(field, *node, "down");
            }
        }
        for _ in 0..fallen {
            view.changed();
        }
        view.entries.iter().map(|(node, entry)| (*node, entry.rumour.clone())).collect()
    }

    fn targets(&self, field: &GossipField, entropy: &dyn Entropy) -> Vec<NodeId> {
        let mut others: Vec<NodeId> =
            field.network.addresses().into_iter().map(|(node, _)| node).collect();
        others.retain(|node| *node != self.member.node);
        let mut chosen = Vec::new();
        while chosen.len() < FANOUT && !others.is_empty() {
            let place = usize::try_from(entropy.below(others.len() as u64)).unwrap_or_default();
            chosen.push(others.swap_remove(place));
        }
        chosen
    }

    fn merge(&self, field: &GossipField, rumours: BTreeMap<NodeId, Rumour>) {
        let now = self.clock.monotonic();
        let mut view = self.view.lock();
        for (node, rumour) in rumours {
            if node == self.member.node {
                continue;
            }
            match take_in(view.entries.get_mut(&node), &rumour, now) {
                News::None => continue,
                News::Revision => {}
                News::Arrival => {
                    view.entries.insert(node, Entry { rumour, heard: now, liveness: Liveness::Up });
                    self.note(field, node, "up");
                }
                News::Return => self.note(field, node, "up"),
            }
            view.changed();
        }
    }

    fn note(&self, field: &GossipField, about: NodeId, outcome: &'static str) {
        field.network.trace().record(Event {
            from: about,
            to: self.member.node,
            kind: "liveness",
            number: 0,
            digest: Digest::NONE,
            outcome,
        });
    }
}

enum News {
    None,
    /// New facts of a node that was held for up.
    Revision,
    /// A node, or a boot of it, that was not known.
    Arrival,
    /// A node that was held for down.
    Return,
}

fn take_in(known: Option<&mut Entry>, rumour: &Rumour, now: Monotonic) -> News {
    let Some(known) = known.filter(|known| known.rumour.boot >= rumour.boot) else {
        return News::Arrival;
    };
    if known.rumour.boot > rumour.boot || known.rumour.heartbeat >= rumour.heartbeat {
        return News::None;
    }
    let revised = rumour.revision > known.rumour.revision;
    known.rumour = rumour.clone();
    known.heard = now;
    if known.liveness == Liveness::Down {
        known.liveness = Liveness::Up;
        News::Return
    } else if revised {
        News::Revision
    } else {
        News::None
    }
}

async fn deliver(
    field: Arc<GossipField>,
    from: NodeId,
    to: NodeId,
    rumours: BTreeMap<NodeId, Rumour>,
) {
    let number = rumours.get(&from).map_or(0, |own| own.heartbeat);
    let bytes = 128 * rumours.len();
    if !field.network.datagram(from, to, bytes).await {
        return;
    }
    if let Some(member) = field.member(to) {
        let kind = "gossip";
        let event = Event { from, to, kind, number, digest: Digest::NONE, outcome: "arrived" };
        field.network.trace().record(event);
        // A datagram may come twice, and the second time long after others.
        let twice = number.is_multiple_of(TWICE_EVERY).then(|| rumours.clone());
        member.merge(&field, rumours);
        if let Some(rumours) = twice {
            field.network.time().sleep(TWICE_AFTER).await;
            if let Some(member) = field.member(to) {
                member.merge(&field, rumours);
            }
        }
    }
}

impl Gossip for SimGossip {
    fn publish(&self, fact: &str, value: String) {
        let mut view = self.view.lock();
        if let Some(own) = view.entries.get_mut(&self.member.node) {
            own.rumour.facts.insert(fact.to_owned(), value);
            own.rumour.revision += 1;
            // A rumour is told by its heartbeat, so that a revision is never overlooked.
            own.rumour.heartbeat += 1;
        }
        view.changed();
    }

    fn peers(&self) -> Vec<PeerState> {
        let view = self.view.lock();
        let state = |(node, entry): (&NodeId, &Entry)| PeerState {
            node: *node,
            boot: entry.rumour.boot,
            peer_address: entry.rumour.address,
            liveness: entry.liveness,
            facts: entry.rumour.facts.clone(),
        };
        view.entries.iter().map(state).collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        // A channel for each caller: tokio wakes the waiters of one watch in random order.
        let mut view = self.view.lock();
        let (sender, receiver) = watch::channel(view.changes);
        view.watchers.push(sender);
        receiver
    }
}
