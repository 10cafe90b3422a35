//! PutBucketAcl and PutObjectAcl: only `private`, which is what holds anyway.

use http::StatusCode;

use crate::s3::body::{Unread, read_document};
use crate::s3::call::Call;
use crate::s3::error::{Code, S3Error};
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::types::Key;

use super::get_object::check_version;

/// An access control list of 100 grants is far smaller.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// The parameters of PutBucketAcl and PutObjectAcl.
#[derive(Debug)]
pub(crate) struct PutAcl {
    key: Option<Key>,
}

impl PutAcl {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        check_version(request)?;
        let key = request.key.as_ref().map(|_| request.key()).transpose()?;
        Ok(Self { key })
    }

    pub(crate) async fn run(self, call: Call, body: Unread) -> Result<Reply, S3Error> {
        let document = read_document(&mut body.open(), DOCUMENT_BYTES_MAX).await?;
        // A canned list other than `private` was refused with the headers.
        let canned = call.request.headers.contains_key("x-amz-acl");
        if !canned || !document.is_empty() {
            let message = "Access control lists other than the canned 'private' are not served.";
            return Err(S3Error::with(Code::NotImplemented, message));
        }
        if let Some(key) = &self.key {
            call.catalog().head_object(call.bucket()?, key).await?;
        }
        Ok(reply::empty(StatusCode::OK))
    }
}
