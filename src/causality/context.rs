//! What a client has seen of a key, as it carries it from a read to a write: opaque to it.
//!
//! The text is base64url without padding over: format (1 byte), the greatest time seen, the nodes,
//! the vector's entries (node by its place, boot, stint, counter), all numbers as LEB128, and
//! eight bytes of a checksum over all that and the key that the context belongs to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::types::NodeId;

use super::dot::{Actor, Dot};
use super::hybrid_clock::HybridTime;
use super::vector::VersionVector;

/// The longest context in its text form: it must fit into an HTTP header.
pub const CONTEXT_TEXT_MAX: usize = 16 << 10;

/// The format that is written.
const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
/// Counters of a context lie below; a node never counts so far, and can always count on.
const COUNTER_MAX: u64 = 1 << 48;

/// The writes of one key that a client has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CausalContext {
    /// The writes.
    pub seen: VersionVector,
    /// A time not before any of them: what supersedes them is stamped above it.
    pub time: HybridTime,
}

/// Text that is no context of that key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContext {
    /// Longer than any that was given out.
    #[error("the context is longer than {CONTEXT_TEXT_MAX} bytes")]
    TooLong,
    /// Not what was given out, or given out for another key.
    #[error(
        "the context is damaged, or it belongs to another key: send it as it was received with \
         this key"
    )]
    Foreign,
    /// Given out by a newer release.
    #[error("the context has format {0}, which this release does not read")]
    Newer(u8),
}

/// A context of more actors than its text may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key was written by {actors} actors, which is more than a context can carry")]
pub struct ContextTooLong {
    /// How many.
    pub actors: usize,
}

impl CausalContext {
    /// The context's text for the key that `scope` names.
    ///
    /// # Errors
    /// [`ContextTooLong`] if it would be longer than [`CONTEXT_TEXT_MAX`].
    pub fn encode(&self, scope: &[u8]) -> Result<String, ContextTooLong> {
        let mut nodes: Vec<NodeId> = self.seen.iter().map(|(actor, _)| actor.node).collect();
        nodes.dedup();
        let mut bytes = vec![FORMAT];
        push_number(&mut bytes, self.time.0);
        push_number(&mut bytes, nodes.len() as u64);
        for node in &nodes {
            bytes.extend_from_slice(node.as_bytes());
        }
        push_number(&mut bytes, self.seen.len() as u64);
        for (actor, counter) in self.seen.iter() {
            let place = nodes.partition_point(|node| *node < actor.node);
            push_number(&mut bytes, place as u64);
            push_number(&mut bytes, u64::from(actor.boot));
            push_number(&mut bytes, actor.stint);
            push_number(&mut bytes, counter);
        }
        let sum = checksum(scope, &bytes);
        bytes.extend_from_slice(&sum);
        let text = URL_SAFE_NO_PAD.encode(bytes);
        if text.len() > CONTEXT_TEXT_MAX {
            return Err(ContextTooLong { actors: self.seen.len() });
        }
        Ok(text)
    }

    /// The context of the key that `scope` names.
    ///
    /// # Errors
    /// [`InvalidContext`] unless it is one that was given out for that key.
    pub fn decode(text: &str, scope: &[u8]) -> Result<Self, InvalidContext> {
        if text.len() > CONTEXT_TEXT_MAX {
            return Err(InvalidContext::TooLong);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidContext::Foreign)?;
        let (body, sum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(InvalidContext::Foreign)?;
        if checksum(scope, body) != *sum {
            return Err(InvalidContext::Foreign);
        }
        match body.split_first() {
            Some((&FORMAT, rest)) => read(rest).ok_or(InvalidContext::Foreign),
            Some((&format, _)) => Err(InvalidContext::Newer(format)),
            None => Err(InvalidContext::Foreign),
        }
    }
}

pub(super) fn checksum(scope: &[u8], bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut all = Vec::with_capacity(scope.len() + bytes.len() + 8);
    all.extend_from_slice(&(scope.len() as u64).to_le_bytes());
    all.extend_from_slice(scope);
    all.extend_from_slice(bytes);
    // Reading from a slice cannot fail.
    let hash = murmur3::murmur3_x64_128(&mut &all[..], 0).unwrap_or_default();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hash.to_le_bytes()[..CHECKSUM_BYTES]);
    sum
}

