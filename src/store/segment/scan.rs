//! Walks over a segment from record to record, past damage.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::index::{IndexRow, take_u32};
use super::record::{
    FileHeader, HEADER_BYTES, HEADER_LENGTH, Kind, Place, RECORD_MAGIC, RecordHeader,
    decode_file_header,
};
use super::{FragmentKey, SegmentNumber, widened};
use crate::store::disk::DiskFile;
use crate::store::error::StoreError;
use crate::types::DiskId;

/// Bytes read ahead.
const WINDOW_BYTES: usize = 1 << 20;
/// What is skipped where the disk cannot read.
const SECTOR_BYTES: u64 = 4096;

/// A seal whose record is intact.
pub(super) struct FoundSeal {
    /// [`Kind::Seal`] or [`Kind::Moved`].
    pub(super) kind: Kind,
    pub(super) key: FragmentKey,
    pub(super) offset: u64,
    pub(super) row: Bytes,
    pub(super) record: Bytes,
}

/// What a span that is not valid may have hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hidden {
    /// Any records.
    Anything,
    /// The payload of a chunk; its header is intact.
    Chunk,
    /// This extent's seal; its header is intact.
    Seal(FragmentKey),
}

/// Bytes that are no valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadSpan {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) hidden: Hidden,
}

/// What a segment holds from some position on.
pub(super) struct SegmentScan {
    pub(super) header: FileHeader,
    pub(super) length: u64,
    pub(super) seals: Vec<FoundSeal>,
    pub(super) bad: Vec<BadSpan>,
    /// Where the first record of each extent lies, sealed or not.
    pub(super) seen: BTreeMap<FragmentKey, u64>,
}

/// Reads `file` from `from` on. Blocks.
pub(super) fn scan(
    file: Arc<dyn DiskFile>,
    disk: DiskId,
    segment: SegmentNumber,
    from: u64,
) -> Result<SegmentScan, StoreError> {
    let length = file.length()?;
    let mut walk = Walk { window: Window::new(file, length), disk, segment, length };
    let header = match walk.window.view(0, HEADER_BYTES) {
        Ok(bytes) => decode_file_header(bytes, disk, segment),
        Err(_) => FileHeader::Damaged,
    };
    let mut found =
        SegmentScan { header, length, seals: Vec::new(), bad: Vec::new(), seen: BTreeMap::new() };
    if header == FileHeader::Foreign {
        return Ok(found);
    }
    let mut position = from.max(HEADER_LENGTH);
    while position < length {
        position = walk.step(position, &mut found);
    }
    Ok(found)
}

struct Walk {
    window: Window,
    disk: DiskId,
    segment: SegmentNumber,
    length: u64,
}

impl Walk {
    /// Takes in what lies at `position` and returns where to go on: always further.
    fn step(&mut self, position: u64, found: &mut SegmentScan) -> u64 {
        let Some(header) = self.header(position) else {
            let end = self.resynchronise(position + 1);
            found.bad.push(BadSpan { start: position, end, hidden: Hidden::Anything });
            return end;
        };
        found.seen.entry(header.key).or_insert(position);
        let end = position.saturating_add(header.record_length());
        match self.payload(position, &header) {
            Some(payload) if header.kind != Kind::Chunk => match parse_seal(payload) {
                Some((row, record)) => {
                    let (kind, key) = (header.kind, header.key);
                    found.seals.push(FoundSeal { kind, key, offset: position, row, record });
                }
                None => found.bad.push(bad_record(position, end, &header)),
            },
            Some(_) => {}
            None => found.bad.push(bad_record(position, end.min(self.length), &header)),
        }
        end
    }

    fn header(&mut self, position: u64) -> Option<RecordHeader> {
        let place = Place { segment: self.segment, offset: position };
        let bytes = self.window.view(position, HEADER_BYTES).ok()?;
        RecordHeader::decode(bytes, self.disk, place)
    }

    fn payload(&mut self, position: u64, header: &RecordHeader) -> Option<&[u8]> {
        let length = usize::try_from(header.length).ok()?;
        let bytes = self.window.view(position + HEADER_LENGTH, length).ok()?;
        (bytes.len() == length && header.payload.matches(bytes)).then_some(bytes)
    }

    /// The next position with a valid header, or the end of the file.
    fn resynchronise(&mut self, from: u64) -> u64 {
        let mut position = from;
        while position < self.length {
            let Ok(bytes) = self.window.view(position, RECORD_MAGIC.len()) else {
                position = (position / SECTOR_BYTES + 1) * SECTOR_BYTES;
                continue;
            };
            if bytes.len() < RECORD_MAGIC.len() {
                break;
            }
            if *bytes == RECORD_MAGIC && self.header(position).is_some() {
                return position;
            }
            position += 1 + widened(self.window.skip(position + 1, RECORD_MAGIC[0]));
        }
        self.length
    }
}

fn bad_record(start: u64, end: u64, header: &RecordHeader) -> BadSpan {
    let hidden = match header.kind {
        Kind::Chunk => Hidden::Chunk,
        Kind::Seal | Kind::Moved => Hidden::Seal(header.key),
    };
    BadSpan { start, end, hidden }
}

/// A seal's payload: the length of the index row, the row, the record.
fn parse_seal(payload: &[u8]) -> Option<(Bytes, Bytes)> {
    let (length, rest) = take_u32(payload)?;
    let (row, record) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    match IndexRow::decode(row) {
        Some((IndexRow::Sealed(_), [])) => {
            Some((Bytes::copy_from_slice(row), Bytes::copy_from_slice(record)))
        }
        _ => None,
    }
}

/// A part of the file in memory, moved along as it is looked at.
struct Window {
    file: Arc<dyn DiskFile>,
    file_length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(file: Arc<dyn DiskFile>, file_length: u64) -> Self {
        Self { file, file_length, start: 0, bytes: Vec::new() }
    }

    /// Up to `length` bytes from `position` on, fewer only at the end of the file.
    fn view(&mut self, position: u64, length: usize) -> Result<&[u8], StoreError> {
        if !self.holds(position, length) {
            self.load(position, length.max(WINDOW_BYTES))
                .or_else(|_| self.load(position, length))?;
        }
        let from = usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let from = from.min(self.bytes.len());
        let to = from.saturating_add(length).min(self.bytes.len());
        Ok(&self.bytes[from..to])
    }

    /// How many of the loaded bytes from `position` on are not `byte`.
    fn skip(&self, position: u64, byte: u8) -> usize {
        let from = usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let Some(rest) = self.bytes.get(from..) else { return 0 };
        rest.iter().position(|&other| other == byte).unwrap_or(rest.len())
    }

    fn holds(&self, position: u64, length: usize) -> bool {
        let end = position.saturating_add(widened(length)).min(self.file_length);
        position >= self.start && end <= self.start + widened(self.bytes.len())
    }

    fn load(&mut self, position: u64, length: usize) -> Result<(), StoreError> {
        let left = usize::try_from(self.file_length.saturating_sub(position)).unwrap_or(length);
        self.bytes.clear();
        self.start = position;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(length.min(left), 0);
        let filled = self.file.read_at(position, &mut bytes)?;
        bytes.truncate(filled);
        self.bytes = bytes;
        Ok(())
    }
}
