//! Authenticates a request before anything else looks at it.

use std::sync::Arc;

use http::header;

use super::canonical;
use super::credential_scope::{ALGORITHM, Claim};
use super::keys::KeyCache;
use super::presigned_v2;
use super::signature::{ChunkSigner, SigningKey};
use crate::catalog::Credential;
use crate::s3::dates;
use crate::s3::error::{Code, S3Error};
use crate::s3::request::Request;

/// Clocks of clients may be off by so many seconds.
pub(super) const SKEW_SECONDS_MAX: i64 = 15 * 60;
/// A presigned URL lives at most a week.
pub(super) const EXPIRES_SECONDS_MAX: i64 = 7 * 86_400;

/// How a body is framed and what vouches for it.
pub(crate) enum Payload {
    /// The bytes as they are, under this SHA-256.
    Signed([u8; 32]),
    /// The bytes as they are.
    Unsigned,
    /// aws-chunked; chunk signatures and trailers as said.
    Chunked {
        /// Checks chunk signatures, if there are any.
        signer: Option<Box<ChunkSigner>>,
        /// Whether trailers follow the last chunk.
        trailers: bool,
    },
}

/// A caller whose signature was verified.
pub(crate) struct Authenticated {
    /// Who.
    pub(crate) credential: Arc<Credential>,
    /// What the signature says of the body.
    pub(crate) payload: Payload,
}

/// Verifies signatures against the catalogue's credentials.
pub(crate) struct Authenticator {
    region: String,
    keys: KeyCache,
}

impl Authenticator {
    /// An authenticator for that region.
    pub(crate) fn new(region: &str) -> Self {
        Self { region: region.to_owned(), keys: KeyCache::default() }
    }

