//! What a client promises of its body in headers, read before the body is polled.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::digests::{self, ALL};
use crate::auth::Payload;
use crate::catalog::ChecksumAlgorithm;
use crate::s3::error::{Code, S3Error};
use crate::s3::request::Request;

/// What an operation takes a body for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Bytes to store: their length must be known first, or the transfer be chunked.
    Bytes,
    /// A document; bounded anyway.
    Document,
    /// A document about an object: checksums in the headers are that object's.
    Completion,
}

/// Everything that must hold of a body.
#[derive(Debug, Default)]
pub(crate) struct Promise {
    /// Its decoded length.
    pub(crate) length: Option<u64>,
    /// Its MD5 (`Content-MD5`).
    pub(crate) md5: Option<[u8; 16]>,
    /// A checksum given in a header, raw.
    pub(crate) sum: Option<(ChecksumAlgorithm, Vec<u8>)>,
    /// A checksum announced for the trailers.
    pub(crate) trailer: Option<ChecksumAlgorithm>,
    /// Checksums to compute and store, the promised ones included.
    pub(crate) compute: Vec<ChecksumAlgorithm>,
}

impl Promise {
    /// What `request` promises.
    ///
    /// # Errors
    /// InvalidDigest, InvalidRequest for malformed or contradicting checksums,
    /// MissingContentLength.
    pub(crate) fn of(
        request: &Request,
        payload: &Payload,
        content: Content,
    ) -> Result<Self, S3Error> {
        let chunked = matches!(payload, Payload::Chunked { .. });
        let declared = decoded_length(request, payload)?;
        let endless = content != Content::Bytes || self::endless(request);
        if declared.is_none() && (chunked || !endless) {
            return Err(Code::MissingContentLength.into());
        }
        let sum = match content {
            Content::Bytes | Content::Document => header_sum(request)?,
            Content::Completion => None,
        };
        let trailer = announced(request, payload)?;
        if sum.is_some() && trailer.is_some() {
            return Err(several_sums());
        }
        let asked = match request.header("x-amz-sdk-checksum-algorithm") {
            None => None,
            Some(text) => Some(digests::parse(text).ok_or_else(|| {
                S3Error::with(
                    Code::InvalidRequest,
                    "Value for x-amz-sdk-checksum-algorithm header is invalid.",
                )
            })?),
        };
        let promised = sum.as_ref().map(|(algorithm, _)| *algorithm).or(trailer);
        if let (Some(asked), Some(promised)) = (asked, promised)
            && asked != promised
        {
            let message = "Value for x-amz-sdk-checksum-algorithm header is invalid.";
            return Err(S3Error::with(Code::InvalidRequest, message));
        }
        let compute = promised.or(asked).into_iter().collect();
        Ok(Self { length: declared, md5: content_md5(request)?, sum, trailer, compute })
    }

    /// Whether the client gave anything to check the body against, besides its signature.
    pub(crate) fn has_checksum(&self) -> bool {
        self.md5.is_some() || self.sum.is_some() || self.trailer.is_some()
    }
}

/// Whether the end of the body is marked by the transfer itself.
fn endless(request: &Request) -> bool {
    let coding = request.header("transfer-encoding");
    coding.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
}

fn decoded_length(request: &Request, payload: &Payload) -> Result<Option<u64>, S3Error> {
    let name = match payload {
        Payload::Chunked { .. } => "x-amz-decoded-content-length",
        Payload::Signed(_) | Payload::Unsigned => "content-length",
    };
    let Some(text) = request.headers.get(name) else { return Ok(None) };
    let text = text.to_str().unwrap_or_default();
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|_| plain);
    let wrong = || S3Error::argument(name, text, format!("{name} must be a number of bytes"));
    length.map(Some).ok_or_else(wrong)
}

fn content_md5(request: &Request) -> Result<Option<[u8; 16]>, S3Error> {
    let Some(value) = request.headers.get("content-md5") else { return Ok(None) };
    let raw = STANDARD.decode(value.as_bytes()).unwrap_or_default();
    let md5 = <[u8; 16]>::try_from(raw).map_err(|_| S3Error::new(Code::InvalidDigest))?;
    Ok(Some(md5))
}

fn several_sums() -> S3Error {
    let message = "Expecting a single x-amz-checksum- header. Multiple checksum Types are not \
                   allowed.";
    S3Error::with(Code::InvalidRequest, message)
}

/// The one checksum given in a header.
fn header_sum(request: &Request) -> Result<Option<(ChecksumAlgorithm, Vec<u8>)>, S3Error> {
    let mut found = None;
    for algorithm in ALL {
        let name = digests::header_name(algorithm);
        for value in request.headers.get_all(name) {
            let raw = digests::decode_sum(algorithm, value.to_str().unwrap_or_default());
            let wrong = || {
                let message = format!("Value for {name} header is invalid.");
                S3Error::with(Code::InvalidRequest, message)
            };
            if found.replace((algorithm, raw.ok_or_else(wrong)?)).is_some() {
                return Err(several_sums());
            }
        }
    }
    Ok(found)
}

/// The checksum that `x-amz-trailer` announces.
fn announced(request: &Request, payload: &Payload) -> Result<Option<ChecksumAlgorithm>, S3Error> {
    let Some(value) = request.headers.get("x-amz-trailer") else { return Ok(None) };
    let name = value.to_str().unwrap_or_default().trim();
    if !matches!(payload, Payload::Chunked { trailers: true, .. }) {
        return Err(S3Error::with(
            Code::InvalidRequest,
            "x-amz-trailer needs a body that is sent as STREAMING-…-TRAILER.",
        ));
    }
    let known =
        |algorithm: &ChecksumAlgorithm| digests::header_name(*algorithm).eq_ignore_ascii_case(name);
    let wrong = "The value specified in the x-amz-trailer header is not supported";
    let found = ALL.into_iter().find(known);
    found.map(Some).ok_or_else(|| S3Error::with(Code::InvalidRequest, wrong))
}
