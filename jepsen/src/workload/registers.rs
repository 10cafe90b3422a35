//! Reads, writes and deletions of few objects by all clients.

use super::BUCKET;
use super::hand::{Hand, Where};
use crate::content::Sizes;

/// Few, so that each is written often and at the same time by several.
const KEYS: u64 = 8;

fn key(number: u64) -> String {
    format!("r{number}")
}

/// One operation; so many of a hundred are deletions.
pub(super) async fn step(hand: &mut Hand, node: usize, deletions: u64) {
    let key = key(hand.draw(KEYS));
    let at = Where { node, bucket: BUCKET, key: &key };
    let draw = hand.draw(100);
    if draw < 50 {
        hand.get(at, Sizes::Mixed, None).await;
    } else if draw < 50 + deletions {
        hand.delete(at).await;
    } else {
        hand.put(at, Sizes::Mixed).await;
    }
}

pub(super) async fn read_all(hand: &mut Hand, node: usize) {
    for number in 0..KEYS {
        let key = key(number);
        let at = Where { node, bucket: BUCKET, key: &key };
        // At one replica, the nearest, and at all of them.
        hand.get(at, Sizes::Mixed, None).await;
        hand.get(at, Sizes::Mixed, Some("all")).await;
    }
}