    /// Who sent `request`, whose signature `now` (seconds since 1970) must allow.
    ///
    /// # Errors
    /// AWS's code for each way in which a signature can fail; AccessDenied without any.
    pub(crate) fn authenticate(
        &self,
        request: &Request,
        now: i64,
        find: impl Fn(&str) -> Option<Arc<Credential>>,
    ) -> Result<Authenticated, S3Error> {
        if request.headers.contains_key("x-amz-security-token")
            || request.query.has("X-Amz-Security-Token")
        {
            return Err(Code::InvalidToken.into());
        }
        let header = request.headers.get_all(header::AUTHORIZATION);
        let queried = ["X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential"]
            .iter()
            .any(|name| request.query.has(name));
        let queried_v2 = request.query.has("AWSAccessKeyId") && request.query.has("Signature");
        let mut values = header.iter();
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(one_mechanism()),
            (Some(_), None) if queried || queried_v2 => Err(one_mechanism()),
            (Some(value), None) => {
                let value = value.to_str().map_err(|_| Code::AuthorizationHeaderMalformed)?;
                self.by_header(request, value, now, find)
            }
            (None, _) if queried => self.by_query(request, now, find),
            (None, _) if queried_v2 => presigned_v2::authenticate(request, now, find),
            (None, _) => Err(Code::AccessDenied.into()),
        }
    }

    fn by_header(
        &self,
        request: &Request,
        value: &str,
        now: i64,
        find: impl Fn(&str) -> Option<Arc<Credential>>,
    ) -> Result<Authenticated, S3Error> {
        if !value.starts_with(ALGORITHM) {
            return Err(unsupported(value));
        }
        let claim = Claim::of_header(value)?;
        self.check_region(request, &claim, Code::AuthorizationHeaderMalformed)?;
        let date = header_date(request)?;
        if !date.starts_with(claim.scope.day) {
            let message = "The authorization header is malformed; the credential's date is not \
                           the request's.";
            return Err(S3Error::with(Code::AuthorizationHeaderMalformed, message));
        }
        check_skew(dates::parse_basic(&date).unwrap_or_default(), now)?;
        canonical::require_signed(request, &claim.signed, "")?;
        let hash = request.header("x-amz-content-sha256").ok_or_else(|| {
            let message = "Missing required header for this request: x-amz-content-sha256";
            S3Error::with(Code::InvalidRequest, message)
        })?;
        let (credential, key) = self.check(request, &claim, &date, hash, find)?;
        let payload =
            payload(hash, || ChunkSigner::new(key, &date, claim.scope.text, claim.signature))?;
        Ok(Authenticated { credential, payload })
    }

    fn by_query(
        &self,
        request: &Request,
        now: i64,
        find: impl Fn(&str) -> Option<Arc<Credential>>,
    ) -> Result<Authenticated, S3Error> {
        let claim = Claim::of_query(request)?;
        self.check_region(request, &claim, Code::AuthorizationQueryParametersError)?;
        let date = request.query.get("X-Amz-Date").unwrap_or_default();
        check_expiry(request, &claim, date, now)?;
        // A payload hash may travel in the query or in a header; only a signed one counts, and
        // the header need not be signed if it says what holds anyway.
        let header = request.header("x-amz-content-sha256");
        let exempt = match header {
            Some("UNSIGNED-PAYLOAD") => "x-amz-content-sha256",
            _ => "",
        };
        canonical::require_signed(request, &claim.signed, exempt)?;
        let queried = request.query.get("X-Amz-Content-Sha256");
        let hash = queried.or(header).unwrap_or("UNSIGNED-PAYLOAD");
        let (credential, key) = self.check(request, &claim, date, hash, find)?;
        let payload =
            payload(hash, || ChunkSigner::new(key, date, claim.scope.text, claim.signature))?;
        Ok(Authenticated { credential, payload })
    }

    fn check(
        &self,
        request: &Request,
        claim: &Claim<'_>,
        date: &str,
        payload_hash: &str,
        find: impl Fn(&str) -> Option<Arc<Credential>>,
    ) -> Result<(Arc<Credential>, SigningKey), S3Error> {
        let scope = &claim.scope;
        let credential = find(scope.access_key_id).ok_or_else(|| {
            S3Error::new(Code::InvalidAccessKeyId).detail("AWSAccessKeyId", scope.access_key_id)
        })?;
        let key = self.keys.key(&credential, scope.day, scope.region);
        let hash = canonical::hash(request, &claim.signed, payload_hash);
        let text = format!("{ALGORITHM}\n{date}\n{}\n{hash}", scope.text);
        if !key.verifies(&text, claim.signature) {
            let canonical = canonical::text(request, &claim.signed, payload_hash);
            return Err(S3Error::new(Code::SignatureDoesNotMatch)
                .detail("AWSAccessKeyId", scope.access_key_id)
                .detail("StringToSign", text)
                .detail("CanonicalRequest", canonical));
        }
        self.keys.keep(&credential, scope.day, scope.region, &key);
        Ok((credential, key))
    }

    fn check_region(
        &self,
        request: &Request,
        claim: &Claim<'_>,
        code: Code,
    ) -> Result<(), S3Error> {
        let given = claim.scope.region;
        // A client that asks where a bucket is does not know the region yet.
        if given == self.region || (request.query.has("location") && given == "us-east-1") {
            return Ok(());
        }
        let expected = &self.region;
        let start = match code {
            Code::AuthorizationHeaderMalformed => "The authorization header is malformed",
            _ => "Error parsing the X-Amz-Credential parameter",
        };
        let message = format!("{start}; the region '{given}' is wrong; expecting '{expected}'");
        Err(S3Error::with(code, message).detail("Region", expected))
    }
}

fn one_mechanism() -> S3Error {
    let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, \
                   Signature query string parameter or the Authorization header should be \
                   specified";
    S3Error::with(Code::InvalidArgument, message)
}

