//! DeleteObject.

use http::StatusCode;

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::types::Key;

use super::get_object::check_version;

/// The parameters of DeleteObject.
#[derive(Debug)]
pub(crate) struct DeleteObject {
    key: Key,
}

impl DeleteObject {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        check_version(request)?;
        Ok(Self { key: request.key()? })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let served = call.catalog().delete_object(call.bucket()?, &self.key).await?;
        let mut reply = reply::empty(StatusCode::NO_CONTENT);
        reply::served(&mut reply, served);
        Ok(reply)
    }
}
