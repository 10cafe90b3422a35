//! This node's own view of buckets and credentials, kept in memory and fed by every durable
//! change of their tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::codec::decode_format;
use crate::env::mutation::{Mutation, is_planted};
use crate::replication::{
    Guard, Incoming, Level, Purpose, Record, Replica, ReplicationError, TableId, Verdict, Watcher,
};
use crate::types::BucketId;

use super::keys::bucket_of;
use super::records::{BucketName, BucketRecord, Credential};
use super::rows::{BucketRow, BucketState, CredentialRow};
use super::secret_box::SecretBox;

/// A bucket with its state.
#[derive(Clone, Debug)]
pub(super) struct KnownBucket {
    pub(super) row: BucketRow,
    pub(super) record: Arc<BucketRecord>,
}

#[derive(Clone, Default)]
struct Tables {
    buckets: BTreeMap<String, KnownBucket>,
    /// Each bucket's state and epoch, of deleted ones too.
    states: BTreeMap<BucketId, (BucketState, u64)>,
    names: BTreeMap<BucketId, String>,
    credentials: BTreeMap<String, (CredentialRow, Arc<Credential>)>,
}

/// This node's copy of the full-copy tables.
pub(super) struct LocalCopy {
    tables: ArcSwap<Tables>,
    /// Held while the tables are replaced.
    changing: Mutex<()>,
    secrets: SecretBox,
}

impl LocalCopy {
    pub(super) fn new(secrets: SecretBox) -> Arc<Self> {
        Arc::new(Self {
            tables: ArcSwap::from_pointee(Tables::default()),
            changing: Mutex::new(()),
            secrets,
        })
    }

    pub(super) fn secrets(&self) -> &SecretBox {
        &self.secrets
    }

    /// Loads what is stored and follows every change from now on.
    pub(super) fn attach(self: &Arc<Self>, replica: &Replica) -> Result<(), ReplicationError> {
        let watch = |table: TableId| -> (TableId, Watcher) {
            let copy = Arc::clone(self);
            (table, Box::new(move |_sort: &[u8], record: &Bytes| copy.take(table, record)))
        };
        replica
            .set_watchers(BTreeMap::from([watch(TableId::Buckets), watch(TableId::Credentials)]));
        for table in [TableId::Buckets, TableId::Credentials] {
            let records = replica.all_rows(table)?;
            self.take_all(table, records.iter().map(|(_, record)| record));
        }
        Ok(())
    }

    fn take(&self, table: TableId, record: &Bytes) {
        self.take_all(table, std::iter::once(record));
    }

