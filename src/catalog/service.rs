//! The catalogue itself, and what its requests and answers look like.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::blob::{Blobs, ExtentRow};
use crate::replication::{
    Companion, Coordinator, Guard, Level, ReplicationError, Served, TableId, Tables,
};
use crate::types::{ByteCount, UploadId};

use super::companion::HeadCompanion;
use super::conflicts::Conflicts;
use super::freshness::Freshness;
use super::full_copy::{Changes, start_exchange};
use super::kv_row::KvRow;
use super::local_copy::LocalCopy;
use super::orphans::PurgeFloors;
use super::records::{BucketName, ObjectHead, OwnerId, PartSummary, UploadSummary};
use super::rows::{BucketRow, CredentialRow, ObjectRow, UploadRow};
use super::secret_box::SecretBox;

/// A bucket to be created.
#[derive(Clone, Debug)]
pub struct CreateBucket {
    /// Its name.
    pub name: BucketName,
    /// Its owner.
    pub owner: OwnerId,
    /// Its level; `strict` if not given.
    pub level: Option<Level>,
    /// Copies of each record; 3 if not given.
    pub n: Option<u8>,
}

/// What was stored.
#[derive(Clone, Debug)]
pub struct PutReceipt {
    /// The object, or the part as if it were one.
    pub head: ObjectHead,
    /// How the write was served.
    pub served: Served,
}

/// A page of a bucket's keys to be listed.
#[derive(Clone, Debug, Default)]
pub struct ListObjects {
    /// Only keys that begin so.
    pub prefix: Bytes,
    /// Groups keys that share what comes before this after the prefix; not empty if given.
    pub delimiter: Option<Bytes>,
    /// Only keys, and common prefixes, that come after this; empty: from the start.
    pub after: Bytes,
    /// At most so many entries.
    pub max: usize,
}

/// One line of a listing.
#[derive(Clone, Debug)]
pub enum ListEntry {
    /// An object.
    Object(ObjectHead),
    /// Keys that share this prefix, delimiter included.
    CommonPrefix(Bytes),
}

/// One page of a listing, in key order.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// Objects and common prefixes, in order.
    pub entries: Vec<ListEntry>,
    /// Where the next page starts, as [`ListObjects::after`]; `None` at the end.
    pub next: Option<Bytes>,
    /// How the read was served.
    pub served: Served,
}

/// A page of parts to be listed.
#[derive(Clone, Copy, Debug)]
pub struct ListParts {
    /// Only parts with greater numbers.
    pub after: u16,
    /// At most so many.
    pub max: usize,
}

/// One page of parts.
#[derive(Clone, Debug)]
pub struct PartsPage {
    /// What the upload was started with.
    pub upload: UploadSummary,
    /// Its parts, ascending.
    pub parts: Vec<PartSummary>,
    /// Whether there are more.
    pub truncated: bool,
    /// How the read was served.
    pub served: Served,
}

/// A page of open uploads to be listed.
#[derive(Clone, Debug, Default)]
pub struct ListUploads {
    /// Only keys that begin so.
    pub prefix: Bytes,
    /// Groups keys as in [`ListObjects`].
    pub delimiter: Option<Bytes>,
    /// Only keys after this; with `after_upload`, also its uploads after that one.
    pub after_key: Bytes,
    /// See `after_key`.
    pub after_upload: Option<UploadId>,
    /// At most so many.
    pub max: usize,
}

/// One page of open uploads.
#[derive(Clone, Debug)]
pub struct UploadsPage {
    /// Uploads, by key, then by time of initiation.
    pub uploads: Vec<UploadSummary>,
    /// Common prefixes.
    pub prefixes: Vec<Bytes>,
    /// Whether there are more, and after which key and upload.
    pub next: Option<(Bytes, Option<UploadId>)>,
    /// How the read was served.
    pub served: Served,
}

/// Sizes at which bodies change their place, and bounds.
#[derive(Clone, Copy, Debug)]
pub struct CatalogLimits {
    /// Bodies up to this lie beside their head.
    pub inline_max: ByteCount,
    /// Bodies up to this go to the object's owners in one message.
    pub attached_max: ByteCount,
    /// Bodies that may be on their way in at once; beyond it 503 SlowDown.
    pub bodies_max: usize,
    /// How long a node that is cut off from most members authorises requests from its own copies
    /// of buckets and credentials.
    pub auth_stale_max: Duration,
}

impl Default for CatalogLimits {
    fn default() -> Self {
        Self {
            inline_max: ByteCount::kib(16),
            attached_max: ByteCount::mib(1),
            bodies_max: 256,
            auth_stale_max: Duration::from_secs(24 * 3_600),
        }
    }
}

/// Buckets, credentials, objects and uploads, over the whole cluster. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    pub(super) coordinator: Coordinator,
    pub(super) blobs: Blobs,
    pub(super) local: Arc<LocalCopy>,
    pub(super) changes: Changes,
    pub(super) limits: CatalogLimits,
    pub(super) bodies: Arc<Semaphore>,
    pub(super) floors: Arc<OnceLock<Arc<dyn PurgeFloors>>>,
    pub(super) conflicts: Arc<Conflicts>,
    pub(super) freshness: Arc<Freshness>,
}

impl Catalog {
    /// The tables that the catalogue replicates.
    #[must_use]
    pub fn tables() -> Tables {
        Tables::default()
            .with::<ObjectRow>()
            .with::<UploadRow>()
            .with::<KvRow>()
            .with::<BucketRow>()
            .with::<CredentialRow>()
            .with::<ExtentRow>()
    }

    /// The catalogue over this node's coordinator and extents. Loads this node's copies of
    /// buckets and credentials and keeps them together with its peers'.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn start(
        coordinator: Coordinator,
        blobs: Blobs,
        secrets: SecretBox,
        limits: CatalogLimits,
    ) -> Result<Self, ReplicationError> {
        let local = LocalCopy::new(secrets);
        local.attach(coordinator.replica())?;
        let rows = coordinator.replica().rows().clone();
        let freshness = Freshness::open(Arc::clone(rows.meta()), limits.auth_stale_max)?;
        let conflicts = Conflicts::new(rows, Arc::clone(coordinator.site()), Arc::clone(&local));
        let catalog = Self {
            coordinator,
            blobs,
            local,
            changes: Changes::default(),
            bodies: Arc::new(Semaphore::new(limits.bodies_max)),
            conflicts,
            freshness,
            limits,
            floors: Arc::default(),
        };
        start_exchange(&catalog);
        catalog.start_telling();
        Ok(catalog)
    }

    /// Refuses rows of buckets that are deleted or being deleted.
    #[must_use]
    pub fn guard(&self) -> Arc<dyn Guard> {
        Arc::clone(&self.local) as Arc<dyn Guard>
    }

    /// What goes with every change of a head or an upload.
    #[must_use]
    pub fn companions(&self) -> BTreeMap<TableId, Arc<dyn Companion>> {
        let site = Arc::clone(self.coordinator.site());
        let companion: Arc<dyn Companion> = HeadCompanion::new(site, Arc::clone(&self.conflicts));
        [TableId::Objects, TableId::Uploads]
            .into_iter()
            .map(|table| (table, Arc::clone(&companion)))
            .collect()
    }

    /// Why this node must not judge by its copies of buckets and credentials now: it has none
    /// yet, or they may be too old. `None` if it may.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        let members = match self.coordinator.layout() {
            Ok(layout) => layout.members().len(),
            Err(error) => return Some(error.to_string()),
        };
        self.freshness.check(members, self.coordinator.site().clock.wall()).err()
    }

    /// The coordinator below.
    #[must_use]
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }
}
