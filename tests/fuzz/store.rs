//! Segments and their index, with and without checksums that hold.

use std::sync::Arc;

use bytes::Bytes;

use super::index::{
    IndexRow, Located, Runs, decode_position, encode_position, parse_chunks_key, parse_extent_key,
};
use super::record::{
    HEADER_BYTES, HEADER_LENGTH, Kind, Place, RecordHeader, decode_file_header, encode_file_header,
};
use super::scan::scan;
use super::{FragmentKey, SegmentNumber};
use crate::codec::Crc32c;
use crate::fuzz::Target;
use crate::store::disk::DiskFile;
use crate::store::error::StoreError;
use crate::types::{DiskId, ExtentId};

const DISK: DiskId = DiskId::from_bytes([7; 16]);
const SEGMENT: SegmentNumber = SegmentNumber(3);
const KEY: FragmentKey = FragmentKey { extent: ExtentId::from_bytes([9; 16]), fragment: 0 };

/// A file that lies in memory.
struct Memory(Bytes);

impl DiskFile for Memory {
    fn write_at(&self, _position: u64, _buffers: &[&[u8]]) -> Result<(), StoreError> {
        unreachable!("a scan writes nothing")
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let start = usize::try_from(position).unwrap().min(self.0.len());
        let length = buffer.len().min(self.0.len() - start);
        buffer[..length].copy_from_slice(&self.0[start..start + length]);
        Ok(length)
    }

    fn sync(&self) -> Result<(), StoreError> {
        unreachable!("a scan writes nothing")
    }

    fn length(&self) -> Result<u64, StoreError> {
        Ok(self.0.len() as u64)
    }

    fn truncate(&self, _length: u64) -> Result<(), StoreError> {
        unreachable!("a scan writes nothing")
    }
}

fn runs() -> Runs {
    let mut runs = Runs::default();
    for chunk in 0..3 {
        let offset = HEADER_LENGTH + chunk * (HEADER_LENGTH + 5);
        runs.push(Located { place: Place { segment: SEGMENT, offset }, length: 5 });
    }
    runs
}

fn append(file: &mut Vec<u8>, kind: Kind, (chunk, payload): (u32, &[u8])) {
    let place = Place { segment: SEGMENT, offset: file.len() as u64 };
    let length = u32::try_from(payload.len()).unwrap();
    let header = RecordHeader { kind, key: KEY, chunk, length, payload: Crc32c::of(payload) };
    file.extend_from_slice(&header.encode(DISK, place));
    file.extend_from_slice(payload);
}

fn seal(row: &[u8]) -> Vec<u8> {
    let length = u32::try_from(row.len()).unwrap();
    [&length.to_le_bytes()[..], row, b"the extent's record"].concat()
}

fn segment() -> Vec<u8> {
    let mut file = encode_file_header(DISK, SEGMENT).to_vec();
    for chunk in 0..3 {
        append(&mut file, Kind::Chunk, (chunk, b"chunk"));
    }
    append(&mut file, Kind::Seal, (3, &seal(&IndexRow::Sealed(runs()).encode())));
    append(&mut file, Kind::Moved, (3, &seal(&IndexRow::Sealed(runs()).encode())));
    file
}

/// Looks through a segment and checks that what was found lies in it, in order.
fn look(file: &[u8]) -> String {
    let memory: Arc<dyn DiskFile> = Arc::new(Memory(Bytes::copy_from_slice(file)));
    let found = scan(memory, DISK, SEGMENT, 0).unwrap();
    let length = file.len() as u64;
    for bad in &found.bad {
        assert!(bad.start < bad.end, "{bad:?}");
    }
    assert!(found.bad.is_sorted_by(|a, b| a.end <= b.start), "{:?}", found.bad);
    assert!(found.seals.iter().all(|seal| seal.offset < length));
    format!("{:?} {} seals {} bad", found.header, word(found.seals.len()), word(found.bad.len()))
}

fn word(count: usize) -> &'static str {
    ["no", "one", "two", "three"].get(count).copied().unwrap_or("many")
}

#[test]
fn segments() {
    Target::binary("segments", [segment(), Vec::new()]).run(look);
}

/// As a disk that wrote wrong bytes with right checksums would.
#[test]
fn segments_whose_checksums_hold() {
    let payload = seal(&IndexRow::Sealed(runs()).encode());
    Target::binary("seals with checksums", [payload]).run(|payload| {
        let mut file = encode_file_header(DISK, SEGMENT).to_vec();
        append(&mut file, Kind::Chunk, (0, b"chunk"));
        append(&mut file, Kind::Seal, (1, payload));
        look(&file)
    });
}

#[test]
fn index_rows() {
    let corpus = [IndexRow::Sealed(runs()), IndexRow::Suspect].map(|row| row.encode().to_vec());
    Target::binary("index rows", corpus).run(|input| {
        let Some((row, rest)) = IndexRow::decode(input) else { return "refused".to_owned() };
        assert_eq!(IndexRow::decode(&row.encode()), Some((row.clone(), &[][..])));
        let IndexRow::Sealed(runs) = row else { return "suspect".to_owned() };
        let (chunks, length) = (runs.chunks(), runs.length());
        for chunk in [0, chunks / 2, chunks.saturating_sub(1), chunks, u32::MAX] {
            let _beyond_the_end = runs.locate(chunk);
        }
        let _elsewhere = (runs.bytes_in(SEGMENT), runs.chunks_in(SEGMENT), runs.last_segment());
        format!("{} {} {}", length > 0, chunks > 3, rest.is_empty())
    });
}

#[test]
fn headers_and_positions() {
    let place = Place { segment: SEGMENT, offset: 4096 };
    let payload = Crc32c(7);
    let header = RecordHeader { kind: Kind::Chunk, key: KEY, chunk: 5, length: 3, payload };
    let corpus = [
        header.encode(DISK, place).to_vec(),
        encode_file_header(DISK, SEGMENT).to_vec(),
        encode_position(place).to_vec(),
        [&[9; 17][..], DISK.as_bytes()].concat(),
    ];
    Target::binary("headers and positions", corpus).run(|input| {
        if let Some(header) = RecordHeader::decode(input, DISK, place) {
            assert_eq!(header.encode(DISK, place), input[..HEADER_BYTES]);
        }
        if let Some(position) = decode_position(input) {
            assert_eq!(encode_position(position), input);
        }
        let keys = (parse_extent_key(input).is_some(), parse_chunks_key(input, DISK).is_some());
        format!("{:?} {keys:?}", decode_file_header(input, DISK, SEGMENT))
    });
}
