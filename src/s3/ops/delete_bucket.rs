//! DeleteBucket.

use http::StatusCode;

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;

/// DeleteBucket has no parameters.
#[derive(Debug)]
pub(crate) struct DeleteBucket;

impl DeleteBucket {
    pub(crate) fn parse(_request: &Request) -> Result<Self, S3Error> {
        Ok(Self)
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        call.catalog().delete_bucket(call.bucket()?).await?;
        Ok(reply::empty(StatusCode::NO_CONTENT))
    }
}
