//! How many requests are under way.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use prometheus::IntCounterVec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::env::metrics;

static REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "quorate_http_requests_refused_total",
        "Requests refused because too many were under way.",
        &["listener"],
    )
});

/// Counts the requests of one listener and refuses those too many: a queue would only make
/// every client wait for answers that it no longer wants.
#[derive(Clone)]
pub(super) struct Requests {
    listener: &'static str,
    slots: Arc<Semaphore>,
}

impl Requests {
    /// Room for `requests_max`.
    pub(super) fn new(listener: &'static str, requests_max: usize) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(requests_max)) }
    }

    /// The answer of `service`, which counts until its last byte was sent; or 503.
    pub(super) async fn admit(
        &self,
        service: impl Future<Output = Response<Body>>,
    ) -> Response<Body> {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            REFUSED.with_label_values(&[self.listener]).inc();
            return slow_down();
        };
        service.await.map(|body| Body::new(Counted { body, _slot: slot }))
    }
}

fn slow_down() -> Response<Body> {
    let mut response = Response::new(Body::from("too many requests are under way; try again\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A body whose request counts as long as it is held.
struct Counted {
    body: Body,
    _slot: OwnedSemaphorePermit,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
