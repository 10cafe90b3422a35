//! Where an extent's chunks lie: runs of equally long chunks that follow one another in a segment.
//!
//! The same bytes are part of the seal and the value of the `Family::Chunks` row.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::record::{HEADER_LENGTH, Place};
use super::{FragmentKey, SegmentNumber};
use crate::types::{DiskId, ExtentId};

const ROW_FORMAT: u16 = 1;
const POSITION_FORMAT: u16 = 1;
const RUN_BYTES: usize = 20;
const ROW_HEADER_BYTES: usize = 8;

/// Consecutive chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Place,
    count: u32,
    length: u32,
}

impl Run {
    /// Bytes of its records.
    fn bytes(&self) -> u64 {
        u64::from(self.count).saturating_mul(HEADER_LENGTH + u64::from(self.length))
    }

    fn place(&self, index: u32) -> Place {
        let stride = HEADER_LENGTH + u64::from(self.length);
        let offset = self.first.offset.saturating_add(u64::from(index).saturating_mul(stride));
        Place { segment: self.first.segment, offset }
    }
}

/// One chunk's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) place: Place,
    pub(super) length: u32,
}

impl Located {
    /// Bytes of the record.
    pub(super) fn bytes(&self) -> u64 {
        HEADER_LENGTH + u64::from(self.length)
    }
}

/// The runs of one extent, in the order of its chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs(Vec<Run>);

impl Runs {
    /// Adds the next chunk.
    pub(super) fn push(&mut self, chunk: Located) {
        if let Some(last) = self.0.last_mut()
            && last.length == chunk.length
            && last.place(last.count) == chunk.place
        {
            last.count += 1;
            return;
        }
        self.0.push(Run { first: chunk.place, count: 1, length: chunk.length });
    }

    pub(super) fn chunks(&self) -> u32 {
        self.0.iter().fold(0, |sum, run| sum.saturating_add(run.count))
    }

    /// Payload bytes of all chunks.
    pub(super) fn length(&self) -> u64 {
        let lengths = self.0.iter().map(|run| u64::from(run.count) * u64::from(run.length));
        lengths.fold(0, u64::saturating_add)
    }

    /// Every chunk in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Located> + '_ {
        self.0.iter().flat_map(|run| {
            (0..run.count).map(|index| Located { place: run.place(index), length: run.length })
        })
    }

    /// The segments of the runs, and the bytes of each run's records.
    pub(super) fn bytes_by_segment(&self) -> impl Iterator<Item = (SegmentNumber, u64)> + '_ {
        self.0.iter().map(|run| (run.first.segment, run.bytes()))
    }

    /// Where the last chunk lies: the seal is near.
    pub(super) fn last_segment(&self) -> Option<SegmentNumber> {
        self.0.last().map(|run| run.first.segment)
    }

    /// Bytes of the records that lie in `segment`; `None` if no run points there.
    pub(super) fn bytes_in(&self, segment: SegmentNumber) -> Option<u64> {
        let there = self.bytes_by_segment().filter(|(number, _)| *number == segment);
        there.map(|(_, bytes)| bytes).reduce(u64::saturating_add)
    }

    /// The numbers of the chunks in `segment`, as ranges.
    pub(super) fn chunks_in(&self, segment: SegmentNumber) -> Vec<Range<u32>> {
        let mut first = 0_u32;
        let mut ranges = Vec::new();
        for run in &self.0 {
            let next = first.saturating_add(run.count);
            if run.first.segment == segment {
                ranges.push(first..next);
            }
            first = next;
        }
        ranges
    }

    pub(super) fn locate(&self, chunk: u32) -> Option<Located> {
        let mut index = chunk;
        for run in &self.0 {
            if index < run.count {
                return Some(Located { place: run.place(index), length: run.length });
            }
            index -= run.count;
        }
        None
    }
}

/// What is known of an extent in this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IndexRow {
    /// Durable.
    Sealed(Runs),
    /// Its seal may have been in a damaged span: it may have been here, and cannot be read.
    Suspect,
}

impl IndexRow {
    pub(super) fn encode(&self) -> Bytes {
        let (state, runs): (u8, &[Run]) = match self {
            Self::Sealed(runs) => (0, &runs.0),
            Self::Suspect => (1, &[]),
        };
        let mut bytes = BytesMut::with_capacity(ROW_HEADER_BYTES + runs.len() * RUN_BYTES);
        bytes.put_u16_le(ROW_FORMAT);
        bytes.put_u8(state);
        bytes.put_u8(0);
        bytes.put_u32_le(u32::try_from(runs.len()).unwrap_or(u32::MAX));
        for run in runs {
            bytes.put_u32_le(run.first.segment.0);
            bytes.put_u64_le(run.first.offset);
            bytes.put_u32_le(run.count);
            bytes.put_u32_le(run.length);
        }
        bytes.freeze()
    }

    /// The row at the front of `bytes`, and what follows it.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (format, rest) = take_u16(bytes)?;
        let (state, rest) = rest.split_first_chunk::<2>()?;
        let (count, mut rest) = take_u32(rest)?;
        if format != ROW_FORMAT || usize::try_from(count).ok()? > rest.len() / RUN_BYTES {
            return None;
        }
        let mut runs = Vec::with_capacity(usize::try_from(count).ok()?);
        for _ in 0..count {
            let (run, after) = take_run(rest)?;
            runs.push(run);
            rest = after;
        }
        match state[0] {
            0 => Some((Self::Sealed(Runs(runs)), rest)),
            1 => Some((Self::Suspect, rest)),
            _ => None,
        }
    }
}

