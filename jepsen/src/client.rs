//! A minimal S3 client that never sends a request twice and knows what it does not know.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use quorate::env::{Clock, OsClock, deadline_in, timeout_at};

use crate::sign::{Credentials, Request, UNSIGNED_PAYLOAD, sign};

/// The header that says whether a failed operation may have happened.
const OUTCOME: &str = "x-quorate-outcome";

/// Pages that one listing may have: more than any test makes.
const PAGES_MAX: usize = 1_000;

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

/// Why there is no reply.
enum Broken {
    /// The request never left.
    Unsent(String),
    /// It left, or may have.
    Unknown(String),
}

struct Reply {
    status: StatusCode,
    outcome: Option<String>,
    body: Bytes,
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

    /// Makes a bucket.
    pub async fn create_bucket(&self, node: SocketAddr, bucket: &str) -> Outcome<()> {
        let reply = self.send(node, "PUT", &format!("/{bucket}"), &[], Bytes::new()).await;
        judge_write(reply)
    }

    /// Stores an object.
    pub async fn put(&self, node: SocketAddr, path: &str, body: Bytes) -> Outcome<()> {
        judge_write(self.send(node, "PUT", path, &[], body).await)
    }

    /// Removes an object.
    pub async fn delete(&self, node: SocketAddr, path: &str) -> Outcome<()> {
        judge_write(self.send(node, "DELETE", path, &[], Bytes::new()).await)
    }

    /// Reads an object; `None` if there is none. A read is never [`Outcome::Info`]: it has no
    /// effect to be unsure of.
    pub async fn get(&self, node: SocketAddr, path: &str) -> Outcome<Option<Bytes>> {
        judge_read(self.send(node, "GET", path, &[], Bytes::new()).await)
    }

    /// All keys of a bucket that begin with `prefix`, page by page.
    pub async fn list(&self, node: SocketAddr, bucket: &str, prefix: &str) -> Outcome<Vec<String>> {
        let path = format!("/{bucket}");
        let mut keys = Vec::new();
        let mut token = String::new();
        for _ in 0..PAGES_MAX {
            let mut query = vec![("list-type", "2"), ("prefix", prefix)];
            if !token.is_empty() {
                query.push(("continuation-token", &token));
            }
            let page = match judge_read(self.send(node, "GET", &path, &query, Bytes::new()).await) {
                Outcome::Ok(Some(page)) => String::from_utf8_lossy(&page).into_owned(),
                Outcome::Ok(None) => return Outcome::Fail("the bucket is gone".to_owned()),
                Outcome::Fail(reason) | Outcome::Info(reason) => return Outcome::Fail(reason),
            };
            keys.extend(elements(&page, "Key"));
            match elements(&page, "NextContinuationToken").pop() {
                Some(next) => token = next,
                None => return Outcome::Ok(keys),
            }
        }
        Outcome::Fail(format!("more than {PAGES_MAX} pages"))
    }

    /// Whether a plain, unsigned GET is answered with 200.
    pub async fn probe(&self, address: SocketAddr, path: &str) -> bool {
        let request = http::Request::get(format!("http://{address}{path}")).body(Full::default());
        let Ok(request) = request else {
            return false;
        };
        let deadline = deadline_in(&*self.clock, Duration::from_secs(2));
        let reply = timeout_at(&*self.clock, deadline, self.http.request(request)).await;
        matches!(reply, Some(Ok(reply)) if reply.status() == StatusCode::OK)
    }

