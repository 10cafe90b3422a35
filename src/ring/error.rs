//! Why a layout cannot be made or is not believed.

use crate::types::NodeId;

/// A layout that cannot be made from what was given, or stored bytes that are no sound layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Not a number of partitions.
    #[error("a cluster cannot have {0} partitions: take a power of two from 1 to 65536")]
    PartitionCount(u32),
    /// Nobody could own anything.
    #[error("no member has capacity: give at least one node a capacity above 0")]
    NoStorage,
    /// Two entries for one node.
    #[error("node {0} is listed twice: remove one of its entries")]
    DuplicateNode(NodeId),
    /// More members than a layout holds.
    #[error("{count} members are more than a layout holds: at most {limit}")]
    TooManyMembers {
        /// How many were given.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A zone name or tags beyond their limits.
    #[error("node {node} has a zone or tags beyond 255 bytes or 64 tags: shorten them")]
    TextTooLong {
        /// The node in question.
        node: NodeId,
    },
    /// The last version number was reached.
    #[error("layout version {0} has no successor")]
    NoNextVersion(u64),
    /// Stored bytes that break an invariant.
    #[error("a stored layout is unsound: {0}; fetch it from another node")]
    Unsound(&'static str),
}