fn read(mut input: &[u8]) -> Option<CausalContext> {
    let input = &mut input;
    let time = HybridTime(take_number(input)?);
    let nodes = take_number(input)?;
    let mut known = Vec::new();
    for _ in 0..nodes {
        let (node, rest) = input.split_first_chunk::<16>()?;
        known.push(NodeId::from_bytes(*node));
        *input = rest;
    }
    let mut seen = VersionVector::default();
    for _ in 0..take_number(input)? {
        let node = *known.get(usize::try_from(take_number(input)?).ok()?)?;
        let boot = u32::try_from(take_number(input)?).ok()?;
        let actor = Actor { node, boot, stint: take_number(input)? };
        let counter = take_number(input).filter(|counter| *counter < COUNTER_MAX)?;
        seen.add(Dot { actor, counter });
    }
    input.is_empty().then_some(CausalContext { seen, time })
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn take_number(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if place == 9 && bits > 1 {
            return None;
        }
        number |= bits << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{CONTEXT_TEXT_MAX, CausalContext, InvalidContext, checksum};
    use crate::causality::{Actor, HybridTime, VersionVector};
    use crate::types::NodeId;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    fn contexts() -> impl Strategy<Value = CausalContext> {
        let entry = (0u8..6, any::<u32>(), any::<u64>(), 1u64..1 << 47);
        (prop::collection::vec(entry, 0..20), any::<u64>()).prop_map(|(entries, time)| {
            let seen: Vec<(Actor, u64)> = entries
                .into_iter()
                .map(|(node, boot, stint, counter)| {
                    (Actor { node: NodeId::from_bytes([node; 16]), boot, stint }, counter)
                })
                .collect();
            CausalContext { seen: seen.into(), time: HybridTime(time) }
        })
    }

    proptest! {
        #[test]
        fn a_context_survives_the_way_to_the_client_and_back(context in contexts()) {
            let text = context.encode(b"bucket/key").unwrap();

            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(CausalContext::decode(&text, b"bucket/key"), Ok(context));
        }

        #[test]
        fn a_context_of_another_key_is_refused(context in contexts()) {
            let text = context.encode(b"bucket/key").unwrap();

            prop_assert_eq!(CausalContext::decode(&text, b"bucket/kez"), Err(InvalidContext::Foreign));
        }

        #[test]
        fn a_changed_context_is_refused(context in contexts(), at: prop::sample::Index, by in 1u8..64) {
            let text = context.encode(b"k").unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= by;

            let changed = URL_SAFE_NO_PAD.encode(bytes);

            prop_assert!(CausalContext::decode(&changed, b"k").is_err());
        }

        #[test]
        fn foreign_text_is_refused_without_a_panic(text: String, bytes: Vec<u8>) {
            prop_assert!(CausalContext::decode(&text, b"k").is_err());
            // Whoever computes the checksum himself is still read with care.
            let sealed = [&bytes[..], &checksum(b"k", &bytes)].concat();
            drop(CausalContext::decode(&URL_SAFE_NO_PAD.encode(sealed), b"k"));
        }
    }

    #[test]
    fn a_context_of_a_newer_release_says_so() {
        let bytes = [9, 1, 2, 3];
        let sealed = [&bytes[..], &checksum(b"k", &bytes)].concat();

        let refused = CausalContext::decode(&URL_SAFE_NO_PAD.encode(sealed), b"k");

        assert_eq!(refused, Err(InvalidContext::Newer(9)));
    }

    #[test]
    fn a_context_is_bounded_both_ways() {
        let seen = |actors: u64| -> VersionVector {
            let node = NodeId::from_bytes([1; 16]);
            let actor = |stint| (Actor { node, boot: 1, stint }, 1);
            (0..actors).map(actor).collect::<Vec<_>>().into()
        };
        let time = HybridTime(1);

        assert!(CausalContext { seen: seen(1_000), time }.encode(b"k").is_ok());
        assert_eq!(
            CausalContext { seen: seen(9_000), time }.encode(b"k").unwrap_err().actors,
            9_000
        );
        let long = "A".repeat(CONTEXT_TEXT_MAX + 1);
        assert_eq!(CausalContext::decode(&long, b"k"), Err(InvalidContext::TooLong));
    }
}
