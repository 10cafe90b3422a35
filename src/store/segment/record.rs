//! The bytes of a segment: a file header, then records of a header and a payload.
//!
//! All integers are little-endian. A format that changes takes another number.

use super::{FragmentKey, SegmentNumber};
use crate::codec::Crc32c;
use crate::types::{DiskId, ExtentId};

/// Bytes of a record's header, and of the file's.
pub(super) const HEADER_BYTES: usize = 40;
/// The same, as a position in a file.
pub(super) const HEADER_LENGTH: u64 = 40;
/// The longest payload; a header that says more is none.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// What every record begins with.
pub(super) const RECORD_MAGIC: [u8; 4] = *b"QREC";

const FILE_MAGIC: [u8; 8] = *b"QUORSEG\0";
const FILE_FORMAT: u16 = 1;
const RECORD_FORMAT: u16 = 1;
const SUM_AT: usize = HEADER_BYTES - 4;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One chunk.
    Chunk,
    /// The end of an extent: the places of its chunks, and its record.
    Seal,
    /// The same of an extent that was sealed before, some of whose chunks were copied.
    Moved,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) kind: Kind,
    pub(super) key: FragmentKey,
    /// The chunk's number, or how many chunks a seal closes.
    pub(super) chunk: u32,
    pub(super) length: u32,
    pub(super) payload: Crc32c,
}

/// Where a record begins; its checksum holds nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: SegmentNumber,
    pub(super) offset: u64,
}

impl RecordHeader {
    pub(super) fn encode(&self, disk: DiskId, place: Place) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4] = match self.kind {
            Kind::Chunk => 1,
            Kind::Seal => 2,
            Kind::Moved => 3,
        };
        bytes[5] = self.key.fragment;
        bytes[6..8].copy_from_slice(&RECORD_FORMAT.to_le_bytes());
        bytes[8..24].copy_from_slice(self.key.extent.as_bytes());
        bytes[24..28].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.length.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.payload.0.to_le_bytes());
        let sum = placed_sum(disk, place, &bytes[..SUM_AT]);
        bytes[SUM_AT..].copy_from_slice(&sum.0.to_le_bytes());
        bytes
    }

    /// The header in the first bytes of `bytes`, if there is a valid one of this place.
    pub(super) fn decode(bytes: &[u8], disk: DiskId, place: Place) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        if bytes[..4] != RECORD_MAGIC || bytes[6..8] != RECORD_FORMAT.to_le_bytes() {
            return None;
        }
        if placed_sum(disk, place, &bytes[..SUM_AT]).0 != number(bytes, SUM_AT) {
            return None;
        }
        let kind = match bytes[4] {
            1 => Kind::Chunk,
            2 => Kind::Seal,
            3 => Kind::Moved,
            _ => return None,
        };
        let mut extent = [0; 16];
        extent.copy_from_slice(&bytes[8..24]);
        let key = FragmentKey { extent: ExtentId::from_bytes(extent), fragment: bytes[5] };
        let length = number(bytes, 28);
        if usize::try_from(length).ok()? > PAYLOAD_BYTES_MAX {
            return None;
        }
        let (chunk, payload) = (number(bytes, 24), Crc32c(number(bytes, 32)));
        Some(Self { kind, key, chunk, length, payload })
    }

    /// Bytes of the whole record.
    pub(super) fn record_length(&self) -> u64 {
        HEADER_LENGTH + u64::from(self.length)
    }
}

/// What a segment file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileHeader {
    /// Ours.
    Valid,
    /// Intact, and of another disk, another number or a newer format.
    Foreign,
    /// Not intact.
    Damaged,
}

/// The first bytes of a segment.
pub(super) fn encode_file_header(disk: DiskId, segment: SegmentNumber) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&FILE_MAGIC);
    bytes[8..10].copy_from_slice(&FILE_FORMAT.to_le_bytes());
    bytes[12..16].copy_from_slice(&segment.0.to_le_bytes());
    bytes[16..32].copy_from_slice(disk.as_bytes());
    let sum = Crc32c::of(&bytes[..SUM_AT]);
    bytes[SUM_AT..].copy_from_slice(&sum.0.to_le_bytes());
    bytes
}

/// What the first bytes of a segment say.
pub(super) fn decode_file_header(bytes: &[u8], disk: DiskId, number_: SegmentNumber) -> FileHeader {
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return FileHeader::Damaged };
    if bytes[..8] != FILE_MAGIC || Crc32c::of(&bytes[..SUM_AT]).0 != number(bytes, SUM_AT) {
        return FileHeader::Damaged;
    }
    if *bytes == encode_file_header(disk, number_) {
        FileHeader::Valid
    } else {
        FileHeader::Foreign
    }
}

fn placed_sum(disk: DiskId, place: Place, header: &[u8]) -> Crc32c {
    let mut bytes = [0; 16 + 4 + 8 + SUM_AT];
    bytes[..16].copy_from_slice(disk.as_bytes());
    bytes[16..20].copy_from_slice(&place.segment.0.to_le_bytes());
    bytes[20..28].copy_from_slice(&place.offset.to_le_bytes());
    bytes[28..].copy_from_slice(header);
    Crc32c::of(&bytes)
}

fn number(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

#[cfg(test)]
mod tests {
    use super::{FragmentKey, Kind, Place, RecordHeader, SegmentNumber};
    use crate::codec::Crc32c;
    use crate::types::{DiskId, ExtentId};

    const DISK: DiskId = DiskId::from_bytes([7; 16]);
    const HERE: Place = Place { segment: SegmentNumber(3), offset: 4096 };

    fn header() -> RecordHeader {
        let key = FragmentKey { extent: ExtentId::from_bytes([9; 16]), fragment: 2 };
        RecordHeader { kind: Kind::Chunk, key, chunk: 5, length: 3, payload: Crc32c::of(b"abc") }
    }

    #[test]
    fn a_header_is_valid_at_its_own_place_only() {
        let bytes = header().encode(DISK, HERE);

        assert_eq!(RecordHeader::decode(&bytes, DISK, HERE), Some(header()));
        let elsewhere = [
            (DISK, Place { offset: 4097, ..HERE }),
            (DISK, Place { segment: SegmentNumber(4), ..HERE }),
            (DiskId::from_bytes([8; 16]), HERE),
        ];
        for (disk, place) in elsewhere {
            assert_eq!(RecordHeader::decode(&bytes, disk, place), None);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let bytes = header().encode(DISK, HERE);

        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&flipped, DISK, HERE), None, "bit {bit}");
        }
    }
}
