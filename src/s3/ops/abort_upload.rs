//! AbortMultipartUpload.

use http::StatusCode;

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::types::{Key, UploadId};

use super::upload_part::upload_id;

/// The parameters of AbortMultipartUpload.
#[derive(Debug)]
pub(crate) struct AbortMultipartUpload {
    key: Key,
    upload: UploadId,
}

impl AbortMultipartUpload {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        Ok(Self { key: request.key()?, upload: upload_id(request)? })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let served = call.catalog().abort_upload(call.bucket()?, &self.key, self.upload).await?;
        let mut reply = reply::empty(StatusCode::NO_CONTENT);
        reply::served(&mut reply, served);
        Ok(reply)
    }
}
