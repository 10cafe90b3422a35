//! Objects that are written once, some before all faults and some during them, and read at the
//! end through every node: what a disk lost or spoiled is found in them, however often other keys
//! are written over.

use std::sync::Arc;

use futures_util::future::join_all;

use super::BUCKET;
use super::ground::Ground;
use super::hand::{Hand, Where};
use crate::content::Sizes;

/// Written before all faults.
const FIRST: u64 = 48;

/// Written in all.
const MOST: u64 = 160;

/// So many at a time.
const WRITERS: usize = 6;

fn key(number: u64) -> String {
    format!("once/{number:03}")
}

/// Writes the first of them.
pub(super) async fn write_first(ground: &Arc<Ground>, seed: u64) {
    let writers = (0..WRITERS).map(|_| {
        let mut hand = ground.hand(seed);
        async move {
            let nodes = hand.ground().nodes();
            while let Some(number) = hand.ground().next_keepsake(FIRST) {
                let Some(node) = hand.pick(&nodes) else { return };
                write(&mut hand, node, number).await;
            }
        }
    });
    join_all(writers).await;
}

/// Writes another one, unless there are enough.
pub(super) async fn write_one(hand: &mut Hand, node: usize) {
    if let Some(number) = hand.ground().next_keepsake(MOST) {
        write(hand, node, number).await;
    }
}

async fn write(hand: &mut Hand, node: usize, number: u64) {
    hand.put(Where { node, bucket: BUCKET, key: &key(number) }, Sizes::Kept).await;
}

/// Reads all of them through this node, at the bucket's level and at all replicas.
pub(super) async fn read_all(hand: &mut Hand, node: usize) {
    for number in 0..hand.ground().keepsakes() {
        let at = Where { node, bucket: BUCKET, key: &key(number) };
        hand.get(at, Sizes::Kept, None).await;
        hand.get(at, Sizes::Kept, Some("all")).await;
    }
}
