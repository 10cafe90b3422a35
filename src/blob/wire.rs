//! What gateways and owners say to each other about extents.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::codec::Crc32c;
use crate::types::ExtentId;

/// The first message of a bulk stream, or a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum BlobRequest {
    /// Chunks follow, then a seal.
    Put { extent: ExtentId },
    /// Wanted: these chunks, `first` to `last` inclusive, of an extent that is placed by
    /// `routing`.
    Get {
        extent: ExtentId,
        first: u32,
        last: u32,
        #[serde(default)]
        routing: Bytes,
    },
    /// A whole small extent rides as the attachment, in chunks of these checksums.
    PutWhole { extent: ExtentId, checksums: Vec<Crc32c>, record: Bytes },
    /// Is all of this extent there?
    Holds { extent: ExtentId },
}

/// The answer to a put.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum BlobReply {
    /// The extent is on stable storage.
    Sealed,
    /// No room; the extent is not there.
    Full { reason: String },
    /// It is not there.
    Failed { reason: String },
    /// All of it is there, as far as is known.
    Held,
    /// It is not there, or not all of it.
    NotHeld,
}

/// The piece that goes before each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceHeader {
    /// A chunk's payload follows.
    Chunk { number: u32, crc: Crc32c },
    /// The extent record follows, and is the last piece.
    Seal { chunks: u32 },
    /// The extent is not here.
    Missing,
    /// The next chunk is damaged here.
    Damaged,
}

impl PieceHeader {
    pub(crate) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(9);
        let (kind, first, second) = match self {
            Self::Chunk { number, crc } => (0, number, crc.0),
            Self::Seal { chunks } => (1, chunks, 0),
            Self::Missing => (2, 0, 0),
            Self::Damaged => (3, 0, 0),
        };
        bytes.put_u8(kind);
        bytes.put_u32_le(first);
        bytes.put_u32_le(second);
        bytes.freeze()
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 9 {
            return None;
        }
        let (kind, first, second) = (bytes.get_u8(), bytes.get_u32_le(), bytes.get_u32_le());
        match kind {
            0 => Some(Self::Chunk { number: first, crc: Crc32c(second) }),
            1 => Some(Self::Seal { chunks: first }),
            2 => Some(Self::Missing),
            3 => Some(Self::Damaged),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PieceHeader;
    use crate::codec::Crc32c;

    #[test]
    fn piece_headers_survive_the_way() {
        for header in [
            PieceHeader::Chunk { number: 7, crc: Crc32c(99) },
            PieceHeader::Seal { chunks: 256 },
            PieceHeader::Missing,
            PieceHeader::Damaged,
        ] {
            assert_eq!(PieceHeader::decode(&header.encode()), Some(header));
        }
        assert_eq!(PieceHeader::decode(b"123456789"), None);
        assert_eq!(PieceHeader::decode(b""), None);
    }
}
