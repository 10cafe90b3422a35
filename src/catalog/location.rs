//! Where a key lies, for operators.

use crate::causality::Stamp;
use crate::ring::{Partition, Token};
use crate::types::{Key, NodeId};

use super::error::CatalogError;
use super::keys::object_row;
use super::objects::decode_row;
use super::records::BucketRecord;
use super::service::Catalog;

/// What one owner holds under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerHolds {
    /// A live object, written at this stamp.
    Object(Stamp),
    /// A tombstone, written at this stamp.
    Deleted(Stamp),
    /// Nothing.
    Nothing,
    /// It did not answer, for this reason.
    Unknown(String),
}

/// Where a key lies on the ring and what its owners hold.
#[derive(Clone, Debug)]
pub struct KeyLocation {
    /// The place on the ring of the index shard that the key is in.
    pub token: Token,
    /// The partition that the token is in.
    pub partition: Partition,
    /// The layout that says so.
    pub layout_version: u64,
    /// The owners in preference order, and what each holds.
    pub owners: Vec<(NodeId, OwnerHolds)>,
    /// The nodes that follow them in the preference list.
    pub fallbacks: Vec<NodeId>,
}

impl Catalog {
    /// Where `key` lies, asking every owner.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`] before `cluster init`.
    pub async fn locate(
        &self,
        bucket: &BucketRecord,
        key: &Key,
    ) -> Result<KeyLocation, CatalogError> {
        let row = object_row(bucket, key);
        let layout = self.coordinator.layout()?;
        let partition = layout.partition_of(&row.routing);
        let n = usize::from(bucket.n);
        let owners = self
            .coordinator
            .holdings(&row, n)
            .await?
            .into_iter()
            .map(|(owner, held)| {
                let holds = match held {
                    Err(reason) => OwnerHolds::Unknown(reason),
                    Ok(None) => OwnerHolds::Nothing,
                    Ok(Some(record)) => match decode_row(&record) {
                        Err(error) => OwnerHolds::Unknown(error.to_string()),
                        Ok(row) if row.object.is_some() => OwnerHolds::Object(row.version.stamp),
                        Ok(row) => OwnerHolds::Deleted(row.version.stamp),
                    },
                };
                (owner, holds)
            })
            .collect();
        Ok(KeyLocation {
            token: Token::of(&row.routing),
            partition,
            layout_version: layout.version().0,
            owners,
            fallbacks: layout.preference_list(partition).fallbacks(n).to_vec(),
        })
    }
}
