//! S3's errors: codes, statuses and what clients read in them (S3 API reference, "Error responses").

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use crate::auth::{AuthCode, AuthError};
use crate::catalog::{BodyError, CatalogError};
use crate::replication::Outcome;

macro_rules! codes {
    ($($name:ident $text:literal $status:literal $message:literal;)*) => {
        /// An error code of S3, with its status and usual message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code {
            $(#[doc = $message] $name,)*
        }

        impl Code {
            /// The code as clients compare it.
            pub(crate) const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status.
            pub(crate) const fn status_number(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The message, where nothing more precise is known.
            pub(crate) const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }
        }
    };
}

codes! {
    AccessDenied "AccessDenied" 403 "Access Denied";
    AccessForbidden "AccessForbidden" 403 "CORSResponse: CORS is not enabled for this bucket.";
    AuthorizationHeaderMalformed "AuthorizationHeaderMalformed" 400
        "The authorization header is malformed.";
    AuthorizationQueryParametersError "AuthorizationQueryParametersError" 400
        "The authorization query parameters are malformed.";
    BadDigest "BadDigest" 400 "The Content-MD5 you specified did not match what we received.";
    BadRequest "BadRequest" 400 "The request cannot be understood.";
    BucketAlreadyExists "BucketAlreadyExists" 409
        "The requested bucket name is not available. Choose another name.";
    BucketAlreadyOwnedByYou "BucketAlreadyOwnedByYou" 409
        "Your previous request to create the named bucket succeeded and you already own it.";
    OperationAborted "OperationAborted" 409
        "A conflicting conditional operation is currently in progress against this resource. Try again.";
    BucketNotEmpty "BucketNotEmpty" 409 "The bucket you tried to delete is not empty.";
    EntityTooLarge "EntityTooLarge" 400
        "Your proposed upload exceeds the maximum allowed object size.";
    EntityTooSmall "EntityTooSmall" 400
        "Your proposed upload is smaller than the minimum allowed object size.";
    IncompleteBody "IncompleteBody" 400
        "You did not provide the number of bytes specified by the Content-Length HTTP header.";
    InsufficientStorage "InsufficientStorage" 507
        "There is not enough room on the disks of the object's owners; nothing was stored.";
    InternalError "InternalError" 500 "We encountered an internal error. Please try again.";
    InvalidAccessKeyId "InvalidAccessKeyId" 403
        "The access key id you provided does not exist in our records.";
    InvalidArgument "InvalidArgument" 400 "Invalid argument.";
    InvalidBucketName "InvalidBucketName" 400 "The specified bucket is not valid.";
    InvalidDigest "InvalidDigest" 400 "The Content-MD5 you specified is not valid.";
    InvalidLocationConstraint "InvalidLocationConstraint" 400
        "The specified location constraint is not valid.";
    InvalidPart "InvalidPart" 400
        "One or more of the specified parts could not be found. The part may not have been \
         uploaded, or the specified entity tag may not match the part's entity tag.";
    InvalidPartNumber "InvalidPartNumber" 416 "The requested partnumber is not satisfiable.";
    InvalidPartOrder "InvalidPartOrder" 400
        "The list of parts was not in ascending order. Parts must be ordered by part number.";
    InvalidRange "InvalidRange" 416 "The requested range is not satisfiable.";
    InvalidRequest "InvalidRequest" 400 "Invalid request.";
    InvalidToken "InvalidToken" 400 "The provided token is malformed or otherwise invalid.";
    InvalidUri "InvalidURI" 400 "Couldn't parse the specified URI.";
    KeyTooLong "KeyTooLongError" 400 "Your key is too long.";
    MalformedTrailer "MalformedTrailerError" 400
        "The request contained trailing data that was not well-formed or did not conform to our \
         published schema.";
    MalformedXml "MalformedXML" 400
        "The XML you provided was not well-formed or did not validate against our published \
         schema.";
    MaxMessageLengthExceeded "MaxMessageLengthExceeded" 400 "Your request was too big.";
    MetadataTooLarge "MetadataTooLarge" 400
        "Your metadata headers exceed the maximum allowed metadata size.";
    MethodNotAllowed "MethodNotAllowed" 405
        "The specified method is not allowed against this resource.";
    MissingContentLength "MissingContentLength" 411
        "You must provide the Content-Length HTTP header.";
    NoSuchBucket "NoSuchBucket" 404 "The specified bucket does not exist.";
    NoSuchBucketPolicy "NoSuchBucketPolicy" 404 "The bucket policy does not exist.";
    NoSuchCorsConfiguration "NoSuchCORSConfiguration" 404
        "The CORS configuration does not exist.";
    NoSuchKey "NoSuchKey" 404 "The specified key does not exist.";
    NoSuchLifecycleConfiguration "NoSuchLifecycleConfiguration" 404
        "The lifecycle configuration does not exist.";
    NoSuchPublicAccessBlock "NoSuchPublicAccessBlockConfiguration" 404
        "The public access block configuration was not found.";
    NoSuchTagSet "NoSuchTagSet" 404 "The TagSet does not exist.";
    NoSuchUpload "NoSuchUpload" 404
        "The specified multipart upload does not exist. The upload id may be invalid, or the \
         upload may have been aborted or completed.";
    NoSuchVersion "NoSuchVersion" 404 "The specified version does not exist.";
    NoSuchWebsiteConfiguration "NoSuchWebsiteConfiguration" 404
        "The specified bucket does not have a website configuration.";
    NotImplemented "NotImplemented" 501
        "A header or query you provided implies functionality that is not implemented.";
    ObjectLockNotFound "ObjectLockConfigurationNotFoundError" 404
        "Object Lock configuration does not exist for this bucket.";
    OwnershipControlsNotFound "OwnershipControlsNotFoundError" 404
        "The bucket ownership controls were not found.";
    PreconditionFailed "PreconditionFailed" 412
        "At least one of the pre-conditions you specified did not hold.";
    ReplicationNotFound "ReplicationConfigurationNotFoundError" 404
        "The replication configuration was not found.";
    RequestTimeTooSkewed "RequestTimeTooSkewed" 403
        "The difference between the request time and the server's time is too large.";
    RequestTimeout "RequestTimeout" 400
        "Your socket connection to the server was not read from or written to within the \
         timeout period.";
    ServerSideEncryptionNotFound "ServerSideEncryptionConfigurationNotFoundError" 404
        "The server side encryption configuration was not found.";
    ServiceUnavailable "ServiceUnavailable" 503
        "Not enough replicas answered. Please try again.";
    SignatureDoesNotMatch "SignatureDoesNotMatch" 403
        "The request signature we calculated does not match the signature you provided. Check \
         your key and signing method.";
    SlowDown "SlowDown" 503 "Please reduce your request rate.";
    ContentSha256Mismatch "XAmzContentSHA256Mismatch" 400
        "The provided 'x-amz-content-sha256' header does not match what was computed.";
}

