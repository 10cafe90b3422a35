//! Tables that every member keeps whole: buckets and credentials.
//!
//! Until per-key ballots decide them, changes are made one after another by one member, the
//! first of the layout, and need all members: the change is durable everywhere when it is
//! acknowledged, so any node may authorise requests from its own copy. A change that met a
//! failure half-way spreads by the exchange below, or is completed by asking again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::codec::{decode_message, encode_format, encode_message};
use crate::env::{blocking, deadline_in};
use crate::membership::Liveness;
use crate::net::Message;
use crate::replication::{
    Coordinator, Outcome, Purpose, Record, ReplicationError, RowKey, RowWrite, TableId,
};
use crate::ring::Partition;
use crate::types::NodeId;

use super::error::CatalogError;
use super::remote::{CATALOG_SERVICE, CatalogReply, CatalogRequest};
use super::service::Catalog;

/// Copies that a row of these tables says it has; nothing counts them.
const ALL_MEMBERS: u8 = 0;
/// How often a node compares its full copies with a peer's.
const EXCHANGE_EVERY: Duration = Duration::from_secs(2);
/// The same while it does not have them yet.
const FIRST_EXCHANGE: Duration = Duration::from_millis(100);
/// Bytes of rows in one message: well below what a message may hold.
const PAGE_BYTES_MAX: usize = 1 << 20;
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a change waits for members that seem down.
const MEMBERS_UP_WAIT: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// All rows of a full-copy table, by sort key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TableRows {
    pub(super) rows: Vec<(Bytes, Bytes)>,
}

impl TableRows {
    /// The rows after `after` that fit one message, at least one if there is one.
    pub(super) fn page(rows: Vec<(Bytes, Bytes)>, after: &Bytes) -> Self {
        let mut bytes = 0;
        let fitting = |(sort, record): &(Bytes, Bytes)| {
            let fits = bytes < PAGE_BYTES_MAX;
            bytes += sort.len() + record.len();
            fits
        };
        let after = |(sort, _): &(Bytes, Bytes)| after.is_empty() || sort > after;
        Self { rows: rows.into_iter().filter(after).take_while(fitting).collect() }
    }
}

pub(super) fn row(table: TableId, sort: &str) -> RowKey {
    RowKey { table, routing: Bytes::new(), sort: Bytes::copy_from_slice(sort.as_bytes()) }
}

/// These tables have no bytes beside their rows.
static NO_BYTES: Bytes = Bytes::new();

/// A record of a full-copy table on its way into a replica.
fn full_copy_write<'a>(row: &'a RowKey, record: &'a Bytes) -> RowWrite<'a> {
    let (partition, n, purpose) = (Partition(0), ALL_MEMBERS, Purpose::Repair);
    RowWrite { row, partition, n, purpose, record, inline: &NO_BYTES }
}

/// Whoever makes changes of full-copy tables.
pub(super) fn decider(coordinator: &Coordinator) -> Result<NodeId, CatalogError> {
    let layout = coordinator.layout().map_err(CatalogError::from)?;
    layout
        .members()
        .first()
        .map(|member| member.node)
        .ok_or_else(|| CatalogError::Internal { reason: "the layout has no members".into() })
}

/// Waits a little until all of these seem alive: right after a start, gossip needs a moment.
async fn all_up(coordinator: &Coordinator, nodes: &[NodeId]) -> Result<(), CatalogError> {
    let clock = &coordinator.site().clock;
    let deadline = deadline_in(&**clock, MEMBERS_UP_WAIT);
    loop {
        let down: Vec<String> = nodes
            .iter()
            .filter(|&&node| coordinator.peers().liveness(node) == Liveness::Down)
            .map(NodeId::short)
            .collect();
        if down.is_empty() {
            return Ok(());
        }
        if clock.monotonic() >= deadline {
            return Err(CatalogError::Unavailable {
                outcome: Outcome::None,
                reason: format!(
                    "changes of buckets and credentials need all members up; down: {}",
                    down.join(", ")
                ),
            });
        }
        clock.sleep(LOOK_AGAIN).await;
    }
}

/// Makes one change on all members. Only the decider calls this, one change at a time.
pub(super) async fn write_everywhere<R: Record>(
    coordinator: &Coordinator,
    sort: &str,
    record: &R,
) -> Result<(), CatalogError> {
    let me = coordinator.site().node;
    let layout = coordinator.layout().map_err(CatalogError::from)?;
    let others: Vec<NodeId> =
        layout.members().iter().map(|member| member.node).filter(|&node| node != me).collect();
    all_up(coordinator, &others).await?;
    let record: Bytes = encode_format(record)
        .map_err(|error| CatalogError::Internal { reason: error.to_string() })?
        .into();
    let row = row(R::TABLE, sort);
    let (show, minted) = oneshot::channel();
    let show = move |record| drop(show.send(record));
    let replica = coordinator.replica();
    replica.mint(full_copy_write(&row, &record), None, show).await?;
    let minted = minted.await.map_err(|_| CatalogError::Internal {
        reason: "a change was stored without being minted".into(),
    })?;
    let calls = others.iter().map(|&node| {
        coordinator
            .replicate(node, &row, ALL_MEMBERS, minted.clone())
            .map(move |result| (node, result))
    });
    let failed: Vec<String> = join_all(calls)
        .await
        .into_iter()
        .filter_map(|(node, result)| Some(format!("{}: {}", node.short(), result.err()?)))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    // It is durable here and will spread; the caller may ask again.
    Err(CatalogError::Unavailable { outcome: Outcome::Unknown, reason: failed.join("; ") })
}

