//! Hands a write to a node that can mint it.

use bytes::Bytes;

use crate::codec::{decode_message, encode_message};
use crate::net::Message;
use crate::replication::error::ReplicationError;
use crate::replication::level::Outcome;
use crate::replication::message::{
    COORDINATE_SERVICE, CoordinateReply, CoordinateRequest, RowName,
};
use crate::replication::plan::ReplicaPlan;
use crate::replication::table::RowKey;
use crate::types::NodeId;

use super::Coordinator;
use super::write::{NewWrite, WriteReceipt, unavailable};

/// What came of asking one node to write.
pub(super) enum Attempt {
    /// It is written.
    Done(WriteReceipt),
    /// Nothing was done there, for this reason.
    AskAnother(ReplicationError),
}

impl Coordinator {
    /// Asks `node` to write. It does not pass the request on: a write that has left this node is
    /// minted there or not at all.
    pub(super) async fn forward_to(
        &self,
        node: NodeId,
        plan: &ReplicaPlan,
        row: &RowKey,
        write: &NewWrite,
    ) -> Result<Attempt, ReplicationError> {
        let request = CoordinateRequest {
            layout: plan.layout.version().0,
            row: RowName::of(row),
            record: write.record.clone(),
            n: plan.n,
            level: write.level,
            begun: write.begun,
            sent: self.site.now(),
            patience_millis: u64::try_from(self.patience.answer.as_millis()).unwrap_or(u64::MAX),
        };
        let body: Bytes = encode_message(&request)
            .map_err(|error| ReplicationError::Damaged(error.to_string()))?
            .into();
        let message = Message { body, attachment: write.inline.clone() };
        let called = self.transport.call(node, COORDINATE_SERVICE, message, self.deadline()).await;
        match called {
            Ok(answer) => coordinated(plan, &answer.body),
            Err(error) if error.certainly_not_done() => {
                Ok(Attempt::AskAnother(unavailable(plan, 0, Outcome::None, &error)))
            }
            Err(error) => Err(unavailable(plan, 0, Outcome::Unknown, &error)),
        }
    }
}

fn coordinated(plan: &ReplicaPlan, body: &[u8]) -> Result<Attempt, ReplicationError> {
    let reply = decode_message::<CoordinateReply>(body)
        .map_err(|error| unavailable(plan, 0, Outcome::Unknown, &error))?;
    match reply {
        CoordinateReply::Written { record, served } => {
            Ok(Attempt::Done(WriteReceipt { record, served }))
        }
        CoordinateReply::Unavailable { answered, needed, outcome, reason } => {
            Err(ReplicationError::Unavailable { answered, needed, outcome, reason })
        }
        CoordinateReply::StaleBucket => Err(ReplicationError::StaleBucket),
        CoordinateReply::Rejected { reason } => Err(ReplicationError::Rejected(reason)),
        CoordinateReply::TooLate { reason } => Err(ReplicationError::TooLate(reason)),
        CoordinateReply::Full { reason } => Ok(Attempt::AskAnother(ReplicationError::Full(reason))),
        CoordinateReply::Busy { reason } => Ok(Attempt::AskAnother(ReplicationError::Busy(reason))),
        CoordinateReply::ClockSkew { reason } => {
            Ok(Attempt::AskAnother(ReplicationError::ClockSkew(reason)))
        }
        CoordinateReply::Refused { reason } => {
            Ok(Attempt::AskAnother(unavailable(plan, 0, Outcome::None, &reason)))
        }
    }
}
