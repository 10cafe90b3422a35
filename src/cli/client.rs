//! The client of the admin API.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::AdminError;
use crate::env::{Clock, OsClock, timeout_at};
use crate::node::config::Secret;

const ANSWER_BYTES_MAX: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Talks to one node's admin API.
pub(super) struct AdminClient {
    base: String,
    token: Option<Secret>,
    client: Client<HttpConnector, Full<Bytes>>,
    clock: OsClock,
    patience: Duration,
}

/// `text` as it may stand in a path segment or a query value.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

impl AdminClient {
    /// A client of the API at `url`.
    pub(super) fn new(url: &str, token: Option<Secret>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("'{url}' is no URL"))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            bail!("'{url}' is no admin URL: write for instance http://127.0.0.1:9001");
        }
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            token,
            client: Client::builder(TokioExecutor::new()).build_http(),
            clock: OsClock::new(),
            patience: PATIENCE,
        })
    }

    /// The same client, waiting longer for answers.
    pub(super) fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Gets what is at `path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.read(self.ask(Method::GET, path, Bytes::new()).await?)
    }

    /// Posts `body` as JSON.
    pub(super) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body)?;
        self.read(self.ask(Method::POST, path, body.into()).await?)
    }

    /// Changes what is at `path` as `body` says, in JSON.
    pub(super) async fn patch<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body)?;
        self.read(self.ask(Method::PATCH, path, body.into()).await?)
    }

    /// Deletes what is at `path`.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.ask(Method::DELETE, path, Bytes::new()).await.map(drop)
    }

    /// Whether a health check at `path` passes; the error says why not.
    pub(super) async fn probe(&self, path: &str) -> anyhow::Result<()> {
        let request = Request::builder().uri(format!("{}{path}", self.base));
        let (status, body) = self.exchange(request.body(Full::default())?).await?;
        match status.is_success() {
            true => Ok(()),
            false => bail!("{}", String::from_utf8_lossy(&body).trim()),
        }
    }

    fn read<T: DeserializeOwned>(&self, answer: Bytes) -> anyhow::Result<T> {
        serde_json::from_slice(&answer).with_context(|| {
            format!("{} answered with something else than this release expects", self.base)
        })
    }

    /// The body of a good answer; the error of another.
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let request = request.body(Full::new(body)).context("the admin token or URL is odd")?;
        let deadline = self.clock.monotonic() + self.patience;
        let (status, bytes) = timeout_at(&self.clock, deadline, self.exchange(request))
            .await
            .ok_or_else(|| anyhow!("{} did not answer in {:?}", self.base, self.patience))??;
        if status.is_success() {
            return Ok(bytes);
        }
        match serde_json::from_slice::<AdminError>(&bytes) {
            Ok(error) => Err(error.into()),
            Err(_) => bail!("{} answered {status}: is this the admin API?", self.base),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
        let answer = self.client.request(request).await.map_err(|error| {
            let reason = root_cause(&error);
            anyhow!(
                "cannot reach the admin API at {}: {reason}\n\
                 Next: start a node (quorate server --config FILE), or name one that runs with \
                 --admin-url or QUORATE_ADMIN_URL",
                self.base
            )
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| anyhow!("the answer broke off: {error}"))?.to_bytes();
        Ok((status, bytes))
    }
}

/// The innermost reason: "Connection refused" says more than "client error".
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
