//! What a node does with its peers every few seconds: compares clocks, keeps the address book,
//! gives signs of life, and asks what they remember of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;

use crate::env::{blocking, deadline_in};
use crate::store::StoreError;
use crate::types::NodeId;

use super::bootstrap::{Membership, MembershipReply, MembershipRequest, facts};
use super::clocks::{CLOCK_OFFSET_MAX, ahead_by};
use super::gossip::{Liveness, PeerState};
use super::lives::{Awakening, LifeSign, Remembered, check_folder};

/// How often peers' clocks are read.
const ROUND_EVERY: Duration = Duration::from_secs(3);
/// The first round comes soon, so that a wrong clock or folder is found out early.
const FIRST_ROUND: Duration = Duration::from_millis(500);
/// Longer round trips measure the network, not the clock.
const READING_MAX: Duration = Duration::from_secs(2);
/// A sign of life is given, and the book is saved, every so many rounds.
const ROUNDS_PER_SIGN: u64 = 4;

impl Membership {
    /// Runs the rounds until the node is dropped.
    pub async fn rounds_for_ever(this: Weak<Self>) {
        for round in 0_u64.. {
            let Some(membership) = this.upgrade() else { return };
            let pause = if round == 0 { FIRST_ROUND } else { ROUND_EVERY };
            let sleep = membership.seams.clock.sleep(pause);
            drop(membership);
            sleep.await;
            let Some(membership) = this.upgrade() else { return };
            membership.round(round).await;
        }
    }

    async fn round(&self, round: u64) {
        let me = self.identity().node;
        let peers = self.seams.gossip.peers();
        self.look_for_strangers(&peers);
        let up = peers.iter().filter(|peer| peer.node != me && peer.liveness == Liveness::Up);
        let heard = join_all(up.map(|peer| self.read_clock(me, peer))).await;
        // What peers remember is compared before this life leaves a trace with them.
        for (peer, remembered) in heard.into_iter().flatten() {
            self.compare_lives(&peer, remembered);
        }
        self.memory.book.note(me, &peers);
        if round.is_multiple_of(ROUNDS_PER_SIGN)
            && let Err(error) = self.give_sign().await
        {
            tracing::warn!(%error, "no sign of life could be stored");
        }
    }

    /// Reads one peer's clock, and what it remembers of this node.
    async fn read_clock(
        &self,
        me: NodeId,
        peer: &PeerState,
    ) -> Option<(PeerState, Option<Remembered>)> {
        let clock = &self.seams.clock;
        let sent = (clock.wall(), clock.monotonic());
        let deadline = deadline_in(&**clock, READING_MAX);
        let request = MembershipRequest::Clock { about: me };
        let MembershipReply::Clock { wall, remembered } =
            self.ask_until(peer.node, &request, deadline).await.ok()?
        else {
            return None;
        };
        let now = clock.monotonic();
        let ahead = ahead_by(sent.0, clock.wall(), wall);
        let first = self.memory.clocks.ahead(peer.node, now).is_none();
        self.memory.clocks.note(peer.node, ahead, now);
        if first && u128::from(ahead.unsigned_abs()) > CLOCK_OFFSET_MAX.as_millis() {
            let name = peer.facts.get(facts::NAME);
            tracing::warn!(peer = %peer.node, name, ahead_ms = ahead, "a peer's clock differs");
        }
        Some((peer.clone(), remembered))
    }

    fn compare_lives(&self, peer: &PeerState, remembered: Option<Remembered>) {
        let Some(remembered) = remembered else { return };
        if let Err(rollback) = check_folder(self.memory.awakening, remembered) {
            let name = peer.facts.get(facts::NAME).map_or("a peer", String::as_str);
            let reason = format!(
                "{rollback} (told by {name}). It may have forgotten what it acknowledged: stop \
                 this node, empty its data folder and start it again; it is rebuilt from its peers"
            );
            tracing::error!(peer = %peer.node, %reason, "this node must not go on");
            self.verdict.send_replace(Some(reason));
        }
    }

    async fn give_sign(&self) -> Result<(), StoreError> {
        let (signs, book) = (Arc::clone(&self.memory.signs), Arc::clone(&self.memory.book));
        let wall = self.seams.clock.wall().0;
        let given = blocking(&self.seams.tasks, move || {
            book.save()?;
            signs.give(wall)
        });
        let alive = given.await.unwrap_or(Err(StoreError::Stopping))?;
        let Awakening { boot, life, .. } = self.memory.awakening;
        let sign = LifeSign { boot, life, alive };
        self.seams.gossip.publish(facts::ALIVE, sign.to_string());
        Ok(())
    }

    /// Warns, once, of nodes that share this cluster's secret and belong to another cluster.
    fn look_for_strangers(&self, peers: &[PeerState]) {
        let strangers = self.strangers_among(peers);
        let now: BTreeSet<NodeId> = strangers.iter().map(|peer| peer.node).collect();
        let before = std::mem::replace(&mut *self.strangers.lock(), now);
        for peer in strangers.into_iter().filter(|peer| !before.contains(&peer.node)) {
            let theirs = peer.facts.get(facts::CLUSTER);
            let name = peer.facts.get(facts::NAME);
            let address = peer.peer_address;
            tracing::error!(
                peer = %peer.node, name, %address, theirs,
                "a node of another cluster has this cluster's secret"
            );
        }
    }

    /// The peers that say they belong to another cluster.
    pub fn strangers_among<'a>(&self, peers: &'a [PeerState]) -> Vec<&'a PeerState> {
        let Some(own) = self.identity().cluster.map(|cluster| cluster.to_string()) else {
            return Vec::new();
        };
        let foreign = |peer: &&PeerState| {
            let told = peer.facts.get(facts::CLUSTER).filter(|told| !told.is_empty());
            peer.liveness == Liveness::Up && told.is_some_and(|told| *told != own)
        };
        peers.iter().filter(foreign).collect()
    }
}
