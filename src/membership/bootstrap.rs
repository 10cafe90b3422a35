//! The first layout: one node proposes, all make it durable, and only then it is said to exist
//! (DESIGN §4).
//!
//! What can go wrong: a member dies in between. The proposer has the layout on its own disk
//! before it asks anybody, so the same layout is proposed again by the next `cluster init`; a
//! member that took it refuses any other; a member that missed it fetches it from those that
//! gossip says have it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::codec::{decode_format, decode_message, encode_format, encode_message};
use crate::env::{Clock, Entropy, Monotonic, Tasks, UnixMillis, blocking, deadline_in};
use crate::net::{HandlerError, Message, ServiceId, Transport};
use crate::ring::{Capacity, Layout, Member, PartitionCount};
use crate::store::{Disk, StoreError};
use crate::types::{ClusterId, NodeId, Zone};

use super::gossip::{Gossip, Liveness, PeerState};
use super::identity::Identity;
use super::layout_holder::LayoutHolder;
use super::lives::Remembered;
use super::memory::Memory;
use super::rejoin::Recollection;

/// Requests about membership.
pub const MEMBERSHIP_SERVICE: ServiceId = ServiceId(1);

/// Gossip facts that membership reads.
pub mod facts {
    /// The node's name.
    pub const NAME: &str = "name";
    /// Its zone.
    pub const ZONE: &str = "zone";
    /// Its capacity in GiB.
    pub const CAPACITY: &str = "capacity";
    /// Its cluster id, empty before `cluster init`.
    pub const CLUSTER: &str = "cluster";
    /// Its layout version.
    pub const LAYOUT: &str = "layout";
    /// Its software version.
    pub const VERSION: &str = "version";
    /// Its last sign of life.
    pub const ALIVE: &str = "alive";
    /// How far it has been rebuilt, as `done/total` partitions; empty if nothing is rebuilt.
    pub const REBUILDING: &str = "rebuilding";
}

const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The longest that a proposer waits for nodes on another's behalf.
const PATIENCE_MAX: Duration = Duration::from_secs(600);
/// The most members of a cluster: gossip lists 895 lives of nodes, and after a restart of all of
/// them each node has two.
const MEMBERS_MAX: usize = 440;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why the first layout was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BootstrapError {
    /// Too few nodes found each other in time.
    #[error(
        "{seen} of {expected} nodes are up ({names}): start the others and check 'peers' and \
         'secret' in their configuration"
    )]
    TooFew {
        /// How many are up.
        seen: usize,
        /// How many were expected.
        expected: usize,
        /// Their names.
        names: String,
    },
    /// More nodes are there than the operator expects.
    #[error(
        "{seen} nodes are up, more than the {expected} expected ({names}): say --expect {seen}"
    )]
    TooMany {
        /// How many are up.
        seen: usize,
        /// How many were expected.
        expected: usize,
        /// Their names.
        names: String,
    },
    /// Gossip does not carry so many members.
    #[error("a cluster of {expected} nodes is too large: gossip carries {MEMBERS_MAX} members")]
    TooLarge {
        /// How many were expected.
        expected: usize,
    },
    /// A member refused or did not answer; trying again proposes the same layout.
    #[error("node {node} did not take the layout: {reason}; run 'cluster init' again")]
    Member {
        /// The member.
        node: NodeId,
        /// What it said.
        reason: String,
    },
    /// No layout can be made of these nodes.
    #[error("no layout can be made: {0}")]
    Placement(String),
    /// This node's disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This node belongs to another cluster.
    #[error("this node already belongs to cluster {0}")]
    AlreadyMember(ClusterId),
}

