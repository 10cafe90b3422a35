//! A lean S3 client: kept connections, signed heads, bodies that are checked as they pass.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::env::{Clock, OsClock, timeout_at};

use super::content::{Content, ContentBody};
use super::sign::{Signable, Signer, UNSIGNED};
use crate::cli::client::{encoded, root_cause};

const PATIENCE: Duration = Duration::from_secs(60);
const LIST_BYTES_MAX: usize = 8 << 20;
const ERROR_BYTES_MAX: usize = 64 << 10;
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Whose certificates are good.
pub(in crate::cli) enum Trust {
    /// Those that the system trusts.
    System,
    /// Those in this PEM file.
    File(PathBuf),
    /// All: for self-signed servers on one's own machine.
    Anyone,
    /// None: for plain HTTP, on machines that may have no certificates.
    Nobody,
}

/// Why a request did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It failed; this kind of failure is counted.
    Kind(String),
    /// It succeeded and brought other bytes than were written.
    Damage(String),
}

/// What a request moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    /// Bytes of object bodies.
    pub(super) bytes: u64,
}

/// Where an API is served.
pub(in crate::cli) struct Endpoint {
    /// Scheme, host and port.
    pub(in crate::cli) base: String,
    /// What the `host` header says.
    pub(in crate::cli) host: String,
}

/// Talks to one bucket through one or several endpoints in turn.
pub(super) struct S3Client {
    endpoints: Vec<Endpoint>,
    turn: AtomicUsize,
    bucket: String,
    signer: Signer,
    client: Client<HttpsConnector<HttpConnector>, ContentBody>,
    clock: Arc<OsClock>,
}

impl S3Client {
    /// A client of `bucket`.
    pub(super) fn new(
        endpoints: &[String],
        bucket: &str,
        signer: Signer,
        trust: &Trust,
        clock: Arc<OsClock>,
    ) -> anyhow::Result<Self> {
        let endpoints =
            endpoints.iter().map(|url| endpoint(url)).collect::<anyhow::Result<Vec<_>>>()?;
        let encrypted = endpoints.iter().any(|endpoint| endpoint.base.starts_with("https"));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(None)
            .build(super::trust::connector(if encrypted { trust } else { &Trust::Nobody })?);
        let bucket = bucket.to_owned();
        Ok(Self { endpoints, turn: AtomicUsize::new(0), bucket, signer, client, clock })
    }

