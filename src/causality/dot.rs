//! The name of one write.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// Who mints dots: a node in one boot and one stint.
///
/// The boot counter is fsynced at every start, so a node that lost its memory is another actor.
/// A node that has no local record of a key starts a new stint for it, so a vector entry never
/// covers a value that the minter had forgotten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor {
    /// The node that mints.
    #[serde(rename = "n")]
    pub node: NodeId,
    /// How often it had been started.
    #[serde(rename = "b")]
    pub boot: u32,
    /// Counts the keys that it met without a local record in this boot.
    #[serde(rename = "s")]
    pub stint: u64,
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.node.short(), self.boot, self.stint)
    }
}

/// One write of one key: the actor that minted it and that actor's count for the key
/// (Preguiça et al., "Dotted Version Vectors", 2012).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who minted it.
    #[serde(rename = "a")]
    pub actor: Actor,
    /// The actor's count for this key, from 1.
    #[serde(rename = "c")]
    pub counter: u64,
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.actor, self.counter)
    }
}
