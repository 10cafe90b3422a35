//! What the catalogue adds to the batch of every change of a head or an upload.

use std::sync::Arc;

use crate::replication::{BytesHere, Change, Companion, ReplicationError, TableId};
use crate::store::Batch;

use super::conflicts::Conflicts;

/// The catalogue's companion of objects and uploads.
pub(super) struct HeadCompanion {
    conflicts: Arc<Conflicts>,
}

impl HeadCompanion {
    pub(super) fn new(conflicts: Arc<Conflicts>) -> Arc<Self> {
        Arc::new(Self { conflicts })
    }
}

impl Companion for HeadCompanion {
    fn accompany(
        &self,
        change: &Change<'_>,
        batch: &mut Batch,
    ) -> Result<BytesHere, ReplicationError> {
        if change.row.table == TableId::Objects {
            self.conflicts.note_conflict(change, batch)?;
        }
        Ok(BytesHere::All)
    }
}
