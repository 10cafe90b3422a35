//! UploadPart.

use http::StatusCode;

use crate::catalog::ChecksumAlgorithm;
use crate::s3::body::{self, Unread};
use crate::s3::call::Call;
use crate::s3::error::{Code, S3Error};
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::types::{Key, UploadId};

use super::put_object::check_size;

/// The parameters of UploadPart.
#[derive(Debug)]
pub(crate) struct UploadPart {
    key: Key,
    upload: UploadId,
    part: u16,
}

impl UploadPart {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let (upload, part) = (upload_id(request)?, part_number(request)?);
        Ok(Self { key: request.key()?, upload, part })
    }

    pub(crate) async fn run(self, call: Call, mut body: Unread) -> Result<Reply, S3Error> {
        check_size(&body)?;
        let Self { key, upload, part } = self;
        let bucket = call.bucket()?;
        // Known before the body is asked for: that the upload is open, and its checksum.
        let started = call.catalog().upload(bucket, &key, upload).await?;
        let promised = body.promise.compute.first().copied();
        if let Some((wanted, _)) = started.object.checksum {
            check_algorithm(wanted, promised)?;
            body.promise.compute = vec![wanted];
        }
        let mut body = body.open();
        let receipt = call.catalog().put_part(bucket, &key, upload, part, &mut body).await?;
        let mut reply = reply::empty(StatusCode::OK);
        reply::etag(&mut reply, &receipt.head.etag);
        for sum in &receipt.head.checksums {
            reply::set(&mut reply, body::header_name(sum.algorithm), &sum.value);
        }
        reply::served(&mut reply, receipt.served);
        Ok(reply)
    }
}

/// A part may leave its checksum out, then it is computed here, but not bring another one.
fn check_algorithm(
    wanted: ChecksumAlgorithm,
    given: Option<ChecksumAlgorithm>,
) -> Result<(), S3Error> {
    match given.filter(|given| *given != wanted) {
        None => Ok(()),
        Some(given) => {
            let (wanted, given) = (body::algorithm_name(wanted), body::algorithm_name(given));
            let message = format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum \
                 Type: {}",
                wanted.to_ascii_lowercase(),
                given.to_ascii_lowercase()
            );
            Err(S3Error::with(Code::InvalidRequest, message))
        }
    }
}

/// The upload that `request` names.
///
/// # Errors
/// NoSuchUpload for anything that is no upload id of ours.
pub(super) fn upload_id(request: &Request) -> Result<UploadId, S3Error> {
    let text = request.query.get("uploadId").unwrap_or_default();
    text.parse().map_err(|_| S3Error::new(Code::NoSuchUpload).detail("UploadId", text))
}

/// The part number that `request` names.
///
/// # Errors
/// InvalidArgument.
pub(super) fn part_number(request: &Request) -> Result<u16, S3Error> {
    let text = request.query.get("partNumber").unwrap_or_default();
    let number = text.parse::<u16>().ok().filter(|number| (1..=10_000).contains(number));
    number.ok_or_else(|| {
        let message = "Part number must be an integer between 1 and 10000, inclusive";
        S3Error::argument("partNumber", text, message)
    })
}