#[derive(Serialize, Deserialize)]
pub(super) enum MembershipRequest {
    Install {
        layout: bytes::Bytes,
    },
    Fetch,
    /// Make the first layout of so many nodes and so many partitions.
    Propose {
        expected: u32,
        partitions: u32,
        patience_millis: u64,
    },
    /// Tell the wall clock, and what is remembered of that node.
    Clock {
        about: NodeId,
    },
    /// Tell which member has that name and address.
    WhoWas {
        name: String,
        address: SocketAddr,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) enum MembershipReply {
    Installed,
    /// The first layout is in force on all its members.
    Proposed {
        layout: bytes::Bytes,
    },
    Layout {
        layout: Option<bytes::Bytes>,
    },
    Refused {
        reason: String,
    },
    Clock {
        wall: UnixMillis,
        remembered: Option<Remembered>,
    },
    Was {
        recollection: Recollection,
    },
}

/// What the membership service needs of its node.
pub struct MembershipSeams {
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Tasks.
    pub tasks: Arc<dyn Tasks>,
    /// The way to peers.
    pub transport: Arc<dyn Transport>,
    /// Gossip.
    pub gossip: Arc<dyn Gossip>,
    /// The data folder.
    pub disk: Arc<dyn Disk>,
}

/// This node's part in the cluster's membership.
pub struct Membership {
    pub(super) seams: MembershipSeams,
    identity: Mutex<Identity>,
    holder: Arc<LayoutHolder>,
    pub(super) memory: Memory,
    /// Why this node must not go on, once that is known.
    pub(super) verdict: watch::Sender<Option<String>>,
    /// Nodes of other clusters that were warned of.
    pub(super) strangers: Mutex<BTreeSet<NodeId>>,
    /// Held while a layout is taken, so that two are never taken at once.
    taking: tokio::sync::Mutex<()>,
}

impl Membership {
    /// A node's membership.
    #[must_use]
    pub fn new(
        seams: MembershipSeams,
        identity: Identity,
        holder: Arc<LayoutHolder>,
        memory: Memory,
    ) -> Arc<Self> {
        for known in memory.book.all() {
            // Members that gossip has not met in this boot are reached where they were last.
            seams.transport.learn(known.node, known.address);
        }
        Arc::new(Self {
            seams,
            identity: Mutex::new(identity),
            holder,
            memory,
            verdict: watch::channel(None).0,
            strangers: Mutex::default(),
            taking: tokio::sync::Mutex::new(()),
        })
    }

    /// This node's identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity.lock().clone()
    }

    pub(super) fn set_identity(&self, identity: Identity) {
        *self.identity.lock() = identity;
    }

    /// What this node knows of itself and its peers from earlier.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Tells, once it is known, why this node must not go on.
    #[must_use]
    pub fn verdict(&self) -> watch::Receiver<Option<String>> {
        self.verdict.subscribe()
    }

    /// The layout in force.
    #[must_use]
    pub fn holder(&self) -> &Arc<LayoutHolder> {
        &self.holder
    }

    /// What gossip knows.
    #[must_use]
    pub fn gossip(&self) -> &Arc<dyn Gossip> {
        &self.seams.gossip
    }

    /// Waits until `expected` nodes are up, writes layout 1, and returns once all have it on
    /// stable storage. Done before, it returns the layout that there is.
    ///
    /// # Errors
    /// [`BootstrapError`]; the call may be repeated.
    pub async fn init(
        &self,
        expected: usize,
        partitions: PartitionCount,
        patience: Duration,
    ) -> Result<Arc<Layout>, BootstrapError> {
        let layout = match self.holder.current() {
            Some(layout) => layout,
            None if expected > MEMBERS_MAX => {
                return Err(BootstrapError::TooLarge { expected });
            }
            None => {
                let members = self.wait_for(expected, patience).await?;
                let proposer = self.proposer(&members);
                if proposer != self.identity().node {
                    return self.ask_proposer(proposer, expected, partitions, patience).await;
                }
                // A crash may have left the cluster's id in the identity file and no layout.
                let cluster = self
                    .identity()
                    .cluster
                    .unwrap_or_else(|| ClusterId::from_bytes(self.seams.entropy.next_id()));
                let layout = Layout::first(cluster, partitions, members)
                    .map_err(|error| BootstrapError::Placement(error.to_string()))?;
                self.take(Arc::new(layout)).await?
            }
        };
        for member in layout.members() {
            if member.node != self.identity().node {
                self.install_on(member.node, &layout).await?;
            }
        }
        Ok(layout)
    }

    /// Who makes the first layout: whoever has a cluster id already (a proposal that was broken
    /// off), else the least node id. Two operators who type `cluster init` on two nodes at once
    /// so get one cluster.
    fn proposer(&self, members: &[Member]) -> NodeId {
        let me = self.identity();
        let begun =
            self.seams.gossip.peers().into_iter().find(|peer| {
                peer.facts.get(facts::CLUSTER).is_some_and(|cluster| !cluster.is_empty())
            });
        match (me.cluster, begun) {
            (Some(_), _) => me.node,
            (None, Some(peer)) => peer.node,
            (None, None) => members.iter().map(|member| member.node).min().unwrap_or(me.node),
        }
    }

