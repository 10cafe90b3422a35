//! The canonical request of signature version 4 (S3 API reference, "Signature calculations").

use std::borrow::Cow;
use std::fmt::Write as _;

use ring::digest;

use super::error::{AuthCode, AuthError};
use super::head::Head;
use super::percent;

/// SHA-256 of nothing.
pub(crate) const EMPTY_SHA256: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The SHA-256, in hexadecimal, of the canonical form of `request`.
pub(super) fn hash(request: &Head, signed: &[&str], payload_hash: &str) -> String {
    let canonical = text(request, signed, payload_hash);
    hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
}

/// The canonical form of `request`. `signed` are the names of the signed headers, lower case.
pub(super) fn text(request: &Head, signed: &[&str], payload_hash: &str) -> String {
    let mut text = String::with_capacity(1024);
    text.push_str(request.method.as_str());
    text.push('\n');
    text.push_str(&percent::encode_path(&request.path));
    text.push('\n');
    text.push_str(&query(request));
    text.push('\n');
    for name in signed {
        let _ = write!(text, "{name}:");
        push_header(&mut text, request, name);
        text.push('\n');
    }
    let _ = write!(text, "\n{}\n{payload_hash}", signed.join(";"));
    text
}

fn query(request: &Head) -> String {
    let encoded = |text: &str| {
        let mut out = String::with_capacity(text.len());
        percent::encode_component(&mut out, text);
        out
    };
    let pairs = request.query.pairs.iter().filter(|(name, _)| name != "X-Amz-Signature");
    let mut pairs: Vec<(String, String)> = pairs
        .map(|(name, value)| (encoded(name), encoded(value.as_deref().unwrap_or_default())))
        .collect();
    pairs.sort_unstable();
    let mut text = String::with_capacity(256);
    for (name, value) in pairs {
        let gap = if text.is_empty() { "" } else { "&" };
        let _ = write!(text, "{gap}{name}={value}");
    }
    text
}

/// All values of a header, trimmed, runs of spaces made one, joined by commas.
fn push_header(text: &mut String, request: &Head, name: &str) {
    if name == "host" {
        text.push_str(&request.host);
        return;
    }
    for (number, value) in request.headers.get_all(name).iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        let value = signed_text(value.as_bytes());
        for (number, word) in value.split_ascii_whitespace().enumerate() {
            if number > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
    }
}

/// A header's value as clients sign it: UTF-8 as it is, other bytes as the UTF-8 of the Latin-1
/// text that they stand for.
pub(super) fn signed_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

/// Refuses a request that carries what its signature does not cover.
///
/// # Errors
/// AccessDenied, naming the headers that should have been signed.
pub(super) fn require_signed(
    request: &Head,
    signed: &[&str],
    exempt: &str,
) -> Result<(), AuthError> {
    let must = |name: &str| name.starts_with("x-amz-") && name != exempt;
    let names = request.headers.keys().map(http::HeaderName::as_str).filter(|name| must(name));
    let unsigned: Vec<&str> =
        names.chain(std::iter::once("host")).filter(|name| !signed.contains(name)).collect();
    if unsigned.is_empty() {
        return Ok(());
    }
    let message = "There were headers present in the request which were not signed";
    Err(AuthError::with(AuthCode::AccessDenied, message)
        .detail("HeadersNotSigned", unsigned.join(", ")))
}
