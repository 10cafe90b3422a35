//! New objects under keys of their own, few of them deleted again, and lists.

use super::BUCKET;
use super::hand::{Hand, Where};
use crate::content::Sizes;

/// Lists show one of so many slices of all keys: a whole list would be the longer the later.
const SLICES: u64 = 16;

pub(super) async fn step(hand: &mut Hand, node: usize) {
    let slice = hand.draw(SLICES);
    if hand.draw(100) < 35 {
        let prefix = format!("l{slice:02}/");
        hand.list(Where { node, bucket: BUCKET, key: &prefix }).await;
        return;
    }
    let key = format!("l{slice:02}/{:06}", hand.draw(1_000_000));
    let at = Where { node, bucket: BUCKET, key: &key };
    hand.put(at, Sizes::Small).await;
    if hand.draw(5) == 0 {
        hand.delete(at).await;
    }
}

pub(super) async fn read_all(hand: &mut Hand, node: usize) {
    hand.list(Where { node, bucket: BUCKET, key: "" }).await;
}
