//! What requests may know of peers: a snapshot of gossip that is cheap to look at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::{Either, select};

use crate::env::{Clock, Tasks};
use crate::membership::{Gossip, Liveness};
use crate::net::Transport;
use crate::replication::PeerView;
use crate::types::NodeId;

/// How old a snapshot may become while gossip is silent: round trips change without it.
const REFRESH: Duration = Duration::from_secs(1);

type Snapshot = BTreeMap<NodeId, (Liveness, u64)>;

/// Peers as gossip and the transport last saw them.
pub(super) struct KnownPeers {
    snapshot: ArcSwap<Snapshot>,
}

impl KnownPeers {
    /// Follows gossip from now on.
    pub(super) fn follow(
        gossip: Arc<dyn Gossip>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        tasks: &Arc<dyn Tasks>,
    ) -> Arc<Self> {
        let known = Arc::new(Self { snapshot: ArcSwap::from_pointee(Snapshot::new()) });
        let follower = Arc::clone(&known);
        let mut changes = gossip.changes();
        let follow = async move {
            loop {
                follower.snapshot.store(Arc::new(look(&*gossip, &*transport)));
                let changed = std::pin::pin!(changes.changed());
                if let Either::Left((Err(_), _)) = select(changed, clock.sleep(REFRESH)).await {
                    return;
                }
            }
        };
        tasks.spawn("known peers", follow.boxed()).detach();
        known
    }
}

fn look(gossip: &dyn Gossip, transport: &dyn Transport) -> Snapshot {
    gossip
        .peers()
        .into_iter()
        .map(|peer| {
            let micros = transport
                .round_trip(peer.node)
                .and_then(|round_trip| u64::try_from(round_trip.as_micros()).ok());
            // Near peers are told apart coarsely, so that noise does not choose for ever.
            (peer.node, (peer.liveness, micros.unwrap_or(1_000_000) / 1_000))
        })
        .collect()
}

impl PeerView for KnownPeers {
    fn liveness(&self, node: NodeId) -> Liveness {
        // A member that gossip never met in this boot is not reachable by anything we know.
        self.snapshot.load().get(&node).map_or(Liveness::Down, |known| known.0)
    }

    fn round_trip_micros(&self, node: NodeId) -> u64 {
        self.snapshot.load().get(&node).map_or(u64::MAX, |known| known.1)
    }
}
