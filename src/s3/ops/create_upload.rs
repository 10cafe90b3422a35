//! CreateMultipartUpload.

use crate::catalog::{ChecksumAlgorithm, ChecksumKind, NewObject};
use crate::s3::body::{self, Unread};
use crate::s3::call::Call;
use crate::s3::error::{Code, S3Error};
use crate::s3::headers;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::xml::Xml;
use crate::types::Key;

/// The parameters of CreateMultipartUpload.
#[derive(Debug)]
pub(crate) struct CreateMultipartUpload {
    key: Key,
    object: NewObject,
}

impl CreateMultipartUpload {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let mut object = headers::new_object(&request.headers)?;
        object.checksum = checksum(request)?;
        Ok(Self { key: request.key()?, object })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let Self { key, object } = self;
        let bucket = call.bucket()?;
        let checksum = object.checksum;
        let (upload, served) = call.catalog().create_upload(bucket, key.clone(), object).await?;
        let mut xml = Xml::document("InitiateMultipartUploadResult");
        xml.text("Bucket", bucket.name.as_str()).text("Key", key.as_str());
        xml.text("UploadId", &upload.to_string());
        let mut reply = reply::xml(xml);
        reply::served(&mut reply, served);
        if let Some((algorithm, kind)) = checksum {
            reply::set(&mut reply, "x-amz-checksum-algorithm", body::algorithm_name(algorithm));
            reply::set(&mut reply, "x-amz-checksum-type", reply::kind_name(kind));
        }
        Ok(reply)
    }
}

/// The kind named by `x-amz-checksum-type`.
///
/// # Errors
/// InvalidRequest.
pub(super) fn checksum_kind(request: &Request) -> Result<Option<ChecksumKind>, S3Error> {
    match request.header("x-amz-checksum-type") {
        None => Ok(None),
        Some("FULL_OBJECT") => Ok(Some(ChecksumKind::FullObject)),
        Some("COMPOSITE") => Ok(Some(ChecksumKind::Composite)),
        Some(_) => {
            let message = "Value for x-amz-checksum-type header is invalid.";
            Err(S3Error::with(Code::InvalidRequest, message))
        }
    }
}

/// The kind that S3 takes where none is named.
pub(super) const fn usual_kind(algorithm: ChecksumAlgorithm) -> ChecksumKind {
    match algorithm {
        ChecksumAlgorithm::Crc64Nvme => ChecksumKind::FullObject,
        ChecksumAlgorithm::Crc32
        | ChecksumAlgorithm::Crc32c
        | ChecksumAlgorithm::Sha1
        | ChecksumAlgorithm::Sha256 => ChecksumKind::Composite,
    }
}

fn checksum(request: &Request) -> Result<Option<(ChecksumAlgorithm, ChecksumKind)>, S3Error> {
    let invalid = |message: String| S3Error::with(Code::InvalidRequest, message);
    let kind = checksum_kind(request)?;
    let Some(text) = request.header("x-amz-checksum-algorithm") else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(invalid(
                "The x-amz-checksum-type header can only be used with the \
                             x-amz-checksum-algorithm header."
                    .into(),
            )),
        };
    };
    let algorithm = body::parse_algorithm(text).ok_or_else(|| {
        invalid(
            "Checksum algorithm provided is unsupported. Please try again with any of the valid \
             types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
                .into(),
        )
    })?;
    let kind = kind.unwrap_or(usual_kind(algorithm));
    let impossible = match (algorithm, kind) {
        (ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256, ChecksumKind::FullObject)
        | (ChecksumAlgorithm::Crc64Nvme, ChecksumKind::Composite) => true,
        (_, ChecksumKind::FullObject | ChecksumKind::Composite) => false,
    };
    if impossible {
        return Err(invalid(format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            reply::kind_name(kind),
            body::algorithm_name(algorithm).to_ascii_lowercase()
        )));
    }
    Ok(Some((algorithm, kind)))
}
