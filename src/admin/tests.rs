//! Who is let in, and what they are told.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{
    AdminError, AdminToken, BucketInfo, ClusterControl, ClusterStatus, CreateBucketRequest,
    CreateKeyRequest, ErrorKind, Health, HealthLevel, HintsReport, HistoryQuery, HistoryReport,
    InitReport, InitRequest, KeyCreated, KeyInfo, LocateQuery, Location, RepairReport,
    RepairRequest, RingReport, SetBucketRequest, routes,
};
use crate::replication::Level;
use crate::types::{BucketId, ClusterId, NodeId};

/// A cluster with one bucket, that is as well as it is told to be.
struct Double(HealthLevel);

fn missing<T>(what: &str) -> Result<T, AdminError> {
    Err(AdminError::new(ErrorKind::NotFound, format!("there is no {what}")))
}

#[async_trait]
impl ClusterControl for Double {
    async fn init(&self, request: InitRequest) -> Result<InitReport, AdminError> {
        let nodes = (1..=request.expect).map(|i| format!("n{i}")).collect();
        Ok(InitReport { cluster_id: ClusterId::from_bytes([1; 16]), layout_version: 1, nodes })
    }

    async fn status(&self) -> Result<ClusterStatus, AdminError> {
        Ok(ClusterStatus {
            health: Health { level: self.0, summary: "as told".to_owned(), findings: Vec::new() },
            cluster_id: None,
            layout_version: 1,
            partitions: 256,
            default_level: Level::Quorum,
            redundancy: None,
            answered_by: NodeId::from_bytes([2; 16]),
            nodes: Vec::new(),
            next: None,
        })
    }

    fn unready(&self) -> Option<String> {
        (self.0 != HealthLevel::Ok).then(|| "not yet".to_owned())
    }

    async fn ring(&self) -> Result<RingReport, AdminError> {
        missing("ring")
    }

    async fn hints(&self) -> Result<HintsReport, AdminError> {
        Ok(HintsReport { hints: Vec::new(), unheard: vec!["n2".to_owned()] })
    }

    async fn locate(&self, query: LocateQuery) -> Result<Location, AdminError> {
        Ok(Location {
            bucket: query.bucket,
            key: query.key,
            token: "00".to_owned(),
            partition: 0,
            layout_version: 1,
            replicas: Vec::new(),
        })
    }

    async fn repair(&self, _request: Option<RepairRequest>) -> Result<RepairReport, AdminError> {
        missing("repair")
    }

    async fn create_bucket(&self, request: CreateBucketRequest) -> Result<BucketInfo, AdminError> {
        Ok(BucketInfo {
            name: request.name,
            id: BucketId::from_bytes([3; 16]),
            owner_id: request.owner.unwrap_or_default(),
            created_unix_ms: 0,
            level: request.level.unwrap_or(Level::Quorum),
            epoch: 1,
            n: request.n.unwrap_or(3),
            r: 2,
            w: 2,
            label: "as told".to_owned(),
            survives: 1,
            write_acks: 2,
            index_shards: 16,
        })
    }

    async fn buckets(&self) -> Result<Vec<BucketInfo>, AdminError> {
        Ok(Vec::new())
    }

    async fn bucket(&self, name: &str) -> Result<BucketInfo, AdminError> {
        missing(name)
    }

    async fn set_bucket(
        &self,
        name: &str,
        request: SetBucketRequest,
    ) -> Result<BucketInfo, AdminError> {
        let (name, level, owner, n) = (name.to_owned(), Some(request.level), None, None);
        self.create_bucket(CreateBucketRequest { name, level, n, owner }).await
    }

    async fn history(&self, query: HistoryQuery) -> Result<HistoryReport, AdminError> {
        let (bucket, key) = (query.bucket, query.key);
        Ok(HistoryReport { bucket, key, current: None, lost: Vec::new(), unheard: Vec::new() })
    }

    async fn delete_bucket(&self, _name: &str) -> Result<(), AdminError> {
        Ok(())
    }

    async fn create_key(&self, request: CreateKeyRequest) -> Result<KeyCreated, AdminError> {
        Ok(KeyCreated {
            access_key_id: request.access_key_id.unwrap_or_else(|| "QK1".to_owned()),
            secret_access_key: request.secret_access_key.unwrap_or_else(|| "hush".to_owned()),
            owner_id: "o".to_owned(),
            name: request.name,
        })
    }

    async fn keys(&self) -> Result<Vec<KeyInfo>, AdminError> {
        Ok(Vec::new())
    }

    async fn key(&self, access_key_id: &str) -> Result<KeyInfo, AdminError> {
        missing(access_key_id)
    }

    async fn delete_key(&self, _access_key_id: &str) -> Result<(), AdminError> {
        Ok(())
    }
}

