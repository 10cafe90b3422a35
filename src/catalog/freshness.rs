//! How old this node's copies of buckets and credentials may be: since when they are known to
//! hold all that a majority of the members held (DESIGN §6).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::UnixMillis;
use crate::store::{Batch, Durability, Family, MetaStore, StoreError};
use crate::types::NodeId;

/// The row of this node's own facts that keeps the time.
const KEY: &[u8] = b"full_copies_compared";
/// The time is made durable when it has moved on by so much.
const STORED_EVERY_MS: u64 = 60_000;

#[derive(Default)]
struct State {
    /// When each member's copies were compared last.
    compared: BTreeMap<NodeId, UnixMillis>,
    /// Since when a majority is known to have been compared; zero for never.
    known: u64,
    stored: u64,
}

/// The age of this node's full copies.
pub(super) struct Freshness {
    meta: Arc<dyn MetaStore>,
    stale_max: Duration,
    state: Mutex<State>,
}

impl Freshness {
    /// Reads when the copies were last known to be fresh.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub(super) fn open(
        meta: Arc<dyn MetaStore>,
        stale_max: Duration,
    ) -> Result<Arc<Self>, StoreError> {
        let stored = meta.get(Family::Local, KEY)?;
        let stored = stored
            .and_then(|bytes| Some(u64::from_le_bytes(bytes[..].try_into().ok()?)))
            .unwrap_or_default();
        let state = State { known: stored, stored, ..State::default() };
        Ok(Arc::new(Self { meta, stale_max, state: Mutex::new(state) }))
    }

    /// Notes that at `now` these copies held all that `peer` held.
    pub(super) fn compared(&self, peer: NodeId, now: UnixMillis) {
        self.state.lock().compared.insert(peer, now);
    }

    /// Works out since when a majority of the `members` was compared, and makes it durable now
    /// and then. Blocks.
    ///
    /// # Errors
    /// If the disk refuses; the time counts all the same until a restart.
    pub(super) fn settle(&self, members: &[NodeId], me: NodeId) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let others = members.iter().filter(|&&member| member != me);
        let mut times: Vec<u64> =
            others.filter_map(|member| state.compared.get(member)).map(|time| time.0).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        // This node itself is one of the majority.
        let Some(&time) = (members.len() / 2).checked_sub(1).and_then(|last| times.get(last))
        else {
            return Ok(());
        };
        state.known = time;
        if time.abs_diff(state.stored) < STORED_EVERY_MS {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(Family::Local, KEY, time.to_le_bytes().to_vec());
        self.meta.write(&[batch], Durability::Synced)?;
        state.stored = time;
        Ok(())
    }

    /// Whether the copies ever were complete.
    pub(super) fn is_known(&self) -> bool {
        self.state.lock().known > 0
    }

    /// Whether requests may be authorised from these copies at `now`, in a cluster of so many
    /// members.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub(super) fn check(&self, members: usize, now: UnixMillis) -> Result<(), String> {
        if members < 2 {
            return Ok(());
        }
        let known = self.state.lock().known;
        if known == 0 {
            return Err("this node has not fetched buckets and credentials from a majority of \
                        the members yet"
                .to_owned());
        }
        let age = Duration::from_millis(now.0.saturating_sub(known));
        if age > self.stale_max {
            return Err(format!(
                "this node has not heard from a majority of the members for {} min: its buckets \
                 and credentials may be out of date (cluster.auth_stale_max)",
                age.as_secs() / 60
            ));
        }
        Ok(())
    }
}
