//! Minimal clients of both APIs that never send a request twice and know what they do not know.

pub mod kv;
pub mod s3;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use quorate::env::{Clock, OsClock, deadline_in, timeout_at};

use crate::sign::{Credentials, Request, UNSIGNED_PAYLOAD, sign};

/// The header that says whether a failed operation may have happened.
const OUTCOME: &str = "x-quorate-outcome";

/// How an operation ended, as far as a client can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It certainly happened, with this result.
    Ok(T),
    /// It certainly did not happen.
    Fail(String),
    /// Nobody knows; it may still happen.
    Info(String),
}

impl<T> Outcome<T> {
    /// The same outcome with another result.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Ok(value) => Outcome::Ok(change(value)),
            Self::Fail(reason) => Outcome::Fail(reason),
            Self::Info(reason) => Outcome::Info(reason),
        }
    }
}

/// Why there is no reply.
pub(crate) enum Broken {
    /// The request never left.
    Unsent(String),
    /// It left, or may have.
    Unknown(String),
}

/// What a node answered.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }
}

/// What is asked of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    /// The path, not escaped.
    pub(crate) path: &'a str,
    /// Parameters, not escaped.
    pub(crate) query: Vec<(&'a str, &'a str)>,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) body: Bytes,
}

/// A client of every node of a cluster.
#[derive(Clone)]
pub struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    credentials: Credentials,
    clock: Arc<OsClock>,
    patience: Duration,
}

impl Client {
    /// A client that waits for `patience` for each reply.
    #[must_use]
    pub fn new(credentials: Credentials, clock: Arc<OsClock>, patience: Duration) -> Self {
        // Hyper would send a request again whose connection had been closed under it; to this
        // client that is an outcome of its own.
        let http = HttpClient::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build(HttpConnector::new());
        Self { http, credentials, clock, patience }
    }

    /// A client without credentials, for what needs none.
    #[must_use]
    pub fn nobody(clock: Arc<OsClock>, patience: Duration) -> Self {
        let nobody = Credentials {
            access_key_id: String::new(),
            secret_access_key: String::new(),
            region: String::new(),
        };
        Self::new(nobody, clock, patience)
    }

    /// Whether a plain, unsigned GET is answered with 200.
    pub async fn probe(&self, address: SocketAddr, path: &str) -> bool {
        self.plain(address, path, None).await.is_some()
    }

