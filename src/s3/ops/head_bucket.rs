//! HeadBucket.

use http::StatusCode;

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;

/// HeadBucket has no parameters.
#[derive(Debug)]
pub(crate) struct HeadBucket;

impl HeadBucket {
    pub(crate) fn parse(_request: &Request) -> Result<Self, S3Error> {
        Ok(Self)
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let mut reply = reply::empty(StatusCode::OK);
        reply::set(&mut reply, "x-amz-bucket-region", &call.shared.region);
        // The bucket's own level: what its requests will be served at.
        reply::set(&mut reply, "x-quorate-level", &call.bucket()?.level.to_string());
        Ok(reply)
    }
}
