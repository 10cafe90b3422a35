//! Which part of the node a peer's request is for.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::blob::{BLOB_SERVICE, Blobs};
use crate::catalog::{CATALOG_SERVICE, Catalog};
use crate::membership::{MEMBERSHIP_SERVICE, Membership};
use crate::net::{BulkStream, Handler, HandlerError, Message, RequestContext, ServiceId};
use crate::replication::{
    COORDINATE_SERVICE, Coordinator, REPAIR_SERVICE, REPLICA_SERVICE, Repair,
};

/// Hands requests on.
pub(super) struct Switchboard {
    pub(super) membership: Arc<Membership>,
    pub(super) coordinator: Coordinator,
    pub(super) blobs: Blobs,
    pub(super) catalog: Catalog,
    pub(super) repair: Arc<Repair>,
}

#[async_trait]
impl Handler for Switchboard {
    async fn call(
        &self,
        context: RequestContext,
        service: ServiceId,
        request: Message,
    ) -> Result<Message, HandlerError> {
        match service {
            MEMBERSHIP_SERVICE => self.membership.serve(request).await,
            REPLICA_SERVICE => self.coordinator.serve_replica(request).await,
            COORDINATE_SERVICE => self.coordinator.serve_coordinate(context.peer, request).await,
            BLOB_SERVICE => self.blobs.serve_call(request).await,
            CATALOG_SERVICE => self.catalog.serve(request).await,
            REPAIR_SERVICE => self.repair.serve(context.peer, request).await,
            ServiceId(number) => {
                Err(HandlerError::Refused(format!("service {number} is not known here")))
            }
        }
    }

    async fn bulk(
        &self,
        _context: RequestContext,
        service: ServiceId,
        header: Bytes,
        stream: BulkStream,
    ) -> Result<(), HandlerError> {
        match service {
            BLOB_SERVICE => self.blobs.serve_bulk(header, stream).await,
            ServiceId(number) => {
                Err(HandlerError::Refused(format!("service {number} has no bulk transfers")))
            }
        }
    }
}
