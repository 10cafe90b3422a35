//! What a peer sends before it is known to mean well: headers of frames, secrets, life signs.

use std::time::Duration;

use super::ServiceId;
use super::frame::{FRAME_BYTES_MAX, HEADER_BYTES, Header, Kind};
use super::secret::ClusterSecret;
use crate::fuzz::{Target, told};

fn header(kind: Kind, (body_length, attachment_length): (u32, u32)) -> Vec<u8> {
    let header = Header {
        kind,
        service: ServiceId(2),
        id: 77,
        patience: Duration::from_millis(1500),
        layout_version: 3,
        hybrid_time: 1 << 56,
        body_length,
        attachment_length,
    };
    header.encode().to_vec()
}

#[test]
fn headers_of_frames() {
    let kinds = [Kind::Request, Kind::Solo, Kind::Answer, Kind::Bulk, Kind::Gossip];
    let corpus = kinds.into_iter().map(|kind| header(kind, (100, 3 << 20)));
    Target::binary("headers of frames", corpus).run(|bytes| {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return "short".to_owned() };
        let header = match Header::decode(bytes) {
            Ok(header) => header,
            Err(error) => return error.to_string(),
        };
        assert!(header.payload_length() <= FRAME_BYTES_MAX);
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        format!("{:?}", header.kind)
    });
}

#[test]
fn cluster_secrets() {
    let corpus = ["0123456789abcdef0123456789abcdef", "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"];
    Target::text("cluster secrets", corpus.map(str::to_owned), ["=", "+", "\n", "é", "0"]).run(
        |bytes| match std::str::from_utf8(bytes) {
            Ok(text) => told(ClusterSecret::parse(text)),
            Err(_) => "no text".to_owned(),
        },
    );
}
