//! Changes of buckets and credentials on their way to the member that makes them.

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::causality::HybridTime;
use crate::codec::{decode_message, encode_message};
use crate::net::{HandlerError, Message, ServiceId};
use crate::replication::{Level, Outcome, TableId};

use super::conflicts::LostWrite;
use super::error::CatalogError;
use super::full_copy::{self, TableRows};
use super::records::{BucketName, OwnerId};
use super::service::{Catalog, CreateBucket};

/// Requests about buckets and credentials.
pub const CATALOG_SERVICE: ServiceId = ServiceId(5);

/// What nodes ask each other about the catalogue.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum CatalogRequest {
    CreateBucket {
        name: BucketName,
        owner: OwnerId,
        level: Option<Level>,
        #[serde(default)]
        n: Option<u8>,
    },
    SetBucket {
        name: BucketName,
        level: Level,
    },
    DeleteBucket {
        name: BucketName,
    },
    CreateCredential {
        name: String,
        given: Option<(String, String)>,
    },
    DeleteCredential {
        access_key_id: String,
    },
    Digest {
        table: TableId,
    },
    /// Rows after this sort key, as many as fit a message.
    Rows {
        table: TableId,
        after: bytes::Bytes,
    },
    /// How far the past of this partition is closed.
    PurgeFloor {
        partition: u32,
    },
    /// What this node knows of writes of an object that lost to concurrent ones.
    Lost {
        routing: bytes::Bytes,
        sort: bytes::Bytes,
    },
    /// Take note of a lost write, as the first owner of its object.
    TakeLost {
        key: bytes::Bytes,
        lost: bytes::Bytes,
    },
}

/// What they answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum CatalogReply {
    Done,
    /// The credential's access key id: its secret is in the copy that every member has.
    Credential {
        access_key_id: String,
    },
    Digest {
        #[serde(with = "serde_bytes")]
        digest: Vec<u8>,
    },
    Rows {
        rows: TableRows,
    },
    PurgeFloor {
        floor: HybridTime,
    },
    Lost {
        lost: Vec<LostWrite>,
    },
    Failed {
        error: RemoteError,
    },
}

/// A [`CatalogError`] that travels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum RemoteError {
    NoSuchBucket,
    BucketTaken,
    BucketOwned,
    BucketNotEmpty,
    NoSuchCredential,
    CredentialExists,
    BucketChanging,
    Refused { reason: String },
    Unavailable { outcome: Outcome, reason: String },
    Internal { reason: String },
}

impl From<CatalogError> for RemoteError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::NoSuchBucket => Self::NoSuchBucket,
            CatalogError::BucketTaken => Self::BucketTaken,
            CatalogError::BucketOwned => Self::BucketOwned,
            CatalogError::BucketNotEmpty => Self::BucketNotEmpty,
            CatalogError::NoSuchCredential => Self::NoSuchCredential,
            CatalogError::CredentialExists => Self::CredentialExists,
            CatalogError::BucketChanging => Self::BucketChanging,
            CatalogError::Refused { reason } => Self::Refused { reason },
            CatalogError::Unavailable { outcome, reason } => Self::Unavailable { outcome, reason },
            other => Self::Internal { reason: other.to_string() },
        }
    }
}

impl From<RemoteError> for CatalogError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::NoSuchBucket => Self::NoSuchBucket,
            RemoteError::BucketTaken => Self::BucketTaken,
            RemoteError::BucketOwned => Self::BucketOwned,
            RemoteError::BucketNotEmpty => Self::BucketNotEmpty,
            RemoteError::NoSuchCredential => Self::NoSuchCredential,
            RemoteError::CredentialExists => Self::CredentialExists,
            RemoteError::BucketChanging => Self::BucketChanging,
            RemoteError::Refused { reason } => Self::Refused { reason },
            RemoteError::Unavailable { outcome, reason } => Self::Unavailable { outcome, reason },
            RemoteError::Internal { reason } => Self::Internal { reason },
        }
    }
}

