//! What a listener does to well-behaved and other clients, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{Environment, Limits, ListenError, Listener, Server, Tls};
use crate::env::{OsClock, TokioTasks};

fn environment() -> Environment {
    Environment { clock: Arc::new(OsClock::new()), tasks: Arc::new(TokioTasks::current()) }
}

async fn echo(request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes());
    Response::new(Body::from(body.unwrap_or_default()))
}

async fn bind(limits: Limits, tls: Option<Tls>) -> Listener {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Listener::bind("test", any, limits, tls).await.unwrap()
}

async fn serve(limits: Limits) -> Server {
    bind(limits, None).await.serve(environment(), echo)
}

async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse and close before it has read everything.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(headers: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

#[tokio::test]
async fn a_request_is_answered() {
    let server = serve(Limits::default()).await;

    let request =
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    let answer = exchange(server.address(), request).await;

    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("hello"));
}

#[tokio::test]
async fn http_2_is_spoken_on_the_same_port() {
    let server = serve(Limits::default()).await;
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();

    let request = Request::post(format!("http://{}/", server.address()));
    let answer = client.request(request.body(Body::from("hello")).unwrap()).await.unwrap();

    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test]
async fn nonsense_ends_its_connection_and_nothing_else() {
    let server = serve(Limits::default()).await;

    let mut noise: Vec<u8> =
        (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for cut in [1, 7, 64, 4096] {
        exchange(server.address(), &noise[..cut]).await;
        noise.rotate_left(cut);
    }
    exchange(
        server.address(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    )
    .await;

    assert!(exchange(server.address(), &get("")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn headers_that_are_too_many_or_too_long_are_refused() {
    let limits = Limits { header_count_max: 10, header_bytes_max: 1 << 10, ..Limits::default() };
    let server = serve(limits).await;

    let many: String = (0..20).map(|i| format!("x-{i}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(2 << 10));
    let endless = format!("x-endless: {}\r\n", "y".repeat(512 << 10));

    for headers in [many, long, endless] {
        let answer = exchange(server.address(), &get(&headers)).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert!(exchange(server.address(), &get("")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_never_finishes_its_headers_is_cut_off() {
    let limits = Limits { header_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = serve(limits).await;

    for start in [&b""[..], b"P", b"GET / HTTP/1.1\r\nhost:"] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(start).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{start:?}");
    }
}

#[tokio::test]
async fn a_connection_too_many_is_told_to_slow_down() {
    let server = serve(Limits { connections_max: 1, ..Limits::default() }).await;
    let mut first = TcpStream::connect(server.address()).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    first.read_exact(&mut [0; 12]).await.unwrap();

    let mut second = TcpStream::connect(server.address()).await.unwrap();
    let mut answer = String::new();
    second.read_to_string(&mut answer).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn a_request_too_many_is_told_to_slow_down_until_an_answer_was_sent() {
    let (entered, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let service = {
        let (entered, finish) = (Arc::clone(&entered), Arc::clone(&finish));
        move |_| {
            entered.notify_one();
            let finish = Arc::clone(&finish);
            let late = futures_util::stream::once(async move {
                finish.notified().await;
                Ok::<_, std::io::Error>("late")
            });
            async { Response::new(Body::from_stream(late)) }
        }
    };
    let limits = Limits { requests_max: 1, ..Limits::default() };
    let server = bind(limits, None).await.serve(environment(), service);
    let mut first = TcpStream::connect(server.address()).await.unwrap();
    first.write_all(&get("")).await.unwrap();
    entered.notified().await;

    let refused = exchange(server.address(), &get("")).await;
    finish.notify_one();
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.unwrap();
    finish.notify_one();
    let served = exchange(server.address(), &get("")).await;

    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(answer.contains("late"), "{answer}");
    assert!(served.starts_with("HTTP/1.1 200"), "{served}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let server = serve(Limits::default()).await;

    let error = Listener::bind("s3.listen", server.address(), Limits::default(), None).await;

    let error = error.err().unwrap();
    assert!(matches!(error, ListenError::InUse { listener: "s3.listen", .. }));
    assert!(error.to_string().contains(&server.address().to_string()), "{error}");
}

#[tokio::test]
async fn a_stop_lets_the_request_under_way_finish() {
    let (entered, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let service = {
        let (entered, finish) = (Arc::clone(&entered), Arc::clone(&finish));
        move |_| {
            let (entered, finish) = (Arc::clone(&entered), Arc::clone(&finish));
            async move {
                entered.notify_one();
                finish.notified().await;
                Response::new(Body::from("done"))
            }
        }
    };
    let server = bind(Limits::default(), None).await.serve(environment(), service);
    let address = server.address();

    let client = tokio::task::LocalSet::new();
    let answer = client
        .run_until(async {
            let asked = tokio::task::spawn_local(async move { exchange(address, &get("")).await });
            entered.notified().await;
            let stopped = tokio::task::spawn_local(server.stop(Duration::from_secs(60)));
            finish.notify_one();
            stopped.await.unwrap();
            asked.await.unwrap()
        })
        .await;

    assert!(answer.ends_with("done"), "{answer}");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_its_grace() {
    let never = |_| std::future::pending::<Response<Body>>();
    let server = bind(Limits::default(), None).await.serve(environment(), never);
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(&get("")).await.unwrap();

    server.stop(Duration::from_millis(50)).await;

    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.is_empty());
}

#[tokio::test]
async fn tls_serves_those_who_trust_its_certificate() {
    use rustls::pki_types::pem::PemObject;
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::self_signed(folder.path(), &[]).unwrap();
    let server = bind(Limits::default(), Some(tls)).await.serve(environment(), echo);
    let pem = std::fs::read(folder.path().join("cert.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();

    let plain = exchange(server.address(), &get("")).await;
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    stream.write_all(&get("")).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);

    assert!(!plain.starts_with("HTTP/1.1 200"));
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
}
