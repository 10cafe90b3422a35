//! Bringing an extent's bytes to a peer that owns it: the delivery of what was kept for it.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::codec::{decode_format, decode_message, encode_format, encode_message};
use crate::env::{deadline_in, timeout_at};
use crate::net::{BulkStream, Message};
use crate::replication::{BytesPusher, RowKey};
use crate::types::{ExtentId, NodeId};

use super::extent::{chunks_of, extent_of};
use super::extent_row::{ExtentRow, ExtentState};
use super::lane::{LaneError, STALL_MAX, lane_result};
use super::service::{BLOB_SERVICE, Blobs, HOP_CHUNKS, WHOLE};
use super::wire::{BlobReply, BlobRequest, PieceHeader};

impl BytesPusher for Blobs {
    fn push(
        &self,
        owner: NodeId,
        row: RowKey,
        record: Bytes,
    ) -> BoxFuture<'static, Result<(), String>> {
        let blobs = self.clone();
        async move { blobs.push_extent(owner, &row, &record).await }.boxed()
    }
}

impl Blobs {
    /// Brings an extent to `owner`, unless it has it.
    pub(super) async fn push_extent(
        &self,
        owner: NodeId,
        row: &RowKey,
        record: &[u8],
    ) -> Result<(), String> {
        let extent = extent_of(row).ok_or("no extent's row")?;
        let wanted = decode_format::<ExtentRow>(record).map_err(|error| error.to_string())?;
        if wanted.state == ExtentState::Gone {
            return Ok(());
        }
        let here = self.segments.find(extent, WHOLE).map_err(|error| error.to_string())?;
        if here.is_none() || self.is_held_by(owner, extent).await? {
            return Ok(());
        }
        let sealed = encode_format(&wanted.record(&row.routing));
        let sealed = sealed.map_err(|error| error.to_string())?;
        let header = encode_message(&BlobRequest::Put { extent });
        let header = header.map_err(|error| error.to_string())?;
        let clock = &*self.coordinator.site().clock;
        let deadline = deadline_in(clock, STALL_MAX);
        let opened =
            self.coordinator.transport().open(owner, BLOB_SERVICE, header.into(), deadline).await;
        let mut stream = opened.map_err(|error| error.to_string())?;
        let chunks = chunks_of(wanted.length);
        self.push_chunks(extent, chunks, &mut stream).await?;
        self.push_piece(&mut stream, PieceHeader::Seal { chunks }, sealed.into()).await?;
        stream.sender.finish().await.map_err(|error| error.to_string())?;
        let deadline = deadline_in(clock, STALL_MAX * 6);
        let reply = timeout_at(clock, deadline, stream.receiver.next()).await;
        let reply =
            reply.ok_or("no answer to a seal in time")?.map_err(|error| error.to_string())?;
        lane_result(&reply.ok_or("no answer to a seal")?).map_err(|error| match error {
            LaneError::Full(reason) => format!("no room: {reason}"),
            LaneError::Failed(reason) => reason,
        })
    }

    async fn push_chunks(
        &self,
        extent: ExtentId,
        chunks: u32,
        stream: &mut BulkStream,
    ) -> Result<(), String> {
        let mut number = 0;
        while number < chunks {
            let until = chunks.min(number.saturating_add(HOP_CHUNKS));
            let read = self.segments.read_many(extent, WHOLE, number..until).await;
            let read = read.map_err(|error| error.to_string())?;
            let read = read.filter(|read| !read.is_empty()).ok_or("it was forgotten meanwhile")?;
            for chunk in read {
                let (crc, payload) = chunk.map_err(|error| {
                    self.doubt(extent);
                    error.to_string()
                })?;
                self.push_piece(stream, PieceHeader::Chunk { number, crc }, payload).await?;
                number += 1;
            }
        }
        Ok(())
    }

    /// Sends one piece; the owner takes it at its own pace, but not for ever.
    async fn push_piece(
        &self,
        stream: &mut BulkStream,
        header: PieceHeader,
        payload: Bytes,
    ) -> Result<(), String> {
        let clock = &*self.coordinator.site().clock;
        let sent = async {
            stream.sender.send(header.encode()).await?;
            stream.sender.send(payload).await
        };
        match timeout_at(clock, deadline_in(clock, STALL_MAX * 6), sent).await {
            Some(sent) => sent.map_err(|error| error.to_string()),
            None => Err("the owner takes nothing more".into()),
        }
    }

    async fn is_held_by(&self, node: NodeId, extent: ExtentId) -> Result<bool, String> {
        let request = encode_message(&BlobRequest::Holds { extent });
        let message = Message::from(request.map_err(|error| error.to_string())?);
        let deadline = deadline_in(&*self.coordinator.site().clock, STALL_MAX);
        let transport = self.coordinator.transport();
        let answer = transport.call(node, BLOB_SERVICE, message, deadline).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let reply = decode_message(&answer.body).map_err(|error| error.to_string())?;
        Ok(matches!(reply, BlobReply::Held))
    }
}