    /// The body of a GET that is answered with 200, with a bearer token or without.
    pub async fn plain(
        &self,
        address: SocketAddr,
        path: &str,
        token: Option<&str>,
    ) -> Option<Bytes> {
        let mut request = http::Request::get(format!("http://{address}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::default()).ok()?;
        let deadline = deadline_in(&*self.clock, Duration::from_secs(5));
        let reply = timeout_at(&*self.clock, deadline, self.exchange(request)).await?.ok()?;
        (reply.status == StatusCode::OK).then_some(reply.body)
    }

    pub(crate) async fn send(&self, node: SocketAddr, call: Call<'_>) -> Result<Reply, Broken> {
        let request = self.signed(node, call);
        let request = request.map_err(|error| Broken::Unsent(error.to_string()))?;
        let deadline = deadline_in(&*self.clock, self.patience);
        let exchange = timeout_at(&*self.clock, deadline, self.exchange(request)).await;
        exchange.unwrap_or_else(|| Err(Broken::Unknown("timed out".to_owned())))
    }

    fn signed(&self, node: SocketAddr, call: Call<'_>) -> http::Result<http::Request<Full<Bytes>>> {
        let Call { method, path, query, headers: unsigned, body } = call;
        let headers = BTreeMap::from([("host", node.to_string())]);
        let request = Request { method, path, query: &query, headers, payload: UNSIGNED_PAYLOAD };
        let mut builder = http::Request::builder()
            .method(method)
            .uri(format!("http://{node}{}", request.target()))
            .header("host", node.to_string());
        for (name, value) in unsigned {
            builder = builder.header(name, value);
        }
        for (name, value) in sign(&self.credentials, &request, self.clock.wall()) {
            builder = builder.header(name, value);
        }
        builder.body(Full::new(body))
    }

    async fn exchange(&self, request: http::Request<Full<Bytes>>) -> Result<Reply, Broken> {
        let reply = self.http.request(request).await.map_err(|error| {
            if error.is_connect() {
                Broken::Unsent(format!("not connected: {error}"))
            } else {
                Broken::Unknown(format!("broken off: {error}"))
            }
        })?;
        let (head, body) = reply.into_parts();
        // A body that is cut short leaves the whole reply in doubt.
        let body = body.collect().await;
        let body = body.map_err(|error| Broken::Unknown(format!("cut short: {error}")))?;
        Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

/// How a request ended that changes something.
pub(crate) fn judge_write(reply: Result<Reply, Broken>) -> Outcome<Reply> {
    match reply {
        Ok(reply) if reply.status.is_success() => Outcome::Ok(reply),
        Ok(reply) if certainly_not_done(&reply) => Outcome::Fail(describe(&reply)),
        Ok(reply) => Outcome::Info(describe(&reply)),
        Err(Broken::Unsent(reason)) => Outcome::Fail(reason),
        Err(Broken::Unknown(reason)) => Outcome::Info(reason),
    }
}

fn certainly_not_done(reply: &Reply) -> bool {
    reply.status.is_client_error()
        || reply.status == StatusCode::SERVICE_UNAVAILABLE
            && reply.header(OUTCOME).as_deref() == Some("none")
}

/// An answer in words, for people.
pub(crate) fn describe(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    // S3's names of the two begin with capitals, and are elements.
    let told = |element: &str, field: &str| {
        let field = || Some(document.get(field)?.as_str()?.to_owned());
        elements(&text, element).pop().or_else(field)
    };
    let code = told("Code", "code").unwrap_or_else(|| "no code".to_owned());
    let outcome = reply.header(OUTCOME).unwrap_or_else(|| "not told".to_owned());
    let status = reply.status.as_u16();
    match told("Message", "message") {
        Some(message) => format!("{status} {code}, outcome {outcome}: {message}"),
        None => format!("{status} {code}, outcome {outcome}"),
    }
}

/// The texts of all elements of this name. Enough for answers to our own plain keys, which hold
/// nothing that XML escapes.
pub(crate) fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = xml.split(open.as_str()).skip(1);
    parts
        .filter_map(|part| part.split_once(close.as_str()))
        .map(|(text, _)| text.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::{Broken, Outcome, Reply, elements, judge_write};

    pub(super) fn reply(
        status: u16,
        outcome: Option<&'static str>,
        body: &str,
    ) -> Result<Reply, Broken> {
        let mut headers = HeaderMap::new();
        if let Some(outcome) = outcome {
            headers.insert(super::OUTCOME, HeaderValue::from_static(outcome));
        }
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Reply { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    #[test]
    fn a_write_is_uncertain_unless_the_answer_says_otherwise() {
        let kinds = [
            (reply(200, None, ""), "ok"),
            (reply(204, None, ""), "ok"),
            (reply(412, None, ""), "fail"),
            (reply(404, None, ""), "fail"),
            (reply(503, Some("none"), ""), "fail"),
            (reply(503, Some("unknown"), ""), "info"),
            (reply(503, None, ""), "info"),
            (reply(500, Some("none"), ""), "info"),
            (Err(Broken::Unsent(String::new())), "fail"),
            (Err(Broken::Unknown(String::new())), "info"),
        ];
        for (number, (reply, expected)) in kinds.into_iter().enumerate() {
            let kind = match judge_write(reply) {
                Outcome::Ok(_) => "ok",
                Outcome::Fail(_) => "fail",
                Outcome::Info(_) => "info",
            };
            assert_eq!(kind, expected, "case {number}");
        }
    }

    #[test]
    fn the_keys_of_a_page_are_found() {
        let page =
            "<a><Contents><Key>c1/k1</Key></Contents><Contents><Key>c1/k2</Key></Contents></a>";

        assert_eq!(elements(page, "Key"), ["c1/k1", "c1/k2"]);
        assert!(elements(page, "NextContinuationToken").is_empty());
    }
}
