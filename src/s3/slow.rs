//! Answers that may take long: white space keeps the connection alive until the document comes.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};

use crate::replication::Served;

use super::call::Call;
use super::error::S3Error;
use super::reply::{self, Reply};
use super::xml::{DECLARATION, Xml};

/// So long an operation may answer with its own status; after that, and as often, a space is
/// sent. AWS documents an error inside a 200 for these operations, and SDKs look for it.
const PATIENCE: Duration = Duration::from_secs(5);

type Outcome = Result<(Xml, Served), S3Error>;
type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The answer to `work`, at once if it is done soon.
///
/// # Errors
/// Those of `work`, if they come soon; later ones are sent as a document.
pub(crate) async fn answer(
    call: &Call,
    work: impl Future<Output = Outcome> + Send + 'static,
) -> Result<Reply, S3Error> {
    let work: Work = Box::pin(work);
    match select(work, call.shared.clock.sleep(PATIENCE)).await {
        Either::Left((outcome, _)) => {
            let (document, served) = outcome?;
            let mut reply = reply::xml(document);
            reply::served(&mut reply, served);
            Ok(reply)
        }
        Either::Right(((), work)) => Ok(drip(call.clone(), work)),
    }
}

fn drip(call: Call, work: Work) -> Reply {
    let start = Bytes::from_static(DECLARATION.as_bytes());
    let pieces = stream::unfold((Some(start), Some(work)), move |(start, work)| {
        let call = call.clone();
        async move {
            let work = work?;
            if let Some(start) = start {
                return Some((Ok::<_, S3Error>(start), (None, Some(work))));
            }
            match select(work, call.shared.clock.sleep(PATIENCE)).await {
                Either::Right(((), work)) => {
                    Some((Ok(Bytes::from_static(b" ")), (None, Some(work))))
                }
                Either::Left((outcome, _)) => Some((Ok(tail(&call, outcome)), (None, None))),
            }
        }
    });
    let mut reply = Response::new(Body::from_stream(pieces));
    *reply.status_mut() = StatusCode::OK;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    reply
}

fn tail(call: &Call, outcome: Outcome) -> Bytes {
    let text = match outcome {
        Ok((document, _)) => document.finish(),
        Err(error) => {
            tracing::info!(code = error.code.text(), "a slow operation failed after its 200");
            reply::error_document(&error, &call.request.path, &call.ids)
        }
    };
    Bytes::from(text.strip_prefix(DECLARATION).map(str::to_owned).unwrap_or(text))
}
