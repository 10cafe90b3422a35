//! Buckets and credentials: made by one member, kept by all.

use std::sync::Arc;

use bytes::Bytes;

use crate::env::probe;
use crate::replication::{Level, Outcome, ScanQuery, TableId, Version};
use crate::types::BucketId;

use super::error::CatalogError;
use super::full_copy::write_everywhere;
use super::keys::shards;
use super::records::{BucketName, BucketRecord, COPIES_MAX, Credential, OwnerId, check_level};
use super::remote::{CatalogReply, CatalogRequest};
use super::rows::{BucketRow, BucketState, CredentialRow};
use super::service::{Catalog, CreateBucket};

/// Copies of each record, unless a bucket is created with another number.
const COPIES: u8 = 3;
/// Rows that are looked at in one request whether a bucket is empty.
const EMPTINESS_PAGE: usize = 8_000;
/// Partitions over which a bucket's keys are spread.
const INDEX_SHARDS: u16 = 16;

impl Catalog {
    /// The bucket of that name, from this node's full copy.
    #[must_use]
    pub fn bucket(&self, name: &str) -> Option<Arc<BucketRecord>> {
        self.local.bucket(name)
    }

    /// All buckets, by name, from this node's full copy.
    #[must_use]
    pub fn buckets(&self) -> Vec<Arc<BucketRecord>> {
        self.local.buckets()
    }

    /// Creates a bucket. It is durable on all members when this returns.
    ///
    /// # Errors
    /// [`CatalogError::BucketOwned`], [`CatalogError::BucketTaken`], or unavailable while a
    /// member is down.
    pub async fn create_bucket(
        &self,
        request: CreateBucket,
    ) -> Result<Arc<BucketRecord>, CatalogError> {
        let CreateBucket { name, owner, level, n } = request;
        let asked = name.clone();
        self.change(CatalogRequest::CreateBucket { name, owner, level, n }).await?;
        self.bucket(asked.as_str()).ok_or(CatalogError::NoSuchBucket)
    }

    pub(super) async fn decide_create_bucket(
        &self,
        request: CreateBucket,
    ) -> Result<CatalogReply, CatalogError> {
        let (n, level) = (request.n.unwrap_or(COPIES), request.level.unwrap_or(Level::Strict));
        if !(1..=COPIES_MAX).contains(&n) {
            let reason = format!("a bucket has 1 to {COPIES_MAX} copies, not {n}");
            return Err(CatalogError::Refused { reason });
        }
        check_level(level, n)?;
        let _one_at_a_time = self.changes.lock().await;
        let known = self.local.known_bucket(request.name.as_str());
        let site = self.coordinator.site();
        let mut row = BucketRow {
            version: Version::unminted(),
            id: BucketId::from_bytes(site.entropy.next_id()),
            name: request.name.clone(),
            owner: request.owner.clone(),
            created: site.clock.wall(),
            epoch: 1,
            n,
            index_shards: INDEX_SHARDS,
            level,
            state: BucketState::Active,
        };
        match known {
            Some(known) if known.row.state != BucketState::Deleted => {
                if known.row.owner != request.owner {
                    return Err(CatalogError::BucketTaken);
                }
                if known.row.state == BucketState::Active {
                    // If an earlier creation broke off half-way, the exchange spreads it.
                    return Err(CatalogError::BucketOwned);
                }
                // A deletion that was broken off: the bucket is taken back as it was.
                row = BucketRow { state: BucketState::Active, ..known.row };
            }
            Some(known) => row.epoch = known.row.epoch.saturating_add(1),
            None => {}
        }
        write_everywhere(&self.coordinator, request.name.as_str(), &row).await?;
        Ok(CatalogReply::Done)
    }

    /// Changes a bucket's level. When this returns, every member refuses writes that were begun
    /// at the old one.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchBucket`], or unavailable while a member is down.
    pub async fn set_bucket(
        &self,
        name: &BucketName,
        level: Level,
    ) -> Result<Arc<BucketRecord>, CatalogError> {
        self.change(CatalogRequest::SetBucket { name: name.clone(), level }).await?;
        self.bucket(name.as_str()).ok_or(CatalogError::NoSuchBucket)
    }

