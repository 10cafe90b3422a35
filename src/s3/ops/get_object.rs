//! GetObject: conditions, ranges, parts, overrides.

use std::ops::Range;

use axum::body::Body;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;

use crate::catalog::{Checksum, ObjectHead, ObjectReader};
use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::conditions::{self, Verdict};
use crate::s3::error::{Code, S3Error};
use crate::s3::metrics;
use crate::s3::range::{self, Asked};
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::types::Key;

use super::upload_part::part_number;

/// Query parameters that replace a header of the answer.
const OVERRIDES: [(&str, &str); 6] = [
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
    ("response-content-language", "content-language"),
    ("response-content-type", "content-type"),
    ("response-expires", "expires"),
];

/// The parameters of GetObject and HeadObject.
#[derive(Debug)]
pub(crate) struct GetObject {
    /// The object.
    pub(super) key: Key,
    part: Option<u16>,
    overrides: Vec<(&'static str, String)>,
    checksum_mode: ChecksumMode,
}

/// Whether checksums are wanted (`x-amz-checksum-mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChecksumMode {
    Enabled,
    Absent,
}

/// What of an object is answered.
struct Selection {
    status: StatusCode,
    range: Range<u64>,
    checksums: Vec<Checksum>,
    parts: Option<usize>,
}

impl GetObject {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        check_version(request)?;
        let part = match request.query.has("partNumber") {
            true => Some(part_number(request)?),
            false => None,
        };
        if part.is_some() && request.headers.contains_key("range") {
            let message = "Cannot specify both Range header and partNumber query parameter";
            return Err(S3Error::with(Code::InvalidRequest, message));
        }
        let given = |(parameter, header): (&str, &'static str)| {
            Some((header, request.query.get(parameter)?.to_owned()))
        };
        let checksum_mode = match request.header("x-amz-checksum-mode") {
            Some(mode) if mode.eq_ignore_ascii_case("enabled") => ChecksumMode::Enabled,
            Some(mode) => {
                let message = "x-amz-checksum-mode must be ENABLED";
                return Err(S3Error::argument("x-amz-checksum-mode", mode, message));
            }
            None => ChecksumMode::Absent,
        };
        let overrides = OVERRIDES.into_iter().filter_map(given).collect();
        Ok(Self { key: request.key()?, part, overrides, checksum_mode })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let reader = call.catalog().get_object(call.bucket()?, &self.key).await?;
        let (mut reply, range) = self.head_reply(&call, &reader.head)?;
        reply::served(&mut reply, reader.served);
        if !range.is_empty() {
            *reply.body_mut() = read(&reader, range).await?;
        }
        Ok(reply)
    }

    /// The answer without body, and which bytes belong into it.
    ///
    /// # Errors
    /// PreconditionFailed, InvalidRange, InvalidPartNumber.
    pub(super) fn head_reply(
        &self,
        call: &Call,
        head: &ObjectHead,
    ) -> Result<(Reply, Range<u64>), S3Error> {
        match conditions::of_read(&call.request.headers, head) {
            Verdict::Holds => {}
            Verdict::Failed => return Err(Code::PreconditionFailed.into()),
            Verdict::NotModified => {
                let mut reply = reply::empty(StatusCode::NOT_MODIFIED);
                self.describe(&mut reply, head);
                return Ok((reply, 0..0));
            }
        }
        let selection = self.select(&call.request, head)?;
        let mut reply = reply::empty(selection.status);
        self.describe(&mut reply, head);
        let Range { start, end } = selection.range;
        reply::set(&mut reply, "content-length", &(end - start).to_string());
        if selection.status == StatusCode::PARTIAL_CONTENT {
            let text = format!("bytes {start}-{}/{}", end - 1, head.size);
            reply::set(&mut reply, "content-range", &text);
        }
        if let Some(parts) = selection.parts {
            reply::set(&mut reply, "x-amz-mp-parts-count", &parts.to_string());
        }
        if self.checksum_mode == ChecksumMode::Enabled {
            reply::checksums(&mut reply, &selection.checksums);
        }
        Ok((reply, start..end))
    }

    fn describe(&self, reply: &mut Reply, head: &ObjectHead) {
        reply::set(reply, "content-type", "binary/octet-stream");
        for (name, value) in &head.headers {
            reply::set_stored(reply, name, value);
        }
        reply::etag(reply, &head.etag);
        reply::last_modified(reply, head.modified);
        reply::set(reply, "accept-ranges", "bytes");
        for (name, value) in &self.overrides {
            reply::set(reply, name, value);
        }
    }

    fn select(&self, request: &Request, head: &ObjectHead) -> Result<Selection, S3Error> {
        if let Some(part) = self.part {
            return select_part(head, part);
        }
        let header =
            request.header("range").filter(|_| conditions::range_applies(&request.headers, head));
        match header.map_or(Asked::Whole, |header| range::parse(header, head.size)) {
            Asked::Whole => Ok(whole(head)),
            Asked::Part(range) => {
                // A checksum of all bytes vouches for no part of them, unless the part is all.
                let all = range == (0..head.size);
                let checksums = if all { head.checksums.clone() } else { Vec::new() };
                let status = StatusCode::PARTIAL_CONTENT;
                Ok(Selection { status, range, checksums, parts: None })
            }
            Asked::Unsatisfiable => Err(S3Error::new(Code::InvalidRange)
                .detail("RangeRequested", header.unwrap_or_default())
                .detail("ActualObjectSize", head.size.to_string())),
        }
    }
}