    fn take_all<'a>(&self, table: TableId, records: impl Iterator<Item = &'a Bytes>) {
        let _one_at_a_time = self.changing.lock();
        let mut tables = (**self.tables.load()).clone();
        for record in records {
            self.take_one(&mut tables, table, record);
        }
        self.tables.store(Arc::new(tables));
    }

    fn take_one(&self, tables: &mut Tables, table: TableId, record: &Bytes) {
        let taken = match table {
            TableId::Buckets => decode_format::<BucketRow>(record).map(|row| {
                take_bucket(tables, row);
            }),
            TableId::Credentials => decode_format::<CredentialRow>(record).map(|row| {
                self.take_credential(tables, row);
            }),
            TableId::Objects | TableId::Uploads | TableId::Kv | TableId::Extents => Ok(()),
        };
        if let Err(error) = taken {
            tracing::error!(%error, ?table, "a record of the full copy is ignored");
        }
    }

    fn take_credential(&self, tables: &mut Tables, row: CredentialRow) {
        // Changes may be told out of order: the greater version stands.
        if let Some((known, _)) = tables.credentials.get(&row.access_key_id)
            && known.version().order() > row.version().order()
        {
            return;
        }
        match self.secrets.open(&row.access_key_id, &row.sealed_secret) {
            Ok(secret_access_key) => {
                let credential = Credential {
                    access_key_id: row.access_key_id.clone(),
                    secret_access_key,
                    owner: row.owner.clone(),
                    name: row.name.clone(),
                    created: row.created,
                };
                let id = row.access_key_id.clone();
                tables.credentials.insert(id, (row, Arc::new(credential)));
            }
            Err(error) => {
                tracing::error!(access_key_id = row.access_key_id, %error, "a credential is unusable");
            }
        }
    }

    /// The bucket of that name. One that is being looked at whether it is empty is still there
    /// for readers; its owners refuse writes.
    pub(super) fn bucket(&self, name: &str) -> Option<Arc<BucketRecord>> {
        self.known_bucket(name)
            .filter(|known| known.row.state != BucketState::Deleted)
            .map(|known| known.record)
    }

    /// Buckets whose deletion was begun and not ended.
    pub(super) fn being_deleted(&self) -> Vec<BucketName> {
        self.tables
            .load()
            .buckets
            .values()
            .filter(|known| known.row.state == BucketState::Deleting)
            .map(|known| known.row.name.clone())
            .collect()
    }

    /// The bucket of that name in whatever state.
    pub(super) fn known_bucket(&self, name: &str) -> Option<KnownBucket> {
        self.tables.load().buckets.get(name).cloned()
    }

    /// The bucket of that id, unless it is gone.
    pub(super) fn bucket_by_id(&self, id: BucketId) -> Option<Arc<BucketRecord>> {
        let tables = self.tables.load();
        let name = tables.names.get(&id)?;
        let known = tables.buckets.get(name).filter(|known| known.row.id == id)?;
        (known.row.state != BucketState::Deleted).then(|| Arc::clone(&known.record))
    }

    /// The level of the bucket of that id.
    pub(super) fn level_of(&self, id: BucketId) -> Option<Level> {
        self.bucket_by_id(id).map(|bucket| bucket.level)
    }

    pub(super) fn buckets(&self) -> Vec<Arc<BucketRecord>> {
        self.tables
            .load()
            .buckets
            .values()
            .filter(|known| known.row.state != BucketState::Deleted)
            .map(|known| Arc::clone(&known.record))
            .collect()
    }

    /// Whether a bucket is known to be gone for good.
    pub(super) fn is_deleted(&self, bucket: BucketId) -> bool {
        self.tables
            .load()
            .states
            .get(&bucket)
            .is_some_and(|(state, _)| *state == BucketState::Deleted)
    }

    pub(super) fn credential(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        let tables = self.tables.load();
        let (row, credential) = tables.credentials.get(access_key_id)?;
        (!row.deleted).then(|| Arc::clone(credential))
    }

    pub(super) fn credential_row(&self, access_key_id: &str) -> Option<CredentialRow> {
        self.tables.load().credentials.get(access_key_id).map(|(row, _)| row.clone())
    }

    pub(super) fn credentials(&self) -> Vec<Arc<Credential>> {
        let tables = self.tables.load();
        let mut credentials: Vec<_> = tables
            .credentials
            .values()
            .filter(|(row, _)| !row.deleted)
            .map(|(_, credential)| Arc::clone(credential))
            .collect();
        credentials.sort_by(|a, b| (&a.name, &a.access_key_id).cmp(&(&b.name, &b.access_key_id)));
        credentials
    }
}

fn take_bucket(tables: &mut Tables, row: BucketRow) {
    let name = row.name.as_str().to_owned();
    if let Some(known) = tables.buckets.get(&name)
        && known.row.version().order() > row.version().order()
    {
        return;
    }
    if let Some(replaced) = tables.buckets.get(&name).filter(|known| known.row.id != row.id) {
        tables.states.insert(replaced.row.id, (BucketState::Deleted, replaced.row.epoch));
    }
    tables.states.insert(row.id, (row.state, row.epoch));
    tables.names.insert(row.id, name.clone());
    let record = Arc::new(row.record());
    tables.buckets.insert(name, KnownBucket { row, record });
}

impl Guard for LocalCopy {
    /// A bucket that is being deleted takes nothing new in, nor one that was changed what was
    /// begun before; one that is gone takes nothing at all.
    fn judge(&self, incoming: &Incoming<'_>) -> Result<Verdict, ReplicationError> {
        if !matches!(incoming.row.table, TableId::Objects | TableId::Uploads | TableId::Kv) {
            return Ok(Verdict::Take);
        }
        let tables = self.tables.load();
        let known =
            bucket_of(&incoming.row.routing).and_then(|bucket| tables.states.get(&bucket).copied());
        match (known, incoming.purpose) {
            // What was written before is brought to all owners, also where the bucket is not
            // known yet.
            (
                None | Some((BucketState::Active | BucketState::Deleting, _)),
                Purpose::Repair | Purpose::Exchange { .. },
            ) => Ok(Verdict::Take),
            // Owners agree about what is left of a bucket that is gone, too: tombstones, which are
            // purged once they do. A hint for it is worth nothing any more.
            (Some((BucketState::Deleted, _)), Purpose::Exchange { .. }) => Ok(Verdict::Take),
            (Some((BucketState::Deleted, _)), Purpose::Repair) => Ok(Verdict::Outlived),
            (Some((BucketState::Active, epoch)), _)
                if incoming.bucket_epoch.is_none_or(|begun| begun >= epoch) =>
            {
                Ok(Verdict::Take)
            }
            _ if is_planted(Mutation::IgnoreEpochs) => Ok(Verdict::Take),
            _ => Err(ReplicationError::StaleBucket),
        }
    }
}
