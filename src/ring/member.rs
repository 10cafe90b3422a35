//! The nodes of a layout and what they contribute.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::{NodeId, Zone};

/// How much a node contributes, in any unit that the whole cluster shares (GiB, say): only
/// ratios matter. Zero makes a gateway, which coordinates and owns nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Capacity(pub u32);

impl Capacity {
    /// A gateway's capacity: none.
    pub const GATEWAY: Self = Self(0);

    /// Whether a node of this capacity owns partitions.
    #[must_use]
    pub const fn owns(self) -> bool {
        self.0 > 0
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One node of a layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// What it fails together with. At most 255 bytes.
    pub zone: Zone,
    /// What it contributes.
    pub capacity: Capacity,
    /// Words that administrators attach to it; placement does not read them. At most 64 of at
    /// most 255 bytes.
    #[serde(default)]
    pub tags: Vec<String>,
}

impl Member {
    /// The longest zone name or tag, in bytes.
    const TEXT_BYTES_MAX: usize = 255;
    /// The most tags of one node.
    const TAGS_MAX: usize = 64;

    /// Whether zone and tags keep to their limits.
    pub(super) fn text_is_bounded(&self) -> bool {
        self.zone.as_str().len() <= Self::TEXT_BYTES_MAX
            && self.tags.len() <= Self::TAGS_MAX
            && self.tags.iter().all(|tag| tag.len() <= Self::TEXT_BYTES_MAX)
    }
}