    async fn ask_proposer(
        &self,
        proposer: NodeId,
        expected: usize,
        partitions: PartitionCount,
        patience: Duration,
    ) -> Result<Arc<Layout>, BootstrapError> {
        let refused = |reason: String| BootstrapError::Member { node: proposer, reason };
        let request = MembershipRequest::Propose {
            expected: u32::try_from(expected).unwrap_or(u32::MAX),
            partitions: partitions.get(),
            patience_millis: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        };
        let deadline = deadline_in(&*self.seams.clock, patience + ANSWER_MAX);
        match self.ask_until(proposer, &request, deadline).await.map_err(refused)? {
            MembershipReply::Proposed { layout } => decode_format::<Layout>(&layout)
                .map(Arc::new)
                .map_err(|error| refused(error.to_string())),
            MembershipReply::Refused { reason } => Err(refused(reason)),
            _ => Err(refused("unexpected answer".into())),
        }
    }

    async fn propose(&self, expected: u32, partitions: u32, patience: Duration) -> MembershipReply {
        let partitions = match PartitionCount::new(partitions) {
            Ok(partitions) => partitions,
            Err(error) => return MembershipReply::Refused { reason: error.to_string() },
        };
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        let made = Box::pin(self.init(expected, partitions, patience)).await;
        let encoded = made
            .map_err(|error| error.to_string())
            .and_then(|layout| encode_format(&*layout).map_err(|error| error.to_string()));
        match encoded {
            Ok(layout) => MembershipReply::Proposed { layout: layout.into() },
            Err(reason) => MembershipReply::Refused { reason },
        }
    }

    async fn wait_for(
        &self,
        expected: usize,
        patience: Duration,
    ) -> Result<Vec<Member>, BootstrapError> {
        let deadline = deadline_in(&*self.seams.clock, patience);
        loop {
            let up: Vec<PeerState> = self
                .seams
                .gossip
                .peers()
                .into_iter()
                .filter(|peer| {
                    peer.liveness == Liveness::Up && peer.facts.contains_key(facts::ZONE)
                })
                .collect();
            if up.len() == expected {
                return Ok(up.iter().map(member_of).collect());
            }
            let names = up.iter().map(name_of).collect::<Vec<_>>().join(", ");
            if up.len() > expected {
                return Err(BootstrapError::TooMany { seen: up.len(), expected, names });
            }
            if self.seams.clock.monotonic() >= deadline {
                return Err(BootstrapError::TooFew { seen: up.len(), expected, names });
            }
            self.seams.clock.sleep(LOOK_AGAIN).await;
        }
    }

    async fn install_on(&self, node: NodeId, layout: &Layout) -> Result<(), BootstrapError> {
        let refused = |reason: String| BootstrapError::Member { node, reason };
        let layout = encode_format(layout).map_err(|error| refused(error.to_string()))?.into();
        match self.ask(node, &MembershipRequest::Install { layout }).await.map_err(refused)? {
            MembershipReply::Installed => Ok(()),
            MembershipReply::Refused { reason } => Err(refused(reason)),
            _ => Err(refused("unexpected answer".into())),
        }
    }

    async fn ask(
        &self,
        node: NodeId,
        request: &MembershipRequest,
    ) -> Result<MembershipReply, String> {
        let deadline = deadline_in(&*self.seams.clock, ANSWER_MAX);
        self.ask_until(node, request, deadline).await
    }

    pub(super) async fn ask_until(
        &self,
        node: NodeId,
        request: &MembershipRequest,
        deadline: Monotonic,
    ) -> Result<MembershipReply, String> {
        ask_member(&*self.seams.transport, node, request, deadline).await
    }

    /// Takes a layout: the identity file names the cluster first, then the layout is durable,
    /// then it is in force.
    async fn take(&self, layout: Arc<Layout>) -> Result<Arc<Layout>, BootstrapError> {
        let _one_at_a_time = self.taking.lock().await;
        if let Some(current) = self.holder.current() {
            return if current.cluster() == layout.cluster() {
                Ok(current)
            } else {
                Err(BootstrapError::AlreadyMember(current.cluster()))
            };
        }
        let mut identity = self.identity();
        if let Some(cluster) = identity.cluster.filter(|cluster| *cluster != layout.cluster()) {
            return Err(BootstrapError::AlreadyMember(cluster));
        }
        identity.cluster = Some(layout.cluster());
        let (disk, holder, taken) =
            (Arc::clone(&self.seams.disk), Arc::clone(&self.holder), Arc::clone(&layout));
        let saved = identity.clone();
        blocking(&self.seams.tasks, move || {
            saved.save(&disk)?;
            holder.install(taken)
        })
        .await
        .unwrap_or(Err(StoreError::Stopping))?;
        *self.identity.lock() = identity;
        self.publish(&layout);
        Ok(layout)
    }

    /// Tells peers which layout is in force here.
    pub fn publish(&self, layout: &Layout) {
        self.seams.gossip.publish(facts::CLUSTER, layout.cluster().to_string());
        self.seams.gossip.publish(facts::LAYOUT, layout.version().0.to_string());
    }

