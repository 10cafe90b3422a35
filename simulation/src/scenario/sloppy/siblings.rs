//! Keys of the key-value API: writers that read, resolve, delete and write blindly, and what must
//! be left of it.
//!
//! What must hold: an acknowledged value stands until some write supersedes it whose writer was
//! shown it; a write that was answered as not done never shows; all gateways show the same (I2,
//! I3, I9).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use quorate::catalog::{BucketRecord, CatalogError, KvRead, KvWritten};
use quorate::causality::CausalContext;
use quorate::env::{Clock, Entropy};
use quorate::node::Node;
use quorate::replication::{Level, Outcome};
use quorate::types::Key;

use super::{BUCKET, State};
use crate::cluster::Cluster;
use crate::scenario::stage::Stage;
use crate::world::SimNode;

/// What is known of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    key: Key,
    deletes: bool,
    /// The values that its writer was shown, and that its context covers.
    shown: BTreeSet<u64>,
    acknowledged: bool,
    never: bool,
}

/// What a writer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Put,
    Delete,
}

/// All writes, by number, from 1.
#[derive(Default)]
pub(super) struct SiblingLedger {
    writes: BTreeMap<u64, Written>,
}

impl SiblingLedger {
    fn begin(&mut self, key: &Key, asked: Asked, shown: BTreeSet<u64>) -> u64 {
        let number = self.writes.len() as u64 + 1;
        let key = key.clone();
        let deletes = asked == Asked::Delete;
        let written = Written { key, deletes, shown, acknowledged: false, never: false };
        self.writes.insert(number, written);
        number
    }

    fn end(&mut self, number: u64, result: &Result<KvWritten, CatalogError>) -> &'static str {
        let Some(written) = self.writes.get_mut(&number) else { return "kv unheard of" };
        match result {
            Ok(_) => {
                written.acknowledged = true;
                "kv done"
            }
            Err(CatalogError::Unavailable { outcome: Outcome::Unknown, .. }) => "kv unknown",
            Err(CatalogError::Refused { .. }) => {
                written.never = true;
                "kv refused"
            }
            Err(_) => {
                written.never = true;
                "kv not done"
            }
        }
    }

    /// What is wrong about `values` standing under `key`.
    fn faults(&self, key: &Key, values: &BTreeSet<u64>) -> Vec<String> {
        let mut faults = Vec::new();
        let of_key = || self.writes.iter().filter(|(_, written)| written.key == *key);
        for value in values {
            match self.writes.get(value) {
                Some(written) if written.key == *key && !written.never && !written.deletes => {}
                other => faults.push(format!("I9: '{key}' shows value {value}: {other:?}")),
            }
        }
        for (number, written) in of_key() {
            let stands = values.contains(number) || written.deletes || !written.acknowledged;
            let superseded = || of_key().any(|(_, w)| !w.never && w.shown.contains(number));
            if !stands && !superseded() {
                faults.push(format!("I2: value {number} of '{key}' is gone, and nobody saw it"));
            }
        }
        faults
    }
}

/// What a writer has seen of a key.
type Seen = (Option<CausalContext>, BTreeSet<u64>);

/// One writer beside a gateway.
pub(super) struct SiblingWriter {
    state: Arc<State>,
    node: Arc<Node>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// What it saw last of each key, for writes that come late.
    remembered: BTreeMap<Key, Seen>,
}

impl SiblingWriter {
    pub(super) fn new(state: &Arc<State>, node: &Arc<Node>, sim: &SimNode) -> Self {
        Self {
            state: Arc::clone(state),
            node: Arc::clone(node),
            clock: sim.clock.clone(),
            entropy: sim.entropy.fork("sibling writer"),
            remembered: BTreeMap::new(),
        }
    }

    /// Works until the faults are over.
    pub(super) async fn work(mut self) {
        loop {
            self.clock.sleep(Duration::from_millis(50 + self.entropy.below(250))).await;
            match self.state.curtain.stage() {
                Stage::Before => continue,
                Stage::Faults => {}
                Stage::After => return,
            }
            let place = usize::try_from(self.entropy.below(self.state.keys.len() as u64));
            let key = self.state.keys[place.unwrap_or_default()].clone();
            let Some(bucket) = self.node.catalog.bucket(BUCKET) else { continue };
            Box::pin(self.write(&bucket, &key)).await;
        }
    }

