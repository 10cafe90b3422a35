//! The API's errors: a stable code, a status, and what is known of the outcome.

use std::borrow::Cow;

use http::StatusCode;

use crate::auth::{AuthCode, AuthError};
use crate::catalog::CatalogError;
use crate::replication::Outcome;

macro_rules! kinds {
    ($($name:ident $text:literal $status:literal $doc:literal;)*) => {
        /// A kind of error: what a program reacts to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind {
            $(#[doc = $doc] $name,)*
        }

        impl Kind {
            /// The code in the body, stable for ever.
            pub(crate) const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status.
            pub(crate) fn status(self) -> StatusCode {
                let number = match self { $(Self::$name => $status,)* };
                StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// Every kind.
            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

kinds! {
    InvalidRequest "invalid_request" 400 "The request cannot be understood.";
    InvalidKey "invalid_key" 400 "No key may be like that.";
    InvalidContext "invalid_context" 400 "The causal context is damaged or of another key.";
    InvalidLevel "invalid_level" 400 "There is no such level, or not for this bucket.";
    Unauthenticated "unauthenticated" 401 "The caller did not say who it is.";
    AccessDenied "access_denied" 403 "The caller is not who it says, or may not do that.";
    NoSuchBucket "no_such_bucket" 404 "There is no such bucket.";
    NoSuchKey "no_such_key" 404 "There is no such key.";
    NoSuchPath "no_such_path" 404 "The API has no such path.";
    MethodNotAllowed "method_not_allowed" 405 "That path does not take that method.";
    RequestTimeout "request_timeout" 408 "The body did not come in time.";
    TooManySiblings "too_many_siblings" 409 "The key has too many concurrent values.";
    BucketChanging "bucket_changing" 409 "The bucket is being changed or deleted.";
    ValueTooLarge "value_too_large" 413 "The value is larger than the API takes.";
    InternalError "internal_error" 500 "A defect of the server.";
    NotImplemented "not_implemented" 501 "Something was asked for that is not served.";
    Unavailable "unavailable" 503 "Too few replicas answered.";
    SlowDown "slow_down" 503 "Too much is under way.";
    InsufficientStorage "insufficient_storage" 507 "The owners' disks are full.";
}

/// A refusal or failure on its way to a client.
#[derive(Clone, Debug)]
pub(crate) struct KvError {
    /// What a program reacts to.
    pub(crate) kind: Kind,
    /// What a person reads.
    pub(crate) message: Cow<'static, str>,
    /// Whether the operation may have happened, where that is in question (I9).
    pub(crate) outcome: Option<Outcome>,
    /// The context of the deletions that stand where a key is not.
    pub(crate) context: Option<String>,
}

impl KvError {
    /// An error of that kind.
    pub(crate) fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), outcome: None, context: None }
    }

    /// The same, with what is known of the outcome.
    fn outcome(self, outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..self }
    }
}

impl From<AuthError> for KvError {
    fn from(error: AuthError) -> Self {
        let kind = match error.code {
            AuthCode::InvalidAccessKeyId
            | AuthCode::SignatureDoesNotMatch
            | AuthCode::RequestTimeTooSkewed
            | AuthCode::AccessDenied => Kind::AccessDenied,
            AuthCode::NotImplemented => Kind::NotImplemented,
            AuthCode::AuthorizationHeaderMalformed
            | AuthCode::AuthorizationQueryParametersError
            | AuthCode::InvalidArgument
            | AuthCode::InvalidRequest
            | AuthCode::InvalidToken
            | AuthCode::InvalidUri => Kind::InvalidRequest,
        };
        let facts: String =
            error.details.iter().map(|(name, value)| format!("; {name}: {value}")).collect();
        Self::new(kind, format!("{}{facts}", error.message))
    }
}

impl From<CatalogError> for KvError {
    fn from(error: CatalogError) -> Self {
        let message = error.to_string();
        match error {
            CatalogError::NoSuchBucket => Self::new(Kind::NoSuchBucket, message),
            CatalogError::NoSuchKey => Self::new(Kind::NoSuchKey, message),
            CatalogError::BucketChanging => {
                Self::new(Kind::BucketChanging, message).outcome(Outcome::None)
            }
            CatalogError::Unavailable { outcome, .. } => {
                Self::new(Kind::Unavailable, message).outcome(outcome)
            }
            CatalogError::SlowDown { .. } | CatalogError::TooSlow { .. } => {
                Self::new(Kind::SlowDown, message).outcome(Outcome::None)
            }
            CatalogError::Full { .. } => {
                Self::new(Kind::InsufficientStorage, message).outcome(Outcome::None)
            }
            CatalogError::Refused { .. } => {
                Self::new(Kind::TooManySiblings, message).outcome(Outcome::None)
            }
            CatalogError::BytesUnavailable { .. } => Self::new(Kind::Unavailable, message),
            other => {
                tracing::error!(error = %other, "the catalogue failed");
                Self::new(Kind::InternalError, message)
            }
        }
    }
}
