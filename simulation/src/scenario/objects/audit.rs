//! What must hold once all faults are healed: requests succeed, and copies agree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use quorate::blob::{ExtentRecord, ExtentRow, ExtentState, extent_row};
use quorate::catalog::{BucketRecord, CatalogError, ListObjects};
use quorate::codec::decode_format;
use quorate::env::{Clock, Entropy};
use quorate::node::Node;
use quorate::replication::Want;
use quorate::store::{Family, KeyRange, Visit};
use quorate::types::{ExtentId, Key, NodeId};

use super::body::End;
use super::client::Client;
use super::history::Seen;
use super::{BUCKET, State};
use crate::cluster::Cluster;

/// How long a probe pauses before it tries again.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads repair what they find stale, so after this many passes over all gateways every owner
/// has met every other.
const REPAIRING_PASSES: usize = 2;

/// By then peers have noticed that a machine is down, and their connections to it have ended.
const NOTICED: Duration = Duration::from_secs(8);

/// A client of each gateway, in node order.
async fn clients(
    cluster: &Arc<Cluster>,
    state: &Arc<State>,
    gateways: &[NodeId],
    patience: Duration,
) -> anyhow::Result<Vec<Client>> {
    let nodes = cluster.these_up(gateways, patience).await?;
    let pairs = gateways.iter().zip(nodes);
    Ok(pairs.map(|(gateway, node)| client(state, *gateway, node)).collect())
}

fn client(state: &Arc<State>, gateway: NodeId, node: Arc<Node>) -> Client {
    let clock: Arc<dyn Clock> = Arc::clone(&node.seams.clock);
    let entropy: Arc<dyn Entropy> = node.seams.entropy.fork("audit");
    Client { state: Arc::clone(state), node, gateway, clock, entropy }
}

/// Waits until each of these gateways serves every kind of request, for as long as is allowed.
pub(super) async fn is_lively(
    cluster: &Arc<Cluster>,
    state: &Arc<State>,
    gateways: &[NodeId],
    patience: Duration,
) -> anyhow::Result<()> {
    let time = cluster.world().time();
    let until = time.elapsed() + patience;
    for client in clients(cluster, state, gateways, patience).await? {
        let key = Key::new(format!("probe/{}", client.gateway.short()))?;
        while let Err(error) = probe(&client, &key).await {
            if time.elapsed() >= until {
                let gateway = client.gateway.short();
                bail!("{patience:?} after all was healed, {gateway} answers: {error}");
            }
            time.sleep(PAUSE).await;
        }
    }
    Ok(())
}

async fn probe(client: &Client, key: &Key) -> Result<(), CatalogError> {
    let bucket = client.node.catalog.bucket(BUCKET).ok_or(CatalogError::NoSuchBucket)?;
    for length in [100, 2_000, 20_000] {
        client.put_of(&bucket, key, length, End::Whole).await?;
        client.get(&bucket, key).await?;
    }
    client.delete(&bucket, key).await?;
    client.head(&bucket, key).await?;
    client.list_all(&bucket, everything()).await
}

fn everything() -> ListObjects {
    ListObjects { max: 5, ..ListObjects::default() }
}

/// Reads everything through every gateway until reads have repaired all copies; then all
/// gateways must see the same. What they see.
pub(super) async fn converge(
    cluster: &Arc<Cluster>,
    state: &Arc<State>,
) -> anyhow::Result<BTreeMap<Key, Seen>> {
    let gateways = cluster.world().nodes();
    let clients = clients(cluster, state, &gateways, Duration::from_secs(1)).await?;
    for _ in 0..REPAIRING_PASSES {
        for client in &clients {
            look(client, state).await?;
        }
        cluster.world().time().sleep(Duration::from_secs(2)).await;
    }
    let mut agreed: Option<BTreeMap<Key, Seen>> = None;
    for client in &clients {
        let bucket = bucket(client)?;
        let seen = look(client, state).await?;
        client
            .list_all(&bucket, everything())
            .await
            .map_err(|error| failed(client, "list", &error))?;
        if let Some(first) = &agreed {
            compare(state, first, &seen);
        }
        agreed = agreed.or(Some(seen));
    }
    agreed.context("there is no gateway")
}

