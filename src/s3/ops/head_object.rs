//! HeadObject: what GetObject would answer, without the bytes.

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;

use super::get_object::GetObject;

/// The parameters of HeadObject.
#[derive(Debug)]
pub(crate) struct HeadObject(GetObject);

impl HeadObject {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        GetObject::parse(request).map(Self)
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let (head, served) = call.catalog().head_object(call.bucket()?, &self.0.key).await?;
        let (mut reply, _) = self.0.head_reply(&call, &head)?;
        reply::served(&mut reply, served);
        Ok(reply)
    }
}
