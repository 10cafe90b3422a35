//! A hint as it is stored: whom a row is kept for, since when.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;
use crate::codec::{Format, decode_format, encode_format};
use crate::replication::companion::RowWrite;
use crate::replication::error::ReplicationError;
use crate::replication::table::{RowKey, TableId};
use crate::ring::Partition;
use crate::store::{Batch, Family, Rows};
use crate::types::NodeId;

/// What a hint says besides whom and which row: those are its key. The record itself lies in its
/// own table, as a guest, so that later writes of the row need no hint more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HintRow {
    /// Copies of the row that there should be.
    #[serde(rename = "n")]
    pub(crate) n: u8,
    /// When the first write began that it stands for.
    #[serde(rename = "s")]
    pub(crate) since: HybridTime,
}

impl Format for HintRow {
    const NAME: &'static str = "hint";
    const NUMBER: u16 = 1;
}

/// Whom a hint is for, and which row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HintName {
    pub(crate) owner: NodeId,
    pub(crate) partition: Partition,
    pub(crate) row: RowKey,
}

impl HintName {
    /// The key of the stored hint: owner, partition, table, routing key with its length, sort key.
    pub(crate) fn key(&self) -> Bytes {
        let (routing, sort) = (&self.row.routing, &self.row.sort);
        let mut key = BytesMut::with_capacity(23 + routing.len() + sort.len());
        key.put_slice(self.owner.as_bytes());
        key.put_u32(self.partition.as_u32());
        key.put_u8(self.row.table.number());
        key.put_u16(u16::try_from(routing.len()).unwrap_or(u16::MAX));
        key.put_slice(routing);
        key.put_slice(sort);
        key.freeze()
    }

    /// The name in a stored key; `None` if it is none.
    pub(crate) fn parse(key: &[u8]) -> Option<Self> {
        let (owner, rest) = key.split_first_chunk::<16>()?;
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (&table, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (routing, sort) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        Some(Self {
            owner: NodeId::from_bytes(*owner),
            partition: Partition::from_be_bytes(*partition),
            row: RowKey {
                table: TableId::from_number(table)?,
                routing: Bytes::copy_from_slice(routing),
                sort: Bytes::copy_from_slice(sort),
            },
        })
    }
}

impl HintRow {
    /// The hint of a write that began then.
    pub(crate) fn of(write: &RowWrite<'_>, begun: HybridTime) -> Self {
        Self { n: write.n, since: begun }
    }

    /// The hint in a stored value.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, ReplicationError> {
        Ok(decode_format::<Self>(value)?)
    }

    /// Adds the hint to the batch of its write. One that is there already keeps its time.
    pub(crate) fn put(
        mut self,
        batch: &mut Batch,
        owner: NodeId,
        write: &RowWrite<'_>,
        rows: &Rows,
    ) -> Result<(), ReplicationError> {
        let name = HintName { owner, partition: write.partition, row: write.row.clone() };
        let key = name.key();
        if let Some(known) = rows.get(Family::Hints, &key)? {
            self.since = self.since.min(Self::decode(&known)?.since);
        }
        let value =
            encode_format(&self).map_err(|error| ReplicationError::Damaged(error.to_string()))?;
        batch.put(Family::Hints, key, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::HintName;
    use crate::replication::table::{RowKey, TableId};
    use crate::ring::Partition;
    use crate::types::NodeId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_hint_is_found_by_its_key(
            owner: [u8; 16], partition: u32, table in 0..4_usize, routing: Vec<u8>, sort: Vec<u8>,
        ) {
            let name = HintName {
                owner: NodeId::from_bytes(owner),
                partition: Partition::from_be_bytes(partition.to_be_bytes()),
                row: RowKey {
                    table: TableId::SHARDED[table],
                    routing: routing.into(),
                    sort: sort.into(),
                },
            };

            prop_assert_eq!(HintName::parse(&name.key()), Some(name));
        }

        #[test]
        fn foreign_keys_are_no_hints_and_no_panic(key: Vec<u8>) {
            let _ = HintName::parse(&key);
        }
    }
}
