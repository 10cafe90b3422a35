//! What the admin API asks of the node behind it.

use async_trait::async_trait;

use super::api::{
    BucketInfo, CreateBucketRequest, CreateKeyRequest, HistoryQuery, HistoryReport, InitReport,
    InitRequest, KeyCreated, KeyInfo, LocateQuery, SetBucketRequest,
};
use super::error::AdminError;
use super::model::{ClusterStatus, HintsReport, Location, RingReport};
use super::repair::{RepairReport, RepairRequest};

/// The operator's hands: implemented by the node, called by the API.
#[async_trait]
pub trait ClusterControl: Send + Sync + 'static {
    /// Waits until as many nodes as expected are there, writes layout 1, and returns once all
    /// of them have it on stable storage.
    async fn init(&self, request: InitRequest) -> Result<InitReport, AdminError>;

    /// How the cluster looks from this node; answers before `init` too, and never waits long.
    async fn status(&self) -> Result<ClusterStatus, AdminError>;

    /// Why this node cannot serve requests now; `None` if it can.
    fn unready(&self) -> Option<String>;

    /// Who owns how much of the ring.
    async fn ring(&self) -> Result<RingReport, AdminError>;

    /// What nodes keep for owners that were away.
    async fn hints(&self) -> Result<HintsReport, AdminError>;

    /// Where a key lies and what each replica has of it.
    async fn locate(&self, query: LocateQuery) -> Result<Location, AdminError>;

    /// How repair goes; before that, tells every node that is up what is asked for.
    async fn repair(&self, request: Option<RepairRequest>) -> Result<RepairReport, AdminError>;

    /// Creates a bucket.
    async fn create_bucket(&self, request: CreateBucketRequest) -> Result<BucketInfo, AdminError>;

    /// All buckets, by name.
    async fn buckets(&self) -> Result<Vec<BucketInfo>, AdminError>;

    /// The bucket of that name.
    async fn bucket(&self, name: &str) -> Result<BucketInfo, AdminError>;

    /// Changes a bucket.
    async fn set_bucket(
        &self,
        name: &str,
        request: SetBucketRequest,
    ) -> Result<BucketInfo, AdminError>;

    /// What stands under a key, and what lost to a concurrent write.
    async fn history(&self, query: HistoryQuery) -> Result<HistoryReport, AdminError>;

    /// Deletes an empty bucket.
    async fn delete_bucket(&self, name: &str) -> Result<(), AdminError>;

    /// Creates a credential.
    async fn create_key(&self, request: CreateKeyRequest) -> Result<KeyCreated, AdminError>;

    /// All credentials, by name.
    async fn keys(&self) -> Result<Vec<KeyInfo>, AdminError>;

    /// The credential of that access key id.
    async fn key(&self, access_key_id: &str) -> Result<KeyInfo, AdminError>;

    /// Deletes a credential. Its buckets stay.
    async fn delete_key(&self, access_key_id: &str) -> Result<(), AdminError>;
}
