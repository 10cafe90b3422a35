//! The entry point: from one HTTP request to one HTTP answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use ring::digest::{SHA256, digest};
use tracing::Instrument as _;

use crate::auth::{Authenticated, Authenticator, Head, Payload, dates};
use crate::catalog::{BucketRecord, Catalog, CatalogError, Credential, KV_VALUE_MAX};
use crate::env::{Clock, Entropy, deadline_in, timeout_at};
use crate::http::Caller;
use crate::replication::Outcome;

use super::auth::authenticate;
use super::error::{Kind, KvError};
use super::reply::{self, Reply};
use super::route::{Operation, Route, route};
use super::value::Target;
use super::{metrics, openapi, request, scan, value};

/// A value must come in this time.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// What the front needs to know of its node.
#[derive(Clone)]
pub struct KvConfig {
    /// The region that signatures must be made for.
    pub region: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for request ids.
    pub entropy: Arc<dyn Entropy>,
}

/// Answers requests of the key-value API over a catalogue. Cheap to clone.
#[derive(Clone)]
pub struct KvFront {
    shared: Arc<Shared>,
}

struct Shared {
    catalog: Catalog,
    signatures: Authenticator,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// An authenticated and authorised request.
struct Admitted {
    route: Route,
    head: Head,
    bucket: Arc<BucketRecord>,
    payload: Payload,
}

impl KvFront {
    /// A front over that catalogue.
    #[must_use]
    pub fn new(catalog: Catalog, config: KvConfig) -> Self {
        let KvConfig { region, clock, entropy } = config;
        let signatures = Authenticator::new(&region);
        Self { shared: Arc::new(Shared { catalog, signatures, clock, entropy }) }
    }

    /// Answers one request. The body is polled only once the request is authenticated and
    /// authorised. Never fails: errors become documents.
    pub async fn handle<B>(&self, request: http::Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request.map(Body::new);
        let id = format!("{:016x}", self.shared.entropy.next_u64());
        let span = tracing::debug_span!("kv", request_id = %id);
        Box::pin(self.answer(request, id).instrument(span)).await
    }

    async fn answer(&self, request: http::Request<Body>, id: String) -> Reply {
        let started = self.shared.clock.monotonic();
        let method = request.method().clone();
        let (name, result) = self.serve(request).await;
        let mut reply = result.unwrap_or_else(|error| reply::error(&error, &method, &id));
        if method == Method::HEAD {
            reply = without_body(reply);
        }
        reply::set(&mut reply, "x-request-id", &id);
        record(name, reply.status(), self.shared.clock.monotonic().since(started));
        reply
    }

    async fn serve(&self, request: http::Request<Body>) -> (&'static str, Result<Reply, KvError>) {
        let caller = request.extensions().get::<Caller>().copied();
        let (parts, body) = request.into_parts();
        let routed = Head::parse(parts, |_| None)
            .map_err(KvError::from)
            .and_then(|head| Ok((route(&head.method, &head.path)?, head)));
        let (route, head) = match routed {
            Ok(routed) => routed,
            Err(error) => return ("refused", Err(error)),
        };
        let operation = route.operation;
        if operation == Operation::Document {
            return (operation.name(), Ok(openapi::document()));
        }
        match self.admit(route, head, caller) {
            Ok(admitted) => (operation.name(), self.run(admitted, body).await),
            Err(error) => ("refused", Err(error)),
        }
    }

    /// Everything that is decided before the body is polled.
    fn admit(&self, route: Route, head: Head, caller: Option<Caller>) -> Result<Admitted, KvError> {
        let shared = &self.shared;
        if let Some(reason) = shared.catalog.unready() {
            // What this node does not know yet is not answered as absent.
            return Err(CatalogError::Unavailable { outcome: Outcome::None, reason }.into());
        }
        let now = dates::seconds(shared.clock.wall());
        let parties = (&shared.catalog, &shared.signatures);
        let Authenticated { credential, payload } = authenticate(parties, &head, now, caller)?;
        request::check(route.operation, &head)?;
        let bucket = owned(&shared.catalog, &credential, &route.bucket)?;
        Ok(Admitted { route, head, bucket, payload })
    }

