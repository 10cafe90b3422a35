//! What nodes keep for owners that were away, as operators see it.

use std::time::Duration;

use futures_util::future::join_all;

use crate::admin::{HintsReport, KeptHints};
use crate::env::{deadline_in, timeout_at};
use crate::membership::{Liveness, PeerState};
use crate::types::{ByteCount, NodeId};

use super::start::Node;
use super::status::name_of;

/// How long a node may take to say what it keeps.
const ANSWER_MAX: Duration = Duration::from_secs(1);

impl Node {
    /// What every node keeps for owners that were away.
    pub(super) async fn hints_report(&self) -> HintsReport {
        let peers = self.membership.gossip().peers();
        let name = |node: NodeId| {
            peers.iter().find(|peer| peer.node == node).map_or_else(|| node.short(), name_of)
        };
        let liveness = |node: NodeId| {
            let peer = peers.iter().find(|peer| peer.node == node);
            peer.map_or(Liveness::Down, |peer| peer.liveness)
        };
        let now = self.seams.clock.wall().0;
        let told = join_all(peers.iter().map(|peer: &PeerState| async {
            let clock = &*self.seams.clock;
            let asked = self.coordinator.kept_by(peer.node);
            let told = timeout_at(clock, deadline_in(clock, ANSWER_MAX), asked).await;
            (peer.node, told.flatten())
        }));
        let (mut hints, mut unheard) = (Vec::new(), Vec::new());
        for (keeper, owners) in told.await {
            let Some(owners) = owners else {
                unheard.push(name(keeper));
                continue;
            };
            hints.extend(owners.into_iter().map(|(owner, figures)| KeptHints {
                kept_by: name(keeper),
                kept_for: name(owner),
                liveness: liveness(owner),
                rows: figures.rows,
                bytes: ByteCount(figures.bytes),
                oldest_seconds:
                    figures.oldest.map(|oldest| now.saturating_sub(oldest.millis()) / 1000),
            }));
        }
        hints.sort_by(|a, b| (&a.kept_for, &a.kept_by).cmp(&(&b.kept_for, &b.kept_by)));
        HintsReport { hints, unheard }
    }
}