    /// A new epoch is durable on all members before it is acknowledged: none of them takes a
    /// write of an older one afterwards.
    pub(super) async fn decide_set_bucket(
        &self,
        name: &BucketName,
        level: Level,
    ) -> Result<CatalogReply, CatalogError> {
        let _one_at_a_time = self.changes.lock().await;
        let known = self
            .local
            .known_bucket(name.as_str())
            .filter(|known| known.row.state != BucketState::Deleted)
            .ok_or(CatalogError::NoSuchBucket)?;
        if known.row.state != BucketState::Active {
            return Err(CatalogError::BucketChanging);
        }
        check_level(level, known.row.n)?;
        let epoch = known.row.epoch.saturating_add(1);
        let row = BucketRow { level, epoch, ..known.row };
        write_everywhere(&self.coordinator, name.as_str(), &row).await?;
        Ok(CatalogReply::Done)
    }

    /// Deletes an empty bucket on all members.
    ///
    /// # Errors
    /// [`CatalogError::BucketNotEmpty`], [`CatalogError::NoSuchBucket`], or unavailable.
    pub async fn delete_bucket(&self, bucket: &BucketRecord) -> Result<(), CatalogError> {
        self.change(CatalogRequest::DeleteBucket { name: bucket.name.clone() }).await.map(drop)
    }

    /// Fences the bucket on all members, looks whether it is empty, and only then deletes it:
    /// what was acknowledged before the fence is seen, and nothing comes in after it.
    pub(super) async fn decide_delete_bucket(
        &self,
        name: &BucketName,
    ) -> Result<CatalogReply, CatalogError> {
        let _one_at_a_time = self.changes.lock().await;
        let known = self
            .local
            .known_bucket(name.as_str())
            .filter(|known| known.row.state != BucketState::Deleted)
            .ok_or(CatalogError::NoSuchBucket)?;
        let with = |state| BucketRow { state, ..known.row.clone() };
        write_everywhere(&self.coordinator, name.as_str(), &with(BucketState::Deleting)).await?;
        probe::crash_point("bucket fenced, not yet deleted");
        // From here on something is done: if it breaks off, `finish_deletions` ends it.
        let empty = self.is_empty(&known.record).await;
        let state =
            if matches!(empty, Ok(true)) { BucketState::Deleted } else { BucketState::Active };
        write_everywhere(&self.coordinator, name.as_str(), &with(state))
            .await
            .map_err(CatalogError::after_a_durable_step)?;
        match empty? {
            true => Ok(CatalogReply::Done),
            false => Err(CatalogError::BucketNotEmpty),
        }
    }

    /// Ends deletions that broke off (a crash, a member that went down half-way): a bucket that
    /// turns out to hold something is given back. Run by the deciding member.
    pub(super) async fn finish_deletions(&self) {
        for name in self.local.being_deleted() {
            match self.decide_delete_bucket(&name).await {
                Ok(_) | Err(CatalogError::BucketNotEmpty | CatalogError::NoSuchBucket) => {}
                Err(error) => {
                    tracing::warn!(bucket = %name, %error, "a deletion waits to be ended")
                }
            }
        }
    }

    async fn is_empty(&self, bucket: &BucketRecord) -> Result<bool, CatalogError> {
        if bucket.level.is_sloppy() {
            self.nothing_is_kept().await?;
        }
        Ok(self.has_none(bucket, TableId::Objects).await?
            && self.has_none(bucket, TableId::Kv).await?)
    }

    /// What members keep for owners that were away may belong to the bucket, and no scan of
    /// owners shows it.
    async fn nothing_is_kept(&self) -> Result<(), CatalogError> {
        for member in self.coordinator.layout()?.members() {
            let kept = self.coordinator.kept_by(member.node).await;
            let none = kept.is_some_and(|kept| kept.values().all(|figures| figures.rows == 0));
            if !none {
                return Err(CatalogError::Unavailable {
                    outcome: Outcome::None,
                    reason: format!(
                        "node {} keeps writes for owners that were away, or does not say: ask \
                         again when 'quorate hints' shows none",
                        member.node.short()
                    ),
                });
            }
        }
        Ok(())
    }

