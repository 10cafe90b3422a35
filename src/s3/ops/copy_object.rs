//! CopyObject.

use crate::catalog::{ChecksumAlgorithm, NewObject, ObjectHead, ObjectReader, PutReceipt};
use crate::replication::Served;
use crate::s3::body::{self, BODY_BYTES_MAX, Unread};
use crate::s3::call::Call;
use crate::s3::dates;
use crate::s3::error::{Code, S3Error};
use crate::s3::headers;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::slow;
use crate::s3::xml::Xml;
use crate::types::Key;

use super::copy_source::{CopyBody, CopySource};

/// Where the copy's headers come from (`x-amz-metadata-directive`).
#[derive(Debug)]
enum Directive {
    Copy,
    Replace(NewObject),
}

/// The parameters of CopyObject.
#[derive(Debug)]
pub(crate) struct CopyObject {
    /// What is copied.
    pub(crate) source: CopySource,
    key: Key,
    directive: Directive,
    algorithm: Option<ChecksumAlgorithm>,
}

impl CopyObject {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let directive = match request.header("x-amz-metadata-directive") {
            None | Some("COPY") => Directive::Copy,
            Some("REPLACE") => Directive::Replace(headers::new_object(&request.headers)?),
            Some(other) => {
                let message = "Unknown metadata directive.";
                return Err(S3Error::argument("x-amz-metadata-directive", other, message));
            }
        };
        if request.headers.contains_key("x-amz-copy-source-range") {
            return Err(S3Error::header_not_served("x-amz-copy-source-range"));
        }
        let algorithm = request.header("x-amz-checksum-algorithm").map(|text| {
            let message = "Value for x-amz-checksum-algorithm header is invalid.";
            let algorithm = body::parse_algorithm(text);
            algorithm.ok_or_else(|| S3Error::with(Code::InvalidRequest, message))
        });
        let source = CopySource::parse(request)?;
        Ok(Self { source, key: request.key()?, directive, algorithm: algorithm.transpose()? })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let onto_itself =
            self.source.key == self.key && call.access.source()?.id == call.bucket()?.id;
        if onto_itself && matches!(self.directive, Directive::Copy) {
            let message = "This copy request is illegal because it is trying to copy an object \
                           to itself without changing the object's metadata, storage class, \
                           website redirect location or encryption attributes.";
            return Err(S3Error::with(Code::InvalidRequest, message));
        }
        let reader = self.source.open(&call).await?;
        if reader.head.size > BODY_BYTES_MAX {
            let message = "The specified copy source is larger than the maximum allowable size \
                           for a copy source: 5368709120";
            return Err(S3Error::with(Code::InvalidRequest, message));
        }
        let own = call.clone();
        slow::answer(&call, async move {
            // In a sloppy bucket two writes that name the same bytes could both be lost to others
            // and found again: an extent is named by one write only.
            let keeps_bytes = onto_itself
                && self.algorithm.is_none()
                && own.catalog().may_share_bytes(own.bucket()?);
            let receipt = match self.directive {
                Directive::Replace(object) if keeps_bytes => {
                    own.catalog().replace_headers(own.bucket()?, &self.key, object).await?
                }
                directive => copy(&own, reader, self.key, directive, self.algorithm).await?,
            };
            Ok(render(&receipt))
        })
        .await
    }
}

async fn copy(
    call: &Call,
    reader: ObjectReader,
    key: Key,
    directive: Directive,
    algorithm: Option<ChecksumAlgorithm>,
) -> Result<PutReceipt, S3Error> {
    let object = match directive {
        Directive::Copy => NewObject { headers: reader.head.headers.clone(), checksum: None },
        Directive::Replace(object) => object,
    };
    let mut body = CopyBody::new(&reader, 0..reader.head.size, compute(&reader.head, algorithm));
    Ok(call.catalog().put_object(call.bucket()?, key, object, &mut body).await?)
}

/// The algorithm asked for, or else the source's own; parts are not copied as parts, so the
/// values are computed anew.
fn compute(head: &ObjectHead, asked: Option<ChecksumAlgorithm>) -> Vec<ChecksumAlgorithm> {
    match asked {
        Some(algorithm) => vec![algorithm],
        None => head.checksums.iter().map(|sum| sum.algorithm).collect(),
    }
}

fn render(receipt: &PutReceipt) -> (Xml, Served) {
    let mut xml = Xml::document("CopyObjectResult");
    xml.text("LastModified", &dates::iso(receipt.head.modified)).etag(&receipt.head.etag);
    reply::checksum_elements(&mut xml, &receipt.head.checksums);
    (xml, receipt.served)
}
