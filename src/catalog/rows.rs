//! The stored records of buckets, credentials, objects and uploads, and how copies merge.
//!
//! Every record is ordered by its version; the greater one wins whole and the vectors are
//! merged, except uploads, whose states only go forward.

use serde::{Deserialize, Serialize};

use crate::blob::ExtentRef;
use crate::codec::{Crc32c, Format, FormatError, decode_message};
use crate::env::UnixMillis;
use crate::env::mutation::{Mutation, is_planted};
use crate::replication::{InlineFacts, Level, Order, Record, TableId, Version};
use crate::types::{BucketId, Key, UploadId};

use super::records::{
    BucketName, BucketRecord, Checksum, NewObject, ObjectHead, OwnerId, PartFacts, PartSummary,
    UploadSummary,
};

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BodyPlace {
    /// Beside the head, in the same batch.
    #[serde(rename = "i")]
    Inline { crc: Crc32c, length: u32 },
    /// In the segment logs of the object's own owners.
    #[serde(rename = "a")]
    Attached(ExtentRef),
    /// In extents, each on the owners of its id, in order.
    #[serde(rename = "x")]
    Extents(Vec<ExtentRef>),
    /// As extents, whose list is itself stored in these.
    #[serde(rename = "m")]
    Manifest(Vec<ExtentRef>),
}

/// A live object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LiveObject {
    #[serde(rename = "z")]
    pub(crate) size: u64,
    #[serde(rename = "e")]
    pub(crate) etag: String,
    #[serde(rename = "h")]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(rename = "c")]
    pub(crate) checksums: Vec<Checksum>,
    #[serde(rename = "p")]
    pub(crate) parts: Vec<PartFacts>,
    #[serde(rename = "b")]
    pub(crate) body: BodyPlace,
    /// The upload that it was completed from: a completion found half done is not done twice.
    #[serde(rename = "u")]
    pub(crate) upload: Option<UploadId>,
}

/// The head of an object, or its tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectRow {
    #[serde(rename = "v")]
    pub(crate) version: Version,
    #[serde(rename = "k")]
    pub(crate) bucket: BucketId,
    #[serde(rename = "q")]
    pub(crate) bucket_epoch: u64,
    #[serde(rename = "o")]
    pub(crate) object: Option<LiveObject>,
}

impl Format for ObjectRow {
    const NAME: &'static str = "object head";
    const NUMBER: u16 = 1;
}

macro_rules! last_writer_wins {
    ($row:ty) => {
        fn version(&self) -> &Version {
            &self.version
        }

        fn set_version(&mut self, version: Version) {
            self.version = version;
        }

        fn merge(self, other: Self) -> Self {
            let version = self.version.clone().merge(other.version.clone());
            let greater = self.version.order() >= other.version.order();
            let greater = greater != is_planted(Mutation::OlderWins);
            let winner: $row = if greater { self } else { other };
            Self { version, ..winner }
        }
    };
}

impl Record for ObjectRow {
    const TABLE: TableId = TableId::Objects;

    last_writer_wins!(ObjectRow);

    fn inline(&self) -> Option<InlineFacts> {
        match self.object.as_ref()?.body {
            BodyPlace::Inline { crc, length } => Some(InlineFacts { length, crc }),
            _ => None,
        }
    }

    fn is_tombstone(&self) -> bool {
        self.object.is_none()
    }

    fn names_extents(&self) -> bool {
        self.object.as_ref().is_some_and(|object| !matches!(object.body, BodyPlace::Inline { .. }))
    }

    fn bucket_epoch(&self) -> Option<u64> {
        Some(self.bucket_epoch)
    }
}

impl ObjectRow {
    /// The object as the fronts see it; `None` for a tombstone.
    pub(crate) fn head(&self, key: &Key) -> Option<ObjectHead> {
        let object = self.object.as_ref()?;
        Some(ObjectHead {
            key: key.clone(),
            size: object.size,
            modified: UnixMillis(self.version.stamp.time.millis()),
            etag: object.etag.clone(),
            headers: object.headers.clone(),
            checksums: object.checksums.clone(),
            parts: object.parts.clone(),
        })
    }
}

/// How far an upload has come. It only goes forward: a greater state wins a merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UploadState {
    /// Parts may come.
    #[serde(rename = "o")]
    Open,
    /// Given up.
    #[serde(rename = "a")]
    Aborted,
    /// This object is being made of its parts; whoever finds it so finishes it.
    #[serde(rename = "c")]
    Completing {
        head: Box<LiveObject>,
        /// The order of the key's head when this was written down: as long as it stands, the
        /// object was not made yet.
        base: Option<Order>,
    },
    /// The object was made; kept so that a repeated completion gets the same answer.
    #[serde(rename = "d")]
    Completed { head: Box<LiveObject>, modified: UnixMillis },
}

impl UploadState {
    const fn rank(&self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Aborted => 1,
            Self::Completing { .. } => 2,
            Self::Completed { .. } => 3,
        }
    }
}

/// What a row of the uploads table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UploadKind {
    /// An upload.
    #[serde(rename = "u")]
    Upload { initiated: UnixMillis, object: NewObject, state: UploadState },
    /// One of its parts.
    #[serde(rename = "p")]
    Part { size: u64, etag: String, checksums: Vec<Checksum>, body: BodyPlace },
    /// One or the other was taken back, for ever: after its upload was closed.
    #[serde(rename = "g")]
    Gone,
}

