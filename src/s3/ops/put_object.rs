//! PutObject.

use http::StatusCode;

use crate::catalog::NewObject;
use crate::s3::body::{BODY_BYTES_MAX, Unread};
use crate::s3::call::Call;
use crate::s3::error::{Code, S3Error};
use crate::s3::headers;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::types::Key;

/// The parameters of PutObject.
#[derive(Debug)]
pub(crate) struct PutObject {
    key: Key,
    object: NewObject,
}

impl PutObject {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        if request.query.has("versionId") {
            let message = "This operation does not accept a version-id.";
            return Err(S3Error::argument("versionId", "", message));
        }
        Ok(Self { key: request.key()?, object: headers::new_object(&request.headers)? })
    }

    pub(crate) async fn run(self, call: Call, body: Unread) -> Result<Reply, S3Error> {
        check_size(&body)?;
        let mut body = body.open();
        let bucket = call.bucket()?;
        let receipt = call.catalog().put_object(bucket, self.key, self.object, &mut body).await?;
        let mut reply = reply::empty(StatusCode::OK);
        reply::etag(&mut reply, &receipt.head.etag);
        reply::checksums(&mut reply, &receipt.head.checksums);
        reply::served(&mut reply, receipt.served);
        Ok(reply)
    }
}

/// Refuses a body that announces too much.
///
/// # Errors
/// EntityTooLarge.
pub(super) fn check_size(body: &Unread) -> Result<(), S3Error> {
    let size = body.promise.length.unwrap_or_default();
    if size <= BODY_BYTES_MAX {
        return Ok(());
    }
    Err(S3Error::new(Code::EntityTooLarge)
        .detail("ProposedSize", size.to_string())
        .detail("MaxSizeAllowed", BODY_BYTES_MAX.to_string()))
}