/// A refusal or failure on its way to a client.
#[derive(Clone, Debug)]
pub(crate) struct S3Error {
    /// What the client compares.
    pub(crate) code: Code,
    /// What a person reads.
    pub(crate) message: Cow<'static, str>,
    /// Further elements of the error body, as AWS adds them (`Region`, `BucketName`, …).
    pub(crate) details: Vec<(&'static str, String)>,
    /// Whether the operation may have happened, where that is in question (I9).
    pub(crate) outcome: Option<Outcome>,
}

impl S3Error {
    /// The code with its usual message.
    pub(crate) fn new(code: Code) -> Self {
        Self { code, message: Cow::Borrowed(code.message()), details: Vec::new(), outcome: None }
    }

    /// The code with a message of its own.
    pub(crate) fn with(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), ..Self::new(code) }
    }

    /// Adds an element to the error body.
    pub(crate) fn detail(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// 400 InvalidArgument for that argument.
    pub(crate) fn argument(name: &str, value: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::with(Code::InvalidArgument, message)
            .detail("ArgumentName", name)
            .detail("ArgumentValue", value)
    }

    /// 501 for a header that this release does not serve.
    pub(crate) fn header_not_served(name: &str) -> Self {
        Self::with(
            Code::NotImplemented,
            format!("The header {name} implies functionality that this release does not serve."),
        )
        .detail("Header", name)
    }

    /// 501 for a condition on a write.
    pub(crate) fn conditional_write(name: &str) -> Self {
        Self::with(
            Code::NotImplemented,
            format!(
                "{name} makes this a conditional write, which needs the level 'strong'; this \
                 release does not serve that level yet. Nothing was done."
            ),
        )
        .detail("Header", name)
    }

    /// The status to answer with.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status_number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// This error as a body's verdict, to travel through the catalogue and back.
    pub(crate) fn rejected(self) -> BodyError {
        BodyError::Rejected(Box::new(self))
    }
}

