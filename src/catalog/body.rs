//! Bodies on their way in and out.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::records::Checksum;

/// Why a body did not arrive whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client went away or sent less than it announced.
    #[error("the body broke off: {reason}")]
    Broken {
        /// What the connection said.
        reason: String,
    },
    /// A check of the front refused it: digest, signature, length, trailer. The front finds its
    /// own error inside.
    #[error("the body was refused: {0}")]
    Rejected(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What is known of a body once all of it was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBody {
    /// MD5 of the bytes, for the ETag.
    pub md5: [u8; 16],
    /// Further checksums that the client gave or asked for, to be stored.
    pub checksums: Vec<Checksum>,
}

/// A body that a client sends, decoded and checked as it streams by.
#[async_trait]
pub trait BodySource: Send {
    /// Its length in bytes, if the client announced it.
    fn length(&self) -> Option<u64>;

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`BodyError`] if the client broke off or a check failed.
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError>;

    /// Called once, after the end: the verdict of all checks, before anything is committed.
    ///
    /// # Errors
    /// [`BodyError::Rejected`] if a digest, signature or trailer does not match.
    fn verify(&mut self) -> Result<VerifiedBody, BodyError>;
}

/// Bytes of an object on their way out, each piece checked against its checksum.
pub type ByteStream = BoxStream<'static, Result<Bytes, super::error::CatalogError>>;
