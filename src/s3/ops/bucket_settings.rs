//! Reading a bucket's settings: where it is, who owns it, and that nothing else is set.

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::{Code, S3Error};
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::router::BUCKET_SETTINGS;
use crate::s3::xml::Xml;

/// `GET /bucket?location` and its like.
#[derive(Debug)]
pub(crate) struct GetBucketSetting {
    name: &'static str,
}

impl GetBucketSetting {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let name = BUCKET_SETTINGS.into_iter().find(|name| request.query.has(name));
        Ok(Self { name: name.ok_or(Code::NotImplemented)? })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let document = match self.name {
            "location" => {
                let mut xml = Xml::document("LocationConstraint");
                // AWS's oldest region has no name here.
                if call.shared.region != "us-east-1" {
                    xml.content(&call.shared.region);
                }
                xml
            }
            "acl" => owner_only(&call.bucket()?.owner.0),
            "versioning" => Xml::document("VersioningConfiguration"),
            "notification" => Xml::document("NotificationConfiguration"),
            "logging" => Xml::document("BucketLoggingStatus"),
            "accelerate" => Xml::document("AccelerateConfiguration"),
            "requestPayment" => {
                let mut xml = Xml::document("RequestPaymentConfiguration");
                xml.text("Payer", "BucketOwner");
                xml
            }
            name => {
                let bucket = call.bucket()?.name.as_str();
                return Err(S3Error::new(absent(name)).detail("BucketName", bucket));
            }
        };
        Ok(reply::xml(document))
    }
}

/// What AWS answers where nothing was configured.
fn absent(name: &str) -> Code {
    match name {
        "cors" => Code::NoSuchCorsConfiguration,
        "encryption" => Code::ServerSideEncryptionNotFound,
        "lifecycle" => Code::NoSuchLifecycleConfiguration,
        "object-lock" => Code::ObjectLockNotFound,
        "ownershipControls" => Code::OwnershipControlsNotFound,
        "policy" | "policyStatus" => Code::NoSuchBucketPolicy,
        "publicAccessBlock" => Code::NoSuchPublicAccessBlock,
        "replication" => Code::ReplicationNotFound,
        "tagging" => Code::NoSuchTagSet,
        "website" => Code::NoSuchWebsiteConfiguration,
        _ => Code::NotImplemented,
    }
}

/// The only access control list there is: the owner may do everything.
pub(super) fn owner_only(owner: &str) -> Xml {
    let mut xml = Xml::document("AccessControlPolicy");
    xml.open("Owner").text("ID", owner).text("DisplayName", owner).close();
    xml.open("AccessControlList").open("Grant").open_canonical_user();
    xml.text("ID", owner).text("DisplayName", owner).close();
    xml.text("Permission", "FULL_CONTROL").close().close();
    xml
}
