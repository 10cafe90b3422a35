//! A peer that knows the secret and breaks the protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError};

use super::endpoint::Class;
use super::frame::{FRAME_BYTES_MAX, HEADER_BYTES, Header, Kind};
use super::hub::Hub;
use super::peer::Target;
use super::stream::code;
use super::{
    ClusterSecret, LinkFacts, PeerIdentity, QuicConfig, QuicLimits, QuicTransport, ServiceId,
};
use crate::env::{OsClock, OsEntropy, TokioTasks, deadline_in, timeout_at};
use crate::types::NodeId;

struct NoFacts;

impl LinkFacts for NoFacts {
    fn outgoing(&self) -> (u64, u64) {
        (0, 0)
    }

    fn incoming(&self, _peer: NodeId, _layout_version: u64, _hybrid_time: u64) {}
}

fn node(number: u8) -> Arc<QuicTransport> {
    let secret = ClusterSecret::parse("a secret of the hostile peer").unwrap();
    let identity = PeerIdentity::derive(&secret, NodeId::from_bytes([number; 16])).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    QuicTransport::bind(
        QuicConfig { listen, identity, limits: QuicLimits::default() },
        Arc::new(OsClock::new()),
        Arc::new(OsEntropy::new()),
        Arc::new(TokioTasks::current()),
        Arc::new(NoFacts),
    )
    .unwrap()
}

fn header(kind: Kind, length: u32) -> Header {
    Header {
        kind,
        service: ServiceId(1),
        id: 1,
        patience: Duration::from_secs(1),
        layout_version: 0,
        hybrid_time: 0,
        body_length: length,
        attachment_length: 0,
    }
}

async fn connect(from: &QuicTransport, to: &QuicTransport) -> (Arc<Hub>, Connection) {
    let hub = Arc::clone(&from.hub);
    let target = Target::Anyone(to.local_address().unwrap());
    let connection = hub.dial(target, Class::Control).await.unwrap().connection.clone();
    (hub, connection)
}

/// Writes `bytes` on a new stream and expects the other side to end the connection.
async fn expect_violation(bytes: &[u8], one_way: Way) {
    let (hostile, victim) = (node(1), node(2));
    let (hub, connection) = connect(&hostile, &victim).await;

    let mut stream = match one_way {
        Way::Both => connection.open_bi().await.unwrap().0,
        Way::One => connection.open_uni().await.unwrap(),
    };
    stream.write_all(bytes).await.unwrap();

    let deadline = deadline_in(&*hub.clock, Duration::from_secs(3));
    let closed = timeout_at(&*hub.clock, deadline, connection.closed()).await;
    let Some(ConnectionError::ApplicationClosed(closed)) = closed else {
        panic!("{bytes:?} did not end the connection: {closed:?}");
    };
    assert_eq!(closed.error_code, code::VIOLATION);
}

#[derive(Clone, Copy)]
enum Way {
    Both,
    One,
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    expect_violation(&[0; HEADER_BYTES], Way::Both).await;
    expect_violation(&[0xff; HEADER_BYTES], Way::One).await;
}

#[tokio::test]
async fn an_oversized_frame_ends_the_connection() {
    let over = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
    for length in [over, u32::MAX] {
        expect_violation(&header(Kind::Solo, length).encode(), Way::Both).await;
    }
}

#[tokio::test]
async fn a_frame_of_the_wrong_kind_ends_the_connection() {
    for kind in [Kind::Answer, Kind::Refused, Kind::Failed, Kind::Gossip] {
        expect_violation(&header(kind, 0).encode(), Way::Both).await;
    }
    for kind in [Kind::Request, Kind::Solo, Kind::Bulk, Kind::Failed] {
        expect_violation(&header(kind, 0).encode(), Way::One).await;
    }
}

#[tokio::test]
async fn a_large_request_on_a_lane_ends_the_connection() {
    expect_violation(&header(Kind::Request, 1 << 20).encode(), Way::Both).await;
    expect_violation(&header(Kind::Bulk, 1 << 20).encode(), Way::Both).await;
}

#[tokio::test]
async fn answers_that_nobody_asked_for_are_not_kept() {
    let (hostile, victim) = (node(1), node(2));
    let (_hub, connection) = connect(&hostile, &victim).await;

    for _ in 0..300 {
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&header(Kind::Answer, 4 << 20).encode()).await.unwrap();
        // The rest is never sent, and still the stream does not stay open at the victim.
    }

    assert!(connection.close_reason().is_none());
}

#[tokio::test]
async fn a_burst_of_handshakes_does_not_keep_a_peer_out() {
    let (first, second) = (node(1), node(2));
    let address = second.local_address().unwrap();
    // More at once than are let in without proof of their address.
    let mut crowd = Vec::new();
    for number in 10..74 {
        let dialler = node(number);
        let config = dialler.hub.dialing[Class::Control.index()].clone();
        let dialing = dialler.hub.endpoint.connect_with(config, address, "any.node.quorate");
        crowd.push((dialler, dialing.unwrap()));
    }

    let (_hub, connection) = connect(&first, &second).await;

    assert!(connection.close_reason().is_none());
}
