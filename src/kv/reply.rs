//! Answers: their bodies and the headers that they share.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use crate::causality::{Dot, Stamp};
use crate::replication::Served;

use super::error::{Kind, KvError};

/// What every operation yields.
pub(super) type Reply = Response<Body>;

/// The header that carries a causal context, in and out.
pub(super) const CONTEXT: &str = "x-quorate-context";
/// The header that says how many values and deletions stand side by side.
pub(super) const SIBLINGS: &str = "x-quorate-siblings";

/// An answer without body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}

/// An answer with a JSON document.
pub(super) fn json<T: Serialize>(status: StatusCode, document: &T) -> Reply {
    match serde_json::to_vec(document) {
        Ok(text) => typed(status, "application/json", text),
        // A document of ours that cannot be written is a defect, and must not pass for empty.
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// An answer with a body of that type.
pub(super) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Reply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// Sets a header; a value that no header can carry is left out.
pub(super) fn set(reply: &mut Reply, name: &'static str, value: &str) {
    let Ok(value) = HeaderValue::from_str(value) else { return };
    reply.headers_mut().insert(HeaderName::from_static(name), value);
}

/// Says which level served, and whether an owner was missing.
pub(super) fn served(reply: &mut Reply, served: Served) {
    set(reply, "x-quorate-level", &served.level.to_string());
    if served.degraded {
        set(reply, "x-quorate-degraded", "true");
    }
}

/// `2f1c….3.17:2`: node, boot, stint and counter.
pub(super) fn dot_text(dot: Dot) -> String {
    let actor = dot.actor;
    format!("{}.{}.{}:{}", actor.node, actor.boot, actor.stint, dot.counter)
}

/// `1700000000000.3-2f1c…`: Unix milliseconds, count within one, node.
pub(super) fn stamp_text(stamp: Stamp) -> String {
    format!("{}.{}-{}", stamp.time.millis(), stamp.time.0 & 0xffff, stamp.node)
}

/// Bytes as JSON carries them.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// An error's document.
#[derive(Serialize)]
struct ErrorDocument<'a> {
    code: &'static str,
    message: &'a str,
    request_id: &'a str,
}

/// The answer that an error becomes; without body for HEAD.
pub(super) fn error(error: &KvError, method: &Method, request_id: &str) -> Reply {
    let status = error.kind.status();
    let document = ErrorDocument { code: error.kind.text(), message: &error.message, request_id };
    let mut reply = match *method {
        Method::HEAD => empty(status),
        _ => json(status, &document),
    };
    if let Some(outcome) = error.outcome {
        set(&mut reply, "x-quorate-outcome", outcome.name());
    }
    if let Some(context) = &error.context {
        set(&mut reply, CONTEXT, context);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(&mut reply, "retry-after", "1");
    }
    if error.kind == Kind::Unauthenticated {
        set(&mut reply, "www-authenticate", "Bearer realm=\"quorate\"");
    }
    reply
}