/// The runs in the value of a `Family::Chunks` row, if it is of a sealed extent.
pub(super) fn sealed_runs(row: &[u8]) -> Option<Runs> {
    match IndexRow::decode(row) {
        Some((IndexRow::Sealed(runs), [])) => Some(runs),
        _ => None,
    }
}

/// The key of the extent's record: sixteen bytes of id, one of fragment.
pub(super) fn extent_key(key: FragmentKey) -> Bytes {
    let mut bytes = BytesMut::with_capacity(17);
    bytes.put_slice(key.extent.as_bytes());
    bytes.put_u8(key.fragment);
    bytes.freeze()
}

/// The key of the extent's places on one disk.
pub(super) fn chunks_key(key: FragmentKey, disk: DiskId) -> Bytes {
    let mut bytes = BytesMut::with_capacity(33);
    bytes.put_slice(key.extent.as_bytes());
    bytes.put_u8(key.fragment);
    bytes.put_slice(disk.as_bytes());
    bytes.freeze()
}

/// The extent of a row in `Family::Extents` or `Family::Fresh`.
pub(super) fn parse_extent_key(key: &[u8]) -> Option<FragmentKey> {
    let (extent, rest) = key.split_first_chunk::<16>()?;
    let [fragment] = rest else { return None };
    Some(FragmentKey { extent: ExtentId::from_bytes(*extent), fragment: *fragment })
}

/// The extent of a row in `Family::Chunks`, if the row is about `disk`.
pub(super) fn parse_chunks_key(key: &[u8], disk: DiskId) -> Option<FragmentKey> {
    let (extent_key, of) = key.split_at_checked(17)?;
    if of != disk.as_bytes() {
        return None;
    }
    parse_extent_key(extent_key)
}

/// The key of a log's position in `Family::Local`.
pub(super) fn position_key(disk: DiskId) -> Bytes {
    let mut bytes = BytesMut::with_capacity(32);
    bytes.put_slice(b"segment-position");
    bytes.put_slice(disk.as_bytes());
    bytes.freeze()
}

pub(super) fn encode_position(position: Place) -> Bytes {
    let mut bytes = BytesMut::with_capacity(14);
    bytes.put_u16_le(POSITION_FORMAT);
    bytes.put_u32_le(position.segment.0);
    bytes.put_u64_le(position.offset);
    bytes.freeze()
}

pub(super) fn decode_position(bytes: &[u8]) -> Option<Place> {
    let (format, rest) = take_u16(bytes)?;
    let (segment, rest) = take_u32(rest)?;
    let offset = u64::from_le_bytes(*rest.first_chunk()?);
    let whole = format == POSITION_FORMAT && rest.len() == 8;
    whole.then_some(Place { segment: SegmentNumber(segment), offset })
}

fn take_run(bytes: &[u8]) -> Option<(Run, &[u8])> {
    let (segment, rest) = take_u32(bytes)?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (count, rest) = take_u32(rest)?;
    let (length, rest) = take_u32(rest)?;
    let first = Place { segment: SegmentNumber(segment), offset: u64::from_le_bytes(*offset) };
    Some((Run { first, count, length }, rest))
}

fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_le_bytes(*number), rest))
}

/// A little-endian number at the front of `bytes`, and what follows it.
pub(super) fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::{IndexRow, Located, Place, Runs, SegmentNumber, decode_position, encode_position};
    use proptest::prelude::{any, prop, proptest};

    fn at(segment: u32, offset: u64) -> Place {
        Place { segment: SegmentNumber(segment), offset }
    }

    #[test]
    fn chunks_that_follow_one_another_are_one_run() {
        let mut runs = Runs::default();
        for index in 0..4 {
            runs.push(Located { place: at(1, 40 + index * 140), length: 100 });
        }
        runs.push(Located { place: at(2, 40), length: 100 });

        assert_eq!(runs.0.len(), 2);
        assert_eq!((runs.chunks(), runs.length()), (5, 500));
        assert_eq!(runs.locate(3), Some(Located { place: at(1, 460), length: 100 }));
        assert_eq!(runs.locate(4), Some(Located { place: at(2, 40), length: 100 }));
        assert_eq!(runs.locate(5), None);
    }

    #[test]
    fn a_damaged_row_that_speaks_of_more_bytes_than_there_are_numbers_is_read() {
        let row = [&[1, 0, 0, 0, 3, 0, 0, 0][..], &[0xff; 3 * super::RUN_BYTES]].concat();

        let runs = super::sealed_runs(&row).unwrap();

        assert_eq!((runs.chunks(), runs.length()), (u32::MAX, u64::MAX));
        assert_eq!(runs.bytes_in(SegmentNumber(u32::MAX)), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn rows_survive_the_way_to_disk_and_back(
            chunks in prop::collection::vec((any::<u32>(), any::<u64>(), any::<u32>()), 0..20),
        ) {
            let mut runs = Runs::default();
            for (segment, offset, length) in chunks {
                runs.push(Located { place: at(segment, offset), length });
            }
            let row = IndexRow::Sealed(runs);

            let bytes = row.encode();

            assert_eq!(IndexRow::decode(&bytes), Some((row, &b""[..])));
            for length in 0..bytes.len() {
                assert_eq!(IndexRow::decode(&bytes[..length]), None);
            }
        }
    }

    #[test]
    fn a_cut_position_is_no_position() {
        let bytes = encode_position(at(5, 77));

        assert_eq!(decode_position(&bytes), Some(at(5, 77)));
        for length in 0..bytes.len() {
            assert_eq!(decode_position(&bytes[..length]), None);
        }
    }
}
