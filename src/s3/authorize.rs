//! The one place that says yes: who may do what to which bucket.

use std::sync::Arc;

use crate::catalog::{BucketRecord, Catalog, Credential};

use crate::replication::Level;

use super::error::{Code, S3Error};
use super::headers::LEVEL_HEADER;
use super::operation::Operation;
use super::request::Request;

/// What an operation touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The caller's own account: any credential may list its buckets and create more.
    Account,
    /// One existing bucket, and all that is in it.
    Bucket,
}

/// Buckets that a caller was allowed to touch. Only [`authorize`] makes one, and operations
/// find their buckets nowhere else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    bucket: Option<Arc<BucketRecord>>,
    source: Option<Arc<BucketRecord>>,
}

impl Access {
    /// The bucket named by the request.
    ///
    /// # Errors
    /// AccessDenied if the operation was not authorised for one.
    pub(crate) fn bucket(&self) -> Result<&Arc<BucketRecord>, S3Error> {
        self.bucket.as_ref().ok_or_else(|| Code::AccessDenied.into())
    }

    /// The bucket that a copy reads.
    ///
    /// # Errors
    /// As [`Access::bucket`].
    pub(crate) fn source(&self) -> Result<&Arc<BucketRecord>, S3Error> {
        self.source.as_ref().ok_or_else(|| Code::AccessDenied.into())
    }
}

/// Allows or refuses `operation`, copy sources included.
///
/// A bucket's owner may do everything in it, others nothing.
///
/// # Errors
/// NoSuchBucket, AccessDenied.
pub(crate) fn authorize(
    catalog: &Catalog,
    caller: &Credential,
    operation: &Operation,
    request: &Request,
) -> Result<Access, S3Error> {
    let mut access = Access::default();
    let asked = operation.asked_level(request)?;
    if operation.reach() == Reach::Bucket {
        let expected = request.header("x-amz-expected-bucket-owner");
        access.bucket =
            Some(at_level(owned(catalog, caller, request.bucket()?, expected)?, asked)?);
    }
    if let Some(source) = operation.copy_source() {
        let expected = request.header("x-amz-source-expected-bucket-owner");
        access.source = Some(at_level(owned(catalog, caller, source, expected)?, asked)?);
    }
    Ok(access)
}

/// The bucket at the level that the request asks for.
fn at_level(bucket: Arc<BucketRecord>, asked: Option<Level>) -> Result<Arc<BucketRecord>, S3Error> {
    let Some(level) = asked else { return Ok(bucket) };
    bucket
        .at_level(asked)
        .map(Arc::new)
        .map_err(|refused| S3Error::argument(LEVEL_HEADER, &level.to_string(), refused.to_string()))
}

fn owned(
    catalog: &Catalog,
    caller: &Credential,
    name: &str,
    expected: Option<&str>,
) -> Result<Arc<BucketRecord>, S3Error> {
    let bucket = catalog
        .bucket(name)
        .ok_or_else(|| S3Error::new(Code::NoSuchBucket).detail("BucketName", name))?;
    let as_expected = expected.is_none_or(|owner| owner == bucket.owner.0);
    if bucket.owner == caller.owner && as_expected {
        Ok(bucket)
    } else {
        Err(Code::AccessDenied.into())
    }
}
