//! Headers that describe an object, and headers that this release refuses.

use http::{HeaderMap, HeaderValue};

use crate::catalog::{COPIES_MAX, NewObject};
use crate::replication::{Level, ParseLevelError};

use super::error::{Code, S3Error};
use super::request::Request;

/// Headers that are kept with an object and given back with it.
const KEPT: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];
/// `x-amz-meta-*` names and values may have so many bytes together.
const METADATA_BYTES_MAX: usize = 2048;

/// `x-amz-*` headers that some operation reads or that change nothing.
const KNOWN: [&str; 31] = [
    "x-amz-acl",
    "x-amz-bucket-object-lock-enabled",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-mode",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-type",
    "x-amz-content-sha256",
    "x-amz-copy-source",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-copy-source-range",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-expected-bucket-owner",
    "x-amz-max-parts",
    "x-amz-metadata-directive",
    "x-amz-mp-object-size",
    "x-amz-object-attributes",
    "x-amz-object-ownership",
    "x-amz-part-number-marker",
    "x-amz-request-payer",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-source-expected-bucket-owner",
    "x-amz-storage-class",
    "x-amz-trailer",
];
/// Known headers that only these values leave without effect.
const ONLY: [(&str, &[&str]); 6] = [
    ("x-amz-acl", &["private", "bucket-owner-full-control"]),
    // Without locks there is nothing to bypass.
    ("x-amz-bypass-governance-retention", &["true", "false"]),
    ("x-amz-bucket-object-lock-enabled", &["false"]),
    ("x-amz-object-ownership", &["BucketOwnerEnforced"]),
    ("x-amz-tagging-directive", &["COPY"]),
    ("x-amz-storage-class", &["STANDARD"]),
];

/// Refuses every `x-amz-*` header that would ask for something that is not served.
///
/// # Errors
/// NotImplemented, naming the header.
pub(crate) fn refuse_unserved(request: &Request) -> Result<(), S3Error> {
    for (name, value) in &request.headers {
        let name = name.as_str();
        if name.starts_with("x-quorate-") && ![LEVEL_HEADER, COPIES_HEADER].contains(&name) {
            return Err(S3Error::header_not_served(name));
        }
        if !name.starts_with("x-amz-") || name.starts_with("x-amz-meta-") {
            continue;
        }
        let value = value.to_str().unwrap_or_default();
        if let Some((_, allowed)) = ONLY.iter().find(|(other, _)| *other == name) {
            let harmless = allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(value));
            if harmless {
                continue;
            }
            return Err(S3Error::header_not_served(name).detail("Value", value));
        }
        if KNOWN.binary_search(&name).is_err() && name != "x-amz-user-agent" {
            return Err(S3Error::header_not_served(name));
        }
    }
    Ok(())
}

/// The consistency level of a new bucket, or of one request.
pub(crate) const LEVEL_HEADER: &str = "x-quorate-level";
/// Copies of a new bucket's records.
pub(crate) const COPIES_HEADER: &str = "x-quorate-n";

/// The level that `headers` ask for, if they do.
///
/// # Errors
/// InvalidArgument for what is no level.
pub(crate) fn level(headers: &HeaderMap) -> Result<Option<Level>, S3Error> {
    let Some(value) = headers.get(LEVEL_HEADER) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let refused = |error: ParseLevelError| S3Error::argument(LEVEL_HEADER, text, error.to_string());
    text.parse().map(Some).map_err(refused)
}

/// The number of copies that `headers` ask for, if they do.
///
/// # Errors
/// InvalidArgument for what is no number of copies.
pub(crate) fn copies(headers: &HeaderMap) -> Result<Option<u8>, S3Error> {
    let Some(value) = headers.get(COPIES_HEADER) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    match text.parse::<u8>() {
        Ok(n) if (1..=COPIES_MAX).contains(&n) => Ok(Some(n)),
        _ => {
            let message = format!("{COPIES_HEADER} must be a number from 1 to {COPIES_MAX}");
            Err(S3Error::argument(COPIES_HEADER, text, message))
        }
    }
}

/// Headers that make a write, or anything but a read of an object, conditional.
const CONDITIONS: [&str; 4] =
    ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];

/// Refuses conditions on what is no read of an object.
///
/// # Errors
/// NotImplemented, naming the header and the level that it needs.
pub(crate) fn refuse_conditions(request: &Request) -> Result<(), S3Error> {
    match CONDITIONS.iter().find(|name| request.headers.contains_key(**name)) {
        Some(name) => Err(S3Error::conditional_write(name)),
        None => Ok(()),
    }
}

