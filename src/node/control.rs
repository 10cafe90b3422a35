//! The operator's hands on a node: what the admin API calls.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::admin::{
    AdminError, BucketInfo, ClusterControl, ClusterStatus, CreateBucketRequest, CreateKeyRequest,
    ErrorKind, HintsReport, HistoryQuery, HistoryReport, Holding, InitReport, InitRequest,
    KeyCreated, KeyInfo, LocateQuery, Location, RepairReport, RepairRequest, Replica, RingReport,
    Role, SetBucketRequest,
};
use crate::catalog::{
    BucketName, BucketRecord, CatalogError, CreateBucket, Credential, OwnerHolds, OwnerId,
};
use crate::causality::Stamp;
use crate::membership::{BootstrapError, Liveness};
use crate::replication::Level;
use crate::ring::PartitionCount;
use crate::types::{Key, NodeId, Zone};

use super::start::Node;
use super::status::name_of;

/// The owner of buckets that an operator creates for nobody.
const NOBODY: &str = "operator";

/// A node as the admin API sees it.
pub(super) struct Control {
    pub(super) node: Arc<Node>,
    pub(super) partitions: PartitionCount,
    pub(super) default_level: Level,
}

impl Control {
    fn bucket_record(&self, name: &str) -> Result<Arc<BucketRecord>, AdminError> {
        self.node.catalog.bucket(name).ok_or_else(|| {
            AdminError::new(ErrorKind::NotFound, format!("there is no bucket '{name}'"))
                .next("quorate bucket list")
        })
    }

    fn key_info(&self, credential: &Credential) -> KeyInfo {
        let buckets = self.node.catalog.buckets();
        KeyInfo {
            access_key_id: credential.access_key_id.clone(),
            owner_id: credential.owner.0.clone(),
            name: credential.name.clone(),
            created_unix_ms: credential.created.0,
            buckets: buckets
                .iter()
                .filter(|bucket| bucket.owner == credential.owner)
                .map(|bucket| bucket.name.to_string())
                .collect(),
        }
    }

    fn bucket_info(&self, bucket: &BucketRecord) -> BucketInfo {
        let nodes = self.node.membership.holder().current().map_or(0, |l| l.storage_nodes());
        let owners = usize::from(bucket.n).min(nodes.max(1));
        BucketInfo {
            name: bucket.name.to_string(),
            id: bucket.id,
            owner_id: bucket.owner.0.clone(),
            created_unix_ms: bucket.created.0,
            level: bucket.level,
            epoch: bucket.epoch,
            n: bucket.n,
            r: small(bucket.level.reads(owners)),
            w: small(bucket.level.writes(owners)),
            label: super::levels::label(bucket.level, owners, bucket.n),
            survives: small(bucket.level.writes(owners).saturating_sub(1)),
            write_acks: small(bucket.level.writes(owners)),
            index_shards: bucket.index_shards,
        }
    }

    fn credential(&self, access_key_id: &str) -> Result<Arc<Credential>, AdminError> {
        self.node.catalog.credential(access_key_id).ok_or_else(|| {
            let message = format!("there is no key with the access key id '{access_key_id}'");
            AdminError::new(ErrorKind::NotFound, message).next("quorate key list")
        })
    }

    fn replica(&self, node: NodeId, role: Role, holds: &OwnerHolds) -> Replica {
        let peers = self.node.membership.gossip().peers();
        let peer = peers.iter().find(|peer| peer.node == node);
        let layout = self.node.membership.holder().current();
        let zone = layout
            .and_then(|layout| layout.member(node).map(|member| member.zone.clone()))
            .unwrap_or_else(|| Zone::new("?"));
        let (holding, stamp) = match holds {
            OwnerHolds::Object(stamp) => (Holding::Object, Some(stamp)),
            OwnerHolds::Deleted(stamp) => (Holding::Deleted, Some(stamp)),
            OwnerHolds::Nothing => (Holding::Nothing, None),
            OwnerHolds::Unknown(_) => (Holding::Unknown, None),
        };
        Replica {
            name: peer.map_or_else(|| node.short(), name_of),
            node_id: node,
            zone,
            role,
            liveness: peer.map_or(Liveness::Down, |peer| peer.liveness),
            holding,
            stamp: stamp.map(stamp_text),
        }
    }
}