fn unsupported(value: &str) -> S3Error {
    let message = "The authorization mechanism you have provided is not supported. Please use \
                   AWS4-HMAC-SHA256.";
    let known = value.starts_with("AWS ") || value.starts_with("AWS4-");
    match known {
        true => S3Error::with(Code::InvalidRequest, message),
        false => S3Error::argument("Authorization", "", "Unsupported Authorization Type"),
    }
}

/// The request's date in basic form, from `x-amz-date` or else `Date`.
fn header_date(request: &Request) -> Result<String, S3Error> {
    let missing = || {
        S3Error::with(
            Code::AccessDenied,
            "AWS authentication requires a valid Date or x-amz-date header",
        )
    };
    if let Some(date) = request.header("x-amz-date") {
        dates::parse_basic(date).ok_or_else(missing)?;
        return Ok(date.to_owned());
    }
    let date = request.header("date").ok_or_else(missing)?;
    let seconds = dates::parse_http(date).or_else(|| dates::parse_basic(date));
    seconds.and_then(dates::basic).ok_or_else(missing)
}

fn check_skew(date: i64, now: i64) -> Result<(), S3Error> {
    if (now - date).abs() <= SKEW_SECONDS_MAX {
        return Ok(());
    }
    Err(S3Error::new(Code::RequestTimeTooSkewed)
        .detail("RequestTime", dates::basic(date).unwrap_or_default())
        .detail("ServerTime", dates::basic(now).unwrap_or_default())
        .detail("MaxAllowedSkewMilliseconds", "900000"))
}

fn check_expiry(request: &Request, claim: &Claim<'_>, date: &str, now: i64) -> Result<(), S3Error> {
    let malformed = |message: &'static str| {
        Err(S3Error::with(Code::AuthorizationQueryParametersError, message))
    };
    let expires = request.query.get("X-Amz-Expires").unwrap_or_default();
    let Ok(expires) = expires.parse::<i64>() else {
        return malformed("X-Amz-Expires should be a number");
    };
    if expires < 0 {
        return malformed("X-Amz-Expires must be non-negative");
    }
    if expires > EXPIRES_SECONDS_MAX {
        return malformed(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        );
    }
    let Some(begin) = dates::parse_basic(date) else {
        return malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"");
    };
    if !date.starts_with(claim.scope.day) {
        return malformed("Invalid credential date. Date is not the same as X-Amz-Date.");
    }
    if begin > now + SKEW_SECONDS_MAX {
        return Err(S3Error::with(Code::AccessDenied, "Request is not yet valid"));
    }
    if now >= begin + expires {
        return Err(expired(begin + expires, now));
    }
    Ok(())
}

/// AccessDenied for a URL whose time is over.
pub(super) fn expired(end: i64, now: i64) -> S3Error {
    S3Error::with(Code::AccessDenied, "Request has expired")
        .detail("Expires", dates::basic(end).unwrap_or_default())
        .detail("ServerTime", dates::basic(now).unwrap_or_default())
}

fn payload(hash: &str, signer: impl FnOnce() -> ChunkSigner) -> Result<Payload, S3Error> {
    Ok(match hash {
        "UNSIGNED-PAYLOAD" => Payload::Unsigned,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => {
            Payload::Chunked { signer: Some(Box::new(signer())), trailers: false }
        }
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
            Payload::Chunked { signer: Some(Box::new(signer())), trailers: true }
        }
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Payload::Chunked { signer: None, trailers: true },
        _ if hash.starts_with("STREAMING-AWS4-ECDSA") => {
            return Err(S3Error::header_not_served("x-amz-content-sha256"));
        }
        _ => {
            let mut sum = [0; 32];
            hex::decode_to_slice(hash, &mut sum).map_err(|_| {
                let message = "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, \
                               STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                               STREAMING-AWS4-HMAC-SHA256-PAYLOAD, \
                               STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 \
                               value.";
                S3Error::argument("x-amz-content-sha256", hash, message)
            })?;
            Payload::Signed(sum)
        }
    })
}
