//! The paths of the admin API.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use ring::digest::{SHA256, digest};

use crate::env::metrics;

use super::api::{
    CreateBucketRequest, CreateKeyRequest, HistoryQuery, HistoryReport, InitRequest, LocateQuery,
    SetBucketRequest,
};
use super::control::ClusterControl;
use super::error::{AdminError, ErrorKind};
use super::model::{ClusterStatus, HealthLevel, HintsReport};
use super::repair::{RepairReport, RepairRequest};

/// The bearer token, as its hash: comparing hashes tells nothing about the token by its time.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

impl AdminToken {
    /// The token that callers must bear.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(hash(token.as_bytes()))
    }

    fn is_borne_by(&self, headers: &HeaderMap) -> bool {
        let borne = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let Some(borne) = borne else { return false };
        let borne = hash(borne);
        self.0.iter().zip(borne).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    bytes
}

type Control = State<Arc<dyn ClusterControl>>;
type Answer<T> = Result<Json<T>, AdminError>;

/// The whole admin API over `control`.
pub fn routes(control: Arc<dyn ClusterControl>, token: AdminToken) -> Router {
    let guarded = Router::new()
        .route("/v1/cluster/init", post(init))
        .route("/v1/status", get(status))
        .route("/v1/ring", get(ring_report))
        .route("/v1/hints", get(hints))
        .route("/v1/locate", get(locate))
        .route("/v1/repair", get(repair_status).post(repair))
        .route("/v1/buckets", get(buckets).post(create_bucket))
        .route("/v1/buckets/{name}", get(bucket).patch(set_bucket).delete(delete_bucket))
        .route("/v1/object/history", get(history))
        .route("/v1/keys", get(keys).post(create_key))
        .route("/v1/keys/{id}", get(key).delete(delete_key))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_path)
        .layer(from_fn_with_state(token, demand_token));
    Router::new()
        .route("/metrics", get(exposition))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/health/cluster", get(cluster_health))
        .merge(guarded)
        .with_state(control)
}

async fn demand_token(State(token): State<AdminToken>, request: Request, next: Next) -> Response {
    if token.is_borne_by(request.headers()) {
        return next.run(request).await;
    }
    AdminError::new(ErrorKind::Unauthorized, "the admin token is missing or wrong")
        .next("give it with --token, or in QUORATE_ADMIN_TOKEN")
        .into_response()
}

async fn unknown_path(request: Request) -> AdminError {
    let (method, path) = (request.method(), request.uri().path());
    AdminError::new(ErrorKind::NotFound, format!("there is no {method} {path} in this release"))
}

async fn init(
    State(control): Control,
    request: Result<Json<InitRequest>, JsonRejection>,
) -> Result<Response, AdminError> {
    Ok(Json(control.init(body(request)?).await?).into_response())
}

async fn status(State(control): Control) -> Answer<ClusterStatus> {
    control.status().await.map(Json)
}

async fn ring_report(State(control): Control) -> Answer<super::RingReport> {
    control.ring().await.map(Json)
}

async fn hints(State(control): Control) -> Answer<HintsReport> {
    control.hints().await.map(Json)
}

async fn locate(
    State(control): Control,
    query: Result<Query<LocateQuery>, QueryRejection>,
) -> Answer<super::Location> {
    let Query(query) = query.map_err(|fault| invalid(&fault.body_text()))?;
    control.locate(query).await.map(Json)
}

async fn repair_status(State(control): Control) -> Answer<RepairReport> {
    control.repair(None).await.map(Json)
}

async fn repair(
    State(control): Control,
    request: Result<Json<RepairRequest>, JsonRejection>,
) -> Answer<RepairReport> {
    control.repair(Some(body(request)?)).await.map(Json)
}

async fn buckets(State(control): Control) -> Answer<Vec<super::BucketInfo>> {
    control.buckets().await.map(Json)
}

async fn create_bucket(
    State(control): Control,
    request: Result<Json<CreateBucketRequest>, JsonRejection>,
) -> Result<Response, AdminError> {
    let made = control.create_bucket(body(request)?).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

async fn bucket(State(control): Control, Path(name): Path<String>) -> Answer<super::BucketInfo> {
    control.bucket(&name).await.map(Json)
}

async fn set_bucket(
    State(control): Control,
    Path(name): Path<String>,
    request: Result<Json<SetBucketRequest>, JsonRejection>,
) -> Answer<super::BucketInfo> {
    control.set_bucket(&name, body(request)?).await.map(Json)
}

async fn history(
    State(control): Control,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Answer<HistoryReport> {
    let Query(query) = query.map_err(|fault| invalid(&fault.body_text()))?;
    control.history(query).await.map(Json)
}

async fn delete_bucket(
    State(control): Control,
    Path(name): Path<String>,
) -> Result<StatusCode, AdminError> {
    control.delete_bucket(&name).await.map(|()| StatusCode::NO_CONTENT)
}

async fn keys(State(control): Control) -> Answer<Vec<super::KeyInfo>> {
    control.keys().await.map(Json)
}

async fn create_key(
    State(control): Control,
    request: Result<Json<CreateKeyRequest>, JsonRejection>,
) -> Result<Response, AdminError> {
    let request = body(request)?;
    if request.access_key_id.is_some() != request.secret_access_key.is_some() {
        return Err(invalid("access_key_id and secret_access_key need each other"));
    }
    let made = control.create_key(request).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

async fn key(State(control): Control, Path(id): Path<String>) -> Answer<super::KeyInfo> {
    control.key(&id).await.map(Json)
}

async fn delete_key(
    State(control): Control,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    control.delete_key(&id).await.map(|()| StatusCode::NO_CONTENT)
}

fn body<T>(request: Result<Json<T>, JsonRejection>) -> Result<T, AdminError> {
    request.map(|Json(value)| value).map_err(|fault| invalid(&fault.body_text()))
}

fn invalid(reason: &str) -> AdminError {
    AdminError::new(ErrorKind::Invalid, reason)
}

async fn exposition() -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], metrics::exposition()).into_response()
}

async fn ready(State(control): Control) -> Response {
    match control.unready() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn cluster_health(State(control): Control) -> Response {
    let status = match control.status().await {
        Ok(status) => status,
        Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, error.message).into_response(),
    };
    let served = status.health.level != HealthLevel::Critical && status.layout_version > 0;
    let code = if served { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let line = format!("{} {}\n", status.health.level.name(), status.health.summary);
    let numbers = [
        ("x-quorate-health", HeaderValue::from_static(status.health.level.name())),
        ("x-quorate-nodes-up", HeaderValue::from(status.nodes_up())),
        ("x-quorate-nodes", HeaderValue::from(status.nodes.len())),
        ("x-quorate-layout-version", HeaderValue::from(status.layout_version)),
        ("x-quorate-partitions", HeaderValue::from(status.partitions)),
    ];
    (code, numbers, line).into_response()
}
