//! What must hold once all is healed: no hints, equal owners, right leaves, the newest writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures_util::StreamExt;
use quorate::catalog::CatalogError;
use quorate::merkle::{Leaf, RowHash};
use quorate::replication::TableId;
use quorate::ring::{Layout, Partition};
use quorate::store::Family;
use quorate::types::NodeId;

use super::writer::WRITE_HEADER;
use super::{BUCKET, State};
use crate::cluster::Cluster;
use crate::scenario::Plan;
use crate::scenario::objects::body::bytes_of;
use crate::scenario::objects::history::WriteId;

/// How often the disks are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Length of the routing key of a bucket's rows: bucket id and shard.
const ROUTING_BYTES: usize = 18;

type Disks = BTreeMap<NodeId, BTreeMap<(Family, Bytes), Bytes>>;

/// Waits until there are no hints and all owners agree.
pub(in crate::scenario) async fn all_agree(
    cluster: &Arc<Cluster>,
    copies: usize,
    patience: Duration,
) -> anyhow::Result<()> {
    let time = cluster.world().time();
    let until = time.elapsed() + patience;
    loop {
        let Err(difference) = look(cluster, copies) else { return Ok(()) };
        if time.elapsed() >= until {
            bail!("{patience:?} after all was healed: {difference:#}");
        }
        time.sleep(LOOK_AGAIN).await;
    }
}

fn look(cluster: &Arc<Cluster>, copies: usize) -> anyhow::Result<()> {
    let nodes = cluster.world().nodes();
    let disks: Disks = nodes.iter().map(|node| (*node, cluster.rows(*node))).collect();
    let first = nodes.first().and_then(|node| cluster.node(*node)).context("no node is up")?;
    let layout = first.membership.holder().current().context("no layout")?;
    for (node, rows) in &disks {
        let hints = rows.keys().filter(|(family, _)| *family == Family::Hints).count();
        if hints > 0 {
            bail!("{} keeps {hints} hints", node.short());
        }
    }
    for table in [TableId::Objects, TableId::Uploads, TableId::Kv, TableId::Extents] {
        owners_agree(&layout, &disks, table, copies)?;
    }
    leaves_are_sums(&disks)
}

/// While faults strike, every hint has the row that it is about. Runs until it is dropped.
pub(super) async fn watch_hints(cluster: &Arc<Cluster>, state: &State, plan: &Plan) {
    loop {
        cluster.world().time().sleep(LOOK_AGAIN).await;
        // What is purged is gone, and hints for it then stand for nothing.
        if plan.lag_seconds < 3_600 {
            continue;
        }
        for node in cluster.world().nodes() {
            if let Some(key) = hint_without_row(&cluster.rows(node)) {
                let node = node.short();
                state.violate(format!("I2: {node} keeps a hint and not its row: {key:?}"));
                return;
            }
        }
    }
}

/// The key of a row that a hint is about and that is not there.
fn hint_without_row(rows: &BTreeMap<(Family, Bytes), Bytes>) -> Option<Bytes> {
    let hints = rows.keys().filter(|(family, _)| *family == Family::Hints);
    hints.map(|(_, key)| key).find_map(|key| {
        // Owner, partition, table, length of the routing key, routing key, sort key.
        let (partition, table) = (key.get(16..20)?, TableId::from_number(*key.get(20)?)?);
        let row = Bytes::from([partition, key.get(23..)?].concat());
        (!rows.contains_key(&(table.family(), row.clone()))).then_some(row)
    })
}

fn owners_agree(
    layout: &Layout,
    disks: &Disks,
    table: TableId,
    copies: usize,
) -> anyhow::Result<()> {
    let mut keys: BTreeMap<&Bytes, Vec<(NodeId, &Bytes)>> = BTreeMap::new();
    for (node, rows) in disks {
        for ((_, key), value) in rows.iter().filter(|((family, _), _)| *family == table.family()) {
            keys.entry(key).or_default().push((*node, value));
        }
    }
    for (key, holders) in keys {
        let partition = key.first_chunk::<4>().map(|bytes| Partition::from_be_bytes(*bytes));
        let partition = partition.context("a key without a partition")?;
        let owners = layout.preference_list(partition).owners(copies).to_vec();
        for (node, value) in &holders {
            if !owners.contains(node) {
                bail!("{} keeps {table:?} {key:?} and is no owner", node.short());
            }
            if *value != holders[0].1 {
                let (one, other) = (&value[..], &holders[0].1[..]);
                bail!(
                    "{} and {} differ in {table:?} {key:?}: {one:x?}, {other:x?}",
                    node.short(),
                    holders[0].0.short()
                );
            }
        }
        if let Some(without) = owners.iter().find(|owner| !holders.iter().any(|h| h.0 == **owner)) {
            bail!("{} lacks {table:?} {key:?}", without.short());
        }
    }
    Ok(())
}

