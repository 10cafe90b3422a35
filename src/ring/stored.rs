//! A layout as it is stored and shipped, and the way back, which believes nothing.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteArray, ByteBuf, Bytes};

use super::error::LayoutError;
use super::layout::{Layout, LayoutVersion};
use super::member::Member;
use super::token::PartitionCount;
use crate::codec::Format;
use crate::types::ClusterId;

/// What is written. `lists` holds little-endian indexes into `members`, row after row.
#[derive(Serialize)]
struct Written<'a> {
    cluster: ClusterId,
    version: LayoutVersion,
    partitions: PartitionCount,
    members: &'a [Member],
    lists: &'a Bytes,
    digest: &'a Bytes,
}

/// What is read, before it is believed.
#[derive(Deserialize)]
struct Read {
    cluster: ClusterId,
    version: LayoutVersion,
    partitions: PartitionCount,
    members: Vec<Member>,
    lists: ByteBuf,
    digest: ByteArray<16>,
}

impl Serialize for Layout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lists: Vec<u8> = self.lists().iter().flat_map(|index| index.to_le_bytes()).collect();
        let digest = self.digest();
        let written = Written {
            cluster: self.cluster(),
            version: self.version(),
            partitions: self.partitions(),
            members: self.members(),
            lists: Bytes::new(&lists),
            digest: Bytes::new(&digest),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Layout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Read::deserialize(deserializer)?;
        Self::try_from(read).map_err(serde::de::Error::custom)
    }
}

impl TryFrom<Read> for Layout {
    type Error = LayoutError;

    fn try_from(read: Read) -> Result<Self, LayoutError> {
        let (pairs, rest) = read.lists.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(LayoutError::Unsound("its lists are cut in the middle of an entry"));
        }
        if !read.members.is_sorted_by(|a, b| a.node < b.node) {
            // Lists name members by place, so another order would be another layout.
            return Err(LayoutError::Unsound("its members are not in id order"));
        }
        let lists = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        let (cluster, version, partitions) = (read.cluster, read.version, read.partitions);
        let layout = Self::checked(cluster, version, partitions, read.members, lists)?;
        if layout.digest() != *read.digest {
            return Err(LayoutError::Unsound("its digest does not match its content"));
        }
        Ok(layout)
    }
}

impl Format for Layout {
    const NAME: &'static str = "layout";
    const NUMBER: u16 = 1;
}

#[cfg(test)]
mod tests {
    use super::{Layout, Read};
    use crate::codec::{decode_format, encode_format};
    use crate::ring::properties::{cluster_id, members};
    use crate::ring::{LayoutError, PartitionCount};
    use proptest::prelude::{any, proptest};
    use serde_bytes::{ByteArray, ByteBuf};

    fn layout() -> Layout {
        let mut members = members(5, 2);
        members[4].tags = vec!["nvme".to_owned(), "rack 7".to_owned()];
        Layout::first(cluster_id(), PartitionCount::new(32).unwrap(), members).unwrap()
    }

    fn read(layout: &Layout) -> Read {
        Read {
            cluster: layout.cluster(),
            version: layout.version(),
            partitions: layout.partitions(),
            members: layout.members().to_vec(),
            lists: ByteBuf::from(
                layout.lists().iter().flat_map(|index| index.to_le_bytes()).collect::<Vec<u8>>(),
            ),
            digest: ByteArray::new(layout.digest()),
        }
    }

    #[test]
    fn a_layout_survives_the_way_to_disk_and_back() {
        let layout = layout();

        let bytes = encode_format(&layout).unwrap();

        assert_eq!(&bytes[..2], &[1, 0]);
        assert_eq!(decode_format::<Layout>(&bytes).unwrap(), layout);
    }

    #[test]
    fn a_layout_is_also_readable_json() {
        let layout = layout();

        let json = serde_json::to_string(&layout).unwrap();

        assert_eq!(serde_json::from_str::<Layout>(&json).unwrap(), layout);
    }

    #[test]
    fn a_cut_layout_is_damage_and_not_a_panic() {
        let bytes = encode_format(&layout()).unwrap();

        for length in 0..bytes.len() {
            assert!(decode_format::<Layout>(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn every_broken_invariant_is_refused() {
        fn check(breakage: impl FnOnce(&mut Read), expected: &str) {
            let mut read = read(&layout());
            breakage(&mut read);
            let error = Layout::try_from(read).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        check(|read| read.version.0 = 0, "start at 1");
        check(|read| read.members.swap(0, 1), "not in id order");
        check(|read| read.members[1] = read.members[0].clone(), "not in id order");
        check(|read| read.members.truncate(4), "another length");
        check(|read| read.members.clear(), "no member has capacity");
        check(|read| read.members[0].capacity.0 = 0, "another length");
        check(|read| read.lists.truncate(7), "in the middle");
        check(|read| read.lists.truncate(8), "another length");
        check(|read| read.lists[1] = 9, "no member");
        check(|read| read.lists.copy_within(0..2, 2), "a node twice");
        check(|read| read.members[0].capacity.0 += 1, "digest");
        check(|read| read.partitions = PartitionCount::DEFAULT, "another length");
    }

    #[test]
    fn a_list_that_names_a_gateway_is_refused() {
        let mut members = members(22, 3);
        members.sort_by_key(|member| member.node);
        members[21].capacity.0 = 0;
        let partitions = PartitionCount::new(4).unwrap();
        let layout = Layout::first(cluster_id(), partitions, members).unwrap();
        let mut read = read(&layout);
        read.lists[0] = 21;

        let error = Layout::try_from(read).unwrap_err();

        assert_eq!(error, LayoutError::Unsound("a list names a gateway"));
    }

    proptest! {
        #[test]
        fn a_mangled_layout_is_refused(at in any::<usize>(), bit in 0..8_u8) {
            let mut bytes = encode_format(&layout()).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;

            // A flip in a field's name may still leave a sound layout if the field has a default.
            if let Ok(read) = decode_format::<Layout>(&bytes) {
                assert_eq!(read, layout());
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused(payload in proptest::collection::vec(any::<u8>(), 0..512)) {
            let mut bytes = vec![1, 0];
            bytes.extend_from_slice(&payload);
            assert!(decode_format::<Layout>(&bytes).is_err());
        }
    }
}
