//! What every replicated record says about its own write.

use serde::{Deserialize, Serialize};

use crate::causality::{Actor, Dot, HybridTime, Stamp, VersionVector};
use crate::types::NodeId;

/// The most actors that a record's vector keeps. Beyond it the actors of the longest-gone boots
/// are dropped: in last-write-wins records the vector only tells concurrent losers apart.
const ACTORS_MAX: usize = 24;

/// What orders the writes of one key: era, stamp, dot.
pub type Order = (u32, Stamp, Dot);

/// One write's place among the writes of its key.
///
/// Records are ordered by (era, stamp): the era counts changes of the bucket's consistency
/// level, the stamp is the write's hybrid time and node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The bucket's era when the write was minted.
    #[serde(rename = "e")]
    pub era: u32,
    /// When and where it was minted.
    #[serde(rename = "s")]
    pub stamp: Stamp,
    /// Its name.
    #[serde(rename = "d")]
    pub dot: Dot,
    /// Every write of this key that this one has seen, itself included.
    #[serde(rename = "v")]
    pub seen: VersionVector,
    /// What `seen` was when the write was minted, if merges have added to it since: this alone
    /// tells which writes its writer knew of.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub context: Option<VersionVector>,
    /// The write that this one repeats, because that one met a newer write which its minter did
    /// not hold: both are one request of one client.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Dot>,
}

impl Version {
    /// A version that no write has yet: an owner replaces it under the key's lock.
    #[must_use]
    pub fn unminted() -> Self {
        let node = NodeId::from_bytes([0; 16]);
        let actor = Actor { node, boot: 0, stint: 0 };
        Self {
            era: 0,
            stamp: Stamp { time: HybridTime::default(), node },
            dot: Dot { actor, counter: 0 },
            seen: VersionVector::default(),
            context: None,
            repeats: None,
        }
    }

    /// The next version after `current`, minted by `actor` at `stamp`.
    ///
    /// An actor that this vector already knows counts on; any other starts at one.
    #[must_use]
    pub fn succeed(current: Option<&Self>, actor: Actor, stamp: Stamp, era: u32) -> Self {
        let mut seen = current.map(|version| version.seen.clone()).unwrap_or_default();
        let dot = Dot { actor, counter: seen.counter(actor).saturating_add(1) };
        seen.add(dot);
        Self { era, stamp, dot, seen: trimmed(seen, dot), context: None, repeats: None }
    }

    /// What orders two writes of one key. The dot tells writes apart that a node stamped alike
    /// before and after a crash.
    #[must_use]
    pub const fn order(&self) -> Order {
        (self.era, self.stamp, self.dot)
    }

    /// Takes in what `other` has seen, and stays the write that it is.
    pub fn absorb(&mut self, other: &Self) {
        let context = self.context.take().unwrap_or_else(|| self.seen.clone());
        self.seen.merge(&other.seen);
        self.seen = trimmed(std::mem::take(&mut self.seen), self.dot);
        self.context = (self.seen != context).then_some(context);
    }

    /// Whether neither writer knew of the other's write.
    #[must_use]
    pub fn is_concurrent_with(&self, other: &Self) -> bool {
        self.dot != other.dot && !self.knew_of(other.dot) && !other.knew_of(self.dot)
    }

    /// Whether its writer knew of that write.
    #[must_use]
    pub fn knew_of(&self, dot: Dot) -> bool {
        self.context.as_ref().unwrap_or(&self.seen).contains(dot)
    }

    /// The version of a last-write-wins merge: the greater write, with both vectors.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let (mut winner, loser) =
            if self.order() >= other.order() { (self, other) } else { (other, self) };
        winner.absorb(&loser);
        winner
    }
}

/// Keeps the newest boots when a vector has too many actors, and always the write's own.
fn trimmed(seen: VersionVector, own: Dot) -> VersionVector {
    if seen.len() <= ACTORS_MAX {
        return seen;
    }
    let mut entries: Vec<_> = seen.iter().collect();
    entries.sort_by_key(|(actor, _)| {
        std::cmp::Reverse((*actor == own.actor, actor.boot, actor.stint, actor.node))
    });
    entries.truncate(ACTORS_MAX);
    entries.into()
}

#[cfg(test)]
mod tests {
    use super::Version;
    use crate::causality::{Actor, HybridTime, Stamp};
    use crate::types::NodeId;
    use proptest::prelude::*;

    fn version(node: u8, time: u64) -> Version {
        let node = NodeId::from_bytes([node; 16]);
        let actor = Actor { node, boot: 1, stint: time };
        Version::succeed(None, actor, Stamp { time: HybridTime(time), node }, 0)
    }

    proptest! {
        #[test]
        fn merging_versions_is_commutative_associative_and_idempotent(
            a in (0u8..4, 0u64..6), b in (0u8..4, 0u64..6), c in (0u8..4, 0u64..6),
        ) {
            let (a, b, c) = (version(a.0, a.1), version(b.0, b.1), version(c.0, c.1));

            prop_assert_eq!(a.clone().merge(b.clone()), b.clone().merge(a.clone()));
            prop_assert_eq!(
                a.clone().merge(b.clone()).merge(c.clone()),
                a.clone().merge(b.clone().merge(c.clone()))
            );
            prop_assert_eq!(a.clone().merge(a.clone()), a);
        }
    }

    #[test]
    fn that_two_writes_were_concurrent_is_still_seen_after_they_were_merged() {
        let (one, other) = (version(1, 5), version(2, 7));

        let merged = one.clone().merge(other.clone());
        let later = Version::succeed(Some(&merged), one.dot.actor, one.stamp, 0);

        assert_eq!(merged.dot, other.dot);
        assert!(merged.is_concurrent_with(&one) && one.is_concurrent_with(&merged));
        assert!(!merged.is_concurrent_with(&other));
        assert!(!later.is_concurrent_with(&one) && !later.is_concurrent_with(&merged));
    }

    #[test]
    fn a_successor_has_seen_what_it_replaces() {
        let first = version(1, 5);

        let second = Version::succeed(Some(&first), first.dot.actor, first.stamp, 0);

        assert!(second.seen.descends(&first.seen));
        assert_eq!(second.dot.counter, 2);
    }
}
