//! The other side of the coordinator's requests: peers asking this node.

use bytes::Bytes;

use crate::codec::{decode_message, encode_message};
use crate::net::{HandlerError, Message};
use crate::ring::{Layout, Partition};
use crate::store::StoreError;
use crate::types::NodeId;

use crate::replication::companion::{Purpose, RowWrite};
use crate::replication::error::ReplicationError;
use crate::replication::message::{
    CoordinateReply, CoordinateRequest, HandedRow, ReplicaReply, ReplicaRequest, ReplicaStanding,
    ScanRequest, Want,
};
use crate::replication::plan::ReplicaPlan;
use crate::replication::replica::{Written, digest_of_held};
use crate::replication::scan::encode_slices;
use crate::replication::table::{RowKey, TableId, partition_in};
use crate::replication::version::Version;

use super::{Coordinator, NewWrite};

fn decoded<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, HandlerError> {
    decode_message(body).map_err(|error| HandlerError::Refused(error.to_string()))
}

fn encoded<T: serde::Serialize>(reply: &T, attachment: Bytes) -> Result<Message, HandlerError> {
    let body = encode_message(reply).map_err(|error| HandlerError::Failed(error.to_string()))?;
    Ok(Message { body: body.into(), attachment })
}

impl Coordinator {
    /// Answers a request to this node's replica.
    ///
    /// # Errors
    /// [`HandlerError`] for messages that cannot be read.
    pub async fn serve_replica(&self, request: Message) -> Result<Message, HandlerError> {
        let Message { body, attachment } = request;
        let (reply, attachment) = match decoded(&body)? {
            ReplicaRequest::Write { layout, row, n, purpose, record } => {
                let row = row.key();
                match self.placed(layout, row.table, &row.routing) {
                    Err(reply) => (reply, Bytes::new()),
                    Ok((_, partition)) => {
                        let (record, inline) = (&record, &attachment);
                        let write = RowWrite { row: &row, partition, n, purpose, record, inline };
                        let written = self.replica.write(write).await;
                        // What was known here only, a round brings to the others. Of a newer
                        // write the coordinator hears, and mints above it.
                        let alone = |met: &Written| met.knew_more && met.newer.is_none();
                        if written.as_ref().is_ok_and(alone) {
                            self.unsettled.note(partition);
                        }
                        let written = written.map(|met| met.newer);
                        (write_reply(written, self.standing.of(partition))?, Bytes::new())
                    }
                }
            }
            ReplicaRequest::Take { layout, rows } => {
                (self.take(layout, rows, attachment).await, Bytes::new())
            }
            ReplicaRequest::Read { layout, row, want } => {
                let row = row.key();
                match self.placed(layout, row.table, &row.routing) {
                    Err(reply) => (reply, Bytes::new()),
                    Ok((_, partition)) => self.read_reply(&row, partition, want).await,
                }
            }
            ReplicaRequest::Kept => {
                let owners = self.kept.figures().into_iter().collect();
                (ReplicaReply::Kept { owners }, Bytes::new())
            }
            ReplicaRequest::Scan { layout, scan } => self.scan_reply(layout, scan).await,
        };
        encoded(&reply, attachment)
    }

    /// Merges rows that a peer hands over: hints, and what an exchange found.
    async fn take(&self, layout: u64, rows: Vec<HandedRow>, mut bytes: Bytes) -> ReplicaReply {
        let mut durable = Vec::with_capacity(rows.len());
        for handed in rows {
            let length = usize::try_from(handed.inline_length).unwrap_or(usize::MAX);
            if length > bytes.len() {
                return ReplicaReply::Refused { reason: "inline bytes are missing".into() };
            }
            let (inline, record, n) = (bytes.split_to(length), handed.record, handed.n);
            let row = handed.row.key();
            let (_, partition) = match self.placed(layout, row.table, &row.routing) {
                Err(reply) => return reply,
                Ok(placed) => placed,
            };
            // What comes late to this owner may have come to no other.
            self.unsettled.note(partition);
            let counted = !self.is_rebuilding(partition);
            durable.push(async move {
                let (record, inline, purpose) = (&record, &inline, Purpose::Repair);
                let write = RowWrite { row: &row, partition, n, purpose, record, inline };
                let written = self.replica.write(write).await;
                if let Err(error) = &written {
                    tracing::debug!(%error, "a row that was handed over is not taken");
                }
                // Whoever hands it over may keep the only other copy.
                written.is_ok() && counted
            });
        }
        // All at once, so that they share a synced write.
        let durable = futures_util::future::join_all(durable).await;
        ReplicaReply::Taken { durable, pause_millis: self.replica.pause_millis() }
    }

    async fn read_reply(
        &self,
        row: &RowKey,
        partition: Partition,
        want: Want,
    ) -> (ReplicaReply, Bytes) {
        if self.is_rebuilding(partition) {
            return (ReplicaReply::Rebuilding, Bytes::new());
        }
        match self.replica.fetch(row, partition, want).await {
            Ok(held) if want == Want::Digest => {
                let digest = digest_of_held(held.record.as_ref());
                (ReplicaReply::Digest { digest: digest.map(Into::into) }, Bytes::new())
            }
            Ok(held) => (ReplicaReply::Row { record: held.record }, held.inline),
            Err(error) => (ReplicaReply::Damaged { reason: error.to_string() }, Bytes::new()),
        }
    }