/// Each leaf is the sum of its rows' elements, on every disk.
fn leaves_are_sums(disks: &Disks) -> anyhow::Result<()> {
    for (node, rows) in disks {
        let mut sums: BTreeMap<Bytes, u128> = BTreeMap::new();
        for ((family, key), value) in rows {
            let table = match family {
                Family::Objects => TableId::Objects,
                Family::Kv => TableId::Kv,
                // Keys of the other tables cannot be cut here.
                _ => continue,
            };
            let partition = key.first_chunk::<4>().context("a key without a partition")?;
            let (routing, sort) =
                key[4..].split_at_checked(ROUTING_BYTES).context("a key that is too short")?;
            let hash = RowHash::of(routing, sort);
            let flags = value.first().copied().unwrap_or_default();
            let element = hash.element(flags >> 1 & 1, &value[1..]);
            let leaf_key = quorate::replication::leaf_key(
                table,
                flags >> 3,
                Partition::from_be_bytes(*partition),
                hash.leaf(),
            );
            let sum = sums.entry(leaf_key).or_default();
            *sum = sum.wrapping_add(element);
        }
        for ((family, key), value) in rows {
            let counted = [TableId::Objects.number(), TableId::Kv.number()];
            // What is counted beside a tree has a number behind its leaves.
            let number = key.last_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes));
            let is_leaf = number.is_some_and(|number| usize::from(number) < Leaf::COUNT);
            if *family != Family::Leaves || !counted.contains(&key[0]) || !is_leaf {
                continue;
            }
            let expected = sums.remove(key).unwrap_or_default();
            if quorate::store::decode_sum(value) != expected {
                bail!("leaf {key:?} of {} is not the sum of its rows", node.short());
            }
        }
        if let Some((key, _)) = sums.iter().find(|(_, sum)| **sum != 0) {
            bail!("leaf {key:?} of {} is missing", node.short());
        }
    }
    Ok(())
}

/// Every gateway shows, of each key, a write that is not older than the newest acknowledged one,
/// with all its bytes.
pub(super) async fn newest_stand(cluster: &Arc<Cluster>, state: &State) -> anyhow::Result<()> {
    let mut first: BTreeMap<Bytes, u64> = BTreeMap::new();
    for node in cluster.all_up(Duration::from_secs(5)).await? {
        let bucket = node.catalog.bucket(BUCKET).context("the bucket is gone")?;
        for key in &state.keys {
            let reader = match node.catalog.get_object(&bucket, key).await {
                Ok(reader) => reader,
                Err(CatalogError::NoSuchKey) => {
                    let seen = first.entry(key.to_bytes()).or_insert(0);
                    if *seen != 0 {
                        state.violate(format!("I3: '{key}' is write {seen} and then gone"));
                    }
                    absence_is_allowed(state, key);
                    continue;
                }
                Err(error) => return Err(anyhow!("after all was healed, '{key}': {error}")),
            };
            let header = reader.head.headers.iter().find(|(name, _)| name == WRITE_HEADER);
            let number: u64 = header.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
            let seen = *first.entry(key.to_bytes()).or_insert(number);
            if seen != number {
                state.violate(format!("I3: '{key}' is write {seen} and then {number}"));
            }
            let modified = reader.head.modified.0;
            let (newest, known) = {
                let ledger = state.ledger.lock();
                (ledger.newest(key), ledger.writes.get(&number).cloned())
            };
            match known {
                Some((of, written)) if of == *key && !written.never => {
                    let length = written.length.unwrap_or_default();
                    let mut bytes = Vec::new();
                    let mut stream = reader.read(0..u64::MAX);
                    while let Some(piece) = stream.next().await {
                        bytes.extend_from_slice(&piece?);
                    }
                    if bytes != bytes_of(WriteId(number), length) {
                        state
                            .violate(format!("I5: '{key}' has others than write {number}'s bytes"));
                    }
                }
                other => state.violate(format!("I9: '{key}' shows write {number}: {other:?}")),
            }
            if newest.is_some_and(|(stamp, _)| stamp > modified) {
                state.violate(format!(
                    "I2: '{key}' shows write {number} of {modified}, and {newest:?} was acknowledged"
                ));
            }
        }
    }
    Ok(())
}

/// A key may be gone only if some delete of it was tried.
fn absence_is_allowed(state: &State, key: &quorate::types::Key) {
    let ledger = state.ledger.lock();
    let deleted = ledger.writes.values().any(|(of, w)| of == key && w.length.is_none() && !w.never);
    if ledger.newest(key).is_some() && !deleted {
        state.violate(format!("I2: '{key}' is gone, and was never deleted"));
    }
}