fn whole(head: &ObjectHead) -> Selection {
    let checksums = head.checksums.clone();
    Selection { status: StatusCode::OK, range: 0..head.size, checksums, parts: None }
}

/// One part of a multipart object; any other object is its own part 1. A part that is not
/// there is 416 InvalidPartNumber, as AWS answers.
fn select_part(head: &ObjectHead, number: u16) -> Result<Selection, S3Error> {
    let status = |range: &Range<u64>| match range.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::PARTIAL_CONTENT,
    };
    if head.parts.is_empty() && number == 1 {
        let range = 0..head.size;
        return Ok(Selection { status: status(&range), ..whole(head) });
    }
    let mut start = 0;
    for (index, part) in head.parts.iter().enumerate() {
        // Clients count 1, 2, 3, … whatever numbers the parts were uploaded under.
        if index + 1 == usize::from(number) {
            let range = start..start + part.size;
            let (checksums, parts) = (part.checksums.clone(), Some(head.parts.len()));
            return Ok(Selection { status: status(&range), range, checksums, parts });
        }
        start += part.size;
    }
    Err(S3Error::new(Code::InvalidPartNumber)
        .detail("PartNumberRequested", number.to_string())
        .detail("ActualPartCount", head.parts.len().max(1).to_string()))
}

/// The bytes of `range`. The first piece is awaited, so that bytes that cannot be had are an
/// error and no broken-off 200.
async fn read(reader: &ObjectReader, range: Range<u64>) -> Result<Body, S3Error> {
    let mut bytes = reader.read(range);
    let first = match bytes.next().await {
        Some(first) => Some(first?),
        None => None,
    };
    let first = stream::iter(first.map(Ok));
    let counted = first.chain(bytes).inspect(|piece| match piece {
        Ok(piece) => metrics::BYTES_OUT.inc_by(piece.len() as u64),
        Err(error) => tracing::warn!(%error, "an object's bytes broke off"),
    });
    Ok(Body::from_stream(counted))
}

/// Checks `versionId`: without versioning, every object is version `null`.
///
/// # Errors
/// NoSuchVersion, InvalidArgument.
pub(super) fn check_version(request: &Request) -> Result<(), S3Error> {
    match request.query.get("versionId") {
        None | Some("null") => Ok(()),
        Some("") => {
            let message = "Version id cannot be the empty string";
            Err(S3Error::argument("versionId", "", message))
        }
        Some(other) => Err(S3Error::new(Code::NoSuchVersion).detail("VersionId", other)),
    }
}