    async fn scan_reply(&self, layout: u64, scan: ScanRequest) -> (ReplicaReply, Bytes) {
        let mut partitions = Vec::with_capacity(scan.slices.len());
        for slice in &scan.slices {
            match self.placed(layout, scan.table, &slice.routing) {
                Ok((_, partition)) if self.is_rebuilding(partition) => {
                    return (ReplicaReply::Rebuilding, Bytes::new());
                }
                Ok((_, partition)) => partitions.push(partition),
                Err(reply) => return (reply, Bytes::new()),
            }
        }
        match self.replica.scan(partitions, scan).await {
            Ok(slices) => (ReplicaReply::Rows, encode_slices(&slices)),
            Err(error) => (ReplicaReply::Damaged { reason: error.to_string() }, Bytes::new()),
        }
    }

    /// The layout in force and the partition of `routing`, if the sender has the same layout and
    /// this node is an owner candidate of the partition.
    fn placed(
        &self,
        version: u64,
        table: TableId,
        routing: &[u8],
    ) -> Result<(std::sync::Arc<Layout>, Partition), ReplicaReply> {
        let layout = self.layout.current().ok_or_else(|| ReplicaReply::Refused {
            reason: format!("node {} has no layout yet", self.site.node.short()),
        })?;
        if layout.version().0 != version {
            return Err(ReplicaReply::StaleLayout { version: layout.version().0 });
        }
        let partition = partition_in(&layout, table, routing);
        if table.is_full_copy() {
            return Ok((layout, partition));
        }
        if !layout.preference_list(partition).all().contains(&self.site.node) {
            let me = self.site.node.short();
            let reason = format!("node {me} is no owner of partition {}", partition.as_u32());
            return Err(ReplicaReply::Refused { reason });
        }
        Ok((layout, partition))
    }

    /// Coordinates a write for `peer`, which owns no copy of its row.
    ///
    /// # Errors
    /// [`HandlerError`] for messages that cannot be read.
    pub async fn serve_coordinate(
        &self,
        peer: NodeId,
        request: Message,
    ) -> Result<Message, HandlerError> {
        let Message { body, attachment } = request;
        let CoordinateRequest { layout, row, record, n, level, begun, sent, patience_millis } =
            decoded(&body)?;
        let sent = self.site.seen_here(peer, sent);
        let late = self.site.now().millis().saturating_sub(sent.millis()) > patience_millis;
        if late {
            let reason = "the write arrived after its sender gave it up".to_owned();
            return encoded(&CoordinateReply::Refused { reason }, Bytes::new());
        }
        let row = row.key();
        let reply = match self.placed(layout, row.table, &row.routing) {
            Err(reply) => CoordinateReply::Refused { reason: format!("{reply:?}") },
            Ok((layout, partition)) => {
                let n = usize::from(n);
                let plan = ReplicaPlan::for_partition(layout, partition, n, level);
                let me = self.site.node;
                match plan {
                    Ok(plan) if plan.is_owner(me) || plan.fallbacks.contains(&me) => {
                        if let Err(error) = self.site.check_clock() {
                            return encoded(&coordinate_reply(Err(error)), Bytes::new());
                        }
                        let write = NewWrite { record, inline: attachment, n, level, begun };
                        coordinate_reply(self.write_here(&plan, &row, &write).await)
                    }
                    // Forwarding goes one step only, or two nodes could pass a write for ever.
                    Ok(_) | Err(_) => CoordinateReply::Refused {
                        reason: format!("{} asked a node that is no owner", peer.short()),
                    },
                }
            }
        };
        encoded(&reply, Bytes::new())
    }
}

fn write_reply(
    written: Result<Option<Version>, ReplicationError>,
    standing: ReplicaStanding,
) -> Result<ReplicaReply, HandlerError> {
    match written {
        Ok(newer) => Ok(ReplicaReply::Written { newer: newer.map(Box::new), standing }),
        Err(ReplicationError::Busy(reason)) => Ok(ReplicaReply::Busy { reason }),
        Err(ReplicationError::ClockSkew(reason)) => Ok(ReplicaReply::ClockSkew { reason }),
        Err(ReplicationError::Rejected(reason) | ReplicationError::TooLate(reason)) => {
            Ok(ReplicaReply::Refused { reason })
        }
        Err(ReplicationError::StaleBucket) => Ok(ReplicaReply::StaleBucket),
        Err(ReplicationError::Full(reason)) => Ok(ReplicaReply::Full { reason }),
        Err(ReplicationError::Store(StoreError::Full { path })) => {
            Ok(ReplicaReply::Full { reason: path.display().to_string() })
        }
        Err(ReplicationError::Damaged(reason)) => Ok(ReplicaReply::Refused { reason }),
        // A failed sync does not tell whether the record will be found later.
        Err(error) => Err(HandlerError::Failed(error.to_string())),
    }
}

fn coordinate_reply(written: Result<super::WriteReceipt, ReplicationError>) -> CoordinateReply {
    match written {
        Ok(receipt) => CoordinateReply::Written { record: receipt.record, served: receipt.served },
        Err(ReplicationError::Unavailable { answered, needed, outcome, reason }) => {
            CoordinateReply::Unavailable { answered, needed, outcome, reason }
        }
        Err(ReplicationError::StaleBucket) => CoordinateReply::StaleBucket,
        Err(ReplicationError::Full(reason)) => CoordinateReply::Full { reason },
        Err(ReplicationError::Busy(reason)) => CoordinateReply::Busy { reason },
        Err(ReplicationError::ClockSkew(reason)) => CoordinateReply::ClockSkew { reason },
        Err(ReplicationError::Rejected(reason)) => CoordinateReply::Rejected { reason },
        Err(ReplicationError::TooLate(reason)) => CoordinateReply::TooLate { reason },
        // Everything else was found out before the write was minted.
        Err(error) => CoordinateReply::Refused { reason: error.to_string() },
    }
}
