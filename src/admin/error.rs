//! How the admin API refuses.

use std::fmt;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};

/// What kind of refusal: each asks the caller for another reaction, and has an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorKind {
    /// The token is missing or wrong: 401.
    Unauthorized,
    /// The request makes no sense as it is: 400.
    Invalid,
    /// What is named does not exist: 404.
    NotFound,
    /// It contradicts what is there already: 409.
    Conflict,
    /// The cluster has no layout yet: 409.
    NotInitialized,
    /// The cluster has a layout already: 409.
    AlreadyInitialized,
    /// Not enough nodes answered; try again: 503.
    Unavailable,
    /// A defect of ours: 500.
    Internal,
    /// Something that this release of the CLI does not know.
    #[serde(other)]
    Other,
}

impl ErrorKind {
    const fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict | Self::NotInitialized | Self::AlreadyInitialized => {
                StatusCode::CONFLICT
            }
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal | Self::Other => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A refusal: the JSON body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminError {
    /// Its kind, for programs.
    pub code: ErrorKind,
    /// What happened, to what.
    pub message: String,
    /// What to do or type; empty if there is nothing to say.
    pub next: String,
}

impl AdminError {
    /// A refusal without advice.
    pub fn new(code: ErrorKind, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), next: String::new() }
    }

    /// The same with advice: what to do or type.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AdminError {}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let mut response = (status, Json(self)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
