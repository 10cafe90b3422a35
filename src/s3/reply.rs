//! Answers: their bodies and the headers that they share.

use axum::body::Body;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};

use crate::catalog::{Checksum, ChecksumKind};
use crate::env::{Entropy, UnixMillis};
use crate::replication::Served;

use super::body;
use super::dates;
use super::error::S3Error;
use super::headers;
use super::xml::Xml;

/// What every operation yields.
pub(crate) type Reply = Response<Body>;

/// The two ids of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestIds {
    /// `x-amz-request-id`: in every answer, error body and log line.
    pub(crate) request: String,
    /// `x-amz-id-2`, the host id of error bodies.
    pub(crate) host: String,
}

impl RequestIds {
    /// Fresh ids.
    pub(crate) fn draw(entropy: &dyn Entropy) -> Self {
        let request = format!("{:016X}", entropy.next_u64());
        Self { request, host: hex::encode(entropy.next_id()) }
    }
}

/// An answer without body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}

/// An answer with a document.
pub(crate) fn xml(document: Xml) -> Reply {
    xml_text(StatusCode::OK, document.finish())
}

/// An answer with a document's text.
pub(crate) fn xml_text(status: StatusCode, text: String) -> Reply {
    let mut reply = Response::new(Body::from(text));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    reply
}

/// Sets a header; a value that no header can carry is left out.
pub(crate) fn set(reply: &mut Reply, name: &str, value: &str) {
    let pair = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes()));
    let (Ok(name), Ok(value)) = pair else { return };
    reply.headers_mut().insert(name, value);
}

/// Sets a header that was stored with an object.
pub(crate) fn set_stored(reply: &mut Reply, name: &str, value: &str) {
    let (Ok(name), Some(value)) = (HeaderName::try_from(name), headers::value(value)) else {
        return;
    };
    reply.headers_mut().insert(name, value);
}

/// Says which level served, and whether an owner was missing.
pub(crate) fn served(reply: &mut Reply, served: Served) {
    set(reply, "x-quorate-level", &served.level.to_string());
    if served.degraded {
        set(reply, "x-quorate-degraded", "true");
    }
}

/// `ETag` in its quotes.
pub(crate) fn etag(reply: &mut Reply, value: &str) {
    set(reply, "etag", &format!("\"{value}\""));
}

/// `Last-Modified`.
pub(crate) fn last_modified(reply: &mut Reply, time: UnixMillis) {
    set(reply, "last-modified", &dates::http(time));
}

/// `x-amz-checksum-*`, with the kind.
pub(crate) fn checksums(reply: &mut Reply, checksums: &[Checksum]) {
    for sum in checksums {
        set(reply, body::header_name(sum.algorithm), &sum.value);
        set(reply, "x-amz-checksum-type", kind_name(sum.kind));
    }
}

/// `ChecksumCRC32` and the like, with the kind, as elements.
pub(crate) fn checksum_elements(xml: &mut Xml, checksums: &[Checksum]) {
    for sum in checksums {
        part_checksum_element(xml, sum);
    }
    if let Some(sum) = checksums.first() {
        xml.text("ChecksumType", kind_name(sum.kind));
    }
}

/// `ChecksumCRC32` and the like.
pub(crate) fn part_checksum_element(xml: &mut Xml, sum: &Checksum) {
    use crate::catalog::ChecksumAlgorithm as Algorithm;

    let name = match sum.algorithm {
        Algorithm::Crc32 => "ChecksumCRC32",
        Algorithm::Crc32c => "ChecksumCRC32C",
        Algorithm::Crc64Nvme => "ChecksumCRC64NVME",
        Algorithm::Sha1 => "ChecksumSHA1",
        Algorithm::Sha256 => "ChecksumSHA256",
    };
    xml.text(name, &sum.value);
}

/// `FULL_OBJECT` or `COMPOSITE`.
pub(crate) const fn kind_name(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::FullObject => "FULL_OBJECT",
        ChecksumKind::Composite => "COMPOSITE",
    }
}

/// The document of an error.
pub(crate) fn error_document(error: &S3Error, resource: &str, ids: &RequestIds) -> String {
    let mut xml = Xml::bare("Error");
    xml.text("Code", error.code.text()).text("Message", &error.message);
    for (name, value) in &error.details {
        xml.text(name, value);
    }
    xml.text("Resource", resource).text("RequestId", &ids.request).text("HostId", &ids.host);
    xml.finish()
}

/// The answer that an error becomes; without body for HEAD and 304.
pub(crate) fn error(error: &S3Error, method: &Method, resource: &str, ids: &RequestIds) -> Reply {
    let status = error.status();
    let mut reply = match *method {
        Method::HEAD => empty(status),
        _ => xml_text(status, error_document(error, resource, ids)),
    };
    if let Some(outcome) = error.outcome {
        set(&mut reply, "x-quorate-outcome", outcome.name());
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(&mut reply, "retry-after", "1");
    }
    if let Some((_, region)) = error.details.iter().find(|(name, _)| *name == "Region") {
        set(&mut reply, "x-amz-bucket-region", region);
    }
    reply
}
