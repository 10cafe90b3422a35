//! The workload and its audit catch a store that loses, changes or invents objects, and find
//! nothing wrong with one that does not. The store is a stand-in on loopback.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use quorate::env::{Clock, OsClock, TaskHandle, Tasks, TokioTasks};
use quorate_jepsen::client::Client;
use quorate_jepsen::history::History;
use quorate_jepsen::load::Load;
use quorate_jepsen::sign::Credentials;

/// What the stand-in does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// Acknowledges every twentieth write and forgets it.
    Loses,
    /// Answers every twentieth write with 503, outcome unknown, and does half of those.
    Doubts,
    /// Says that a write certainly failed, and does it.
    Lies,
    /// Changes a byte of every twentieth body that it reads.
    Damages,
    /// Leaves the first key out of lists.
    HidesOne,
}

struct Store {
    flaw: Flaw,
    objects: Mutex<BTreeMap<String, Bytes>>,
    count: Mutex<u64>,
}

type Shared = Arc<Store>;

impl Store {
    fn strikes(&self, flaw: Flaw) -> bool {
        let mut count = self.count.lock();
        *count += 1;
        self.flaw == flaw && count.is_multiple_of(20)
    }

    /// The answer to a write, and whether to do it.
    fn write(&self) -> (StatusCode, Option<&'static str>, bool) {
        if self.strikes(Flaw::Loses) {
            (StatusCode::OK, None, false)
        } else if self.strikes(Flaw::Doubts) {
            let done = self.count.lock().is_multiple_of(40);
            (StatusCode::SERVICE_UNAVAILABLE, Some("unknown"), done)
        } else if self.strikes(Flaw::Lies) {
            (StatusCode::SERVICE_UNAVAILABLE, Some("none"), true)
        } else {
            (StatusCode::OK, None, true)
        }
    }
}

fn written(status: StatusCode, outcome: Option<&'static str>) -> Response {
    match outcome {
        Some(outcome) => (status, [("x-quorate-outcome", outcome)]).into_response(),
        None => status.into_response(),
    }
}

async fn put(State(store): State<Shared>, Path(key): Path<String>, body: Bytes) -> Response {
    let (status, outcome, done) = store.write();
    if done {
        store.objects.lock().insert(key, body);
    }
    written(status, outcome)
}

async fn delete(State(store): State<Shared>, Path(key): Path<String>) -> Response {
    let (status, outcome, done) = store.write();
    if done {
        store.objects.lock().remove(&key);
    }
    written(status, outcome)
}

async fn read(State(store): State<Shared>, Path(key): Path<String>) -> Response {
    let body = store.objects.lock().get(&key).cloned();
    match body {
        Some(body) if store.strikes(Flaw::Damages) => {
            let mut body = body.to_vec();
            body[0] ^= 1;
            body.into_response()
        }
        Some(body) => body.into_response(),
        None => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>").into_response(),
    }
}

async fn list(
    State(store): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
) -> String {
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let hidden = usize::from(store.flaw == Flaw::HidesOne);
    let objects = store.objects.lock();
    let keys = objects.keys().skip(hidden).filter(|key| key.starts_with(&prefix));
    keys.map(|key| format!("<Contents><Key>{key}</Key></Contents>")).collect()
}

async fn serve(flaw: Flaw, tasks: &TokioTasks) -> (SocketAddr, TaskHandle) {
    let store = Store { flaw, objects: Mutex::default(), count: Mutex::default() };
    let router = Router::new()
        .route("/jepsen", get(list))
        .route("/jepsen/{*key}", get(read).put(put).delete(delete))
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(store));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = TokioTasks::current();
    let accept = async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            let serve = async move { drop(connection.await) };
            connections.spawn("connection", Box::pin(serve)).detach();
        }
    };
    (address, tasks.spawn("stand-in", Box::pin(accept)))
}

async fn violations(flaw: Flaw) -> Vec<String> {
    let tasks = TokioTasks::current();
    let (address, server) = serve(flaw, &tasks).await;
    let clock = Arc::new(OsClock::new());
    let credentials = Credentials {
        access_key_id: "id".to_owned(),
        secret_access_key: "secret".to_owned(),
        region: "us-east-1".to_owned(),
    };
    let client = Client::new(credentials, Arc::clone(&clock), Duration::from_secs(10));
    let history = History::new(Arc::clone(&clock), Box::new(std::io::sink()));
    let load = Load::new(client, Arc::clone(&clock), vec![address], history);

    let clients = load.start(&tasks, 4, 7);
    clock.sleep(Duration::from_secs(2)).await;
    load.stop(clients).await;
    load.audit().await;

    drop(server);
    assert!(load.size().0 > 50, "only {} operations", load.size().0);
    load.violations()
}

#[tokio::test]
async fn an_honest_store_passes() {
    assert_eq!(violations(Flaw::None).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_store_that_says_when_it_does_not_know_passes() {
    assert_eq!(violations(Flaw::Doubts).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_lost_acknowledged_write_is_found() {
    assert!(!violations(Flaw::Loses).await.is_empty());
}

#[tokio::test]
async fn a_write_that_happened_though_it_was_denied_is_found() {
    assert!(!violations(Flaw::Lies).await.is_empty());
}

#[tokio::test]
async fn a_changed_byte_is_found() {
    assert!(!violations(Flaw::Damages).await.is_empty());
}

#[tokio::test]
async fn a_key_that_lists_leave_out_is_found() {
    let violations = violations(Flaw::HidesOne).await;

    assert!(violations.iter().any(|what| what.contains("missing in a list")), "{violations:?}");
}
