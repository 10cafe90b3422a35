//! What the catalogue adds to the batch of every change of a head or an upload.

use std::sync::Arc;

use crate::replication::{BytesHere, Change, Companion, ReplicationError, Site, TableId};
use crate::store::Batch;

use super::conflicts::Conflicts;
use super::unref::note_unrefs;

/// The catalogue's companion of objects and uploads.
pub(super) struct HeadCompanion {
    site: Arc<Site>,
    conflicts: Arc<Conflicts>,
}

impl HeadCompanion {
    pub(super) fn new(site: Arc<Site>, conflicts: Arc<Conflicts>) -> Arc<Self> {
        Arc::new(Self { site, conflicts })
    }
}

impl Companion for HeadCompanion {
    fn accompany(
        &self,
        change: &Change<'_>,
        batch: &mut Batch,
    ) -> Result<BytesHere, ReplicationError> {
        note_unrefs(change, self.site.now(), batch)?;
        if change.row.table == TableId::Objects {
            self.conflicts.note_conflict(change, batch)?;
        }
        Ok(BytesHere::All)
    }
}
