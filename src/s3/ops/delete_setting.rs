//! Deleting a bucket's settings: none is ever set, so nothing is left to do.

use http::StatusCode;

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;

/// `DELETE /bucket?cors` and its like.
#[derive(Debug)]
pub(crate) struct DeleteBucketSetting;

impl DeleteBucketSetting {
    pub(crate) fn parse(_request: &Request) -> Result<Self, S3Error> {
        Ok(Self)
    }

    pub(crate) async fn run(self, _call: Call, _body: Unread) -> Result<Reply, S3Error> {
        Ok(reply::empty(StatusCode::NO_CONTENT))
    }
}
