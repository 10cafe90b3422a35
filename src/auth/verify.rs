//! Authenticates a request before anything else looks at it.

use std::sync::Arc;

use http::header;

use super::canonical;
use super::credential_scope::{ALGORITHM, Claim};
use super::dates;
use super::error::{AuthCode, AuthError};
use super::head::Head;
use super::keys::KeyCache;
use super::presigned_v2;
use super::signature::{ChunkSigner, SigningKey};

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

/// A credential, as far as signatures need it.
pub(crate) trait Signatory {
    /// The public half.
    fn access_key_id(&self) -> &str;

    /// The secret half.
    fn secret_access_key(&self) -> &str;
}

/// A caller whose signature was verified.
pub(crate) struct Authenticated<C> {
    /// Who.
    pub(crate) credential: Arc<C>,
    /// What the signature says of the body.
    pub(crate) payload: Payload,
}

/// Verifies signatures against the credentials that the caller finds.
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
    pub(crate) fn authenticate<C: Signatory>(
        &self,
        request: &Head,
        now: i64,
        find: impl Fn(&str) -> Option<Arc<C>>,
    ) -> Result<Authenticated<C>, AuthError> {
        if request.headers.contains_key("x-amz-security-token")
            || request.query.has("X-Amz-Security-Token")
        {
            return Err(AuthCode::InvalidToken.into());
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
                let value = value.to_str().map_err(|_| AuthCode::AuthorizationHeaderMalformed)?;
                self.by_header(request, value, now, find)
            }
            (None, _) if queried => self.by_query(request, now, find),
            (None, _) if queried_v2 => presigned_v2::authenticate(request, now, find),
            (None, _) => Err(AuthCode::AccessDenied.into()),
        }
    }

    fn by_header<C: Signatory>(
        &self,
        request: &Head,
        value: &str,
        now: i64,
        find: impl Fn(&str) -> Option<Arc<C>>,
    ) -> Result<Authenticated<C>, AuthError> {
        if !value.starts_with(ALGORITHM) {
            return Err(unsupported(value));
        }
        let claim = Claim::of_header(value)?;
        self.check_region(request, &claim, AuthCode::AuthorizationHeaderMalformed)?;
        let date = header_date(request)?;
        if !date.starts_with(claim.scope.day) {
            let message = "The authorization header is malformed; the credential's date is not \
                           the request's.";
            return Err(AuthError::with(AuthCode::AuthorizationHeaderMalformed, message));
        }
        check_skew(dates::parse_basic(&date).unwrap_or_default(), now)?;
        canonical::require_signed(request, &claim.signed, "")?;
        let hash = request.header("x-amz-content-sha256").ok_or_else(|| {
            let message = "Missing required header for this request: x-amz-content-sha256";
            AuthError::with(AuthCode::InvalidRequest, message)
        })?;
        let (credential, key) = self.check(request, &claim, &date, hash, find)?;
        let payload =
            payload(hash, || ChunkSigner::new(key, &date, claim.scope.text, claim.signature))?;
        Ok(Authenticated { credential, payload })
    }

    fn by_query<C: Signatory>(
        &self,
        request: &Head,
        now: i64,
        find: impl Fn(&str) -> Option<Arc<C>>,
    ) -> Result<Authenticated<C>, AuthError> {
        let claim = Claim::of_query(request)?;
        self.check_region(request, &claim, AuthCode::AuthorizationQueryParametersError)?;
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

    fn check<C: Signatory>(
        &self,
        request: &Head,
        claim: &Claim<'_>,
        date: &str,
        payload_hash: &str,
        find: impl Fn(&str) -> Option<Arc<C>>,
    ) -> Result<(Arc<C>, SigningKey), AuthError> {
        let scope = &claim.scope;
        let credential = find(scope.access_key_id).ok_or_else(|| {
            AuthError::new(AuthCode::InvalidAccessKeyId)
                .detail("AWSAccessKeyId", scope.access_key_id)
        })?;
        let key = self.keys.key(&*credential, scope.day, scope.region);
        let hash = canonical::hash(request, &claim.signed, payload_hash);
        let text = format!("{ALGORITHM}\n{date}\n{}\n{hash}", scope.text);
        if !key.verifies(&text, claim.signature) {
            let canonical = canonical::text(request, &claim.signed, payload_hash);
            return Err(AuthError::new(AuthCode::SignatureDoesNotMatch)
                .detail("AWSAccessKeyId", scope.access_key_id)
                .detail("StringToSign", text)
                .detail("CanonicalRequest", canonical));
        }
        self.keys.keep(&*credential, scope.day, scope.region, &key);
        Ok((credential, key))
    }

    fn check_region(
        &self,
        request: &Head,
        claim: &Claim<'_>,
        code: AuthCode,
    ) -> Result<(), AuthError> {
        let given = claim.scope.region;
        // A client that asks where a bucket is does not know the region yet.
        if given == self.region || (request.query.has("location") && given == "us-east-1") {
            return Ok(());
        }
        let expected = &self.region;
        let start = match code {
            AuthCode::AuthorizationHeaderMalformed => "The authorization header is malformed",
            _ => "Error parsing the X-Amz-Credential parameter",
        };
        let message = format!("{start}; the region '{given}' is wrong; expecting '{expected}'");
        Err(AuthError::with(code, message).detail("Region", expected))
    }
}