impl From<Code> for S3Error {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.text(), self.message)
    }
}

impl std::error::Error for S3Error {}

impl From<AuthError> for S3Error {
    fn from(error: AuthError) -> Self {
        let code = match error.code {
            AuthCode::AccessDenied => Code::AccessDenied,
            AuthCode::AuthorizationHeaderMalformed => Code::AuthorizationHeaderMalformed,
            AuthCode::AuthorizationQueryParametersError => Code::AuthorizationQueryParametersError,
            AuthCode::InvalidAccessKeyId => Code::InvalidAccessKeyId,
            AuthCode::InvalidArgument => Code::InvalidArgument,
            AuthCode::InvalidRequest => Code::InvalidRequest,
            AuthCode::InvalidToken => Code::InvalidToken,
            AuthCode::InvalidUri => Code::InvalidUri,
            AuthCode::NotImplemented => Code::NotImplemented,
            AuthCode::RequestTimeTooSkewed => Code::RequestTimeTooSkewed,
            AuthCode::SignatureDoesNotMatch => Code::SignatureDoesNotMatch,
        };
        Self { message: error.message, details: error.details, ..Self::new(code) }
    }
}

impl From<BodyError> for S3Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Broken { reason } => Self::with(Code::IncompleteBody, reason),
            BodyError::Rejected(inner) => match inner.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::with(Code::InvalidRequest, other.to_string()),
            },
        }
    }
}

impl From<CatalogError> for S3Error {
    fn from(error: CatalogError) -> Self {
        let message = error.to_string();
        let code = match error {
            CatalogError::NoSuchBucket => Code::NoSuchBucket,
            CatalogError::BucketTaken => Code::BucketAlreadyExists,
            CatalogError::BucketOwned => Code::BucketAlreadyOwnedByYou,
            CatalogError::BucketNotEmpty => Code::BucketNotEmpty,
            CatalogError::BucketChanging => {
                let aborted = Self::new(Code::OperationAborted);
                return Self { outcome: Some(Outcome::None), ..aborted };
            }
            CatalogError::NoSuchKey => Code::NoSuchKey,
            CatalogError::NoSuchUpload => Code::NoSuchUpload,
            CatalogError::InvalidPart { part } => {
                return Self::new(Code::InvalidPart).detail("PartNumber", part.to_string());
            }
            CatalogError::InvalidPartOrder => Code::InvalidPartOrder,
            CatalogError::ChecksumMismatch { .. } => return Self::with(Code::BadDigest, message),
            CatalogError::PartTooSmall { part, size } => {
                return Self::with(Code::EntityTooSmall, message)
                    .detail("PartNumber", part.to_string())
                    .detail("ProposedSize", size.to_string())
                    .detail("MinSizeAllowed", "5242880");
            }
            CatalogError::Body(body) => return body.into(),
            CatalogError::Unavailable { outcome, .. } => {
                let unavailable = Self::with(Code::ServiceUnavailable, message);
                return Self { outcome: Some(outcome), ..unavailable };
            }
            CatalogError::BytesUnavailable { .. } => {
                return Self::with(Code::ServiceUnavailable, message);
            }
            CatalogError::SlowDown { .. } => {
                let busy = Self::with(Code::SlowDown, message);
                return Self { outcome: Some(Outcome::None), ..busy };
            }
            // S3 has no code for full disks; 507 is WebDAV's, and no SDK repeats it blindly.
            CatalogError::Full { .. } => {
                let full = Self::with(Code::InsufficientStorage, message);
                return Self { outcome: Some(Outcome::None), ..full };
            }
            CatalogError::Refused { .. } => return Self::with(Code::InvalidRequest, message),
            CatalogError::TooSlow { .. } => return Self::with(Code::RequestTimeout, message),
            CatalogError::NoSuchCredential
            | CatalogError::CredentialExists
            | CatalogError::Internal { .. } => {
                tracing::error!(%message, "the catalogue failed");
                Code::InternalError
            }
        };
        Self::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, S3Error};
    use crate::catalog::CatalogError;

    #[test]
    fn a_refusal_by_a_bodys_checks_comes_back_from_the_catalogue_unchanged() {
        let refused = S3Error::with(Code::BadDigest, "mine").rejected();

        let back = S3Error::from(CatalogError::Body(refused));

        assert_eq!((back.code, &*back.message), (Code::BadDigest, "mine"));
    }
}
