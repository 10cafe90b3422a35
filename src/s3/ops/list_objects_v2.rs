//! ListObjectsV2.

use bytes::Bytes;

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::xml::Xml;

use super::listing::{self, Listing, decode_token, encode_token};

/// Whether owners are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owners {
    Fetched,
    Omitted,
}

/// The parameters of ListObjectsV2.
#[derive(Debug)]
pub(crate) struct ListObjectsV2 {
    listing: Listing,
    token: Option<(String, Bytes)>,
    start_after: Option<String>,
    owners: Owners,
}

impl ListObjectsV2 {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let token = match request.query.get("continuation-token") {
            // s3-tests: an empty token is none, but is repeated.
            Some("") => Some((String::new(), Bytes::new())),
            Some(token) => Some((token.to_owned(), decode_token(token)?)),
            None => None,
        };
        let owners = match request.query.get("fetch-owner") {
            Some("true") => Owners::Fetched,
            _ => Owners::Omitted,
        };
        Ok(Self {
            listing: Listing::parse(request, "max-keys")?,
            token,
            start_after: request.query.get("start-after").map(str::to_owned),
            owners,
        })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let Self { listing, token, start_after, owners } = self;
        let after = match (&token, &start_after) {
            (Some((token, position)), _) if !token.is_empty() => position.clone(),
            (_, Some(start)) => Bytes::from(start.clone()),
            (_, None) => Bytes::new(),
        };
        let page = listing.page(&call, after).await?;
        let bucket = call.bucket()?;
        let mut xml = Xml::document("ListBucketResult");
        listing.repeat(&mut xml, bucket);
        xml.value("MaxKeys", listing.max).value("KeyCount", page.entries.len());
        xml.value("IsTruncated", page.next.is_some());
        if let Some((token, _)) = &token {
            xml.text("ContinuationToken", token);
        }
        if let Some(next) = &page.next {
            xml.text("NextContinuationToken", &encode_token(next));
        }
        if let Some(start) = &start_after {
            xml.text("StartAfter", &listing.encoding.show(start));
        }
        listing.encoding.declare(&mut xml);
        for head in listing::objects(&page) {
            xml.open("Contents").text("Key", &listing.encoding.show(head.key.as_str()));
            listing::describe(&mut xml, head);
            if owners == Owners::Fetched {
                listing::owner(&mut xml, "Owner", bucket);
            }
            xml.text("StorageClass", "STANDARD").close();
        }
        listing.prefixes(&mut xml, listing::prefixes(&page));
        let mut reply = reply::xml(xml);
        reply::served(&mut reply, page.served);
        Ok(reply)
    }
}
