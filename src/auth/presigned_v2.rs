//! Presigned URLs of signature version 2: what boto3 makes unless told otherwise.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::canonical::signed_text;
use super::error::{AuthCode, AuthError};
use super::head::Head;
use super::percent;
use super::verify::{Authenticated, Payload, Signatory, expired};

/// The query parameters that version 2 signs, sorted.
const SIGNED_PARAMETERS: [&str; 30] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
];

/// Who made the URL of `request`.
///
/// # Errors
/// InvalidAccessKeyId, SignatureDoesNotMatch, AccessDenied if it has expired.
pub(super) fn authenticate<C: Signatory>(
    request: &Head,
    now: i64,
    find: impl Fn(&str) -> Option<Arc<C>>,
) -> Result<Authenticated<C>, AuthError> {
    let id = request.query.get("AWSAccessKeyId").unwrap_or_default();
    let signature = request.query.get("Signature").unwrap_or_default();
    if request.header("x-amz-content-sha256").is_some_and(|hash| hash != "UNSIGNED-PAYLOAD") {
        return Err(AuthError::header_not_served("x-amz-content-sha256"));
    }
    let expires = request.query.get("Expires").unwrap_or_default();
    let Ok(end) = expires.parse::<i64>() else {
        return Err(AuthError::with(
            AuthCode::AccessDenied,
            "Invalid date (should be seconds since epoch)",
        ));
    };
    if now > end {
        return Err(expired(end, now));
    }
    let credential = find(id)
        .ok_or_else(|| AuthError::new(AuthCode::InvalidAccessKeyId).detail("AWSAccessKeyId", id))?;
    let key = hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        credential.secret_access_key().as_bytes(),
    );
    let text = string_to_sign(request, expires);
    let tag = STANDARD.decode(signature).unwrap_or_default();
    if hmac::verify(&key, text.as_bytes(), &tag).is_err() {
        return Err(AuthError::new(AuthCode::SignatureDoesNotMatch)
            .detail("AWSAccessKeyId", id)
            .detail("StringToSign", text));
    }
    Ok(Authenticated { credential, payload: Payload::Unsigned })
}

fn string_to_sign(request: &Head, expires: &str) -> String {
    let header = |name| request.header(name).unwrap_or_default();
    let mut text = format!(
        "{}\n{}\n{}\n{expires}\n",
        request.method,
        header("content-md5"),
        header("content-type")
    );
    let mut amz: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &request.headers {
        if name.as_str().starts_with("x-amz-") {
            let value = signed_text(value.as_bytes()).trim().to_owned();
            amz.entry(name.as_str()).or_default().push(value);
        }
    }
    for (name, values) in amz {
        let _ = writeln!(text, "{name}:{}", values.join(","));
    }
    if let Some(bucket) = &request.host_bucket {
        let _ = write!(text, "/{bucket}");
    }
    text.push_str(&percent::encode_path(&request.path));
    let mut gap = '?';
    for name in SIGNED_PARAMETERS {
        let found = request.query.pairs.iter().find(|(other, _)| other == name);
        match found {
            Some((_, Some(value))) => drop(write!(text, "{gap}{name}={value}")),
            Some((_, None)) => drop(write!(text, "{gap}{name}")),
            None => continue,
        }
        gap = '&';
    }
    text
}
