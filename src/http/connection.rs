//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::env::{Tasks, timeout_at};

use super::limits::Limits;
use super::listener::Environment;
use super::requests::Requests;
use super::stall::StallGuard;
use super::tls::Tls;

/// Runs HTTP/2's inner tasks behind the tasks seam.
#[derive(Clone)]
struct TasksExecutor(Arc<dyn Tasks>);

impl<F> Executor<F> for TasksExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("http stream", Box::pin(future)).detach();
    }
}

/// The other end of a connection: an extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its address, if the system knows it still.
    pub address: Option<SocketAddr>,
    /// Whether what passes is encrypted.
    pub encrypted: bool,
}

impl Caller {
    /// Whether nobody else can listen: the connection is encrypted, or never leaves this machine.
    #[must_use]
    pub fn is_private(&self) -> bool {
        let local = |address: SocketAddr| address.ip().to_canonical().is_loopback();
        self.encrypted || self.address.is_some_and(local)
    }
}

/// What a connection needs besides its socket and its service.
pub(super) struct Connection {
    pub(super) environment: Environment,
    pub(super) limits: Limits,
    pub(super) requests: Requests,
    pub(super) stopping: CancellationToken,
}

impl Connection {
    /// Serves requests until the client leaves, a bound is reached, or the listener stops.
    pub(super) async fn serve<S, F>(self, stream: TcpStream, tls: Option<Tls>, service: S)
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let clock = Arc::clone(&self.environment.clock);
        let caller = Caller { address: stream.peer_addr().ok(), encrypted: tls.is_some() };
        let guarded = StallGuard::new(stream, Arc::clone(&clock), self.limits.write_stall_max);
        let Some(tls) = tls else {
            return self.speak(guarded, caller, service).await;
        };
        let deadline = clock.monotonic() + self.limits.header_timeout;
        match timeout_at(&*clock, deadline, tls.acceptor().accept(guarded)).await {
            Some(Ok(encrypted)) => self.speak(encrypted, caller, service).await,
            Some(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            None => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn speak<T, S, F>(self, stream: T, caller: Caller, service: S)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let (seen, first_request) = watch::channel(false);
        let header_bytes_max = self.limits.header_bytes_max;
        let requests = self.requests.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(caller);
            seen.send_replace(true);
            let fits = header_bytes(request.uri(), request.headers()) <= header_bytes_max;
            let (service, requests) = (service.clone(), requests.clone());
            async move {
                Ok::<_, Infallible>(match fits {
                    true => requests.admit(service(request)).await,
                    false => too_large(),
                })
            }
        });
        let builder = self.builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut late = pin!(self.late(first_request));
        let served = tokio::select! {
            biased;
            served = connection.as_mut() => served,
            () = late.as_mut() => return,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        if let Err(error) = served {
            // Clients break off and talk nonsense every day.
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Resolves if no request came in time. Hyper's own timer starts only when it knows which
    /// version of HTTP is spoken, and a client may never say enough for that.
    async fn late(&self, mut first_request: watch::Receiver<bool>) {
        let clock = &*self.environment.clock;
        let deadline = clock.monotonic() + self.limits.header_timeout;
        let came =
            timeout_at(clock, deadline, first_request.wait_for(|seen| *seen)).await.is_some();
        if came {
            std::future::pending::<()>().await;
        }
        tracing::debug!("no request came in time");
    }

    fn builder(&self) -> Builder<TasksExecutor> {
        let limits = &self.limits;
        let mut builder = Builder::new(TasksExecutor(Arc::clone(&self.environment.tasks)));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_headers(limits.header_count_max)
            .max_buf_size(limits.buffer_bytes_max.max(8 << 10));
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(limits.streams_max)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .keep_alive_interval(limits.header_timeout)
            .keep_alive_timeout(limits.header_timeout);
        builder
    }
}

fn header_bytes(target: &http::Uri, headers: &HeaderMap) -> usize {
    let target = target.path_and_query().map_or(0, |text| text.as_str().len());
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    target + fields.sum::<usize>()
}

fn too_large() -> Response<Body> {
    let mut response = Response::new(Body::from("the request's headers are too large\n"));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
}
