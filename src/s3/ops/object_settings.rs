//! Reading an object's settings: owner only, no tags, no locks.

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::{Code, S3Error};
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::xml::Xml;
use crate::types::Key;

use super::bucket_settings::owner_only;
use super::get_object::check_version;

#[derive(Debug)]
enum Setting {
    Acl,
    Tagging,
    Lock,
}

/// `GET /bucket/key?acl` and its like.
#[derive(Debug)]
pub(crate) struct GetObjectSetting {
    key: Key,
    setting: Setting,
}

impl GetObjectSetting {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        check_version(request)?;
        let setting = match () {
            () if request.query.has("acl") => Setting::Acl,
            () if request.query.has("tagging") => Setting::Tagging,
            () => Setting::Lock,
        };
        Ok(Self { key: request.key()?, setting })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let bucket = call.bucket()?;
        let (_, served) = call.catalog().head_object(bucket, &self.key).await?;
        let document = match self.setting {
            Setting::Acl => owner_only(&bucket.owner.0),
            Setting::Tagging => {
                let mut xml = Xml::document("Tagging");
                xml.open("TagSet").close();
                xml
            }
            Setting::Lock => {
                let message = "Bucket is missing Object Lock Configuration";
                return Err(S3Error::with(Code::InvalidRequest, message));
            }
        };
        let mut reply = reply::xml(document);
        reply::served(&mut reply, served);
        Ok(reply)
    }
}
