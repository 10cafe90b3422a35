//! What the fronts see of buckets, credentials, objects and uploads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::auth::Signatory;
use crate::env::UnixMillis;
use crate::replication::Level;
use crate::types::{BucketId, Key, UploadId};

/// A bucket's name: 3 to 63 of lower-case letters, digits, dots and hyphens (S3 user guide,
/// "Bucket naming rules").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName(String);

/// A name that no bucket can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is no bucket name: {reason}")]
pub struct InvalidBucketName {
    /// What was given.
    pub name: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

impl BucketName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BucketName {
    type Err = InvalidBucketName;

    fn from_str(name: &str) -> Result<Self, InvalidBucketName> {
        let fault = |reason| Err(InvalidBucketName { name: name.to_owned(), reason });
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
        let edge =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !(3..=63).contains(&name.len()) {
            return fault("it must have 3 to 63 characters");
        }
        if !name.chars().all(legal) {
            return fault("only lower-case letters, digits, dots and hyphens are allowed");
        }
        if !edge(name.chars().next()) || !edge(name.chars().last()) {
            return fault("it must begin and end with a letter or digit");
        }
        if name.contains("..") || name.contains(".-") || name.contains("-.") {
            return fault("dots must not touch dots or hyphens");
        }
        let reserved_start = ["xn--", "sthree-", "amzn-s3-demo-"];
        let reserved_end = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];
        if reserved_start.iter().any(|start| name.starts_with(start))
            || reserved_end.iter().any(|end| name.ends_with(end))
        {
            return fault("that prefix or suffix is reserved by S3");
        }
        if name.parse::<std::net::Ipv4Addr>().is_ok() {
            return fault("it must not look like an IP address");
        }
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for BucketName {
    type Error = InvalidBucketName;

    fn try_from(name: String) -> Result<Self, InvalidBucketName> {
        name.parse()
    }
}

impl From<BucketName> for String {
    fn from(name: BucketName) -> Self {
        name.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who owns buckets: one per credential, 64 hexadecimal digits as S3's canonical user ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnerId(pub String);

/// A bucket, as every node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BucketRecord {
    /// Its own id: another one after deletion and re-creation.
    pub id: BucketId,
    /// Its name.
    pub name: BucketName,
    /// Who owns it.
    pub owner: OwnerId,
    /// When it was created.
    pub created: UnixMillis,
    /// Counts changes that must be fenced.
    pub epoch: u64,
    /// Copies of each record, fixed at creation.
    pub n: u8,
    /// Over how many partitions its keys are spread, fixed at creation.
    pub index_shards: u16,
    /// The consistency level of its requests, or of the one at hand if it asks for another.
    pub level: Level,
    /// The level that the request at hand asks for, if it does.
    #[serde(skip)]
    pub asked: Option<Level>,
}

/// The most copies that a bucket may ask for.
pub const COPIES_MAX: u8 = 16;

/// A level that a bucket or a request cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LevelRefused {
    /// More replicas than there are copies.
    #[error("{level} asks for more replicas than the bucket has copies (n={n})")]
    TooMany {
        /// What was asked for.
        level: Level,
        /// The bucket's copies.
        n: u8,
    },
    /// Writes of a strict bucket must not go to stand-ins, nor its reads.
    #[error(
        "the bucket's level is {own}: a request may not ask for the sloppy level {asked}; use \
         strict or all, or change the bucket with 'quorate bucket set --level'"
    )]
    Sloppy {
        /// The bucket's own level.
        own: Level,
        /// What was asked for.
        asked: Level,
    },
}

/// Whether a bucket of `n` copies may have that level.
///
/// # Errors
/// [`LevelRefused::TooMany`].
pub(super) fn check_level(level: Level, n: u8) -> Result<(), LevelRefused> {
    match level {
        Level::Numbers { r, w } if r.max(w) > n => Err(LevelRefused::TooMany { level, n }),
        _ => Ok(()),
    }
}

impl BucketRecord {
    /// The bucket as a request sees it that asks for a level of its own.
    ///
    /// # Errors
    /// [`LevelRefused`].
    pub fn at_level(&self, asked: Option<Level>) -> Result<Self, LevelRefused> {
        let Some(level) = asked else { return Ok(self.clone()) };
        check_level(level, self.n)?;
        if level.is_sloppy() && !self.level.is_sloppy() {
            return Err(LevelRefused::Sloppy { own: self.level, asked: level });
        }
        Ok(Self { level, asked, ..self.clone() })
    }
}

/// An access key and its secret, decrypted. Never printed with `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
    /// Who acts.
    pub owner: OwnerId,
    /// The operator's name for it.
    pub name: String,
    /// When it was created.
    pub created: UnixMillis,
}

impl Signatory for Credential {
    fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    fn secret_access_key(&self) -> &str {
        &self.secret_access_key
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, {})", self.access_key_id, self.name)
    }
}

/// A checksum algorithm of the S3 API (`x-amz-checksum-*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO HDLC).
    #[serde(rename = "CRC32")]
    Crc32,
    /// CRC-32C (iSCSI).
    #[serde(rename = "CRC32C")]
    Crc32c,
    /// CRC-64/NVME.
    #[serde(rename = "CRC64NVME")]
    Crc64Nvme,
    /// SHA-1.
    #[serde(rename = "SHA1")]
    Sha1,
    /// SHA-256.
    #[serde(rename = "SHA256")]
    Sha256,
}

/// Whether a multipart object's checksum is of all its bytes or of its parts' checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumKind {
    /// Of all bytes.
    #[serde(rename = "FULL_OBJECT")]
    FullObject,
    /// Of the parts' checksums, with `-<parts>` behind it.
    #[serde(rename = "COMPOSITE")]
    Composite,
}

/// A checksum stored with an object or a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How it was computed.
    pub algorithm: ChecksumAlgorithm,
    /// Over what.
    pub kind: ChecksumKind,
    /// Its base64 form, as in headers.
    pub value: String,
}

/// What a client says of an object besides its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewObject {
    /// `content-type`, `cache-control`, `content-disposition`, `content-encoding`,
    /// `content-language`, `expires`, and `x-amz-meta-*`: lower-case names with their values.
    pub headers: Vec<(String, String)>,
    /// The algorithm and kind that a multipart upload was started with.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

/// A part of a completed multipart object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFacts {
    /// Its number, 1 to 10,000.
    #[serde(rename = "n")]
    pub number: u16,
    /// Its bytes.
    #[serde(rename = "s")]
    pub size: u64,
    /// Its checksums; not kept for objects of very many parts.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
}

/// An object, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its key.
    pub key: Key,
    /// Its bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: UnixMillis,
    /// The ETag without quotes: MD5 in hexadecimal, with `-<parts>` after a multipart upload.
    pub etag: String,
    /// Headers as in [`NewObject::headers`].
    pub headers: Vec<(String, String)>,
    /// Its checksums.
    pub checksums: Vec<Checksum>,
    /// The parts that it was completed from; empty for a plain put.
    pub parts: Vec<PartFacts>,
}

/// An open multipart upload in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadSummary {
    /// The object's key.
    pub key: Key,
    /// The upload.
    pub upload: UploadId,
    /// When it was started.
    pub initiated: UnixMillis,
    /// What it was started with.
    pub object: NewObject,
}

/// A part in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSummary {
    /// Its number.
    pub number: u16,
    /// Its bytes.
    pub size: u64,
    /// MD5 in hexadecimal.
    pub etag: String,
    /// When it was uploaded.
    pub modified: UnixMillis,
    /// Its checksums.
    pub checksums: Vec<Checksum>,
}