fn small(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

/// A stamp as text that sorts by time.
pub(super) fn stamp_text(stamp: &Stamp) -> String {
    let (millis, count) = (stamp.time.millis(), stamp.time.0 & 0xffff);
    format!("{millis:014}.{count:05}@{}", stamp.node.short())
}

fn refusal(error: CatalogError) -> AdminError {
    let message = error.to_string();
    match error {
        CatalogError::NoSuchBucket | CatalogError::NoSuchCredential | CatalogError::NoSuchKey => {
            AdminError::new(ErrorKind::NotFound, message)
        }
        CatalogError::BucketTaken
        | CatalogError::BucketOwned
        | CatalogError::BucketNotEmpty
        | CatalogError::BucketChanging
        | CatalogError::CredentialExists => AdminError::new(ErrorKind::Conflict, message),
        CatalogError::Refused { .. } => AdminError::new(ErrorKind::Invalid, message),
        CatalogError::Unavailable { .. } | CatalogError::SlowDown { .. } => {
            AdminError::new(ErrorKind::Unavailable, message).next("quorate status")
        }
        _ => AdminError::new(ErrorKind::Internal, message),
    }
}

#[async_trait]
impl ClusterControl for Control {
    async fn init(&self, request: InitRequest) -> Result<InitReport, AdminError> {
        let fresh = self.node.membership.holder().current().is_none();
        let expected = usize::try_from(request.expect).unwrap_or(usize::MAX);
        let patience = Duration::from_secs(u64::from(request.wait_seconds));
        let made = self.node.membership.init(expected, self.partitions, patience).await;
        let layout = made.map_err(|error| match error {
            BootstrapError::AlreadyMember(_) => {
                AdminError::new(ErrorKind::AlreadyInitialized, error.to_string())
                    .next("quorate status")
            }
            error => {
                AdminError::new(ErrorKind::Unavailable, error.to_string()).next("quorate status")
            }
        })?;
        if !fresh {
            let message = format!("cluster {} has its first layout already", layout.cluster());
            return Err(
                AdminError::new(ErrorKind::AlreadyInitialized, message).next("quorate status")
            );
        }
        let peers = self.node.membership.gossip().peers();
        Ok(InitReport {
            cluster_id: layout.cluster(),
            layout_version: layout.version().0,
            nodes: peers
                .iter()
                .filter(|peer| layout.member(peer.node).is_some())
                .map(name_of)
                .collect(),
        })
    }

    async fn status(&self) -> Result<ClusterStatus, AdminError> {
        let proof = self.node.proof().await;
        Ok(self.node.cluster_status(self.default_level, proof.as_ref()))
    }

    fn unready(&self) -> Option<String> {
        let layout = self.node.membership.holder().current();
        match layout {
            None => Some("no layout yet: run 'quorate cluster init'".to_owned()),
            Some(layout) if layout.member(self.node.coordinator.site().node).is_none() => {
                Some("the layout does not name this node".to_owned())
            }
            Some(_) => self.node.catalog.unready(),
        }
    }

    async fn ring(&self) -> Result<RingReport, AdminError> {
        self.node.ring_report().ok_or_else(|| {
            AdminError::new(ErrorKind::NotInitialized, "there is no ring before the first layout")
                .next("quorate cluster init --expect 3")
        })
    }

    async fn hints(&self) -> Result<HintsReport, AdminError> {
        Ok(self.node.hints_report().await)
    }

    async fn locate(&self, query: LocateQuery) -> Result<Location, AdminError> {
        let bucket = self.bucket_record(&query.bucket)?;
        let key = Key::new(query.key.clone().into_bytes())
            .map_err(|error| AdminError::new(ErrorKind::Invalid, error.to_string()))?;
        let location = self.node.catalog.locate(&bucket, &key).await.map_err(refusal)?;
        let owners =
            location.owners.iter().map(|(node, holds)| self.replica(*node, Role::Owner, holds));
        let unasked = OwnerHolds::Unknown("fallbacks are not asked".into());
        let fallbacks =
            location.fallbacks.iter().map(|node| self.replica(*node, Role::Fallback, &unasked));
        Ok(Location {
            bucket: query.bucket,
            key: query.key,
            token: format!("{:032x}", location.token.0),
            partition: location.partition.as_u32(),
            layout_version: location.layout_version,
            replicas: owners.chain(fallbacks).collect(),
        })
    }

    async fn repair(&self, request: Option<RepairRequest>) -> Result<RepairReport, AdminError> {
        self.node.repair_report(request).await
    }

    async fn create_bucket(&self, request: CreateBucketRequest) -> Result<BucketInfo, AdminError> {
        let name: BucketName =
            request.name.parse().map_err(|error: crate::catalog::InvalidBucketName| {
                AdminError::new(ErrorKind::Invalid, error.to_string())
            })?;
        let owner = match &request.owner {
            Some(access_key_id) => self.credential(access_key_id)?.owner.clone(),
            None => OwnerId(NOBODY.to_owned()),
        };
        let (level, n) = (Some(request.level.unwrap_or(self.default_level)), request.n);
        let created = self.node.catalog.create_bucket(CreateBucket { name, owner, level, n }).await;
        created.map(|bucket| self.bucket_info(&bucket)).map_err(refusal)
    }

    async fn buckets(&self) -> Result<Vec<BucketInfo>, AdminError> {
        let buckets = self.node.catalog.buckets();
        Ok(buckets.iter().map(|bucket| self.bucket_info(bucket)).collect())
    }

    async fn bucket(&self, name: &str) -> Result<BucketInfo, AdminError> {
        Ok(self.bucket_info(&*self.bucket_record(name)?))
    }

    async fn set_bucket(
        &self,
        name: &str,
        request: SetBucketRequest,
    ) -> Result<BucketInfo, AdminError> {
        let bucket = self.bucket_record(name)?;
        let changed = self.node.catalog.set_bucket(&bucket.name, request.level).await;
        changed.map(|bucket| self.bucket_info(&bucket)).map_err(refusal)
    }

    async fn history(&self, query: HistoryQuery) -> Result<HistoryReport, AdminError> {
        let bucket = self.bucket_record(&query.bucket)?;
        let key = Key::new(query.key.clone().into_bytes())
            .map_err(|error| AdminError::new(ErrorKind::Invalid, error.to_string()))?;
        let history = self.node.catalog.history(&bucket, &key).await.map_err(refusal)?;
        Ok(self.history_report(query, history))
    }

    async fn delete_bucket(&self, name: &str) -> Result<(), AdminError> {
        let bucket = self.bucket_record(name)?;
        self.node.catalog.delete_bucket(&bucket).await.map_err(refusal)
    }

    async fn create_key(&self, request: CreateKeyRequest) -> Result<KeyCreated, AdminError> {
        let given = match (request.access_key_id, request.secret_access_key) {
            (Some(id), Some(secret)) => Some((id, secret)),
            (None, None) => None,
            _ => {
                let message = "an access key id and its secret are given together or not at all";
                return Err(AdminError::new(ErrorKind::Invalid, message));
            }
        };
        let created = self.node.catalog.create_credential(&request.name, given).await;
        let credential = created.map_err(refusal)?;
        Ok(KeyCreated {
            access_key_id: credential.access_key_id.clone(),
            secret_access_key: credential.secret_access_key.clone(),
            owner_id: credential.owner.0.clone(),
            name: credential.name.clone(),
        })
    }

    async fn keys(&self) -> Result<Vec<KeyInfo>, AdminError> {
        let credentials = self.node.catalog.credentials();
        Ok(credentials.iter().map(|credential| self.key_info(credential)).collect())
    }

    async fn key(&self, access_key_id: &str) -> Result<KeyInfo, AdminError> {
        self.credential(access_key_id).map(|credential| self.key_info(&credential))
    }

    async fn delete_key(&self, access_key_id: &str) -> Result<(), AdminError> {
        self.node.catalog.delete_credential(access_key_id).await.map_err(refusal)
    }
}