fn api(health: HealthLevel) -> Router {
    routes(Arc::new(Double(health)), AdminToken::new("right"))
}

async fn ask(method: Method, path: &str, token: Option<&str>, body: &str) -> (StatusCode, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let answer = api(HealthLevel::Ok).oneshot(request).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn get(path: &str, token: Option<&str>) -> (StatusCode, String) {
    ask(Method::GET, path, token, "").await
}

#[tokio::test]
async fn nobody_enters_without_the_token() {
    for token in [None, Some("wrong"), Some(""), Some("righ"), Some("right ")] {
        for path in ["/v1/status", "/v1/keys", "/v1/nothing", "/"] {
            let (status, body) = get(path, token).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {token:?}");
            let error: AdminError = serde_json::from_str(&body).unwrap();
            assert_eq!(error.code, ErrorKind::Unauthorized);
            assert!(error.next.contains("QUORATE_ADMIN_TOKEN"));
        }
    }
}

#[tokio::test]
async fn the_token_opens_everything() {
    let (status, body) = get("/v1/status", Some("right")).await;

    assert_eq!(status, StatusCode::OK);
    let read: ClusterStatus = serde_json::from_str(&body).unwrap();
    assert_eq!(read.partitions, 256);
}

#[tokio::test]
async fn metrics_and_health_need_no_token() {
    for path in ["/metrics", "/health/live", "/health/ready", "/health/cluster"] {
        assert_eq!(get(path, None).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn health_says_503_when_nothing_can_be_served() {
    for (path, level) in
        [("/health/ready", HealthLevel::Warn), ("/health/cluster", HealthLevel::Critical)]
    {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let answer = api(level).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
}

#[tokio::test]
async fn cluster_health_puts_its_numbers_in_headers() {
    let request = Request::builder().uri("/health/cluster").body(Body::empty()).unwrap();
    let answer = api(HealthLevel::Warn).oneshot(request).await.unwrap();

    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["x-quorate-health"], "HEALTH_WARN");
    assert_eq!(answer.headers()["x-quorate-layout-version"], "1");
}

#[tokio::test]
async fn a_new_key_is_told_with_its_secret_and_exactly_four_fields() {
    let given = r#"{"name":"app","access_key_id":"QKX","secret_access_key":"s"}"#;

    let (status, body) = ask(Method::POST, "/v1/keys", Some("right"), given).await;

    assert_eq!(status, StatusCode::CREATED);
    let read: Value = serde_json::from_str(&body).unwrap();
    let wanted = json!({
        "access_key_id": "QKX", "secret_access_key": "s", "owner_id": "o", "name": "app"
    });
    assert_eq!(read, wanted);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_why() {
    let half = r#"{"name":"app","access_key_id":"QKX"}"#;
    let unknown = r#"{"name":"b-1","levle":"quorum"}"#;
    let cases = [
        (Method::POST, "/v1/keys", half, StatusCode::BAD_REQUEST, "need each other"),
        (Method::POST, "/v1/buckets", unknown, StatusCode::BAD_REQUEST, "levle"),
        (Method::POST, "/v1/buckets", "{", StatusCode::BAD_REQUEST, "JSON"),
        (Method::GET, "/v1/locate?bucket=b", "", StatusCode::BAD_REQUEST, "key"),
        (Method::GET, "/v1/object/history?key=k", "", StatusCode::BAD_REQUEST, "bucket"),
        (Method::PATCH, "/v1/buckets/b", r#"{"level":"best"}"#, StatusCode::BAD_REQUEST, "best"),
        (Method::GET, "/v1/buckets/gone", "", StatusCode::NOT_FOUND, "no gone"),
        (Method::GET, "/v1/moon", "", StatusCode::NOT_FOUND, "/v1/moon"),
        (Method::PUT, "/v1/status", "", StatusCode::NOT_FOUND, "PUT /v1/status"),
    ];

    for (method, path, body, wanted, word) in cases {
        let (status, answer) = ask(method, path, Some("right"), body).await;
        assert_eq!(status, wanted, "{path}: {answer}");
        let error: AdminError = serde_json::from_str(&answer).unwrap();
        assert!(error.message.contains(word), "{path}: {}", error.message);
    }
}

#[tokio::test]
async fn a_key_to_locate_may_hold_any_character() {
    let (_, body) = get("/v1/locate?bucket=b&key=a%2Fb%20%26c%3D%C3%A9", Some("right")).await;

    let location: Location = serde_json::from_str(&body).unwrap();
    assert_eq!(location.key, "a/b &c=é");
}

#[test]
fn secrets_do_not_show_when_printed_for_debugging() {
    let request = CreateKeyRequest {
        name: "app".to_owned(),
        access_key_id: None,
        secret_access_key: Some("hush".to_owned()),
    };

    assert!(!format!("{request:?}").contains("hush"));
}