    /// Answers a peer.
    ///
    /// # Errors
    /// [`HandlerError`] for messages that cannot be read.
    pub async fn serve(&self, request: Message) -> Result<Message, HandlerError> {
        let request = decode_message(&request.body)
            .map_err(|error| HandlerError::Refused(error.to_string()))?;
        let reply = match request {
            MembershipRequest::Fetch => MembershipReply::Layout {
                layout: self
                    .holder
                    .current()
                    .and_then(|layout| encode_format(&*layout).ok())
                    .map(Into::into),
            },
            MembershipRequest::Install { layout } => self.install(&layout).await,
            MembershipRequest::Propose { expected, partitions, patience_millis } => {
                let patience = Duration::from_millis(patience_millis).min(PATIENCE_MAX);
                self.propose(expected, partitions, patience).await
            }
            MembershipRequest::Clock { about } => MembershipReply::Clock {
                wall: self.seams.clock.wall(),
                remembered: self.memory.book.get(about).map(|known| known.lives),
            },
            MembershipRequest::WhoWas { name, address } => {
                MembershipReply::Was { recollection: self.recollect(&name, address) }
            }
        };
        encode_message(&reply)
            .map(Message::from)
            .map_err(|error| HandlerError::Failed(error.to_string()))
    }

    async fn install(&self, layout: &[u8]) -> MembershipReply {
        let layout = match decode_format::<Layout>(layout) {
            Ok(layout) => Arc::new(layout),
            Err(error) => return MembershipReply::Refused { reason: error.to_string() },
        };
        match self.take(layout).await {
            Ok(_) => MembershipReply::Installed,
            Err(error) => MembershipReply::Refused { reason: error.to_string() },
        }
    }

    /// Fetches the layout when gossip says that others have one that names this node: the way
    /// in for a member that missed the first layout's installation.
    pub async fn follow_layout(self: Arc<Self>) {
        let mut changes = self.seams.gossip.changes();
        while self.holder.current().is_none() {
            let holders: Vec<NodeId> = self
                .seams
                .gossip
                .peers()
                .into_iter()
                .filter(|peer| peer.liveness == Liveness::Up)
                .filter(|peer| peer.facts.get(facts::LAYOUT).is_some_and(|version| version != "0"))
                .map(|peer| peer.node)
                .collect();
            for node in holders {
                self.fetch_from(node).await;
            }
            if self.holder.current().is_none() && changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn fetch_from(&self, node: NodeId) {
        let Ok(MembershipReply::Layout { layout: Some(bytes) }) =
            self.ask(node, &MembershipRequest::Fetch).await
        else {
            return;
        };
        let me = self.identity().node;
        match decode_format::<Layout>(&bytes) {
            Ok(layout) if layout.member(me).is_some() => {
                if let Err(error) = self.take(Arc::new(layout)).await {
                    tracing::warn!(%error, "a peer's layout was not taken");
                }
            }
            Ok(_) => tracing::debug!(%node, "a peer's layout does not name this node"),
            Err(error) => tracing::warn!(%node, %error, "a peer's layout cannot be read"),
        }
    }
}

/// Asks one node's membership.
pub(super) async fn ask_member(
    transport: &dyn Transport,
    node: NodeId,
    request: &MembershipRequest,
    deadline: Monotonic,
) -> Result<MembershipReply, String> {
    let body = encode_message(request).map_err(|error| error.to_string())?;
    let answer = transport
        .call(node, MEMBERSHIP_SERVICE, body.into(), deadline)
        .await
        .map_err(|error| error.to_string())?;
    decode_message(&answer.body).map_err(|error| error.to_string())
}

fn name_of(peer: &PeerState) -> String {
    peer.facts.get(facts::NAME).cloned().unwrap_or_else(|| peer.node.short())
}

fn member_of(peer: &PeerState) -> Member {
    let fact = |name: &str| peer.facts.get(name).cloned().unwrap_or_default();
    Member {
        node: peer.node,
        zone: Zone::new(fact(facts::ZONE)),
        capacity: Capacity(fact(facts::CAPACITY).parse().unwrap_or(0)),
        tags: Vec::new(),
    }
}

/// What a node says of itself at start.
#[must_use]
pub fn own_facts(name: &str, zone: &Zone, capacity: Capacity) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (facts::NAME, name.to_owned()),
        (facts::CAPACITY, capacity.0.to_string()),
        (facts::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        (facts::LAYOUT, "0".to_owned()),
        // Last: a node counts as there once its zone is known.
        (facts::ZONE, zone.to_string()),
    ])
}