    async fn write(&mut self, bucket: &BucketRecord, key: &Key) {
        let kind = self.entropy.below(10);
        let seen = match kind {
            0..3 => Some(Seen::default()),
            3..6 => self.remembered.get(key).cloned(),
            _ => self.read(bucket, key).await,
        };
        let Some((context, shown)) = seen else { return };
        let deletes = kind == 9 && context.is_some();
        let asked = if deletes { Asked::Delete } else { Asked::Put };
        let number = self.state.siblings.lock().begin(key, asked, shown);
        let asked = (bucket.level, context);
        let result = if deletes {
            self.node.catalog.kv_delete(bucket, key, asked).await
        } else {
            let value = Bytes::from(number.to_string());
            self.node.catalog.kv_put(bucket, key, asked, value).await
        };
        let word = self.state.siblings.lock().end(number, &result);
        self.state.count(word);
        match result {
            Ok(KvWritten { context: Some(context), .. }) if !deletes => {
                self.remembered.insert(key.clone(), (Some(context), BTreeSet::from([number])));
            }
            Err(CatalogError::Internal { reason }) => self.state.violate(format!("I7: {reason}")),
            Ok(_) | Err(_) => {}
        }
    }

    async fn read(&mut self, bucket: &BucketRecord, key: &Key) -> Option<Seen> {
        let read = self.node.catalog.kv_get(bucket, key, bucket.level).await.ok()?;
        let seen = (read.context.clone(), numbers(&read));
        self.remembered.insert(key.clone(), seen.clone());
        Some(seen)
    }
}

/// The writes whose values were read; 0 for a value that is none of ours.
fn numbers(read: &KvRead) -> BTreeSet<u64> {
    let number = |value: &Bytes| std::str::from_utf8(value).ok()?.parse().ok();
    read.values.iter().map(|value| number(&value.value).unwrap_or(0)).collect()
}

/// Every gateway shows the same values of each key, and none that was acknowledged is gone without
/// a writer that had seen it.
pub(super) async fn none_is_lost(cluster: &Arc<Cluster>, state: &State) -> anyhow::Result<()> {
    let mut first: BTreeMap<Key, BTreeSet<u64>> = BTreeMap::new();
    for node in cluster.all_up(Duration::from_secs(5)).await? {
        let bucket = node.catalog.bucket(BUCKET).context("the bucket is gone")?;
        for key in &state.keys {
            let read = node.catalog.kv_get(&bucket, key, Level::All).await;
            let read = read.map_err(|error| anyhow!("after all was healed, '{key}': {error}"))?;
            let values = numbers(&read);
            let seen = first.entry(key.clone()).or_insert_with(|| values.clone());
            if *seen != values {
                state.violate(format!("I3: '{key}' shows {seen:?} here and {values:?} there"));
            }
            let faults = state.siblings.lock().faults(key, &values);
            faults.into_iter().for_each(|fault| state.violate(fault));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quorate::types::Key;

    use super::{Asked, SiblingLedger};

    fn ledger() -> (SiblingLedger, Key) {
        let key = Key::new("k").unwrap();
        let mut ledger = SiblingLedger::default();
        let first = ledger.begin(&key, Asked::Put, BTreeSet::new());
        if let Some(written) = ledger.writes.get_mut(&first) {
            written.acknowledged = true;
        }
        (ledger, key)
    }

    #[test]
    fn a_value_that_is_gone_without_a_writer_that_saw_it_is_noticed() {
        let (mut ledger, key) = ledger();
        assert!(ledger.faults(&key, &BTreeSet::from([1])).is_empty());
        assert!(ledger.faults(&key, &BTreeSet::new())[0].contains("I2"));

        ledger.begin(&key, Asked::Put, BTreeSet::from([1]));
        assert!(ledger.faults(&key, &BTreeSet::from([2])).is_empty());
    }

    #[test]
    fn a_value_that_was_never_written_is_noticed() {
        let (mut ledger, key) = ledger();
        let never = ledger.begin(&key, Asked::Put, BTreeSet::new());
        if let Some(written) = ledger.writes.get_mut(&never) {
            written.never = true;
        }

        assert!(ledger.faults(&key, &BTreeSet::from([1, never]))[0].contains("I9"));
        assert!(ledger.faults(&key, &BTreeSet::from([1, 77]))[0].contains("I9"));
    }
}
