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
        let at = Where { node, bucket: BUCKET, key: &prefix };
        let shown = hand.list(at).await.unwrap_or_default();
        let place = usize::try_from(hand.draw(shown.len() as u64)).unwrap_or_default();
        if let Some(key) = shown.get(place) {
            hand.get(Where { key, ..at }, Sizes::Small, None).await;
        }
        return;
    }
    let key = format!("l{slice:02}/{:06}", hand.draw(1_000_000));
    let at = Where { node, bucket: BUCKET, key: &key };
    hand.put(at, Sizes::Small).await;
    if hand.draw(5) == 0 {
        hand.delete(at).await;
    }
}

/// Lists all through this node, and reads its share of what is there.
pub(super) async fn read_all(hand: &mut Hand, node: usize) {
    let at = Where { node, bucket: BUCKET, key: "" };
    let shown = hand.list(at).await.unwrap_or_default();
    let nodes = hand.ground().nodes().len();
    let own = shown.iter().filter(|key| key.starts_with('l'));
    for key in own.skip(node - 1).step_by(nodes) {
        hand.get(Where { key, ..at }, Sizes::Small, None).await;
    }
}
