//! ListBuckets: the caller's own.

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::dates;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::xml::Xml;

use super::listing::{decode_token, encode_token};

/// AWS's limit for one page.
const PAGE_MAX: u32 = 10_000;

/// The parameters of ListBuckets.
#[derive(Debug)]
pub(crate) struct ListBuckets {
    prefix: String,
    after: Option<String>,
    max: usize,
}

impl ListBuckets {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let max = request.number("max-buckets")?;
        if let Some(max) = max.filter(|max| !(1..=PAGE_MAX).contains(max)) {
            let message = "max-buckets must be an integer between 1 and 10000";
            return Err(S3Error::argument("max-buckets", &max.to_string(), message));
        }
        let token = request.query.get("continuation-token");
        let after = token.map(decode_token).transpose()?;
        Ok(Self {
            prefix: request.query.get("prefix").unwrap_or_default().to_owned(),
            after: after.map(|name| String::from_utf8_lossy(&name).into_owned()),
            max: max.unwrap_or(PAGE_MAX) as usize,
        })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let mut buckets = call.catalog().buckets();
        buckets.retain(|bucket| {
            let name = bucket.name.as_str();
            bucket.owner == call.caller.owner
                && name.starts_with(&self.prefix)
                && self.after.as_deref().is_none_or(|after| name > after)
        });
        buckets.sort_by(|one, other| one.name.cmp(&other.name));
        let more = buckets.len() > self.max;
        buckets.truncate(self.max);

        let mut xml = Xml::document("ListAllMyBucketsResult");
        xml.open("Owner").text("ID", &call.caller.owner.0).text("DisplayName", &call.caller.name);
        xml.close().open("Buckets");
        for bucket in &buckets {
            xml.open("Bucket").text("Name", bucket.name.as_str());
            xml.text("CreationDate", &dates::iso(bucket.created)).close();
        }
        xml.close();
        if !self.prefix.is_empty() {
            xml.text("Prefix", &self.prefix);
        }
        if let Some(last) = buckets.last().filter(|_| more) {
            xml.text("ContinuationToken", &encode_token(last.name.as_str().as_bytes()));
        }
        Ok(reply::xml(xml))
    }
}