impl Catalog {
    /// Makes a change here if this node makes them, else asks the one that does.
    pub(super) async fn change(
        &self,
        request: CatalogRequest,
    ) -> Result<CatalogReply, CatalogError> {
        let decider = full_copy::decider(&self.coordinator)?;
        let reply = if decider == self.coordinator.site().node {
            self.decide_detached(request).await
        } else {
            full_copy::ask(&self.coordinator, decider, &request).await?
        };
        match reply {
            CatalogReply::Failed { error } => Err(error.into()),
            reply => Ok(reply),
        }
    }

    /// Makes a change in a task of its own: a client that goes away must not leave a bucket
    /// half deleted.
    async fn decide_detached(&self, request: CatalogRequest) -> CatalogReply {
        let (tell, told) = oneshot::channel();
        let catalog = self.clone();
        let work = async move { drop(tell.send(catalog.decide(request).await)) };
        self.coordinator.site().tasks.spawn("catalogue change", work.boxed()).detach();
        told.await.unwrap_or_else(|_| CatalogReply::Failed {
            error: RemoteError::Unavailable {
                outcome: Outcome::Unknown,
                reason: "this node is stopping".into(),
            },
        })
    }

    async fn decide(&self, request: CatalogRequest) -> CatalogReply {
        let result = match request {
            CatalogRequest::CreateBucket { name, owner, level, n } => {
                self.decide_create_bucket(CreateBucket { name, owner, level, n }).await
            }
            CatalogRequest::SetBucket { name, level } => self.decide_set_bucket(&name, level).await,
            CatalogRequest::DeleteBucket { name } => self.decide_delete_bucket(&name).await,
            CatalogRequest::CreateCredential { name, given } => {
                self.decide_create_credential(name, given).await
            }
            CatalogRequest::DeleteCredential { access_key_id } => {
                self.decide_delete_credential(&access_key_id).await
            }
            CatalogRequest::Digest { table } => full_copy::digest(&self.coordinator, table)
                .map(|digest| CatalogReply::Digest { digest: digest.to_le_bytes().to_vec() })
                .map_err(CatalogError::from),
            CatalogRequest::Rows { table, after } => self
                .coordinator
                .replica()
                .all_rows(table)
                .map(|rows| CatalogReply::Rows { rows: TableRows::page(rows, &after) })
                .map_err(CatalogError::from),
            CatalogRequest::PurgeFloor { partition } => {
                Ok(CatalogReply::PurgeFloor { floor: self.own_floor(partition.into()) })
            }
            CatalogRequest::Lost { routing, sort } => {
                self.lost_here(routing, sort).map(|lost| CatalogReply::Lost { lost })
            }
            CatalogRequest::TakeLost { key, lost } => {
                self.conflicts.take_told(key, lost).await.map(|()| CatalogReply::Done)
            }
        };
        result.unwrap_or_else(|error| CatalogReply::Failed { error: error.into() })
    }

    /// Answers a peer.
    ///
    /// # Errors
    /// [`HandlerError`] for messages that cannot be read.
    pub async fn serve(&self, request: Message) -> Result<Message, HandlerError> {
        let request = decode_message::<CatalogRequest>(&request.body)
            .map_err(|error| HandlerError::Refused(error.to_string()))?;
        let anybodys = matches!(
            request,
            CatalogRequest::Digest { .. }
                | CatalogRequest::Rows { .. }
                | CatalogRequest::Lost { .. }
                | CatalogRequest::TakeLost { .. }
                | CatalogRequest::PurgeFloor { .. }
        );
        let decider = full_copy::decider(&self.coordinator)
            .map_err(|error| HandlerError::Refused(error.to_string()))?;
        if !anybodys && decider != self.coordinator.site().node {
            return Err(HandlerError::Refused("another member makes these changes".into()));
        }
        let reply = self.decide_detached(request).await;
        encode_message(&reply)
            .map(Message::from)
            .map_err(|error| HandlerError::Failed(error.to_string()))
    }
}
