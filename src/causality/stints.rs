//! Which actor a node mints with, so that no dot is ever minted twice (Riak's kv679).
//!
//! A vector entry `(actor, 5)` covers the actor's first five writes of a key. It tells the truth
//! only as long as the actor remembers what it has minted. A node that has lost its record of a
//! key would begin again at one, and every old vector would cover the new write, which would then
//! be dropped as one seen already. So such a node goes on as another actor: it begins a stint.
//!
//! # What can go wrong, and what answers it
//! - *The node restarts.* Its boot counter is another, and its records tell which counters it used.
//! - *Its record of a key is removed* (a tombstone purged, a guest copy handed over), *and an older
//!   copy of the key arrives from a peer, or an old context from a client.* Both may name this
//!   node's earlier actor with a counter that is behind: [`Stints::forget`] was called when the
//!   record went, so that actor is never counted on again.
//! - *A dot was sent out and its batch failed.* [`Stints::forget_all`] ends all stints.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::NodeId;

use super::dot::Actor;
use super::vector::VersionVector;

/// Over how many slots keys are spread. A forgotten key ends the stints of all keys of its slot,
/// which costs each of them one vector entry at its next write.
const SLOTS: usize = 1 << 16;

/// The stints of one node in one boot.
#[derive(Debug)]
pub struct Stints {
    node: NodeId,
    boot: u32,
    next: AtomicU64,
    /// For each slot of keys, the first stint that may still be counted on.
    since: Box<[AtomicU64]>,
}

impl Stints {
    /// The stints of `node`, which has been started `boot` times.
    #[must_use]
    pub fn new(node: NodeId, boot: u32) -> Self {
        let since = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { node, boot, next: AtomicU64::new(0), since }
    }

    /// The actor that mints the next write of the key with that hash, given what this node's
    /// record of it has seen. To be called under the key's lock.
    #[must_use]
    pub fn actor(&self, key: u64, seen: Option<&VersionVector>) -> Actor {
        let since = self.slot(key).load(Ordering::Acquire);
        let own = |actor: &Actor| {
            actor.node == self.node && actor.boot == self.boot && actor.stint >= since
        };
        let known = seen.and_then(|seen| seen.iter().map(|(actor, _)| actor).find(own));
        known.unwrap_or_else(|| Actor {
            node: self.node,
            boot: self.boot,
            stint: self.next.fetch_add(1, Ordering::AcqRel),
        })
    }

    /// This node's record of the key with that hash is being removed. To be called under the
    /// key's lock; harmless if the removal then fails.
    pub fn forget(&self, key: u64) {
        let next = self.next.load(Ordering::Acquire);
        self.slot(key).fetch_max(next, Ordering::AcqRel);
    }

    /// Records of any key may be lost.
    pub fn forget_all(&self) {
        let next = self.next.load(Ordering::Acquire);
        for slot in &self.since {
            slot.fetch_max(next, Ordering::AcqRel);
        }
    }

    fn slot(&self, key: u64) -> &AtomicU64 {
        // The remainder is below the length.
        &self.since[usize::try_from(key % SLOTS as u64).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::{SLOTS, Stints};
    use crate::causality::{Actor, Dot, VersionVector};
    use crate::types::NodeId;

    fn stints() -> Stints {
        Stints::new(NodeId::from_bytes([1; 16]), 7)
    }

    fn seen(actor: Actor, counter: u64) -> VersionVector {
        let mut seen = VersionVector::default();
        seen.add(Dot { actor, counter });
        seen
    }

    #[test]
    fn a_key_with_a_record_keeps_its_actor_and_one_without_gets_a_new_one() {
        let stints = stints();
        let first = stints.actor(5, None);

        assert_eq!(stints.actor(5, Some(&seen(first, 3))), first);
        assert_ne!(stints.actor(5, None), first);
        assert_ne!(stints.actor(6, Some(&VersionVector::default())), first);
    }

    #[test]
    fn an_actor_of_another_node_or_boot_is_not_counted_on() {
        let stints = stints();
        let own = stints.actor(5, None);

        let foreign = Actor { node: NodeId::from_bytes([2; 16]), ..own };
        let earlier = Actor { boot: 6, ..own };

        assert_ne!(stints.actor(5, Some(&seen(foreign, 1))), foreign);
        assert_ne!(stints.actor(5, Some(&seen(earlier, 1))), earlier);
    }

    #[test]
    fn the_actor_of_a_forgotten_key_is_never_counted_on_again() {
        let stints = stints();
        let (first, other) = (stints.actor(5, None), stints.actor(6, None));

        stints.forget(5);
        // An older copy comes back from a peer.
        let second = stints.actor(5, Some(&seen(first, 1)));

        assert_ne!(second, first);
        assert_eq!(stints.actor(5, Some(&seen(second, 1))), second);
        assert_eq!(stints.actor(6, Some(&seen(other, 1))), other, "another key is not concerned");
    }

    #[test]
    fn keys_of_one_slot_are_forgotten_together_and_all_keys_at_once() {
        let stints = stints();
        let (first, same_slot) = (stints.actor(5, None), stints.actor(5 + SLOTS as u64, None));

        stints.forget(5);
        assert_ne!(stints.actor(5 + SLOTS as u64, Some(&seen(same_slot, 1))), same_slot);

        let third = stints.actor(9, None);
        stints.forget_all();
        assert_ne!(stints.actor(9, Some(&seen(third, 1))), third);
        assert_ne!(stints.actor(5, Some(&seen(first, 1))), first);
    }
}
