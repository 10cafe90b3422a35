//! CreateBucket.

use http::StatusCode;

use crate::catalog::{BucketName, CatalogError, CreateBucket as Wanted};
use crate::replication::Level;
use crate::s3::body::{Unread, read_document};
use crate::s3::call::Call;
use crate::s3::error::{Code, S3Error};
use crate::s3::headers;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::xml;

/// A `CreateBucketConfiguration` is a few lines.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// The parameters of CreateBucket.
#[derive(Debug)]
pub(crate) struct CreateBucket {
    name: BucketName,
    level: Option<Level>,
    n: Option<u8>,
}

impl CreateBucket {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let name = request.bucket()?;
        let name = name.parse().map_err(|error: crate::catalog::InvalidBucketName| {
            let message = format!("The specified bucket is not valid: {}.", error.reason);
            S3Error::with(Code::InvalidBucketName, message).detail("BucketName", name)
        })?;
        let level = headers::level(&request.headers)?;
        Ok(Self { name, level, n: headers::copies(&request.headers)? })
    }

    pub(crate) async fn run(self, call: Call, body: Unread) -> Result<Reply, S3Error> {
        let document = read_document(&mut body.open(), DOCUMENT_BYTES_MAX).await?;
        check_location(&document, &call.shared.region)?;
        let Self { name, level, n } = self;
        let location = format!("/{name}");
        let owner = call.caller.owner.clone();
        let chosen = Some(level.unwrap_or(call.shared.default_level));
        let wanted = Wanted { name: name.clone(), owner, level: chosen, n };
        match call.catalog().create_bucket(wanted).await {
            Ok(_) => {}
            // us-east-1 answers a repetition as it answered the first time, unless it asks for
            // something else than is there.
            Err(CatalogError::BucketOwned)
                if call.shared.region == "us-east-1" && same_settings(&call, &name, level, n) => {}
            Err(error) => return Err(error.into()),
        }
        let mut reply = reply::empty(StatusCode::OK);
        reply::set(&mut reply, "location", &location);
        Ok(reply)
    }
}

fn same_settings(call: &Call, name: &BucketName, level: Option<Level>, n: Option<u8>) -> bool {
    call.catalog().bucket(name.as_str()).is_none_or(|there| {
        level.is_none_or(|level| there.level == level) && n.is_none_or(|n| there.n == n)
    })
}

pub(super) fn check_location(document: &[u8], region: &str) -> Result<(), S3Error> {
    if document.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let root = xml::parse(document, "CreateBucketConfiguration")?;
    if let Some(other) = root.children.iter().find(|child| child.name != "LocationConstraint") {
        let message = format!("{} in a bucket's configuration is not served.", other.name);
        return Err(S3Error::with(Code::NotImplemented, message));
    }
    let location = root.child("LocationConstraint").unwrap_or_default().trim();
    if location.is_empty() || location == region {
        return Ok(());
    }
    let message = format!("The specified location constraint is not valid; expecting '{region}'.");
    Err(S3Error::with(Code::InvalidLocationConstraint, message)
        .detail("LocationConstraint", location))
}
