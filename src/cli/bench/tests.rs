//! The benchmark against a bucket in memory, over loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use clap::Parser;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::Value;

use super::{BenchArgs, run};
use crate::cli::Output;
use crate::cli::report::Exit;
use crate::env::{OsClock, TokioTasks};
use crate::http::{Environment, Limits, Listener, Server};

/// How well the bucket keeps what it is given.
#[derive(Clone, Copy, PartialEq)]
enum Care {
    Good,
    FlipsABit,
    IsBusy,
}

type Objects = Arc<Mutex<BTreeMap<String, Bytes>>>;

async fn answer(objects: Objects, care: Care, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let path = head.uri.path().to_owned();
    let signed = head.headers["authorization"].to_str().unwrap().contains("Signature=");
    let mut objects = objects.lock();
    let found = objects.get(&path).cloned();
    let (status, body) = match (head.method, path.matches('/').count()) {
        _ if !signed => (StatusCode::FORBIDDEN, Bytes::new()),
        (Method::HEAD, _) => (StatusCode::NOT_FOUND, Bytes::new()),
        (Method::GET, 1) => {
            let keys = "<Key>k</Key>".repeat(objects.len() - 1);
            (StatusCode::OK, Bytes::from(keys))
        }
        (Method::PUT, _) => {
            objects.insert(path, bytes);
            (StatusCode::OK, Bytes::new())
        }
        (Method::GET, _) if care == Care::IsBusy => {
            (StatusCode::SERVICE_UNAVAILABLE, Bytes::from("<Code>SlowDown</Code>"))
        }
        (Method::GET, _) => found.map_or((StatusCode::NOT_FOUND, Bytes::new()), |bytes| {
            let mut bytes = BytesMut::from(&bytes[..]);
            bytes[100] ^= u8::from(care == Care::FlipsABit);
            (StatusCode::OK, bytes.freeze())
        }),
        _ => {
            objects.remove(&path);
            (StatusCode::NO_CONTENT, Bytes::new())
        }
    };
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    answer
}

async fn bucket(care: Care) -> (Server, Objects) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let environment =
        Environment { clock: Arc::new(OsClock::new()), tasks: Arc::new(TokioTasks::current()) };
    let objects = Objects::default();
    let shared = Arc::clone(&objects);
    let listener = Listener::bind("test", any, Limits::default(), None).await.unwrap();
    let server =
        listener.serve(environment, move |request| answer(Arc::clone(&shared), care, request));
    (server, objects)
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

/// Runs the operation for a moment and gives its JSON and its end.
async fn bench(server: &Server, operation: &str) -> (Value, Exit) {
    let url = format!("http://{}", server.address());
    let line = format!(
        "bench {operation} --endpoint {url} --bucket b --size 5000B --keys 20 --concurrency 4 \
         --duration 200ms --access-key-id id --secret-access-key s"
    );
    let args = Line::parse_from(line.split_whitespace()).bench;
    let report = run(args, Output::Json).await.unwrap();
    (serde_json::from_str(&report.text).unwrap(), report.exit)
}

#[tokio::test]
async fn every_operation_is_measured() {
    for operation in ["put", "get", "list", "delete"] {
        let (server, _) = bucket(Care::Good).await;

        let (report, exit) = bench(&server, operation).await;

        let measured = &report["measured"][0];
        assert_eq!(exit, Exit::Ok, "{report}");
        assert_eq!(measured["operation"], operation);
        assert!(measured["operations"].as_u64().unwrap() >= 20, "{report}");
        assert!(measured["latency_ms"]["p99"].as_f64().unwrap() > 0.0);
        assert_eq!(report["errors"], serde_json::json!({}));
    }
}

#[tokio::test]
async fn a_mixed_load_reads_and_writes() {
    let (server, _) = bucket(Care::Good).await;

    let (report, _) = bench(&server, "mixed").await;

    let names: Vec<&Value> =
        report["measured"].as_array().unwrap().iter().map(|line| &line["operation"]).collect();
    assert_eq!(names, ["put", "get"]);
}

#[tokio::test]
async fn deletes_end_when_nothing_is_left() {
    let (server, objects) = bucket(Care::Good).await;

    bench(&server, "delete").await;

    // The bucket itself stays.
    assert_eq!(objects.lock().len(), 1);
}

#[tokio::test]
async fn a_flipped_bit_fails_the_run_and_names_its_place() {
    let (server, _) = bucket(Care::FlipsABit).await;

    let (report, exit) = bench(&server, "get").await;

    assert_eq!(exit, Exit::Failed);
    assert!(report["errors"]["damaged"].as_u64().unwrap() > 0);
    assert!(report["damage"][0].as_str().unwrap().contains("byte 100 of 5000 is wrong"));
}

#[tokio::test]
async fn refusals_are_counted_by_their_code() {
    let (server, _) = bucket(Care::IsBusy).await;

    let (report, exit) = bench(&server, "get").await;

    assert_eq!(exit, Exit::Failed);
    assert!(report["errors"]["503 SlowDown"].as_u64().unwrap() > 0, "{report}");
}
