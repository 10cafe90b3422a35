//! ListParts.

use crate::catalog::{ListParts as Page, PartsPage};
use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::dates;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::xml::Xml;
use crate::types::{Key, UploadId};

use super::list_uploads::checksum_elements;
use super::listing::{self, Encoding};
use super::upload_part::upload_id;

/// AWS's limit for one page.
const PAGE_MAX: u32 = 1000;

/// The parameters of ListParts.
#[derive(Debug)]
pub(crate) struct ListParts {
    key: Key,
    upload: UploadId,
    after: u16,
    max: usize,
    encoding: Encoding,
}

impl ListParts {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let after = request.number("part-number-marker")?.unwrap_or(0);
        Ok(Self {
            key: request.key()?,
            upload: upload_id(request)?,
            after: u16::try_from(after).unwrap_or(u16::MAX),
            max: request.number("max-parts")?.unwrap_or(PAGE_MAX).min(PAGE_MAX) as usize,
            encoding: Encoding::parse(request)?,
        })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let Self { key, upload, after, max, encoding } = self;
        let bucket = call.bucket()?;
        let page = match max {
            0 => {
                let page = Page { after, max: 0 };
                let page = call.catalog().list_parts(bucket, &key, upload, page).await?;
                PartsPage { truncated: false, ..page }
            }
            _ => call.catalog().list_parts(bucket, &key, upload, Page { after, max }).await?,
        };
        let mut xml = Xml::document("ListPartsResult");
        xml.text("Bucket", bucket.name.as_str()).text("Key", &encoding.show(key.as_str()));
        xml.text("UploadId", &upload.to_string());
        listing::owner(&mut xml, "Initiator", bucket);
        listing::owner(&mut xml, "Owner", bucket);
        xml.text("StorageClass", "STANDARD").value("PartNumberMarker", after);
        let last = page.parts.last().map_or(after, |part| part.number);
        xml.value("NextPartNumberMarker", last).value("MaxParts", max);
        xml.value("IsTruncated", page.truncated);
        encoding.declare(&mut xml);
        checksum_elements(&mut xml, &page.upload);
        for part in &page.parts {
            xml.open("Part").value("PartNumber", part.number);
            xml.text("LastModified", &dates::iso(part.modified)).etag(&part.etag);
            for sum in &part.checksums {
                reply::part_checksum_element(&mut xml, sum);
            }
            xml.value("Size", part.size).close();
        }
        let mut reply = reply::xml(xml);
        reply::served(&mut reply, page.served);
        Ok(reply)
    }
}
