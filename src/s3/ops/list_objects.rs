//! ListObjects, the first version.

use bytes::Bytes;

use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::xml::Xml;

use super::listing::{self, Listing};

/// The parameters of ListObjects.
#[derive(Debug)]
pub(crate) struct ListObjects {
    listing: Listing,
    marker: String,
}

impl ListObjects {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let marker = request.query.get("marker").unwrap_or_default().to_owned();
        Ok(Self { listing: Listing::parse(request, "max-keys")?, marker })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let Self { listing, marker } = self;
        let page = listing.page(&call, Bytes::from(marker.clone())).await?;
        let bucket = call.bucket()?;
        let mut xml = Xml::document("ListBucketResult");
        listing.repeat(&mut xml, bucket);
        xml.text("Marker", &listing.encoding.show(&marker)).value("MaxKeys", listing.max);
        xml.value("IsTruncated", page.next.is_some());
        if let Some(next) = listing::next_marker(&page) {
            xml.text("NextMarker", &listing.encoding.show(&next));
        }
        listing.encoding.declare(&mut xml);
        for head in listing::objects(&page) {
            xml.open("Contents").text("Key", &listing.encoding.show(head.key.as_str()));
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