    /// Creates the bucket unless it is there.
    pub(super) async fn ensure_bucket(&self) -> anyhow::Result<()> {
        let path = format!("/{}", self.bucket);
        let there = self.send(Method::HEAD, &path, "", ContentBody::empty()).await;
        match there.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => return Ok(()),
            Ok(StatusCode::NOT_FOUND) => {}
            Ok(status) => bail!("bucket '{}' cannot be used: HTTP {status}", self.bucket),
            Err(Failure::Kind(kind) | Failure::Damage(kind)) => {
                bail!("{} cannot be reached: {kind}", self.endpoints[0].base)
            }
        }
        match self.send(Method::PUT, &path, "", ContentBody::empty()).await.map(refused) {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => {
                bail!("bucket '{}' cannot be created: {}", self.bucket, kind_of(answer).await)
            }
            Err(Failure::Kind(kind) | Failure::Damage(kind)) => {
                bail!("bucket '{}' cannot be created: {kind}", self.bucket)
            }
        }
    }

    /// Writes the `size` bytes that belong to `key`.
    pub(super) async fn put(&self, key: &str, size: u64) -> Result<Moved, Failure> {
        self.in_time(async {
            let body = ContentBody::new(Content::of(key), size);
            let answer = self.send(Method::PUT, &self.path(key), "", body).await?;
            self.finish(answer).await?;
            Ok(Moved { bytes: size })
        })
        .await
    }

    /// Reads `key` and compares every byte.
    pub(super) async fn get(&self, key: &str, size: u64) -> Result<Moved, Failure> {
        self.in_time(async {
            let answer = self.send(Method::GET, &self.path(key), "", ContentBody::empty()).await?;
            if !answer.status().is_success() {
                return Err(Failure::Kind(kind_of(answer).await));
            }
            let (content, mut position) = (Content::of(key), 0);
            let mut body = answer.into_body();
            while let Some(frame) = body.frame().await {
                let Ok(bytes) = frame.map_err(|error| broken(&error))?.into_data() else {
                    continue;
                };
                if let Some(at) = content.first_difference(position, &bytes) {
                    return Err(Failure::Damage(format!("{key}: byte {at} of {size} is wrong")));
                }
                position += bytes.len() as u64;
            }
            match position == size {
                true => Ok(Moved { bytes: size }),
                false => Err(Failure::Damage(format!("{key}: {position} bytes, not {size}"))),
            }
        })
        .await
    }

    /// Deletes `key`.
    pub(super) async fn delete(&self, key: &str) -> Result<Moved, Failure> {
        self.in_time(async {
            let empty = ContentBody::empty();
            let answer = self.send(Method::DELETE, &self.path(key), "", empty).await?;
            self.finish(answer).await?;
            Ok(Moved::default())
        })
        .await
    }

    /// Lists the first page under `prefix`, which must have `wanted` keys.
    pub(super) async fn list(&self, prefix: &str, wanted: u64) -> Result<Moved, Failure> {
        self.in_time(async {
            let query = format!("list-type=2&max-keys=1000&prefix={}", encoded(prefix));
            let path = format!("/{}", self.bucket);
            let answer = self.send(Method::GET, &path, &query, ContentBody::empty()).await?;
            if !answer.status().is_success() {
                return Err(Failure::Kind(kind_of(answer).await));
            }
            let body = Limited::new(answer.into_body(), LIST_BYTES_MAX).collect().await;
            let body = body.map_err(|error| Failure::Kind(error.to_string()))?.to_bytes();
            let listed = String::from_utf8_lossy(&body).matches("<Key>").count() as u64;
            match listed == wanted {
                true => Ok(Moved::default()),
                false => Err(Failure::Damage(format!("{prefix}: {listed} keys, not {wanted}"))),
            }
        })
        .await
    }

    fn path(&self, key: &str) -> String {
        format!("/{}/{}", self.bucket, utf8_percent_encode(key, PATH))
    }

    async fn in_time(
        &self,
        request: impl Future<Output = Result<Moved, Failure>>,
    ) -> Result<Moved, Failure> {
        let deadline = self.clock.monotonic() + PATIENCE;
        let timed_out = || Err(Failure::Kind(format!("no answer in {PATIENCE:?}")));
        timeout_at(&*self.clock, deadline, request).await.unwrap_or_else(timed_out)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: ContentBody,
    ) -> Result<Response<Incoming>, Failure> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let endpoint = &self.endpoints[turn % self.endpoints.len()];
        let odd = |error: &dyn std::fmt::Display| Failure::Kind(format!("odd request: {error}"));
        let signable = Signable { method: method.as_str(), host: &endpoint.host, path, query };
        let signed = self.signer.sign(&signable, self.clock.wall()).map_err(|error| odd(&error))?;
        let mark = if query.is_empty() { "" } else { "?" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}{mark}{query}", endpoint.base))
            .header(header::HOST, &endpoint.host)
            .header("x-amz-content-sha256", UNSIGNED)
            .header("x-amz-date", signed.date)
            .header(header::AUTHORIZATION, signed.authorization)
            .body(body)
            .map_err(|error| odd(&error))?;
        self.client.request(request).await.map_err(|error| Failure::Kind(root_cause(&error)))
    }

    /// Reads the rest of an answer that carries nothing, so that its connection can be kept.
    async fn finish(&self, answer: Response<Incoming>) -> Result<(), Failure> {
        if !answer.status().is_success() {
            return Err(Failure::Kind(kind_of(answer).await));
        }
        let body = Limited::new(answer.into_body(), ERROR_BYTES_MAX).collect().await;
        body.map(drop).map_err(|error| Failure::Kind(error.to_string()))
    }
}

fn refused(answer: Response<Incoming>) -> Option<Response<Incoming>> {
    (!answer.status().is_success()).then_some(answer)
}

fn broken(error: &hyper::Error) -> Failure {
    Failure::Kind(format!("the answer broke off: {}", root_cause(error)))
}

/// `503 SlowDown`: the status and S3's code.
async fn kind_of(answer: Response<Incoming>) -> String {
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ERROR_BYTES_MAX).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_else(|_| Bytes::new());
    let text = String::from_utf8_lossy(&body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    match code {
        Some((code, _)) => format!("{status} {code}"),
        None => status.to_string(),
    }
}

/// Takes a URL without a path apart.
pub(in crate::cli) fn endpoint(url: &str) -> anyhow::Result<Endpoint> {
    let uri: Uri = url.parse().with_context(|| format!("'{url}' is no URL"))?;
    let whole = matches!(uri.scheme_str(), Some("http" | "https")) && uri.path() == "/";
    let Some(authority) = uri.authority().filter(|_| whole) else {
        bail!("'{url}' is no endpoint: write for instance http://127.0.0.1:9000");
    };
    let host = match (uri.scheme_str(), uri.port_u16()) {
        // Clients leave a scheme's own port out of the Host header, and so out of the signature.
        (Some("http"), Some(80)) | (Some("https"), Some(443)) => authority.host().to_owned(),
        _ => authority.as_str().to_owned(),
    };
    Ok(Endpoint { base: url.trim_end_matches('/').to_owned(), host })
}
