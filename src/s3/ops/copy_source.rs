//! The source of a copy: its name, its conditions, and its bytes as a body.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::catalog::{
    BodyError, BodySource, ByteStream, CatalogError, ChecksumAlgorithm, ObjectReader, VerifiedBody,
};
use crate::s3::body::Digests;
use crate::s3::call::Call;
use crate::s3::conditions::{self, Verdict};
use crate::s3::error::{Code, S3Error};
use crate::s3::percent;
use crate::s3::request::{Request, to_key};
use crate::types::Key;

/// `x-amz-copy-source`, taken apart.
#[derive(Debug)]
pub(crate) struct CopySource {
    /// The bucket to read from.
    pub(crate) bucket: String,
    /// The object to read.
    pub(super) key: Key,
}

impl CopySource {
    /// The source that `request` names.
    ///
    /// # Errors
    /// InvalidArgument, NoSuchVersion.
    pub(super) fn parse(request: &Request) -> Result<Self, S3Error> {
        let raw = request.header("x-amz-copy-source").unwrap_or_default();
        let wrong = |message: &'static str| S3Error::argument("x-amz-copy-source", raw, message);
        let (path, version) = match raw.split_once("?versionId=") {
            Some((path, version)) => (path, Some(version)),
            None => (raw, None),
        };
        if let Some(version) = version.filter(|version| *version != "null") {
            return Err(S3Error::new(Code::NoSuchVersion).detail("VersionId", version));
        }
        let path = percent::decode(path).map_err(|_| wrong("Invalid copy source encoding"))?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let named =
            path.split_once('/').filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty());
        let (bucket, key) = named.ok_or_else(|| wrong("Invalid copy source bucket name"))?;
        Ok(Self { bucket: bucket.to_owned(), key: to_key(key)? })
    }

    /// Opens the source and checks the copy's conditions on it.
    ///
    /// # Errors
    /// NoSuchKey, PreconditionFailed, and the catalogue's.
    pub(super) async fn open(&self, call: &Call) -> Result<ObjectReader, S3Error> {
        let reader = call.catalog().get_object(call.access.source()?, &self.key).await?;
        match conditions::of_copy_source(&call.request.headers, &reader.head) {
            Verdict::Holds => Ok(reader),
            Verdict::Failed | Verdict::NotModified => Err(Code::PreconditionFailed.into()),
        }
    }
}

/// Bytes of one object on their way into another.
pub(super) struct CopyBody {
    bytes: ByteStream,
    length: u64,
    seen: u64,
    digests: Option<Digests>,
}

impl CopyBody {
    /// The bytes of `range`, with the checksums to store.
    pub(super) fn new(
        reader: &ObjectReader,
        range: Range<u64>,
        compute: impl IntoIterator<Item = ChecksumAlgorithm>,
    ) -> Self {
        let length = range.end - range.start;
        let bytes = match length {
            0 => futures_util::stream::empty().boxed(),
            _ => reader.read(range),
        };
        Self { bytes, length, seen: 0, digests: Some(Digests::new(compute)) }
    }
}

#[async_trait]
impl BodySource for CopyBody {
    fn length(&self) -> Option<u64> {
        Some(self.length)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(piece) = self.bytes.next().await else { return Ok(None) };
        // The source's trouble is not the client's: it keeps its own code.
        let piece = piece.map_err(|error: CatalogError| S3Error::from(error).rejected())?;
        self.seen += piece.len() as u64;
        if let Some(digests) = &mut self.digests {
            digests.update(&piece);
        }
        Ok(Some(piece))
    }

    fn verify(&mut self) -> Result<VerifiedBody, BodyError> {
        let whole = self.seen == self.length;
        let digests = self.digests.take().filter(|_| whole);
        let cut = || S3Error::with(Code::InternalError, "The source's bytes ended early.");
        let found = digests.ok_or_else(cut).map_err(S3Error::rejected)?.finish();
        Ok(VerifiedBody { md5: found.md5, checksums: found.checksums })
    }
}
