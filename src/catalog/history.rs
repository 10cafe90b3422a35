//! What stands under a key, and what lost to a concurrent write: asked of all owners.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::causality::{Dot, Stamp, VersionVector};
use crate::replication::{ReplicationError, RowKey, TableId, Want};
use crate::types::{Key, NodeId};

use super::conflicts::LostWrite;
use super::error::CatalogError;
use super::full_copy::ask;
use super::keys::object_row;
use super::objects::decode_row;
use super::records::BucketRecord;
use super::remote::{CatalogReply, CatalogRequest};
use super::service::Catalog;

/// What stands under a key.
#[derive(Clone, Debug)]
pub struct StandingWrite {
    /// When and where it was stamped.
    pub stamp: Stamp,
    /// Every write of the key that is behind it.
    pub seen: VersionVector,
    /// Its bytes and ETag; `None` for a tombstone.
    pub object: Option<(u64, String)>,
}

/// The writes of a key, as far as they are known.
#[derive(Clone, Debug)]
pub struct ObjectHistory {
    /// What stands; `None` if nothing was ever written.
    pub current: Option<StandingWrite>,
    /// What lost, latest first.
    pub lost: Vec<LostWrite>,
    /// Owners that did not answer.
    pub unheard: Vec<NodeId>,
}

impl Catalog {
    /// What stands under `key` and what lost, as all owners that answer know it.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`] if the key cannot be read.
    pub async fn history(
        &self,
        bucket: &BucketRecord,
        key: &Key,
    ) -> Result<ObjectHistory, CatalogError> {
        let row = object_row(bucket, key);
        let n = usize::from(bucket.n);
        let receipt = self.coordinator.read(&row, n, bucket.level, Want::Record).await?;
        let current = receipt.record.as_ref().map(decode_row).transpose()?;
        let current = current.map(|row| StandingWrite {
            stamp: row.version.stamp,
            seen: row.version.seen,
            object: row.object.map(|object| (object.size, object.etag)),
        });
        let layout = self.coordinator.layout()?;
        let list = layout.preference_list(row.partition(&layout));
        let owners = list.owners(n);
        let told = join_all(owners.iter().map(|owner| self.lost_at(*owner, &row))).await;
        let mut lost: BTreeMap<Dot, LostWrite> = BTreeMap::new();
        let mut unheard = Vec::new();
        for (owner, told) in owners.iter().zip(told) {
            match told {
                Ok(told) => lost.extend(told.into_iter().map(|write| (write.dot, write))),
                Err(error) => {
                    tracing::debug!(%owner, %error, "an owner does not tell lost writes");
                    unheard.push(*owner);
                }
            }
        }
        let mut lost: Vec<LostWrite> = lost.into_values().collect();
        lost.sort_by_key(|write| std::cmp::Reverse(write.stamp));
        Ok(ObjectHistory { current, lost, unheard })
    }

    async fn lost_at(&self, owner: NodeId, row: &RowKey) -> Result<Vec<LostWrite>, CatalogError> {
        let (routing, sort) = (row.routing.clone(), row.sort.clone());
        if owner == self.coordinator.site().node {
            return self.lost_here(routing, sort);
        }
        match ask(&self.coordinator, owner, &CatalogRequest::Lost { routing, sort }).await? {
            CatalogReply::Lost { lost } => Ok(lost),
            CatalogReply::Failed { error } => Err(error.into()),
            other => Err(CatalogError::Internal { reason: format!("unexpected {other:?}") }),
        }
    }

    /// What this node lists of an object's lost writes.
    pub(super) fn lost_here(
        &self,
        routing: Bytes,
        sort: Bytes,
    ) -> Result<Vec<LostWrite>, CatalogError> {
        let row = RowKey { table: TableId::Objects, routing, sort };
        let layout = self.coordinator.layout()?;
        let lost = self.conflicts.of_row(row.partition(&layout), &row);
        Ok(lost.map_err(ReplicationError::from)?)
    }
}