    async fn has_none(&self, bucket: &BucketRecord, table: TableId) -> Result<bool, CatalogError> {
        let mut from = Bytes::new();
        loop {
            let query = ScanQuery {
                table,
                slices: shards(bucket),
                prefix: Bytes::new(),
                delimiter: None,
                from,
                // Wide, because there may be nothing but tombstones.
                max: EMPTINESS_PAGE,
                n: usize::from(bucket.n),
                // Who acknowledged a write at a sloppy level is not known.
                level: if bucket.level.is_sloppy() { Level::All } else { bucket.level },
            };
            let page = self.coordinator.scan(&query).await?;
            if !page.entries.is_empty() {
                return Ok(false);
            }
            match page.next {
                Some(next) => from = next,
                None => return Ok(true),
            }
        }
    }

    /// The credential with that access key id, from this node's full copy.
    #[must_use]
    pub fn credential(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        self.local.credential(access_key_id)
    }

    /// All credentials, by name, from this node's full copy.
    #[must_use]
    pub fn credentials(&self) -> Vec<Arc<Credential>> {
        self.local.credentials()
    }

    /// Creates a credential on all members; id and secret are drawn unless given.
    ///
    /// # Errors
    /// [`CatalogError::CredentialExists`], or unavailable while a member is down.
    pub async fn create_credential(
        &self,
        name: &str,
        given: Option<(String, String)>,
    ) -> Result<Arc<Credential>, CatalogError> {
        let request = CatalogRequest::CreateCredential { name: name.to_owned(), given };
        match self.change(request).await? {
            CatalogReply::Credential { access_key_id } => {
                self.credential(&access_key_id).ok_or(CatalogError::NoSuchCredential)
            }
            other => Err(CatalogError::Internal { reason: format!("unexpected {other:?}") }),
        }
    }

    pub(super) async fn decide_create_credential(
        &self,
        name: String,
        given: Option<(String, String)>,
    ) -> Result<CatalogReply, CatalogError> {
        let _one_at_a_time = self.changes.lock().await;
        let site = self.coordinator.site();
        let (access_key_id, secret) = given.unwrap_or_else(|| self.draw_credential());
        if self.local.credential(&access_key_id).is_some() {
            return Err(CatalogError::CredentialExists);
        }
        let sealed_secret = self
            .local
            .secrets()
            .seal(&access_key_id, &secret, &*site.entropy)
            .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
        let owner = format!(
            "{}{}",
            hex::encode(site.entropy.next_id()),
            hex::encode(site.entropy.next_id())
        );
        let row = CredentialRow {
            version: Version::unminted(),
            access_key_id: access_key_id.clone(),
            sealed_secret,
            owner: OwnerId(owner),
            name,
            created: site.clock.wall(),
            deleted: false,
        };
        write_everywhere(&self.coordinator, &access_key_id, &row).await?;
        Ok(CatalogReply::Credential { access_key_id })
    }

    /// An access key id of 20 characters and a secret of 40, as S3 clients expect them.
    fn draw_credential(&self) -> (String, String) {
        const ID: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        const SECRET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let entropy = &self.coordinator.site().entropy;
        let draw = |alphabet: &[u8], count: usize| -> String {
            let bound = alphabet.len() as u64;
            (0..count)
                .filter_map(|_| alphabet.get(usize::try_from(entropy.below(bound)).ok()?))
                .map(|&byte| char::from(byte))
                .collect()
        };
        (format!("QK{}", draw(ID, 18)), draw(SECRET, 40))
    }

    /// Deletes a credential on all members.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchCredential`], or unavailable while a member is down.
    pub async fn delete_credential(&self, access_key_id: &str) -> Result<(), CatalogError> {
        let access_key_id = access_key_id.to_owned();
        self.change(CatalogRequest::DeleteCredential { access_key_id }).await.map(drop)
    }

    pub(super) async fn decide_delete_credential(
        &self,
        access_key_id: &str,
    ) -> Result<CatalogReply, CatalogError> {
        let _one_at_a_time = self.changes.lock().await;
        let row = self
            .local
            .credential_row(access_key_id)
            .filter(|row| !row.deleted)
            .ok_or(CatalogError::NoSuchCredential)?;
        let row = CredentialRow { deleted: true, ..row };
        write_everywhere(&self.coordinator, access_key_id, &row).await?;
        Ok(CatalogReply::Done)
    }
}