/// With any one machine down, everything can be read through the others: what was acknowledged is
/// on a quorum.
pub(super) async fn spares_each(
    cluster: &Arc<Cluster>,
    state: &Arc<State>,
    expected: &BTreeMap<Key, Seen>,
) -> anyhow::Result<()> {
    let time = cluster.world().time();
    for down in cluster.world().nodes() {
        cluster.crash(down);
        time.sleep(NOTICED).await;
        for gateway in cluster.world().nodes().into_iter().filter(|node| *node != down) {
            let Some(node) = cluster.node(gateway) else {
                bail!("{} ended by itself", gateway.short());
            };
            let looked = look(&client(state, gateway, node), state).await;
            let seen = looked.with_context(|| format!("I1: with {} down", down.short()))?;
            compare(state, expected, &seen);
        }
        cluster.start(down);
        is_lively(cluster, state, &cluster.world().nodes(), super::LIVELY_AGAIN).await?;
    }
    Ok(())
}

/// Once the read grace is over nothing waits to be freed, and no machine holds bytes that its own
/// rows do not say should exist.
pub(super) async fn is_tidy(cluster: &Arc<Cluster>, patience: Duration) -> anyhow::Result<()> {
    let time = cluster.world().time();
    let until = time.elapsed() + patience;
    for node in cluster.all_up(patience).await? {
        while let Err(error) = tidiness(&node).await {
            if time.elapsed() >= until {
                let name = node.coordinator.site().node.short();
                bail!("{patience:?} after all was healed, {name} is not tidy: {error:#}");
            }
            time.sleep(PAUSE).await;
        }
    }
    Ok(())
}

async fn tidiness(node: &Node) -> anyhow::Result<()> {
    let rows = node.coordinator.replica().rows();
    let mut waiting = 0;
    let everything = KeyRange { start: Vec::new(), end: None };
    rows.meta().scan(Family::Unrefs, &everything, &mut |_, _| {
        waiting += 1;
        Visit::Next
    })?;
    if waiting > 0 {
        bail!("{waiting} notes of unnamed bytes");
    }
    let mut after = None;
    loop {
        let held = node.blobs.segments().held(after, 100).await?;
        let Some(last) = held.last() else { return Ok(()) };
        after = Some((last.extent, last.fragment));
        for held in held {
            should_hold(node, held.extent)?;
        }
    }
}

fn should_hold(node: &Node, extent: ExtentId) -> anyhow::Result<()> {
    let rows = node.coordinator.replica().rows();
    let key = [&extent.as_bytes()[..], &[0]].concat();
    let record = rows.get(Family::Extents, &key)?.context("bytes without a record")?;
    let record = decode_format::<ExtentRecord>(&record)?;
    let row = extent_row(record.routing.into(), extent);
    let partition = row.partition(&*node.coordinator.layout()?);
    let held = node.coordinator.replica().read(&row, partition, Want::Record)?.record;
    let held = held.with_context(|| format!("extent {extent} has no row"))?;
    if decode_format::<ExtentRow>(&held)?.state == ExtentState::Gone {
        bail!("extent {extent} is gone, and its bytes are here");
    }
    Ok(())
}

fn bucket(client: &Client) -> anyhow::Result<Arc<BucketRecord>> {
    client.node.catalog.bucket(BUCKET).context("the bucket is gone")
}

fn failed(client: &Client, what: &str, error: &CatalogError) -> anyhow::Error {
    anyhow!("after all was healed, {what} via {}: {error}", client.gateway.short())
}

async fn look(client: &Client, state: &State) -> anyhow::Result<BTreeMap<Key, Seen>> {
    let bucket = bucket(client)?;
    let keys = state.history.lock().keys();
    let mut all = BTreeMap::new();
    for key in keys {
        let seen = client.get(&bucket, &key).await;
        let seen = seen.map_err(|error| failed(client, &format!("get '{key}'"), &error))?;
        all.insert(key, seen);
    }
    Ok(all)
}

/// Two looks at the same objects show the same.
pub(super) fn compare(state: &State, first: &BTreeMap<Key, Seen>, second: &BTreeMap<Key, Seen>) {
    let mut history = state.history.lock();
    for (key, seen) in first {
        // Probes write between two looks.
        if key.as_bytes().starts_with(b"probe/") || second.get(key) == Some(seen) {
            continue;
        }
        let other = second.get(key);
        history.violate_key(key, &format!("I3: {seen:?} was seen at first, then {other:?}"));
    }
}