    async fn send(
        &self,
        node: SocketAddr,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, Broken> {
        let request = self.signed(node, method, path, query, body);
        let request = request.map_err(|error| Broken::Unsent(error.to_string()))?;
        let deadline = deadline_in(&*self.clock, self.patience);
        let exchange = timeout_at(&*self.clock, deadline, self.exchange(request)).await;
        exchange.unwrap_or_else(|| Err(Broken::Unknown("timed out".to_owned())))
    }

    fn signed(
        &self,
        node: SocketAddr,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> http::Result<http::Request<Full<Bytes>>> {
        let headers = BTreeMap::from([("host", node.to_string())]);
        let request = Request { method, path, query, headers, payload: UNSIGNED_PAYLOAD };
        let mut builder = http::Request::builder()
            .method(method)
            .uri(format!("http://{node}{}", request.target()))
            .header("host", node.to_string());
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
        let outcome = head.headers.get(OUTCOME).and_then(|value| value.to_str().ok());
        let outcome = outcome.map(str::to_owned);
        // A body that is cut short leaves the whole reply in doubt.
        let body = body.collect().await;
        let body = body.map_err(|error| Broken::Unknown(format!("cut short: {error}")))?;
        Ok(Reply { status: head.status, outcome, body: body.to_bytes() })
    }
}

fn judge_write(reply: Result<Reply, Broken>) -> Outcome<()> {
    match reply {
        Ok(reply) if reply.status.is_success() => Outcome::Ok(()),
        Ok(reply) if certainly_not_done(&reply) => Outcome::Fail(describe(&reply)),
        Ok(reply) => Outcome::Info(describe(&reply)),
        Err(Broken::Unsent(reason)) => Outcome::Fail(reason),
        Err(Broken::Unknown(reason)) => Outcome::Info(reason),
    }
}

fn judge_read(reply: Result<Reply, Broken>) -> Outcome<Option<Bytes>> {
    match reply {
        Ok(reply) if reply.status.is_success() => Outcome::Ok(Some(reply.body)),
        Ok(reply) if is_absence(&reply) => Outcome::Ok(None),
        Ok(reply) => Outcome::Fail(describe(&reply)),
        Err(Broken::Unsent(reason) | Broken::Unknown(reason)) => Outcome::Fail(reason),
    }
}

/// A missing bucket is no missing object: all tests' buckets exist.
fn is_absence(reply: &Reply) -> bool {
    let code = elements(&String::from_utf8_lossy(&reply.body), "Code").pop();
    reply.status == StatusCode::NOT_FOUND && code.as_deref() == Some("NoSuchKey")
}

fn certainly_not_done(reply: &Reply) -> bool {
    reply.status.is_client_error()
        || reply.status == StatusCode::SERVICE_UNAVAILABLE
            && reply.outcome.as_deref() == Some("none")
}

fn describe(reply: &Reply) -> String {
    let code = elements(&String::from_utf8_lossy(&reply.body), "Code").pop();
    let code = code.unwrap_or_else(|| "no code".to_owned());
    let outcome = reply.outcome.as_deref().unwrap_or("not told");
    format!("{} {code}, outcome {outcome}", reply.status.as_u16())
}

/// The texts of all elements of this name. Enough for answers to our own plain keys, which hold
/// nothing that XML escapes.
fn elements(xml: &str, name: &str) -> Vec<String> {
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
    use http::StatusCode;

    use super::{Broken, Outcome, Reply, elements, judge_read, judge_write};

    fn reply(status: u16, outcome: Option<&str>, body: &str) -> Result<Reply, Broken> {
        Ok(Reply {
            status: StatusCode::from_u16(status).unwrap(),
            outcome: outcome.map(str::to_owned),
            body: Bytes::copy_from_slice(body.as_bytes()),
        })
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
                Outcome::Ok(()) => "ok",
                Outcome::Fail(_) => "fail",
                Outcome::Info(_) => "info",
            };
            assert_eq!(kind, expected, "case {number}");
        }
    }

    #[test]
    fn only_a_missing_key_is_absence() {
        let absent = reply(404, None, "<Error><Code>NoSuchKey</Code></Error>");
        let bucket = reply(404, None, "<Error><Code>NoSuchBucket</Code></Error>");

        assert_eq!(judge_read(absent), Outcome::Ok(None));
        assert!(matches!(judge_read(bucket), Outcome::Fail(_)));
        assert!(matches!(judge_read(reply(503, None, "")), Outcome::Fail(_)));
    }

    #[test]
    fn the_keys_of_a_page_are_found() {
        let page =
            "<a><Contents><Key>c1/k1</Key></Contents><Contents><Key>c1/k2</Key></Contents></a>";

        assert_eq!(elements(page, "Key"), ["c1/k1", "c1/k2"]);
        assert!(elements(page, "NextContinuationToken").is_empty());
    }
}
