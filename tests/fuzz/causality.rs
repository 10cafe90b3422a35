//! Causal contexts, as clients bring them back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Actor, CausalContext, Dot, HybridTime, VersionVector};
use crate::fuzz::{Target, told};
use crate::types::NodeId;

const SCOPE: &[u8] = b"bucket/key";

fn context(actors: u8) -> CausalContext {
    let mut seen = VersionVector::default();
    for number in 1..=actors {
        let actor = Actor { node: NodeId::from_bytes([number; 16]), boot: 1 << 20, stint: 300 };
        seen.add(Dot { actor, counter: 1 << 40 });
    }
    CausalContext { seen, time: HybridTime(1 << 56) }
}

#[test]
fn contexts() {
    let corpus = [0, 1, 9].map(|actors| context(actors).encode(SCOPE).unwrap());
    Target::text("contexts", corpus, ["=", "-", "_", "AAAA", "é"]).run(|input| {
        match std::str::from_utf8(input) {
            Ok(text) => told(CausalContext::decode(text, SCOPE)),
            Err(_) => "no text".to_owned(),
        }
    });
}

/// As a client would make them that computes the checksum itself.
#[test]
fn contexts_whose_checksums_hold() {
    let corpus = [0, 1, 9].map(|actors| {
        let text = context(actors).encode(SCOPE).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        bytes[..bytes.len() - 8].to_vec()
    });
    Target::binary("forged contexts", corpus).run(|input| {
        let sum = super::context::checksum(SCOPE, input);
        let text = URL_SAFE_NO_PAD.encode([input, &sum[..]].concat());
        match CausalContext::decode(&text, SCOPE) {
            Ok(context) => {
                let again = context.encode(SCOPE).unwrap();
                assert_eq!(CausalContext::decode(&again, SCOPE), Ok(context));
                "understood".to_owned()
            }
            Err(error) => error.to_string(),
        }
    });
}