    async fn run(&self, admitted: Admitted, body: Body) -> Result<Reply, KvError> {
        let Admitted { route, head, bucket, payload } = admitted;
        let catalog = &self.shared.catalog;
        let level = request::level(&head, &bucket)?;
        if route.operation == Operation::Scan {
            return scan::scan((catalog, &bucket), &head, level).await;
        }
        let key = request::key(&route.key)?;
        let context = request::context(&head, &bucket, &key)?;
        let target = Target { catalog, bucket: &bucket, key, level };
        match route.operation {
            Operation::Put => {
                let _place = catalog.kv_place()?;
                let value = self.body(&head, body, &payload).await?;
                value::put(&target, context, value).await
            }
            Operation::Delete => value::delete(&target, context).await,
            _ => value::get(&target, &head.headers).await,
        }
    }

    /// Reads a value, which must be whole, small enough, and what was signed.
    async fn body(&self, head: &Head, body: Body, payload: &Payload) -> Result<Bytes, KvError> {
        let most = KV_VALUE_MAX.as_usize();
        let too_large = || {
            let message = format!(
                "a value has {KV_VALUE_MAX} at most; larger ones are objects for the S3 API"
            );
            KvError::new(Kind::ValueTooLarge, message)
        };
        if matches!(payload, Payload::Chunked { .. }) {
            let message = "a value is sent in one piece: aws-chunked bodies are not served here";
            return Err(KvError::new(Kind::NotImplemented, message));
        }
        let announced = head.header("content-length").and_then(|text| text.parse::<u64>().ok());
        if announced.is_some_and(|length| length > most as u64) {
            return Err(too_large());
        }
        let deadline = deadline_in(&*self.shared.clock, BODY_TIME_MAX);
        let read = timeout_at(&*self.shared.clock, deadline, Limited::new(body, most).collect());
        let value = match read.await {
            None => {
                let message = "the value did not come in time";
                return Err(KvError::new(Kind::RequestTimeout, message));
            }
            Some(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(too_large());
            }
            Some(Err(error)) => {
                let message = format!("the value broke off: {error}");
                return Err(KvError::new(Kind::InvalidRequest, message));
            }
            Some(Ok(body)) => body.to_bytes(),
        };
        match payload {
            Payload::Signed(sum) if digest(&SHA256, &value).as_ref() != sum => {
                let message = "the value is not what x-amz-content-sha256 says";
                Err(KvError::new(Kind::InvalidRequest, message))
            }
            _ => Ok(value),
        }
    }
}

/// The bucket, if it is the caller's: a bucket's owner may do everything in it, others nothing.
fn owned(catalog: &Catalog, caller: &Credential, name: &str) -> Result<Arc<BucketRecord>, KvError> {
    let bucket = catalog.bucket(name).ok_or(CatalogError::NoSuchBucket)?;
    if bucket.owner == caller.owner {
        return Ok(bucket);
    }
    Err(KvError::new(Kind::AccessDenied, "the bucket belongs to somebody else"))
}

/// The same head, with the length that the body would have.
fn without_body(reply: Reply) -> Reply {
    let length = http_body::Body::size_hint(reply.body()).exact();
    let (parts, _) = reply.into_parts();
    let mut reply = Response::from_parts(parts, Body::empty());
    if let Some(length) = length.filter(|length| *length > 0) {
        reply::set(&mut reply, "content-length", &length.to_string());
    }
    reply
}

fn record(operation: &'static str, status: StatusCode, time: Duration) {
    let class = match status.as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    metrics::REQUESTS.with_label_values(&[operation, class]).inc();
    metrics::LATENCY.with_label_values(&[operation]).observe(time.as_secs_f64());
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(operation, status = status.as_u16(), micros, "answered");
}