/// What `headers` say of a new object. `aws-chunked` is framing, not encoding, and is taken off.
///
/// # Errors
/// MetadataTooLarge.
pub(crate) fn new_object(headers: &HeaderMap) -> Result<NewObject, S3Error> {
    let mut kept: Vec<(String, String)> = Vec::new();
    let mut metadata_bytes = 0;
    for name in headers.keys().map(http::HeaderName::as_str) {
        let metadata = name.strip_prefix("x-amz-meta-");
        if metadata.is_none() && !KEPT.contains(&name) {
            continue;
        }
        let values: Vec<String> = headers.get_all(name).iter().map(text).collect();
        let mut value = values.join(",");
        if name == "content-encoding" {
            value = without_aws_chunked(&value);
        }
        if let Some(metadata) = metadata {
            metadata_bytes += metadata.len() + value.len();
        }
        if !value.is_empty() || metadata.is_some() {
            kept.push((name.to_owned(), value));
        }
    }
    if metadata_bytes > METADATA_BYTES_MAX {
        return Err(S3Error::new(Code::MetadataTooLarge)
            .detail("Size", metadata_bytes.to_string())
            .detail("MaxSizeAllowed", METADATA_BYTES_MAX.to_string()));
    }
    kept.sort_unstable();
    Ok(NewObject { headers: kept, checksum: None })
}

/// Headers are Latin-1 (RFC 9110 §5.5): one character per byte, so that [`value`] gives back
/// the client's own bytes, whatever they meant.
fn text(value: &HeaderValue) -> String {
    value.as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

/// The header for a text that [`new_object`] kept; `None` if no header can carry it.
pub(crate) fn value(text: &str) -> Option<HeaderValue> {
    let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>();
    HeaderValue::from_bytes(&bytes.unwrap_or_else(|| text.as_bytes().to_vec())).ok()
}

fn without_aws_chunked(value: &str) -> String {
    let framing = |coding: &&str| coding.eq_ignore_ascii_case("aws-chunked");
    let codings = || value.split(',').map(str::trim);
    match codings().any(|coding| framing(&coding)) {
        true => codings().filter(|coding| !framing(coding)).collect::<Vec<_>>().join(", "),
        false => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Request as HttpRequest};

    use super::{KNOWN, copies, level, new_object, refuse_unserved, value};
    use crate::s3::request::Request;

    fn with(name: &str, value: &str) -> Request {
        let request = HttpRequest::builder().uri("/b/k").header(name, value).body(()).unwrap();
        Request::parse(request.into_parts().0, &[]).unwrap()
    }

    #[test]
    fn the_list_of_known_headers_is_sorted() {
        assert!(KNOWN.is_sorted());
    }

    #[test]
    fn what_would_change_semantics_is_refused_and_what_changes_nothing_is_not() {
        for (name, value) in [
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-tagging", "a=b"),
            ("x-amz-acl", "public-read"),
            ("x-amz-grant-read", "id=x"),
            ("x-amz-storage-class", "GLACIER"),
            ("x-amz-website-redirect-location", "/"),
            ("x-amz-checksum-sha512", "AAAA"),
            ("x-amz-never-heard-of", "1"),
        ] {
            assert!(refuse_unserved(&with(name, value)).is_err(), "{name}");
        }
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-meta-a", "b"),
            ("x-amzn-trace-id", "t"),
        ] {
            assert!(refuse_unserved(&with(name, value)).is_ok(), "{name}");
        }
    }

    #[test]
    fn levels_and_copies_that_make_no_sense_are_refused() {
        let of = |name: &str, value: &str| with(name, value).headers.clone();

        assert_eq!(
            level(&of("x-quorate-level", "r=1,w=2")).unwrap().unwrap().to_string(),
            "r=1,w=2"
        );
        assert_eq!(level(&of("x-other", "1")).unwrap(), None);
        assert!(level(&of("x-quorate-level", "most")).is_err());
        assert_eq!(copies(&of("x-quorate-n", "5")).unwrap(), Some(5));
        for wrong in ["0", "17", "-1", "three"] {
            assert!(copies(&of("x-quorate-n", wrong)).is_err(), "{wrong}");
        }
        assert!(refuse_unserved(&with("x-quorate-w", "1")).is_err());
        assert!(refuse_unserved(&with("x-quorate-level", "all")).is_ok());
    }

    #[test]
    fn metadata_comes_back_byte_for_byte() {
        for bytes in [&b"caf\xe9"[..], "café".as_bytes(), b"plain"] {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-meta-a", HeaderValue::from_bytes(bytes).unwrap());

            let object = new_object(&headers).unwrap();

            assert_eq!(value(&object.headers[0].1).unwrap().as_bytes(), bytes);
        }
    }

    #[test]
    fn the_framing_is_no_content_encoding() {
        for (given, kept) in [("aws-chunked", None), ("aws-chunked, gzip", Some("gzip"))] {
            let mut headers = HeaderMap::new();
            headers.insert("content-encoding", HeaderValue::from_static(given));

            let object = new_object(&headers).unwrap();

            assert_eq!(object.headers.first().map(|(_, value)| value.as_str()), kept);
        }
    }
}
