//! The client of the key-value API: signed requests, answers with their headers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::cli::bench::client::{Endpoint, Trust, endpoint};
use crate::cli::bench::sign::{Signable, Signer, UNSIGNED};
use crate::cli::bench::trust::connector;
use crate::cli::client::{encoded, root_cause};
use crate::env::{Clock, OsClock, timeout_at};
use crate::node::config::Secret;

const ANSWER_BYTES_MAX: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Where the API is, and as whom to call it.
#[derive(Args, Debug)]
pub(super) struct ClientArgs {
    /// Any node's key-value API
    #[arg(
        long,
        env = "QUORATE_KV_URL",
        default_value = "http://127.0.0.1:9004",
        value_name = "URL"
    )]
    endpoint: String,
    /// The access key id
    #[arg(long, env = "AWS_ACCESS_KEY_ID", value_name = "ID")]
    access_key_id: String,
    /// The secret
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true, value_name = "SECRET")]
    secret_access_key: String,
    /// The region to sign for
    #[arg(long, env = "AWS_DEFAULT_REGION", default_value = "us-east-1")]
    region: String,
    /// Trust this certificate (PEM) besides none other
    #[arg(long, value_name = "PEM", conflicts_with = "insecure")]
    ca_file: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long)]
    insecure: bool,
}

/// An answer of the API that is no error.
pub(super) struct Answer {
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body.
    pub(super) body: Bytes,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name)?.to_str().ok().map(str::to_owned)
    }
}

/// An error of the API.
#[derive(Debug, Deserialize, thiserror::Error)]
#[error("{message} ({code}, request {request_id})")]
pub(super) struct Refusal {
    /// Its stable code.
    pub(super) code: String,
    message: String,
    request_id: String,
    /// The context of the deletions that stand there.
    #[serde(skip)]
    pub(super) context: Option<String>,
}

/// What is sent.
pub(super) struct Asked<'a> {
    /// The method.
    pub(super) method: Method,
    /// The bucket.
    pub(super) bucket: &'a str,
    /// The key; empty for scans.
    pub(super) key: &'a str,
    /// Query parameters.
    pub(super) query: Vec<(&'static str, String)>,
    /// The causal context.
    pub(super) context: Option<&'a str>,
    /// The value.
    pub(super) value: Bytes,
}

/// Talks to one node's key-value API.
pub(super) struct KvClient {
    endpoint: Endpoint,
    signer: Signer,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    clock: Arc<OsClock>,
}

impl KvClient {
    /// A client as the arguments say.
    pub(super) fn new(args: &ClientArgs) -> anyhow::Result<Self> {
        let endpoint = endpoint(&args.endpoint)?;
        let trust = match (&args.ca_file, args.insecure) {
            _ if !endpoint.base.starts_with("https") => Trust::Nobody,
            (Some(file), _) => Trust::File(file.clone()),
            (None, true) => Trust::Anyone,
            (None, false) => Trust::System,
        };
        let secret = Secret::new(args.secret_access_key.clone());
        Ok(Self {
            endpoint,
            signer: Signer::new(args.access_key_id.clone(), secret, args.region.clone()),
            client: Client::builder(TokioExecutor::new()).build(connector(&trust)?),
            clock: Arc::new(OsClock::new()),
        })
    }

    /// Asks, and takes any answer that is no error.
    pub(super) async fn ask(&self, asked: Asked<'_>) -> anyhow::Result<Answer> {
        let base = &self.endpoint.base;
        let path = utf8_percent_encode(&format!("/kv/v1/{}/{}", asked.bucket, asked.key), PATH)
            .to_string();
        let mut query: Vec<String> =
            asked.query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        query.sort_unstable();
        let query = query.join("&");
        let signable = Signable {
            method: asked.method.as_str(),
            host: &self.endpoint.host,
            path: &path,
            query: &query,
        };
        let signed = self.signer.sign(&signable, self.clock.wall())?;
        let mark = if query.is_empty() { "" } else { "?" };
        let mut request = Request::builder()
            .method(asked.method)
            .uri(format!("{base}{path}{mark}{query}"))
            .header(header::HOST, &self.endpoint.host)
            .header(header::ACCEPT, "application/json")
            .header("x-amz-content-sha256", UNSIGNED)
            .header("x-amz-date", signed.date)
            .header(header::AUTHORIZATION, signed.authorization);
        if let Some(context) = asked.context {
            request = request.header("x-quorate-context", context);
        }
        let request = request.body(Full::new(asked.value)).context("the request is odd")?;
        let deadline = self.clock.monotonic() + PATIENCE;
        timeout_at(&*self.clock, deadline, self.exchange(request))
            .await
            .ok_or_else(|| anyhow!("{base} did not answer in {PATIENCE:?}"))?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let base = &self.endpoint.base;
        let answer = self.client.request(request).await.map_err(|error| {
            anyhow!(
                "cannot reach the key-value API at {base}: {}\n\
                 Next: name a node that runs with --endpoint or QUORATE_KV_URL",
                root_cause(&error)
            )
        })?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow!("the answer broke off: {error}"))?.to_bytes();
        if status.is_success() || status == StatusCode::MULTIPLE_CHOICES {
            return Ok(Answer { headers, body });
        }
        let Ok(refusal) = serde_json::from_slice::<Refusal>(&body) else {
            bail!("{base} answered {status}: is this the key-value API?");
        };
        let context = headers.get("x-quorate-context").and_then(|value| value.to_str().ok());
        Err(Refusal { context: context.map(str::to_owned), ..refusal }.into())
    }
}
