//! Why a request is not taken for anybody's, with the codes that AWS gives it.

use std::borrow::Cow;
use std::fmt;

macro_rules! codes {
    ($($name:ident $text:literal $message:literal;)*) => {
        /// A way in which a request's head or signature can fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum AuthCode {
            $(#[doc = $message] $name,)*
        }

        impl AuthCode {
            /// AWS's name for it.
            pub(crate) const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The message, where nothing more precise is known.
            const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }
        }
    };
}

codes! {
    AccessDenied "AccessDenied" "Access Denied";
    AuthorizationHeaderMalformed "AuthorizationHeaderMalformed"
        "The authorization header is malformed.";
    AuthorizationQueryParametersError "AuthorizationQueryParametersError"
        "The authorization query parameters are malformed.";
    InvalidAccessKeyId "InvalidAccessKeyId"
        "The access key id you provided does not exist in our records.";
    InvalidArgument "InvalidArgument" "Invalid argument.";
    InvalidRequest "InvalidRequest" "Invalid request.";
    InvalidToken "InvalidToken" "The provided token is malformed or otherwise invalid.";
    InvalidUri "InvalidURI" "Couldn't parse the specified URI.";
    NotImplemented "NotImplemented"
        "A header or query you provided implies functionality that is not implemented.";
    RequestTimeTooSkewed "RequestTimeTooSkewed"
        "The difference between the request time and the server's time is too large.";
    SignatureDoesNotMatch "SignatureDoesNotMatch"
        "The request signature we calculated does not match the signature you provided. Check \
         your key and signing method.";
}

/// A refusal on its way to a front, which has its own form for it.
#[derive(Clone, Debug)]
pub(crate) struct AuthError {
    /// The way in which the request failed.
    pub(crate) code: AuthCode,
    /// What a person reads.
    pub(crate) message: Cow<'static, str>,
    /// Further facts, as AWS adds them to its error bodies.
    pub(crate) details: Vec<(&'static str, String)>,
}

impl AuthError {
    /// The code with its usual message.
    pub(crate) fn new(code: AuthCode) -> Self {
        Self { code, message: Cow::Borrowed(code.message()), details: Vec::new() }
    }

    /// The code with a message of its own.
    pub(crate) fn with(code: AuthCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), ..Self::new(code) }
    }

    /// Adds a fact.
    pub(crate) fn detail(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// That argument is wrong.
    pub(crate) fn argument(name: &str, value: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::with(AuthCode::InvalidArgument, message)
            .detail("ArgumentName", name)
            .detail("ArgumentValue", value)
    }

    /// A header that this release does not serve.
    pub(crate) fn header_not_served(name: &str) -> Self {
        Self::with(
            AuthCode::NotImplemented,
            format!("The header {name} implies functionality that this release does not serve."),
        )
        .detail("Header", name)
    }
}

impl From<AuthCode> for AuthError {
    fn from(code: AuthCode) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.text(), self.message)
    }
}

impl std::error::Error for AuthError {}
