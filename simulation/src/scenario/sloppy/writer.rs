//! Writers of one gateway: they put and delete, and remember what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate::catalog::{CatalogError, NewObject};
use quorate::env::{Clock, Entropy};
use quorate::node::Node;
use quorate::replication::Outcome;
use quorate::types::Key;

use super::{BUCKET, State};
use crate::scenario::objects::body::{End, SimBody, bytes_of, md5_of};
use crate::scenario::objects::history::WriteId;
use crate::scenario::stage::Stage;
use crate::world::SimNode;

/// The header that names the write which made an object.
pub(super) const WRITE_HEADER: &str = "x-amz-meta-write";

/// What is known of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes; `None` for a delete.
    pub(super) length: Option<usize>,
    /// When it was minted, in milliseconds, once it was acknowledged.
    pub(super) acknowledged: Option<u64>,
    /// Whether it was answered as certainly not done.
    pub(super) never: bool,
}

/// All writes, by number, from 1.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) writes: BTreeMap<u64, (Key, Written)>,
}

impl Ledger {
    fn begin(&mut self, key: &Key, length: Option<usize>) -> WriteId {
        let number = self.writes.len() as u64 + 1;
        let written = Written { length, acknowledged: None, never: false };
        self.writes.insert(number, (key.clone(), written));
        WriteId(number)
    }

    /// The stamp of the newest acknowledged write of a key.
    pub(super) fn newest(&self, key: &Key) -> Option<(u64, u64)> {
        let of_key = self.writes.iter().filter(|(_, (of, _))| of == key);
        of_key.filter_map(|(number, (_, w))| Some((w.acknowledged?, *number))).max()
    }
}

/// One writer.
pub(super) struct Writer {
    state: Arc<State>,
    node: Arc<Node>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Writer {
    pub(super) fn new(state: &Arc<State>, node: &Arc<Node>, sim: &SimNode) -> Self {
        Self {
            state: Arc::clone(state),
            node: Arc::clone(node),
            clock: sim.clock.clone(),
            entropy: sim.entropy.fork("writer"),
        }
    }

    /// Works until the faults are over.
    pub(super) async fn work(self) {
        loop {
            self.clock.sleep(Duration::from_millis(30 + self.entropy.below(170))).await;
            match self.state.curtain.stage() {
                Stage::Before => continue,
                Stage::Faults => {}
                Stage::After => return,
            }
            let place = usize::try_from(self.entropy.below(self.state.keys.len() as u64));
            let key = self.state.keys[place.unwrap_or_default()].clone();
            Box::pin(self.write(&key)).await;
        }
    }

    async fn write(&self, key: &Key) {
        let Some(bucket) = self.node.catalog.bucket(BUCKET) else { return };
        let length = match self.entropy.below(20) {
            0..3 => None,
            3..14 => Some(self.entropy.below(500)),
            14..18 => Some(600 + self.entropy.below(3_000)),
            _ => Some(5_000 + self.entropy.below(30_000)),
        };
        let length = length.and_then(|length| usize::try_from(length).ok());
        let write = self.state.ledger.lock().begin(key, length);
        let result = match length {
            None => self.node.catalog.delete_object(&bucket, key).await.map(|_| None),
            Some(length) => {
                let (clock, entropy) = (Arc::clone(&self.clock), self.entropy.fork("body"));
                let bytes = bytes_of(write, length);
                let mut body = SimBody::new(bytes, md5_of(write, 0), End::Whole, clock, entropy);
                let headers = vec![(WRITE_HEADER.to_owned(), write.0.to_string())];
                let object = NewObject { headers, checksum: None };
                let put = self.node.catalog.put_object(&bucket, key.clone(), object, &mut body);
                put.await.map(|receipt| Some(receipt.head.modified.0))
            }
        };
        let mut ledger = self.state.ledger.lock();
        let Some((_, written)) = ledger.writes.get_mut(&write.0) else { return };
        let word = match result {
            Ok(modified) => {
                written.acknowledged = modified;
                "write done"
            }
            Err(CatalogError::Unavailable { outcome: Outcome::Unknown, .. }) => "write unknown",
            Err(CatalogError::Internal { reason }) => {
                self.state.violate(format!("I7: {reason}"));
                "write failed"
            }
            Err(_) => {
                written.never = true;
                "write not done"
            }
        };
        self.state.count(word);
    }
}