fn one_mechanism() -> AuthError {
    let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, \
                   Signature query string parameter or the Authorization header should be \
                   specified";
    AuthError::with(AuthCode::InvalidArgument, message)
}

fn unsupported(value: &str) -> AuthError {
    let message = "The authorization mechanism you have provided is not supported. Please use \
                   AWS4-HMAC-SHA256.";
    let known = value.starts_with("AWS ") || value.starts_with("AWS4-");
    match known {
        true => AuthError::with(AuthCode::InvalidRequest, message),
        false => AuthError::argument("Authorization", "", "Unsupported Authorization Type"),
    }
}

/// The request's date in basic form, from `x-amz-date` or else `Date`.
fn header_date(request: &Head) -> Result<String, AuthError> {
    let missing = || {
        AuthError::with(
            AuthCode::AccessDenied,
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

fn check_skew(date: i64, now: i64) -> Result<(), AuthError> {
    if (now - date).abs() <= SKEW_SECONDS_MAX {
        return Ok(());
    }
    Err(AuthError::new(AuthCode::RequestTimeTooSkewed)
        .detail("RequestTime", dates::basic(date).unwrap_or_default())
        .detail("ServerTime", dates::basic(now).unwrap_or_default())
        .detail("MaxAllowedSkewMilliseconds", "900000"))
}

fn check_expiry(request: &Head, claim: &Claim<'_>, date: &str, now: i64) -> Result<(), AuthError> {
    let malformed = |message: &'static str| {
        Err(AuthError::with(AuthCode::AuthorizationQueryParametersError, message))
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
        return Err(AuthError::with(AuthCode::AccessDenied, "Request is not yet valid"));
    }
    if now >= begin + expires {
        return Err(expired(begin + expires, now));
    }
    Ok(())
}

/// AccessDenied for a URL whose time is over.
pub(super) fn expired(end: i64, now: i64) -> AuthError {
    AuthError::with(AuthCode::AccessDenied, "Request has expired")
        .detail("Expires", dates::basic(end).unwrap_or_default())
        .detail("ServerTime", dates::basic(now).unwrap_or_default())
}

fn payload(hash: &str, signer: impl FnOnce() -> ChunkSigner) -> Result<Payload, AuthError> {
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
            return Err(AuthError::header_not_served("x-amz-content-sha256"));
        }
        _ => {
            let mut sum = [0; 32];
            hex::decode_to_slice(hash, &mut sum).map_err(|_| {
                let message = "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, \
                               STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                               STREAMING-AWS4-HMAC-SHA256-PAYLOAD, \
                               STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 \
                               value.";
                AuthError::argument("x-amz-content-sha256", hash, message)
            })?;
            Payload::Signed(sum)
        }
    })
}
