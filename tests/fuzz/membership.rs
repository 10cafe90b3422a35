//! What members tell each other, and what a node remembers of them.

use bytes::Bytes;

use super::address_book::Acquaintance;
use super::bootstrap::{MembershipReply, MembershipRequest};
use super::gossip::Liveness;
use super::identity::Identity;
use super::lives::{LifeSign, Remembered};
use super::rejoin::{FormerMember, Recollection};
use crate::env::UnixMillis;
use crate::fuzz::{Target, messages, stored_values, told};
use crate::types::{ClusterId, DiskId, NodeId};

const NODE: NodeId = NodeId::from_bytes([1; 16]);

#[test]
fn requests_and_answers() {
    let layout = Bytes::from(crate::fuzz::fixture("format-1/layout.hex"));
    let address = "10.0.0.1:9002".parse().unwrap();
    messages(
        "requests among members",
        &[
            MembershipRequest::Install { layout: layout.clone() },
            MembershipRequest::Fetch,
            MembershipRequest::Propose { expected: 3, partitions: 64, patience_millis: 1 },
            MembershipRequest::Clock { about: NODE },
            MembershipRequest::WhoWas { name: "n1".to_owned(), address },
        ],
    );
    let member = FormerMember {
        cluster: ClusterId::from_bytes([2; 16]),
        node: NODE,
        boot: 3,
        alive: 4,
        liveness: Liveness::Down,
    };
    let recollection = Recollection { member: Some(member), others: vec![address] };
    messages(
        "answers among members",
        &[
            MembershipReply::Proposed { layout: layout.clone() },
            MembershipReply::Layout { layout: Some(layout) },
            MembershipReply::Refused { reason: "why".to_owned() },
            MembershipReply::Clock { wall: UnixMillis(7), remembered: Some(Remembered::default()) },
            MembershipReply::Was { recollection },
        ],
    );
}

#[test]
fn acquaintances_and_identities() {
    let lives = Remembered { boot: 1, life: 2, alive: 3, before: 4 };
    let address = "[::1]:9002".parse().unwrap();
    let known = Acquaintance { node: NODE, name: "n1".to_owned(), address, lives };
    stored_values("acquaintances", &[known]);
    let identity = Identity {
        format: 1,
        cluster: Some(ClusterId::from_bytes([2; 16])),
        node: NODE,
        disk: DiskId::from_bytes([3; 16]),
        boot: 4,
        rebuilding: true,
    };
    let corpus = [serde_json::to_string(&identity).unwrap()];
    let words = ["{", "[", "\"", "null", "-1", "1e999", "4294967296", "\\u0000", ":", ","];
    Target::text("identities", corpus, words)
        .run(|input| told(serde_json::from_slice::<Identity>(input)));
}

#[test]
fn signs_of_life() {
    let corpus = ["1.00000000000000ff.77".to_owned()];
    let words = [".", "-1", "4294967296", "18446744073709551616", "f", "+"];
    Target::text("signs of life", corpus, words).run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        match text.parse::<LifeSign>() {
            Ok(sign) => {
                assert_eq!(
                    sign.to_string().parse::<LifeSign>().unwrap().to_string(),
                    sign.to_string()
                );
                "understood".to_owned()
            }
            Err(error) => error.to_string(),
        }
    });
}
