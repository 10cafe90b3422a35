//! The other side of the coordinator's requests: peers asking this node.

use bytes::Bytes;

use crate::causality::Stamp;
use crate::codec::{decode_message, encode_message};
use crate::net::{HandlerError, Message};
use crate::ring::{Layout, Partition};
use crate::store::StoreError;
use crate::types::NodeId;

use crate::replication::error::ReplicationError;
use crate::replication::message::{
    CoordinateReply, CoordinateRequest, ReplicaReply, ReplicaRequest, ScanRequest, Want,
};
use crate::replication::plan::ReplicaPlan;
use crate::replication::replica::digest_of_held;
use crate::replication::scan::encode_slices;
use crate::replication::table::{RowKey, TableId, partition_in};

use super::Coordinator;

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
            ReplicaRequest::Write { layout, row, record } => {
                let row = RowKey { table: row.table, routing: row.routing, sort: row.sort };
                match self.placed(layout, row.table, &row.routing) {
                    Err(reply) => (reply, Bytes::new()),
                    Ok((_, partition)) => {
                        let written =
                            self.replica.write(&row, partition, &record, &attachment).await;
                        (write_reply(written)?, Bytes::new())
                    }
                }
            }
            ReplicaRequest::Read { layout, row, want } => {
                let row = RowKey { table: row.table, routing: row.routing, sort: row.sort };
                match self.placed(layout, row.table, &row.routing) {
                    Err(reply) => (reply, Bytes::new()),
                    Ok((_, partition)) => self.read_reply(&row, partition, want),
                }
            }
            ReplicaRequest::Scan { layout, scan } => self.scan_reply(layout, scan).await,
        };
        encoded(&reply, attachment)
    }

    fn read_reply(&self, row: &RowKey, partition: Partition, want: Want) -> (ReplicaReply, Bytes) {
        match self.replica.read(row, partition, want) {
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
        let CoordinateRequest { layout, row, record, n, level, begun, patience_millis } =
            decoded(&body)?;
        let late = self.site.now().millis().saturating_sub(begun.millis()) > patience_millis;
        if late {
            let reason = "the write arrived after its sender gave it up".to_owned();
            return encoded(&CoordinateReply::Refused { reason }, Bytes::new());
        }
        let row = RowKey { table: row.table, routing: row.routing, sort: row.sort };
        let reply = match self.placed(layout, row.table, &row.routing) {
            Err(reply) => CoordinateReply::Refused { reason: format!("{reply:?}") },
            Ok((layout, partition)) => {
                let plan = ReplicaPlan::for_partition(layout, partition, usize::from(n), level);
                match plan {
                    Ok(plan) if plan.owners.contains(&self.site.node) => {
                        let written =
                            self.write_as_owner(&plan, &row, record, attachment, level).await;
                        coordinate_reply(written)
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
    written: Result<Option<Stamp>, ReplicationError>,
) -> Result<ReplicaReply, HandlerError> {
    match written {
        Ok(newer) => Ok(ReplicaReply::Written { newer }),
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
        // Everything else was found out before the write was minted.
        Err(error) => CoordinateReply::Refused { reason: error.to_string() },
    }
}
