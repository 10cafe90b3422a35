//! Rows of a scan on their way from a replica to a coordinator.
//!
//! The encoding is flat and binary, because a listing page carries a thousand of them and a
//! general codec would cost more than the scan itself.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Rows that one slice may pass before it answers short.
pub(crate) const ROWS_PASSED_MAX: usize = 10_000;

/// One thing that a slice holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScanItem {
    /// A row.
    Row { sort: Bytes, digest: [u8; 16], tombstone: Tombstone, record: Option<Bytes> },
    /// At least one live row begins with `prefix`; `witness` is the first of them.
    Prefix { prefix: Bytes, witness: Bytes, digest: [u8; 16] },
}

/// Whether a row says that its key is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tombstone {
    /// The key is there.
    Live,
    /// The key is gone.
    Gone,
}

impl ScanItem {
    /// Where it stands in the order of the listing.
    pub(crate) fn position(&self) -> &Bytes {
        match self {
            Self::Row { sort, .. } => sort,
            Self::Prefix { prefix, .. } => prefix,
        }
    }
}

/// One slice's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SliceRows {
    pub(crate) items: Vec<ScanItem>,
    /// Everything before this was looked at; `None`: everything.
    pub(crate) next: Option<Bytes>,
}

const ROW: u8 = 0;
const PREFIX: u8 = 1;
const GONE: u8 = 1;

fn put_bytes(buffer: &mut BytesMut, bytes: &[u8]) {
    // Sort keys and records are bounded far below 4 GiB where they are made.
    buffer.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    buffer.put_slice(bytes);
}

fn take_bytes(input: &mut Bytes) -> Option<Bytes> {
    if input.remaining() < 4 {
        return None;
    }
    let length = usize::try_from(input.get_u32_le()).ok()?;
    (input.remaining() >= length).then(|| input.split_to(length))
}

fn take_digest(input: &mut Bytes) -> Option<[u8; 16]> {
    if input.remaining() < 16 {
        return None;
    }
    let mut digest = [0; 16];
    input.copy_to_slice(&mut digest);
    Some(digest)
}

/// Encodes the answers to a scan's slices, in their order.
pub(crate) fn encode_slices(slices: &[SliceRows]) -> Bytes {
    let mut buffer = BytesMut::new();
    for slice in slices {
        buffer.put_u32_le(u32::try_from(slice.items.len()).unwrap_or(u32::MAX));
        for item in &slice.items {
            encode_item(&mut buffer, item);
        }
        match &slice.next {
            None => buffer.put_u8(0),
            Some(next) => {
                buffer.put_u8(1);
                put_bytes(&mut buffer, next);
            }
        }
    }
    buffer.freeze()
}

fn encode_item(buffer: &mut BytesMut, item: &ScanItem) {
    match item {
        ScanItem::Row { sort, digest, tombstone, record } => {
            buffer.put_u8(ROW);
            buffer.put_u8(if *tombstone == Tombstone::Gone { GONE } else { 0 });
            put_bytes(buffer, sort);
            buffer.put_slice(digest);
            match record {
                None => buffer.put_u8(0),
                Some(record) => {
                    buffer.put_u8(1);
                    put_bytes(buffer, record);
                }
            }
        }
        ScanItem::Prefix { prefix, witness, digest } => {
            buffer.put_u8(PREFIX);
            put_bytes(buffer, prefix);
            put_bytes(buffer, witness);
            buffer.put_slice(digest);
        }
    }
}

/// Decodes the answers to `count` slices; `None` if the bytes are not exactly that.
pub(crate) fn decode_slices(mut input: Bytes, count: usize) -> Option<Vec<SliceRows>> {
    let mut slices = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        if input.remaining() < 4 {
            return None;
        }
        let length = usize::try_from(input.get_u32_le()).ok()?;
        // An item takes at least 18 bytes, so a hostile count cannot reserve much.
        let mut items = Vec::with_capacity(length.min(input.remaining() / 18));
        for _ in 0..length {
            items.push(decode_item(&mut input)?);
        }
        let next = match take_byte(&mut input)? {
            0 => None,
            _ => Some(take_bytes(&mut input)?),
        };
        slices.push(SliceRows { items, next });
    }
    input.is_empty().then_some(slices)
}

fn take_byte(input: &mut Bytes) -> Option<u8> {
    input.has_remaining().then(|| input.get_u8())
}

fn decode_item(input: &mut Bytes) -> Option<ScanItem> {
    match take_byte(input)? {
        ROW => {
            let tombstone =
                if take_byte(input)? == GONE { Tombstone::Gone } else { Tombstone::Live };
            let sort = take_bytes(input)?;
            let digest = take_digest(input)?;
            let record = match take_byte(input)? {
                0 => None,
                _ => Some(take_bytes(input)?),
            };
            Some(ScanItem::Row { sort, digest, tombstone, record })
        }
        PREFIX => {
            let prefix = take_bytes(input)?;
            let witness = take_bytes(input)?;
            Some(ScanItem::Prefix { prefix, witness, digest: take_digest(input)? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{ScanItem, SliceRows, Tombstone, decode_slices, encode_slices};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn items() -> impl Strategy<Value = ScanItem> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        prop_oneof![
            (bytes(), any::<[u8; 16]>(), any::<bool>(), prop::option::of(bytes())).prop_map(
                |(sort, digest, gone, record)| ScanItem::Row {
                    sort,
                    digest,
                    tombstone: if gone { Tombstone::Gone } else { Tombstone::Live },
                    record,
                }
            ),
            (bytes(), bytes(), any::<[u8; 16]>())
                .prop_map(|(prefix, witness, digest)| ScanItem::Prefix { prefix, witness, digest }),
        ]
    }

    proptest! {
        #[test]
        fn slices_survive_the_way_to_a_peer(
            slices in prop::collection::vec(
                (prop::collection::vec(items(), 0..5), prop::option::of(any::<[u8; 3]>())), 0..4),
        ) {
            let slices: Vec<SliceRows> = slices
                .into_iter()
                .map(|(items, next)| SliceRows {
                    items,
                    next: next.map(|next| Bytes::copy_from_slice(&next)),
                })
                .collect();

            let decoded = decode_slices(encode_slices(&slices), slices.len());

            prop_assert_eq!(decoded, Some(slices));
        }

        #[test]
        fn foreign_bytes_are_refused_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0usize..5,
        ) {
            let _ = decode_slices(bytes.into(), count);
        }
    }
}