/// Asks `peer` something about the catalogue.
pub(super) async fn ask(
    coordinator: &Coordinator,
    peer: NodeId,
    request: &CatalogRequest,
) -> Result<CatalogReply, CatalogError> {
    let body = encode_message(request)
        .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
    let deadline = deadline_in(&*coordinator.site().clock, ANSWER_MAX);
    let called =
        coordinator.transport().call(peer, CATALOG_SERVICE, Message::from(body), deadline).await;
    let answer = called.map_err(|error| CatalogError::Unavailable {
        outcome: if error.certainly_not_done() { Outcome::None } else { Outcome::Unknown },
        reason: error.to_string(),
    })?;
    decode_message(&answer.body)
        .map_err(|error| CatalogError::Internal { reason: error.to_string() })
}

/// A short name for all that a node holds of a table.
pub(super) fn digest(coordinator: &Coordinator, table: TableId) -> Result<u128, ReplicationError> {
    let mut digest = 0u128;
    for (sort, record) in coordinator.replica().all_rows(table)? {
        let bytes = [&sort[..], &[0], &record[..]].concat();
        // Reading from a slice cannot fail. Addition makes the sum independent of order.
        let hash = murmur3::murmur3_x64_128(&mut &bytes[..], 0).unwrap_or_default();
        digest = digest.wrapping_add(hash);
    }
    Ok(digest)
}

/// Compares the full copies with one peer after another, for ever, and merges what differs.
pub(super) async fn exchange_for_ever(catalog: Catalog) {
    let coordinator = catalog.coordinator.clone();
    let mut turn = 0usize;
    loop {
        let pause = if catalog.freshness.is_known() { EXCHANGE_EVERY } else { FIRST_EXCHANGE };
        coordinator.site().clock.sleep(pause).await;
        let Ok(layout) = coordinator.layout() else {
            continue;
        };
        let me = coordinator.site().node;
        if decider(&coordinator).is_ok_and(|decider| decider == me) {
            catalog.finish_deletions().await;
        }
        let peers: Vec<NodeId> = layout
            .members()
            .iter()
            .map(|member| member.node)
            .filter(|&node| node != me && coordinator.peers().liveness(node) == Liveness::Up)
            .collect();
        if peers.is_empty() {
            continue;
        }
        turn = turn.wrapping_add(1);
        let peer = peers[turn % peers.len()];
        let begun = coordinator.site().clock.wall();
        match exchange_all(&coordinator, peer).await {
            Ok(()) => catalog.freshness.compared(peer, begun),
            Err(error) => tracing::debug!(%peer, %error, "full copies were not compared"),
        }
        let members: Vec<NodeId> = layout.members().iter().map(|member| member.node).collect();
        let freshness = Arc::clone(&catalog.freshness);
        let settled =
            blocking(&coordinator.site().tasks, move || freshness.settle(&members, me)).await;
        if let Some(Err(error)) = settled {
            tracing::warn!(%error, "the age of the full copies was not stored");
        }
    }
}

async fn exchange_all(coordinator: &Coordinator, peer: NodeId) -> Result<(), CatalogError> {
    for table in [TableId::Buckets, TableId::Credentials] {
        exchange(coordinator, peer, table).await?;
    }
    Ok(())
}

async fn exchange(
    coordinator: &Coordinator,
    peer: NodeId,
    table: TableId,
) -> Result<(), CatalogError> {
    let own = digest(coordinator, table)?;
    let CatalogReply::Digest { digest: theirs } =
        ask(coordinator, peer, &CatalogRequest::Digest { table }).await?
    else {
        return Ok(());
    };
    if theirs == own.to_le_bytes().to_vec() {
        return Ok(());
    }
    let mut after = Bytes::new();
    loop {
        let request = CatalogRequest::Rows { table, after: after.clone() };
        let CatalogReply::Rows { rows } = ask(coordinator, peer, &request).await? else {
            return Ok(());
        };
        let Some((last, _)) = rows.rows.last() else {
            return Ok(());
        };
        after = last.clone();
        merge_rows(coordinator, peer, table, rows).await;
    }
}

async fn merge_rows(coordinator: &Coordinator, peer: NodeId, table: TableId, rows: TableRows) {
    for (sort, record) in rows.rows {
        let row = RowKey { table, routing: Bytes::new(), sort };
        let write = full_copy_write(&row, &record);
        let written = coordinator.replica().write(write).await;
        if let Err(error) = written {
            // One row that cannot be merged must not keep the others out.
            tracing::warn!(%peer, ?table, %error, "a row of a peer's full copy was not merged");
        }
    }
}

/// Runs the exchange beside everything else.
pub(super) fn start_exchange(catalog: &Catalog) {
    let work = exchange_for_ever(catalog.clone());
    catalog.coordinator.site().tasks.spawn("full copy exchange", work.boxed()).detach();
}

/// One change at a time.
pub(super) type Changes = Arc<tokio::sync::Mutex<()>>;
