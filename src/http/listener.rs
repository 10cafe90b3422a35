//! One port and the connections that come to it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use prometheus::{IntCounterVec, IntGaugeVec};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::env::{Clock, TaskHandle, Tasks, metrics, timeout_at};

use super::connection::Connection;
use super::limits::Limits;
use super::requests::Requests;
use super::tls::Tls;

static OPEN: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    metrics::gauges("quorate_http_connections", "Connections that are open.", &["listener"])
});
static REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "quorate_http_connections_refused_total",
        "Connections refused because too many were open.",
        &["listener"],
    )
});

/// What a client gets instead of a connection too many.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Slow Down\r\nconnection: close\r\nretry-after: 1\r\n\
    content-length: 0\r\n\r\n";

/// Why a port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has it.
    #[error(
        "{listener}: {address} is in use by another process; stop it, or configure another port"
    )]
    InUse {
        /// Which listener: the name of its configuration section.
        listener: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses it.
    #[error("{listener}: cannot listen on {address}: {source}")]
    Refused {
        /// Which listener.
        listener: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The seams that a listener runs on.
#[derive(Clone)]
pub struct Environment {
    /// For timeouts.
    pub clock: Arc<dyn Clock>,
    /// Where connections run.
    pub tasks: Arc<dyn Tasks>,
}

/// A bound port that does not serve yet.
pub struct Listener {
    name: &'static str,
    socket: TcpListener,
    address: SocketAddr,
    limits: Limits,
    tls: Option<Tls>,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one. `name` says in errors, logs and metrics which
    /// listener this is.
    ///
    /// # Errors
    /// [`ListenError`] naming the address.
    pub async fn bind(
        name: &'static str,
        address: SocketAddr,
        limits: Limits,
        tls: Option<Tls>,
    ) -> Result<Self, ListenError> {
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { listener: name, address },
            _ => ListenError::Refused { listener: name, address, source },
        };
        let socket = TcpListener::bind(address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self { name, socket, address, limits, tls })
    }

    /// The address with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves every request with `service` until the server is stopped or dropped.
    pub fn serve<S, F>(self, environment: Environment, service: S) -> Server
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let (address, name) = (self.address, self.name);
        let slots = Arc::new(Semaphore::new(self.limits.connections_max));
        let (stopping, cut) = (CancellationToken::new(), CancellationToken::new());
        let accepting = Accepting {
            requests: Requests::new(name, self.limits.requests_max),
            listener: self,
            environment: environment.clone(),
            slots: Arc::clone(&slots),
            stopping: stopping.clone(),
            cut: cut.clone(),
        };
        let connections_max = accepting.listener.limits.connections_max;
        let accept = environment.tasks.spawn("http accept", Box::pin(accepting.run(service)));
        tracing::info!(listener = name, %address, "listening");
        Server {
            name,
            address,
            clock: environment.clock,
            slots,
            connections_max,
            stopping,
            cut,
            _accept: accept,
        }
    }
}

/// A port that is being served. Dropping it cuts its connections.
pub struct Server {
    name: &'static str,
    address: SocketAddr,
    clock: Arc<dyn Clock>,
    slots: Arc<Semaphore>,
    connections_max: usize,
    stopping: CancellationToken,
    cut: CancellationToken,
    _accept: TaskHandle,
}

impl Server {
    /// The address with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, lets those under way finish for up to `grace`, then cuts what
    /// is left.
    pub async fn stop(self, grace: Duration) {
        self.stopping.cancel();
        let all = u32::try_from(self.connections_max).unwrap_or(u32::MAX);
        let deadline = self.clock.monotonic() + grace;
        let idle = timeout_at(&*self.clock, deadline, self.slots.acquire_many(all)).await;
        if idle.is_none() {
            let open = self.connections_max - self.slots.available_permits();
            tracing::warn!(listener = self.name, open, "connections cut at the end of the grace");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.cut.cancel();
    }
}

struct Accepting {
    listener: Listener,
    environment: Environment,
    slots: Arc<Semaphore>,
    requests: Requests,
    stopping: CancellationToken,
    cut: CancellationToken,
}

impl Accepting {
    async fn run<S, F>(self, service: S)
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                accepted = self.listener.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.admit(stream, service.clone()),
                Err(error) => {
                    // Out of file descriptors, or a connection that died in the queue: neither
                    // may end the loop or spin it.
                    tracing::warn!(listener = self.listener.name, %error, "accept failed");
                    self.environment.clock.sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn admit<S, F>(&self, stream: TcpStream, service: S)
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let name = self.listener.name;
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            REFUSED.with_label_values(&[name]).inc();
            if self.listener.tls.is_none() {
                // A courtesy: if the socket cannot take it at once, closing says enough.
                drop(stream.try_write(TOO_MANY));
            }
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(listener = name, %error, "TCP_NODELAY was refused");
        }
        let connection = Connection {
            environment: self.environment.clone(),
            limits: self.listener.limits,
            requests: self.requests.clone(),
            stopping: self.stopping.clone(),
        };
        let (tls, cut) = (self.listener.tls.clone(), self.cut.clone());
        let task = async move {
            OPEN.with_label_values(&[name]).inc();
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = connection.serve(stream, tls, service) => {}
            }
            OPEN.with_label_values(&[name]).dec();
            drop(slot);
        };
        self.environment.tasks.spawn("http connection", Box::pin(task)).detach();
    }
}

/// An axum router as a service for [`Listener::serve`].
pub fn router(
    router: axum::Router,
) -> impl Fn(Request<Incoming>) -> futures_util::future::BoxFuture<'static, Response<Body>>
+ Clone
+ Send
+ Sync
+ 'static {
    move |request| {
        let router = router.clone();
        Box::pin(
            async move { router.oneshot(request).await.unwrap_or_else(|never| match never {}) },
        )
    }
}
