//! Values side by side: writes that replace what was read, blind ones, and deletions of what was
//! read.

use super::BUCKET;
use super::hand::{Hand, Where};

const KEYS: u64 = 8;

/// A writer that finds so many values makes one of them; more than 16 are refused.
const MANY: usize = 6;

fn key(number: u64) -> String {
    format!("s{number}")
}

pub(super) async fn step(hand: &mut Hand, node: usize) {
    let key = key(hand.draw(KEYS));
    let at = Where { node, bucket: BUCKET, key: &key };
    let Some(read) = hand.kv_get(at, None).await else { return };
    let draw = hand.draw(100);
    match read.context {
        Some(context) if draw < 15 => {
            hand.kv_delete(at, &context).await;
        }
        Some(context) if draw < 75 || read.numbers.len() >= MANY => {
            hand.kv_put(at, Some(&context)).await;
        }
        _ if draw < 90 => {
            hand.kv_put(at, None).await;
        }
        _ => {}
    }
}

pub(super) async fn read_all(hand: &mut Hand, node: usize) {
    for number in 0..KEYS {
        let key = key(number);
        let at = Where { node, bucket: BUCKET, key: &key };
        hand.kv_get(at, Some("eventual")).await;
        hand.kv_get(at, Some("all")).await;
    }
}
