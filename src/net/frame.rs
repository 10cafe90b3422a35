//! Frames: the fixed header in front of everything that travels between nodes. Pure.
//!
//! ```text
//! magic u8 | format u8 | kind u8 | service u8 | id u64 | deadline millis u32
//! layout version u64 | hybrid time u64 | body length u32 | attachment length u32
//! ```
//! All numbers are little-endian; the body and then the attachment follow.

use std::time::Duration;

use super::transport::ServiceId;

/// How long a header is, in bytes.
pub(super) const HEADER_BYTES: usize = 40;

/// Body and attachment of one frame together; a peer that announces more is cut off.
pub(super) const FRAME_BYTES_MAX: usize = 4 << 20;

const MAGIC: u8 = b'Q';
const FORMAT: u8 = 1;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request among others on a lane; its answer may come by any stream.
    Request,
    /// A request on a stream of its own; its answer comes back on that stream.
    Solo,
    /// The answer to a request.
    Answer,
    /// Refused before anything was done; the body is the reason.
    Refused,
    /// Failed, perhaps half done; the body is the reason.
    Failed,
    /// The header of a bulk transfer; pieces follow on the same stream.
    Bulk,
    /// A gossip message.
    Gossip,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Request,
        Self::Solo,
        Self::Answer,
        Self::Refused,
        Self::Failed,
        Self::Bulk,
        Self::Gossip,
    ];

    const fn number(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Solo => 2,
            Self::Answer => 3,
            Self::Refused => 4,
            Self::Failed => 5,
            Self::Bulk => 6,
            Self::Gossip => 7,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Bytes that are not a frame of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// Something else talks to this port.
    #[error("a frame begins with {found:#04x} instead of {MAGIC:#04x}")]
    Magic {
        /// The byte found.
        found: u8,
    },
    /// A release that cannot be understood.
    #[error("a frame has format {found}; this release reads {FORMAT}: upgrade the older node")]
    Format {
        /// The number found.
        found: u8,
    },
    /// A kind that this release does not know.
    #[error("a frame has the unknown kind {found}")]
    Kind {
        /// The number found.
        found: u8,
    },
    /// More than a frame may hold.
    #[error("a frame of {length} bytes is over the bound of {FRAME_BYTES_MAX}")]
    TooLong {
        /// Body and attachment together.
        length: u64,
    },
}

/// The fields of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) service: ServiceId,
    /// Names a request on its connection; its answer carries the same.
    pub(super) id: u64,
    /// How long the sender of a request waits; clocks differ, so this is no moment.
    pub(super) patience: Duration,
    pub(super) layout_version: u64,
    pub(super) hybrid_time: u64,
    pub(super) body_length: u32,
    pub(super) attachment_length: u32,
}

impl Header {
    /// The bytes of this header.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let millis = u32::try_from(self.patience.as_millis()).unwrap_or(u32::MAX);
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = MAGIC;
        bytes[1] = FORMAT;
        bytes[2] = self.kind.number();
        bytes[3] = self.service.0;
        bytes[4..12].copy_from_slice(&self.id.to_le_bytes());
        bytes[12..16].copy_from_slice(&millis.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.layout_version.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.hybrid_time.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body_length.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.attachment_length.to_le_bytes());
        bytes
    }

    /// Reads a header, refusing what is not ours or too long before anything is allocated.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        if bytes[0] != MAGIC {
            return Err(FrameError::Magic { found: bytes[0] });
        }
        if bytes[1] != FORMAT {
            return Err(FrameError::Format { found: bytes[1] });
        }
        let kind = Kind::from_number(bytes[2]).ok_or(FrameError::Kind { found: bytes[2] })?;
        let header = Self {
            kind,
            service: ServiceId(bytes[3]),
            id: read_u64(bytes, 4),
            patience: Duration::from_millis(u64::from(read_u32(bytes, 12))),
            layout_version: read_u64(bytes, 16),
            hybrid_time: read_u64(bytes, 24),
            body_length: read_u32(bytes, 32),
            attachment_length: read_u32(bytes, 36),
        };
        let length = u64::from(header.body_length) + u64::from(header.attachment_length);
        if length > FRAME_BYTES_MAX as u64 {
            return Err(FrameError::TooLong { length });
        }
        Ok(header)
    }

    /// Body and attachment together, in bytes.
    pub(super) const fn payload_length(&self) -> usize {
        // Both fit: `decode` and `encode`'s callers keep the sum below FRAME_BYTES_MAX.
        self.body_length as usize + self.attachment_length as usize
    }
}

fn read_u32(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn read_u64(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::{FRAME_BYTES_MAX, FrameError, HEADER_BYTES, Header, Kind};
    use crate::net::ServiceId;
    use proptest::prelude::{Strategy, any, proptest};
    use std::time::Duration;

    fn headers() -> impl Strategy<Value = Header> {
        let facts = (any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>());
        let lengths = (0..=FRAME_BYTES_MAX as u32, 0..=FRAME_BYTES_MAX as u32);
        (0..Kind::ALL.len(), any::<u8>(), facts, lengths).prop_map(
            |(kind, service, (id, millis, layout_version, hybrid_time), (body, attachment))| {
                Header {
                    kind: Kind::ALL[kind],
                    service: ServiceId(service),
                    id,
                    patience: Duration::from_millis(u64::from(millis)),
                    layout_version,
                    hybrid_time,
                    body_length: body,
                    attachment_length: attachment.min(FRAME_BYTES_MAX as u32 - body),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_header_survives_the_wire(header in headers()) {
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn hostile_bytes_are_refused_or_bounded(bytes in any::<[u8; HEADER_BYTES]>()) {
            if let Ok(header) = Header::decode(&bytes) {
                assert!(header.payload_length() <= FRAME_BYTES_MAX);
            }
        }

        #[test]
        fn a_hostile_length_is_refused(
            header in headers(), body in any::<u32>(), attachment in any::<u32>(),
        ) {
            let hostile = Header { body_length: body, attachment_length: attachment, ..header };
            let length = u64::from(body) + u64::from(attachment);

            let decoded = Header::decode(&hostile.encode());

            if length > FRAME_BYTES_MAX as u64 {
                assert_eq!(decoded, Err(FrameError::TooLong { length }));
            } else {
                assert_eq!(decoded, Ok(hostile));
            }
        }
    }

    #[test]
    fn each_kind_has_a_number_of_its_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(Kind::from_number(0), None);
        assert_eq!(Kind::from_number(8), None);
    }
}
