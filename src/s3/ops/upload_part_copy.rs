//! UploadPartCopy.

use std::ops::Range;

use crate::s3::body::{BODY_BYTES_MAX, Unread};
use crate::s3::call::Call;
use crate::s3::dates;
use crate::s3::error::{Code, S3Error};
use crate::s3::range;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::slow;
use crate::s3::xml::Xml;
use crate::types::{Key, UploadId};

use super::copy_source::{CopyBody, CopySource};
use super::upload_part::{part_number, upload_id};

/// The parameters of UploadPartCopy.
#[derive(Debug)]
pub(crate) struct UploadPartCopy {
    /// What is copied.
    pub(crate) source: CopySource,
    key: Key,
    upload: UploadId,
    part: u16,
    range: Option<String>,
}

impl UploadPartCopy {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let range = request.header("x-amz-copy-source-range").map(str::to_owned);
        let (upload, part) = (upload_id(request)?, part_number(request)?);
        let source = CopySource::parse(request)?;
        Ok(Self { source, key: request.key()?, upload, part, range })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let started = call.catalog().upload(call.bucket()?, &self.key, self.upload).await?;
        let reader = self.source.open(&call).await?;
        let range = self.range(reader.head.size)?;
        let own = call.clone();
        slow::answer(&call, async move {
            let compute = started.object.checksum.map(|(algorithm, _)| algorithm);
            let mut body = CopyBody::new(&reader, range, compute);
            let Self { key, upload, part, .. } = self;
            let bucket = own.bucket()?;
            let receipt = own.catalog().put_part(bucket, &key, upload, part, &mut body).await?;
            let mut xml = Xml::document("CopyPartResult");
            xml.text("LastModified", &dates::iso(receipt.head.modified)).etag(&receipt.head.etag);
            for sum in &receipt.head.checksums {
                reply::part_checksum_element(&mut xml, sum);
            }
            Ok((xml, receipt.served))
        })
        .await
    }

    fn range(&self, size: u64) -> Result<Range<u64>, S3Error> {
        let range = match &self.range {
            None => 0..size,
            Some(text) => range::parse_exact(text).ok_or_else(|| {
                let message = "The x-amz-copy-source-range value must be of the form \
                               bytes=first-last where first and last are the zero-based offsets \
                               of the first and last bytes to copy";
                S3Error::argument("x-amz-copy-source-range", text, message)
            })?,
        };
        if range.end > size {
            let message = format!("Range specified is not valid for source object of size: {size}");
            return Err(S3Error::with(Code::InvalidRange, message));
        }
        if range.end - range.start > BODY_BYTES_MAX {
            let message = "The specified copy source is larger than the maximum allowable size \
                           for a copy source: 5368709120";
            return Err(S3Error::with(Code::InvalidRequest, message));
        }
        Ok(range)
    }
}
