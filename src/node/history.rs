//! The writes of a key, as the admin API tells them.

use std::collections::BTreeMap;

use crate::admin::{HistoryQuery, HistoryReport, WriteInfo};
use crate::catalog::{LostWrite, ObjectHistory, StandingWrite};
use crate::types::NodeId;

use super::control::{Control, stamp_text};
use super::status::name_of;

impl Control {
    /// `history` in words and names.
    pub(super) fn history_report(
        &self,
        query: HistoryQuery,
        history: ObjectHistory,
    ) -> HistoryReport {
        let peers = self.node.membership.gossip().peers();
        let names: BTreeMap<NodeId, String> =
            peers.iter().map(|peer| (peer.node, name_of(peer))).collect();
        let name = |node: NodeId| names.get(&node).cloned().unwrap_or_else(|| node.short());
        HistoryReport {
            bucket: query.bucket,
            key: query.key,
            current: history.current.map(|write| standing(write, &name)),
            lost: history.lost.into_iter().map(|write| lost(write, &name)).collect(),
            unheard: history.unheard.into_iter().map(name).collect(),
        }
    }
}

fn standing(write: StandingWrite, name: &dyn Fn(NodeId) -> String) -> WriteInfo {
    let entry = |(actor, count): (crate::causality::Actor, u64)| {
        format!("{}.{}.{}:{count}", name(actor.node), actor.boot, actor.stint)
    };
    WriteInfo {
        stamp: stamp_text(&write.stamp),
        unix_ms: write.stamp.time.millis(),
        node: name(write.stamp.node),
        size: write.object.as_ref().map(|(size, _)| *size),
        etag: write.object.map(|(_, etag)| etag),
        lost_to: None,
        vector: write.seen.iter().map(entry).collect(),
    }
}

fn lost(write: LostWrite, name: &dyn Fn(NodeId) -> String) -> WriteInfo {
    WriteInfo {
        stamp: stamp_text(&write.stamp),
        unix_ms: write.stamp.time.millis(),
        node: name(write.stamp.node),
        size: write.size,
        etag: write.etag,
        lost_to: Some(stamp_text(&write.lost_to)),
        vector: Vec::new(),
    }
}
