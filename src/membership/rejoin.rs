//! An emptied data folder on its way back in: whether its name and address are those of a
//! member, and what is to be known of it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::env::{Monotonic, blocking};
use crate::net::Transport;
use crate::ring::Partition;
use crate::store::StoreError;
use crate::types::{ClusterId, NodeId};

use super::bootstrap::{Membership, MembershipReply, MembershipRequest, ask_member, facts};
use super::gossip::Liveness;
use super::rebuilding::Progress;

/// Starts that a re-entering node leaves out above the highest that any peer remembers, so that
/// no dot is minted twice even if that peer missed some.
pub(super) const BOOTS_LEFT_OUT: u32 = 1_000;

/// What one peer remembers of the member with a certain name and address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerMember {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member's id.
    pub node: NodeId,
    /// The highest boot that the peer remembers.
    pub boot: u32,
    /// The greatest sign of life that it remembers.
    pub alive: u64,
    /// Whether the member seems alive to the peer.
    pub liveness: Liveness,
}

/// A peer's answer to who was at an address under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recollection {
    /// The member, if the peer's layout has one of that name and address.
    pub member: Option<FormerMember>,
    /// Where other members are reached, to be asked too.
    pub others: Vec<SocketAddr>,
}

/// What an empty folder is to be taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Past {
    /// A node that nobody knows.
    New,
    /// A member that somebody still holds for alive: it is to be asked again in a moment.
    StillUp,
    /// A member that is down, and what is known of it: the highest of all answers.
    Member(FormerMember),
    /// Peers disagree about who was there: a person must look.
    Disputed(NodeId, NodeId),
}

/// The verdict over all answers.
#[must_use]
pub fn past_of(answers: &[Recollection]) -> Past {
    let mut known: Option<FormerMember> = None;
    for member in answers.iter().filter_map(|answer| answer.member.as_ref()) {
        match &mut known {
            None => known = Some(member.clone()),
            Some(known) if (known.node, known.cluster) != (member.node, member.cluster) => {
                return Past::Disputed(known.node, member.node);
            }
            Some(known) => {
                known.boot = known.boot.max(member.boot);
                known.alive = known.alive.max(member.alive);
                if member.liveness == Liveness::Up {
                    known.liveness = Liveness::Up;
                }
            }
        }
    }
    match known {
        None => Past::New,
        Some(known) if known.liveness == Liveness::Up => Past::StillUp,
        Some(known) => Past::Member(known),
    }
}

/// Asks `peer` which member has that name and address.
///
/// # Errors
/// A sentence, if it does not answer.
pub async fn who_was(
    transport: &dyn Transport,
    peer: NodeId,
    (name, address): (&str, SocketAddr),
    deadline: Monotonic,
) -> Result<Recollection, String> {
    let request = MembershipRequest::WhoWas { name: name.to_owned(), address };
    match ask_member(transport, peer, &request, deadline).await? {
        MembershipReply::Was { recollection } => Ok(recollection),
        MembershipReply::Refused { reason } => Err(reason),
        _ => Err("unexpected answer".to_owned()),
    }
}

impl Membership {
    /// What this node remembers of the member with that name and address.
    pub(super) fn recollect(&self, name: &str, address: SocketAddr) -> Recollection {
        let Some(layout) = self.holder().current() else { return Recollection::default() };
        let peers = self.gossip().peers();
        self.memory.book.note(self.identity().node, &peers);
        let mut recollection = Recollection::default();
        let members = self.memory.book.all();
        for known in members.iter().filter(|known| layout.member(known.node).is_some()) {
            let peer = peers.iter().find(|peer| peer.node == known.node);
            if known.name != name || known.address != address {
                recollection.others.push(known.address);
                continue;
            }
            recollection.member = Some(FormerMember {
                cluster: layout.cluster(),
                node: known.node,
                // A node that was never heard to give a sign may still be known by its boot.
                boot: known.lives.boot.max(peer.map_or(0, |peer| peer.boot)),
                alive: known.lives.last(),
                liveness: peer.map_or(Liveness::Down, |peer| peer.liveness),
            });
        }
        recollection
    }

    /// Tells peers how far this node has been rebuilt, and ends the rebuilding once all of the
    /// partitions that it owns are back.
    ///
    /// # Errors
    /// If the identity file cannot be written.
    pub async fn follow_rebuilding(&self, owned: &[Partition]) -> Result<(), StoreError> {
        let Some(Progress { done, total }) = self.memory.rebuilding.progress(owned) else {
            return Ok(());
        };
        if done < total || owned.is_empty() {
            self.gossip().publish(facts::REBUILDING, format!("{done}/{total}"));
            return Ok(());
        }
        let (disk, rebuilding) =
            (Arc::clone(&self.seams.disk), Arc::clone(&self.memory.rebuilding));
        let mut identity = self.identity();
        identity.rebuilding = false;
        let whole = identity.clone();
        let ended = blocking(&self.seams.tasks, move || {
            whole.save(&disk)?;
            rebuilding.end()
        });
        ended.await.unwrap_or(Err(StoreError::Stopping))?;
        self.set_identity(identity);
        self.gossip().publish(facts::REBUILDING, String::new());
        tracing::info!(partitions = total, "this node is rebuilt and counts for quorums again");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{FormerMember, Past, Recollection, past_of};
    use crate::membership::Liveness;
    use crate::types::{ClusterId, NodeId};

    fn remembers(node: u8, boot: u32, liveness: Liveness) -> Recollection {
        let member = FormerMember {
            cluster: ClusterId::from_bytes([1; 16]),
            node: NodeId::from_bytes([node; 16]),
            boot,
            alive: u64::from(boot) * 10,
            liveness,
        };
        Recollection { member: Some(member), others: Vec::new() }
    }

    #[test]
    fn the_highest_of_all_memories_counts() {
        let answers = [
            remembers(7, 3, Liveness::Down),
            Recollection::default(),
            remembers(7, 5, Liveness::Down),
        ];

        let Past::Member(member) = past_of(&answers) else { panic!("it was a member") };

        assert_eq!((member.boot, member.alive), (5, 50));
    }

    #[test]
    fn a_member_that_seems_alive_is_not_replaced() {
        let answers = [remembers(7, 3, Liveness::Down), remembers(7, 3, Liveness::Up)];

        assert_eq!(past_of(&answers), Past::StillUp);
    }

    #[test]
    fn nobody_and_somebody_else_are_told_apart() {
        let disputed = [remembers(7, 3, Liveness::Down), remembers(8, 3, Liveness::Down)];

        assert_eq!(past_of(&[Recollection::default()]), Past::New);
        assert!(matches!(past_of(&disputed), Past::Disputed(..)));
    }
}
