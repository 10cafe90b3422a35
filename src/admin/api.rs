//! What the admin API is asked, and what it says of buckets and keys.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::replication::Level;
use crate::types::{BucketId, ClusterId};

/// Writes the first layout: `POST /v1/cluster/init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// How many nodes must be there, this one included.
    pub expect: u32,
    /// How long to wait for them.
    #[serde(default = "init_wait")]
    pub wait_seconds: u32,
}

const fn init_wait() -> u32 {
    60
}

/// The first layout was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitReport {
    /// The new cluster's id.
    pub cluster_id: ClusterId,
    /// The layout, 1.
    pub layout_version: u64,
    /// The names of its nodes.
    pub nodes: Vec<String>,
}

/// Asks where a key lies: `GET /v1/locate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocateQuery {
    /// The bucket's name.
    pub bucket: String,
    /// The key.
    pub key: String,
}

/// Creates a bucket: `POST /v1/buckets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBucketRequest {
    /// Its name.
    pub name: String,
    /// Its level; the configured default if not given.
    #[serde(default)]
    pub level: Option<Level>,
    /// Copies of each record, for ever; 3 if not given.
    #[serde(default)]
    pub n: Option<u8>,
    /// The access key id whose owner it shall belong to; nobody's if not given, so that only
    /// the operator can delete it.
    #[serde(default)]
    pub owner: Option<String>,
}

/// Changes a bucket: `PATCH /v1/buckets/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetBucketRequest {
    /// Its new level.
    pub level: Level,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketInfo {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: BucketId,
    /// Its owner.
    pub owner_id: String,
    /// When it was created: milliseconds since 1970 UTC.
    pub created_unix_ms: u64,
    /// Its level.
    pub level: Level,
    /// Counts changes of it that are fenced.
    #[serde(default)]
    pub epoch: u64,
    /// Copies of each record.
    pub n: u8,
    /// How many of them must answer a read.
    pub r: u8,
    /// How many of them must have a write on stable storage.
    pub w: u8,
    /// What these numbers promise, in words.
    pub label: String,
    /// How many nodes may be destroyed at once, before repair, without the loss of an
    /// acknowledged write.
    pub survives: u8,
    /// Copies that are on stable storage before a client hears 200: an acknowledged write is
    /// lost only if that many nodes are destroyed before repair.
    pub write_acks: u8,
    /// Over how many partitions its keys are spread.
    pub index_shards: u16,
}

/// Asks for the writes of a key: `GET /v1/object/history`.
pub type HistoryQuery = LocateQuery;

/// One write of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteInfo {
    /// Its stamp, as text that sorts by time.
    pub stamp: String,
    /// The same time: milliseconds since 1970 UTC.
    pub unix_ms: u64,
    /// The node that stamped it.
    pub node: String,
    /// Its bytes; none for a deletion.
    pub size: Option<u64>,
    /// Its ETag; none for a deletion.
    pub etag: Option<String>,
    /// The stamp of the write that it lost to; none for what stands.
    pub lost_to: Option<String>,
    /// The writes that the one that stands has seen, one entry for each actor: `node.boot.stint`
    /// and its count.
    #[serde(default)]
    pub vector: Vec<String>,
}

/// What stands under a key, and what lost to a concurrent write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryReport {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// What stands; none if nothing was ever written.
    pub current: Option<WriteInfo>,
    /// What lost, latest first.
    pub lost: Vec<WriteInfo>,
    /// Owners that did not answer: they may know of more.
    pub unheard: Vec<String>,
}

/// Creates a credential: `POST /v1/keys`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateKeyRequest {
    /// The operator's name for it.
    pub name: String,
    /// The access key id; drawn unless given. It and the secret need each other.
    #[serde(default)]
    pub access_key_id: Option<String>,
    /// The secret; drawn unless given.
    #[serde(default)]
    pub secret_access_key: Option<String>,
}

impl fmt::Debug for CreateKeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CreateKeyRequest({}, {:?})", self.name, self.access_key_id)
    }
}

/// A new credential: the only answer that shows its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCreated {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
    /// Who acts with it.
    pub owner_id: String,
    /// The operator's name for it.
    pub name: String,
}

impl fmt::Debug for KeyCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyCreated({}, {})", self.name, self.access_key_id)
    }
}

/// A credential without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// The public half.
    pub access_key_id: String,
    /// Who acts with it.
    pub owner_id: String,
    /// The operator's name for it.
    pub name: String,
    /// When it was created: milliseconds since 1970 UTC.
    pub created_unix_ms: u64,
    /// The buckets that it owns.
    pub buckets: Vec<String>,
}