/// An upload or one of its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadRow {
    #[serde(rename = "v")]
    pub(crate) version: Version,
    #[serde(rename = "k")]
    pub(crate) bucket: BucketId,
    #[serde(rename = "q")]
    pub(crate) bucket_epoch: u64,
    #[serde(rename = "d")]
    pub(crate) kind: UploadKind,
}

impl Format for UploadRow {
    const NAME: &'static str = "upload";
    const NUMBER: u16 = 1;
}

impl UploadRow {
    fn rank(&self) -> u8 {
        match &self.kind {
            UploadKind::Upload { state, .. } => state.rank(),
            UploadKind::Part { .. } => 0,
            UploadKind::Gone => u8::MAX,
        }
    }

    /// The upload as listings show it, if this is an open one.
    pub(crate) fn summary(&self, key: &Key, upload: UploadId) -> Option<UploadSummary> {
        match &self.kind {
            UploadKind::Upload { initiated, object, state: UploadState::Open } => {
                Some(UploadSummary {
                    key: key.clone(),
                    upload,
                    initiated: *initiated,
                    object: object.clone(),
                })
            }
            UploadKind::Upload { .. } | UploadKind::Part { .. } | UploadKind::Gone => None,
        }
    }

    /// The part as listings show it, if this is one.
    pub(crate) fn part(&self, number: u16) -> Option<PartSummary> {
        match &self.kind {
            UploadKind::Part { size, etag, checksums, .. } => Some(PartSummary {
                number,
                size: *size,
                etag: etag.clone(),
                modified: UnixMillis(self.version.stamp.time.millis()),
                checksums: checksums.clone(),
            }),
            UploadKind::Upload { .. } | UploadKind::Gone => None,
        }
    }
}

impl Record for UploadRow {
    const TABLE: TableId = TableId::Uploads;

    fn version(&self) -> &Version {
        &self.version
    }

    fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    fn merge(self, other: Self) -> Self {
        let mine = (self.rank(), self.version.order());
        let (mut winner, loser) = if mine >= (other.rank(), other.version.order()) {
            (self, other)
        } else {
            (other, self)
        };
        // The winner keeps its own stamp, whatever the loser's: only so is the merge associative.
        winner.version.absorb(&loser.version);
        winner
    }

    fn is_tombstone(&self) -> bool {
        matches!(self.kind, UploadKind::Gone)
    }

    fn names_extents(&self) -> bool {
        match &self.kind {
            UploadKind::Upload { state, .. } => matches!(state, UploadState::Completing { .. }),
            UploadKind::Part { body, .. } => !matches!(body, BodyPlace::Inline { .. }),
            UploadKind::Gone => false,
        }
    }

    fn bucket_epoch(&self) -> Option<u64> {
        Some(self.bucket_epoch)
    }
}

/// Whether a bucket takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BucketState {
    #[serde(rename = "a")]
    Active,
    /// It is being looked at whether it is empty: nothing new comes in.
    #[serde(rename = "g")]
    Deleting,
    #[serde(rename = "d")]
    Deleted,
}

/// A bucket, as stored on every member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BucketRow {
    #[serde(rename = "v")]
    pub(crate) version: Version,
    pub(crate) id: BucketId,
    pub(crate) name: BucketName,
    pub(crate) owner: OwnerId,
    pub(crate) created: UnixMillis,
    pub(crate) epoch: u64,
    pub(crate) n: u8,
    pub(crate) index_shards: u16,
    pub(crate) level: Level,
    pub(crate) state: BucketState,
}

impl Format for BucketRow {
    const NAME: &'static str = "bucket";
    const NUMBER: u16 = 2;

    /// In format 1 `quorum` meant what is `strict` now: nobody stood in for owners.
    fn decode_older(number: u16, payload: &[u8]) -> Result<Self, FormatError> {
        if number != 1 {
            return Err(FormatError::Unknown { name: Self::NAME, number, newest: Self::NUMBER });
        }
        let row: Self = decode_message(payload)
            .map_err(|source| FormatError::Damaged { name: Self::NAME, source })?;
        let level = if row.level == Level::Quorum { Level::Strict } else { row.level };
        Ok(Self { level, ..row })
    }
}

impl Record for BucketRow {
    const TABLE: TableId = TableId::Buckets;

    last_writer_wins!(BucketRow);

    fn is_tombstone(&self) -> bool {
        self.state == BucketState::Deleted
    }
}

impl BucketRow {
    /// The bucket as the fronts see it.
    pub(crate) fn record(&self) -> BucketRecord {
        BucketRecord {
            id: self.id,
            name: self.name.clone(),
            owner: self.owner.clone(),
            created: self.created,
            epoch: self.epoch,
            n: self.n,
            index_shards: self.index_shards,
            level: self.level,
            asked: None,
        }
    }
}

/// A credential, as stored on every member; its secret is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CredentialRow {
    #[serde(rename = "v")]
    pub(crate) version: Version,
    pub(crate) access_key_id: String,
    #[serde(with = "serde_bytes")]
    pub(crate) sealed_secret: Vec<u8>,
    pub(crate) owner: OwnerId,
    pub(crate) name: String,
    pub(crate) created: UnixMillis,
    pub(crate) deleted: bool,
}

impl Format for CredentialRow {
    const NAME: &'static str = "credential";
    const NUMBER: u16 = 1;
}

impl Record for CredentialRow {
    const TABLE: TableId = TableId::Credentials;

    last_writer_wins!(CredentialRow);

    fn is_tombstone(&self) -> bool {
        self.deleted
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
