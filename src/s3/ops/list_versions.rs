//! ListObjectVersions: without versioning, each object is the one version `null`.

use bytes::Bytes;

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::xml::Xml;

use super::listing::{self, Listing};

/// The parameters of ListObjectVersions.
#[derive(Debug)]
pub(crate) struct ListObjectVersions {
    listing: Listing,
    key_marker: String,
    version_marker: Option<String>,
}

impl ListObjectVersions {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let text = |name: &str| request.query.get(name).map(str::to_owned);
        let key_marker = text("key-marker").unwrap_or_default();
        let version_marker = text("version-id-marker").filter(|marker| !marker.is_empty());
        if let Some(version) = &version_marker
            && key_marker.is_empty()
        {
            let message = "A version-id marker cannot be specified without a key marker.";
            return Err(S3Error::argument("version-id-marker", version, message));
        }
        Ok(Self { listing: Listing::parse(request, "max-keys")?, key_marker, version_marker })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let Self { listing, key_marker, version_marker } = self;
        let page = listing.page(&call, Bytes::from(key_marker.clone())).await?;
        let bucket = call.bucket()?;
        let mut xml = Xml::document("ListVersionsResult");
        listing.repeat(&mut xml, bucket);
        xml.text("KeyMarker", &listing.encoding.show(&key_marker));
        xml.text("VersionIdMarker", version_marker.as_deref().unwrap_or_default());
        xml.value("MaxKeys", listing.max).value("IsTruncated", page.next.is_some());
        if let Some(next) = listing::next_marker(&page) {
            xml.text("NextKeyMarker", &listing.encoding.show(&next));
            xml.text("NextVersionIdMarker", "null");
        }
        listing.encoding.declare(&mut xml);
        for head in listing::objects(&page) {
            xml.open("Version").text("Key", &listing.encoding.show(head.key.as_str()));
            xml.text("VersionId", "null").value("IsLatest", true);
            listing::describe(&mut xml, head);
            listing::owner(&mut xml, "Owner", bucket);
            xml.text("StorageClass", "STANDARD").close();
        }
        listing.prefixes(&mut xml, listing::prefixes(&page));
        let mut reply = reply::xml(xml);
        reply::served(&mut reply, page.served);
        Ok(reply)
    }
}
