//! The entry point: from one HTTP request to one HTTP answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use tracing::Instrument as _;

use crate::auth::{Authenticated, Authenticator, Payload};
use crate::catalog::{Catalog, CatalogError};
use crate::env::{Clock, Entropy, deadline_in, timeout_at};
use crate::replication::{Level, Outcome};

use super::authorize::authorize;
use super::body::{Promise, Unread};
use super::call::{Call, Shared};
use super::dates;
use super::error::S3Error;
use super::headers::LEVEL_HEADER;
use super::metrics;
use super::operation::{self, Operation};
use super::reply::{self, Reply, RequestIds};
use super::request::Request;

/// A body that a refused client sends unasked is read this far, so that the client comes to
/// read the refusal; longer ones see their connection closed.
const DRAIN_BYTES_MAX: usize = 1 << 20;
/// Draining ends after this time.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);

/// What the S3 front needs to know of its node.
#[derive(Clone)]
pub struct S3Config {
    /// The region that requests must be signed for; `us-east-1` brings its habits with it.
    pub region: String,
    /// Suffixes of virtual hosts: with `s3.example.org`, `photos.s3.example.org` is a bucket.
    pub root_domains: Vec<String>,
    /// The level of buckets that are created without one.
    pub default_level: Level,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for request ids.
    pub entropy: Arc<dyn Entropy>,
}

/// Answers S3 requests over a catalogue. Cheap to clone.
#[derive(Clone)]
pub struct S3Front {
    shared: Arc<Shared>,
}

impl S3Front {
    /// A front over that catalogue.
    #[must_use]
    pub fn new(catalog: Catalog, config: S3Config) -> Self {
        let S3Config { region, root_domains, default_level, clock, entropy } = config;
        let authenticator = Authenticator::new(&region);
        let shared =
            Shared { catalog, region, root_domains, default_level, authenticator, clock, entropy };
        Self { shared: Arc::new(shared) }
    }

    /// Answers one request. The body is polled only once the request is authenticated and
    /// authorised. Never fails: errors become S3's error documents.
    pub async fn handle<B>(&self, request: http::Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request.map(Body::new);
        let ids = Arc::new(RequestIds::draw(&*self.shared.entropy));
        let span = tracing::debug_span!("s3", request_id = %ids.request);
        // Boxed, so that the connection's task does not carry every operation's state inline.
        Box::pin(self.answer(request, ids).instrument(span)).await
    }

    async fn answer(&self, request: http::Request<Body>, ids: Arc<RequestIds>) -> Reply {
        let started = self.shared.clock.monotonic();
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        let resource = parts.uri.path().to_owned();
        let waits = parts.version <= http::Version::HTTP_11
            && parts.headers.contains_key(http::header::EXPECT);
        let empty = http_body::Body::is_end_stream(&body);
        let admitted = Request::parse(parts, &self.shared.root_domains)
            .and_then(|request| self.admit(request, &ids));
        let mut level = None;
        let (name, bucket, result) = match admitted {
            Ok(Admitted { operation, call, payload, promise }) => {
                let name = operation.name();
                level = operation.served_level(&call);
                let bucket = call.request.bucket.clone().unwrap_or_default();
                let unread = Unread { body, payload, promise, clock: self.shared.clock.clone() };
                (name, bucket, operation.run(call, unread).await)
            }
            Err(error) => {
                if !waits {
                    self.drain(body).await;
                }
                ("Refused", String::new(), Err(error))
            }
        };
        let mut reply =
            result.unwrap_or_else(|error| reply::error(&error, &method, &resource, &ids));
        // A client that waits for `100 Continue` and gets its answer without one may take the
        // next answer on this connection for it: there is no next one.
        if waits && (empty || !reply.status().is_success()) {
            reply::set(&mut reply, "connection", "close");
        }
        // Answers that know no more, and refusals, say at which level they were asked for.
        if let Some(level) = level.filter(|_| !reply.headers().contains_key(LEVEL_HEADER)) {
            reply::set(&mut reply, LEVEL_HEADER, &level.to_string());
        }
        reply::set(&mut reply, "x-amz-request-id", &ids.request);
        reply::set(&mut reply, "x-amz-id-2", &ids.host);
        record(name, &bucket, &reply, self.shared.clock.monotonic().since(started));
        reply
    }

    /// Everything that is decided before the body is polled.
    fn admit(&self, mut request: Request, ids: &Arc<RequestIds>) -> Result<Admitted, S3Error> {
        if operation::is_preflight(&request) {
            return Err(operation::preflight(&request));
        }
        let shared = &self.shared;
        if let Some(reason) = shared.catalog.unready() {
            // What this node does not know yet is not answered as absent.
            return Err(CatalogError::Unavailable { outcome: Outcome::None, reason }.into());
        }
        let now = dates::seconds(shared.clock.wall());
        let find = |id: &str| shared.catalog.credential(id);
        let Authenticated { credential, payload } =
            shared.authenticator.authenticate(&request, now, find)?;
        request.adopt_presigned_headers();
        let operation = Operation::parse(&request)?;
        let access = authorize(&shared.catalog, &credential, &operation, &request)?;
        let promise = Promise::of(&request, &payload, operation.content())?;
        let (shared, request, ids) = (shared.clone(), Arc::new(request), ids.clone());
        let call = Call { shared, request, caller: credential, access, ids };
        Ok(Admitted { operation, call, payload, promise })
    }

    async fn drain(&self, mut body: Body) {
        let ended = http_body::Body::is_end_stream(&body);
        let deadline = deadline_in(&*self.shared.clock, DRAIN_TIME_MAX);
        let reading = async {
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > DRAIN_BYTES_MAX {
                    break;
                }
            }
        };
        if !ended {
            // Whether it ended in time makes no difference to the refusal.
            let _ = timeout_at(&*self.shared.clock, deadline, reading).await;
        }
    }
}

struct Admitted {
    operation: Operation,
    call: Call,
    payload: Payload,
    promise: Promise,
}

fn record(operation: &'static str, bucket: &str, reply: &Reply, time: Duration) {
    let status = reply.status();
    let class = match status.as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    metrics::REQUESTS.with_label_values(&[operation, class]).inc();
    metrics::LATENCY.with_label_values(&[operation]).observe(time.as_secs_f64());
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let bytes = http_body::Body::size_hint(reply.body()).exact();
    let status = status.as_u16();
    tracing::debug!(operation, bucket, status, bytes, micros, "answered");
}
