//! Who this node is: an identity file in its data folder.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::env::Entropy;
use crate::store::{Create, Disk, StoreError};
use crate::types::{ClusterId, DiskId, NodeId};

use super::lives::Folder;
use super::rejoin::{BOOTS_LEFT_OUT, FormerMember};

/// The file's name in the data folder.
pub const IDENTITY_FILE: &str = "identity.json";

/// A node's identity. It is JSON, so that an operator can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The number of this file's format.
    pub format: u16,
    /// The cluster that it joined; none before `cluster init`.
    pub cluster: Option<ClusterId>,
    /// This node. An emptied data folder is another node, unless it re-enters as a member.
    pub node: NodeId,
    /// This data folder.
    pub disk: DiskId,
    /// How often the node has been started, this time included: part of every dot that it
    /// mints, so that no dot is ever minted twice.
    pub boot: u32,
    /// Whether this folder was empty when the node re-entered under its old id, and does not
    /// hold all again yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuilding: bool,
}

/// The format that this release writes.
const FORMAT: u16 = 1;
const TEMPORARY_FILE: &str = "identity.json.new";
/// Far more than an identity takes.
const LENGTH_MAX: u64 = 64 * 1024;

impl Identity {
    /// Reads the identity of the folder, or makes a new one, counts this start, and makes that
    /// durable before it returns. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the file cannot be understood: a node never guesses who it is.
    pub fn start(disk: &Arc<dyn Disk>, entropy: &dyn Entropy) -> Result<Self, StoreError> {
        let mut identity = match Self::peek(disk)? {
            Some(identity) => identity,
            None => Self {
                format: FORMAT,
                cluster: None,
                node: NodeId::from_bytes(entropy.next_id()),
                disk: DiskId::from_bytes(entropy.next_id()),
                boot: 0,
                rebuilding: false,
            },
        };
        identity.boot = identity
            .boot
            .checked_add(1)
            .ok_or_else(|| damaged("the boot counter is exhausted".to_owned()))?;
        identity.save(disk)?;
        Ok(identity)
    }

    /// The identity that the folder has, if it has one. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the file cannot be understood.
    pub fn peek(disk: &Arc<dyn Disk>) -> Result<Option<Self>, StoreError> {
        let named = disk.list()?.iter().any(|name| name == IDENTITY_FILE);
        named.then(|| Self::read(disk)).transpose()
    }

    /// The identity of a member whose folder was emptied: its old id, a new disk, and starts
    /// counted well above all that peers remember.
    #[must_use]
    pub fn re_entering(member: &FormerMember, disk: DiskId) -> Self {
        Self {
            format: FORMAT,
            cluster: Some(member.cluster),
            node: member.node,
            disk,
            boot: member.boot.saturating_add(BOOTS_LEFT_OUT),
            rebuilding: true,
        }
    }

    /// What the folder says of itself.
    #[must_use]
    pub const fn folder(&self) -> Folder {
        if self.rebuilding { Folder::Rebuilding } else { Folder::Whole }
    }

    fn read(disk: &Arc<dyn Disk>) -> Result<Self, StoreError> {
        let file = disk.open(IDENTITY_FILE, Create::MustExist)?;
        let length = file.length()?.min(LENGTH_MAX);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        let identity: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if identity.format != FORMAT {
            return Err(damaged(format!(
                "format {} is not one that this release reads ({FORMAT}): upgrade this node",
                identity.format
            )));
        }
        Ok(identity)
    }

    /// Writes the identity durably. Blocks.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save(&self, disk: &Arc<dyn Disk>) -> Result<(), StoreError> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|error| damaged(error.to_string()))?;
        text.push(b'\n');
        let file = disk.open(TEMPORARY_FILE, Create::IfMissing)?;
        file.truncate(0)?;
        file.write_at(0, &[&text])?;
        file.sync()?;
        disk.rename(TEMPORARY_FILE, IDENTITY_FILE)?;
        disk.sync_folder()
    }
}

fn damaged(reason: String) -> StoreError {
    StoreError::Damaged { path: IDENTITY_FILE.into(), reason }
}
