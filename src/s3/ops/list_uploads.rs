//! ListMultipartUploads.

use bytes::Bytes;

use crate::catalog::{ListUploads, UploadSummary, UploadsPage};
use crate::replication::Served;
use crate::s3::body;
use crate::s3::call::Call;
use crate::s3::dates;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::xml::Xml;
use crate::types::UploadId;

use super::listing::{self, Listing};

/// The parameters of ListMultipartUploads.
#[derive(Debug)]
pub(crate) struct ListMultipartUploads {
    listing: Listing,
    key_marker: String,
    upload_marker: Option<UploadId>,
}

impl ListMultipartUploads {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let key_marker = request.query.get("key-marker").unwrap_or_default().to_owned();
        let upload = request.query.get("upload-id-marker").filter(|marker| !marker.is_empty());
        // Without a key marker the other one has no meaning (S3 API reference).
        let upload_marker = match upload.filter(|_| !key_marker.is_empty()) {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                S3Error::argument("upload-id-marker", text, "Invalid uploadId marker")
            })?),
        };
        Ok(Self { listing: Listing::parse(request, "max-uploads")?, key_marker, upload_marker })
    }

    pub(crate) async fn run(self, call: Call, _body: body::Unread) -> Result<Reply, S3Error> {
        let page = self.page(&call).await?;
        let Self { listing, key_marker, upload_marker } = self;
        let bucket = call.bucket()?;
        let mut xml = Xml::document("ListMultipartUploadsResult");
        xml.text("Bucket", bucket.name.as_str());
        xml.text("KeyMarker", &listing.encoding.show(&key_marker));
        xml.text("UploadIdMarker", &upload_marker.map(|id| id.to_string()).unwrap_or_default());
        if let Some((key, upload)) = &page.next {
            let key = String::from_utf8_lossy(key);
            xml.text("NextKeyMarker", &listing.encoding.show(&key));
            xml.text("NextUploadIdMarker", &upload.map(|id| id.to_string()).unwrap_or_default());
        }
        xml.text("Prefix", &listing.encoding.show(&listing.prefix));
        if let Some(delimiter) = &listing.delimiter {
            xml.text("Delimiter", &listing.encoding.show(delimiter));
        }
        listing.encoding.declare(&mut xml);
        xml.value("MaxUploads", listing.max).value("IsTruncated", page.next.is_some());
        for upload in &page.uploads {
            xml.open("Upload").text("Key", &listing.encoding.show(upload.key.as_str()));
            xml.text("UploadId", &upload.upload.to_string());
            listing::owner(&mut xml, "Initiator", bucket);
            listing::owner(&mut xml, "Owner", bucket);
            xml.text("StorageClass", "STANDARD");
            xml.text("Initiated", &dates::iso(upload.initiated));
            checksum_elements(&mut xml, upload);
            xml.close();
        }
        listing.prefixes(&mut xml, page.prefixes.iter());
        let mut reply = reply::xml(xml);
        reply::served(&mut reply, page.served);
        Ok(reply)
    }

    async fn page(&self, call: &Call) -> Result<UploadsPage, S3Error> {
        if self.listing.max == 0 {
            let served = Served { level: call.bucket()?.level, degraded: false };
            let (uploads, prefixes, next) = (Vec::new(), Vec::new(), None);
            return Ok(UploadsPage { uploads, prefixes, next, served });
        }
        let request = ListUploads {
            prefix: Bytes::from(self.listing.prefix.clone()),
            delimiter: self.listing.delimiter.clone().map(Bytes::from),
            after_key: Bytes::from(self.key_marker.clone()),
            after_upload: self.upload_marker,
            max: self.listing.max,
        };
        Ok(call.catalog().list_uploads(call.bucket()?, &request).await?)
    }
}

/// The algorithm and kind that an upload was started with.
pub(super) fn checksum_elements(xml: &mut Xml, upload: &UploadSummary) {
    if let Some((algorithm, kind)) = upload.object.checksum {
        xml.text("ChecksumAlgorithm", body::algorithm_name(algorithm));
        xml.text("ChecksumType", reply::kind_name(kind));
    }
}
