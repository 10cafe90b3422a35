//! The two halves of a QUIC stream, cut into frames.

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};

use super::frame::{FRAME_BYTES_MAX, FrameError, HEADER_BYTES, Header};
use super::transport::Message;

/// Error codes of streams and connections. Part of the wire format.
pub(super) mod code {
    use quinn::VarInt;

    /// Nothing is wrong: the node stops, or a newer connection took over.
    pub(in crate::net) const CLOSED: VarInt = VarInt::from_u32(0);
    /// The transfer was broken off.
    pub(in crate::net) const BROKEN: VarInt = VarInt::from_u32(1);
    /// Refused before anything was done.
    pub(in crate::net) const REFUSED: VarInt = VarInt::from_u32(2);
    /// What came is not the protocol.
    pub(in crate::net) const VIOLATION: VarInt = VarInt::from_u32(3);
}

/// One frame on its way out.
pub(super) struct Frame {
    pub(super) header: Header,
    pub(super) message: Message,
}

/// Whether `message` may be sent at all; else how long it is.
pub(super) fn over_bound(message: &Message) -> Option<usize> {
    let length = message.body.len().saturating_add(message.attachment.len());
    (length > FRAME_BYTES_MAX).then_some(length)
}

/// Parts up to this size are copied together; longer ones travel as they are.
const COPY_BYTES_MAX: usize = 4 << 10;

/// The bytes of `frames`, in as few pieces as is cheap.
pub(super) fn pack(frames: impl IntoIterator<Item = Frame>) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let mut small = BytesMut::new();
    for Frame { header, message } in frames {
        small.extend_from_slice(&header.encode());
        for part in [message.body, message.attachment] {
            if part.len() <= COPY_BYTES_MAX {
                small.extend_from_slice(&part);
            } else {
                chunks.push(small.split().freeze());
                chunks.push(part);
            }
        }
    }
    if !small.is_empty() {
        chunks.push(small.freeze());
    }
    chunks
}

/// The sending half. Dropped before it was finished, it tells the peer that the stream was
/// broken off (quinn's own would say that it ended well).
pub(super) struct Outlet {
    stream: SendStream,
    open: bool,
}

impl Outlet {
    pub(super) const fn new(stream: SendStream) -> Self {
        Self { stream, open: true }
    }

    /// Writes `chunks`, waiting while the peer's window is full. A call that was dropped
    /// midway leaves the stream cut: it must then be dropped too.
    pub(super) async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), WriteError> {
        self.stream.write_all_chunks(chunks).await
    }

    /// Prefers this stream over others of its connection.
    pub(super) fn prefer(&self) {
        // A stream that is closed already needs no preference.
        drop(self.stream.set_priority(1));
    }

    /// Ends the stream well.
    pub(super) fn finish(mut self) {
        self.open = false;
        drop(self.stream.finish());
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if self.open {
            drop(self.stream.reset(code::BROKEN));
        }
    }
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum InletError {
    /// The bytes are not the protocol: the connection must end.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Cut,
    /// The stream or its connection broke.
    #[error(transparent)]
    Stream(#[from] ReadError),
}

/// The receiving half.
pub(super) struct Inlet {
    stream: RecvStream,
    chunk: Bytes,
    partial: BytesMut,
}

impl Inlet {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, chunk: Bytes::new(), partial: BytesMut::new() }
    }

    /// The next header; `None` if the peer finished the stream.
    pub(super) async fn header(&mut self) -> Result<Option<Header>, InletError> {
        let Some(bytes) = self.take(HEADER_BYTES).await? else {
            return Ok(None);
        };
        let mut fixed = [0; HEADER_BYTES];
        fixed.copy_from_slice(&bytes);
        Ok(Some(Header::decode(&fixed)?))
    }

    /// What follows `header`.
    pub(super) async fn message(&mut self, header: &Header) -> Result<Message, InletError> {
        // `decode` has bounded the length.
        let length = header.payload_length();
        if length == 0 {
            return Ok(Message::default());
        }
        let mut body = self.take(length).await?.ok_or(InletError::Cut)?;
        let attachment = body.split_off(header.body_length as usize);
        Ok(Message { body, attachment })
    }

    /// Exactly `length` bytes in a buffer of their own; `None` if the stream ended before the
    /// first. What was read is kept if the call is dropped: call again with the same length.
    pub(super) async fn take(&mut self, length: usize) -> Result<Option<Bytes>, InletError> {
        if self.partial.is_empty() {
            self.partial = BytesMut::with_capacity(length);
        }
        while self.partial.len() < length {
            if self.chunk.is_empty() {
                match self.stream.read_chunk(usize::MAX, true).await? {
                    Some(chunk) => self.chunk = chunk.bytes,
                    None if self.partial.is_empty() => return Ok(None),
                    None => return Err(InletError::Cut),
                }
            }
            // A copy, because a slice would keep whole datagrams alive as long as its value.
            let step = self.chunk.len().min(length - self.partial.len());
            self.partial.extend_from_slice(&self.chunk.split_to(step));
        }
        Ok(Some(std::mem::take(&mut self.partial).freeze()))
    }

    /// Tells the peer that nothing more is read.
    pub(super) fn stop(mut self, code: VarInt) {
        drop(self.stream.stop(code));
    }
}
