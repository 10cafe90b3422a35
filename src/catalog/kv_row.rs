//! The stored record of a key of the key-value API: the values that stand side by side, and the
//! vector of all writes seen.
//!
//! # Invariants
//! 1. A value leaves a record only when a write supersedes it whose context covers its dot; no
//!    merge drops a concurrent one.
//! 2. The vector is never trimmed (`Version::merge` and its like are not used here).
//! 3. A value is decoded only with its checksum: a damaged one makes the record unreadable on
//!    this replica, and another replica answers.

use std::sync::LazyLock;

use bytes::Bytes;
use prometheus::IntCounter;
use serde::{Deserialize, Serialize};

use crate::causality::{CausalContext, Dot, HybridTime, Siblings, Stamp};
use crate::codec::{Crc32c, Format};
use crate::env::metrics;
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::replication::{Record, TableId, Version};
use crate::types::BucketId;

static REFUSED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "quorate_kv_siblings_refused_total",
        "Writes refused with 409 because a key would have too many concurrent values.",
    )
});

static CONCURRENT: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "quorate_kv_siblings_made_total",
        "Writes that left a key with more than one value when they were minted.",
    )
});

/// Values of one key that stand side by side, deletions included. A write that would leave more
/// is refused, unless it supersedes some. Replicas that were split may merge to more; nothing is
/// dropped then, and the key takes only writes that supersede.
pub(crate) const SIBLINGS_MAX: usize = 16;

/// Bytes of the values of one key, all together; the same holds.
pub(crate) const SIBLING_BYTES_MAX: usize = 1 << 20;

/// A value with its checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredValue", into = "StoredValue")]
pub(crate) struct KvValue {
    /// Its checksum, computed where it came in.
    pub(crate) crc: Crc32c,
    /// How many bytes it has.
    pub(crate) length: u32,
    /// The bytes; a listing leaves them out.
    pub(crate) bytes: Option<Bytes>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredValue {
    #[serde(rename = "c")]
    crc: Crc32c,
    #[serde(rename = "n")]
    length: u32,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Bytes>,
}

/// A value whose bytes do not match its checksum or length.
#[derive(Debug, thiserror::Error)]
#[error("a value's bytes do not match its checksum")]
struct DamagedValue;

impl TryFrom<StoredValue> for KvValue {
    type Error = DamagedValue;

    fn try_from(stored: StoredValue) -> Result<Self, DamagedValue> {
        let StoredValue { crc, length, bytes } = stored;
        let intact = bytes
            .as_ref()
            .is_none_or(|bytes| u32::try_from(bytes.len()) == Ok(length) && crc.matches(bytes));
        if intact { Ok(Self { crc, length, bytes }) } else { Err(DamagedValue) }
    }
}

impl From<KvValue> for StoredValue {
    fn from(value: KvValue) -> Self {
        Self { crc: value.crc, length: value.length, bytes: value.bytes }
    }
}

impl KvValue {
    /// A value as it comes in.
    pub(crate) fn new(bytes: Bytes) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self { crc: Crc32c::of(&bytes), length, bytes: Some(bytes) }
    }
}

/// One write that stands: its value, or that it deleted the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KvSibling {
    #[serde(rename = "d")]
    pub(crate) dot: Dot,
    #[serde(rename = "s")]
    pub(crate) stamp: Stamp,
    #[serde(rename = "v")]
    pub(crate) value: Option<KvValue>,
}

/// A key of the key-value API. Its version's vector covers every write seen; its version's
/// stamp and dot are those of the greatest one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KvRow {
    #[serde(rename = "v")]
    pub(crate) version: Version,
    #[serde(rename = "k")]
    pub(crate) bucket: BucketId,
    #[serde(rename = "q")]
    pub(crate) bucket_epoch: u64,
    /// In the order of their dots.
    #[serde(rename = "b")]
    pub(crate) siblings: Vec<KvSibling>,
}

impl Format for KvRow {
    const NAME: &'static str = "key-value row";
    const NUMBER: u16 = 1;
}

impl KvRow {
    /// What a client asks to be written: the version says what it has seen.
    pub(crate) fn asked(
        (bucket, bucket_epoch): (BucketId, u64),
        context: CausalContext,
        value: Option<Bytes>,
    ) -> Self {
        let mut version = Version::unminted();
        version.seen = context.seen;
        version.stamp.time = context.time;
        let sibling =
            KvSibling { dot: version.dot, stamp: version.stamp, value: value.map(KvValue::new) };
        Self { version, bucket, bucket_epoch, siblings: vec![sibling] }
    }

    /// What whoever has read this row has seen.
    pub(crate) fn context(&self) -> CausalContext {
        CausalContext { seen: self.version.seen.clone(), time: self.version.stamp.time }
    }

    /// The siblings that are values.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&KvSibling, &KvValue)> {
        self.siblings.iter().filter_map(|sibling| Some((sibling, sibling.value.as_ref()?)))
    }

    fn value_bytes(&self) -> usize {
        self.values().map(|(_, value)| value.length as usize).sum()
    }

    fn set(&self) -> Siblings<(Stamp, Option<KvValue>)> {
        let values = self
            .siblings
            .iter()
            .map(|sibling| (sibling.dot, (sibling.stamp, sibling.value.clone())));
        Siblings::new(values, self.version.seen.clone())
    }

    /// This row with that set, and what `version` says besides its vector.
    fn with_set(self, set: Siblings<(Stamp, Option<KvValue>)>, version: Version) -> Self {
        let (values, seen) = set.into_parts();
        let siblings = values
            .into_iter()
            .map(|(dot, (stamp, value))| KvSibling { dot, stamp, value })
            .collect();
        Self { version: Version { seen, ..version }, siblings, ..self }
    }
}

impl Record for KvRow {
    const TABLE: TableId = TableId::Kv;
    const LISTED_ABRIDGED: bool = true;
    const HAS_SIBLINGS: bool = true;

    fn version(&self) -> &Version {
        &self.version
    }

    fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    fn merge(self, other: Self) -> Self {
        let mut set = self.set().merge(other.set());
        if set.len() > self.siblings.len().max(other.siblings.len()) {
            probe::sometimes("concurrent values meet");
        }
        if is_planted(Mutation::DropSiblings) {
            let (values, seen) = set.into_parts();
            set = Siblings::new(values.into_iter().take(1), seen);
        }
        let bucket_epoch = self.bucket_epoch.max(other.bucket_epoch);
        let greater = if self.version.order() >= other.version.order() { self } else { other };
        let version = greater.version.clone();
        Self { bucket_epoch, ..greater.with_set(set, version) }
    }

    fn minted(
        self,
        current: Option<&Self>,
        mint: &mut dyn FnMut(Option<&Version>) -> Version,
    ) -> Self {
        let context = &self.version;
        // What the client has seen must lie below, also if this owner has not seen it. The vector
        // handed over is this owner's own: it decides as which actor the write is minted.
        let mut base = current.map_or_else(Version::unminted, |current| current.version.clone());
        base.stamp.time = base.stamp.time.max(context.stamp.time);
        let unseen = current.is_none() && context.stamp.time == HybridTime::default();
        let version = mint((!unseen).then_some(&base));
        let mut set = current.map(Self::set).unwrap_or_default();
        for sibling in &self.siblings {
            set.write(&context.seen, version.dot, (version.stamp, sibling.value.clone()));
        }
        let bucket_epoch = current.map_or(0, |current| current.bucket_epoch).max(self.bucket_epoch);
        Self { bucket_epoch, ..self.with_set(set, version) }
    }

    fn refusal(&self, current: Option<&Self>) -> Option<String> {
        let (count, bytes) = (self.siblings.len(), self.value_bytes());
        let held = current.map_or((0, 0), |held| (held.siblings.len(), held.value_bytes()));
        let too_many = count > SIBLINGS_MAX && count > held.0;
        let too_large = bytes > SIBLING_BYTES_MAX && bytes > held.1;
        if !too_many && !too_large {
            CONCURRENT.inc_by(u64::from(count > 1));
            return None;
        }
        REFUSED.inc();
        Some(format!(
            "the key has {} concurrent values of {} bytes together, and may have {SIBLINGS_MAX} \
             of {SIBLING_BYTES_MAX}: read it, and write with the context that the read returns",
            held.0, held.1
        ))
    }

    fn can_lose(&self) -> bool {
        false
    }

    fn bucket_epoch(&self) -> Option<u64> {
        Some(self.bucket_epoch)
    }

    fn above(mut self, held: Option<&Self>, floor: HybridTime) -> Self {
        let holds = |dot: Dot| {
            held.is_some_and(|held| held.siblings.iter().any(|sibling| sibling.dot == dot))
        };
        // The vector stays: it covers what is left out, and so do those who merge this.
        self.siblings.retain(|sibling| sibling.stamp.time > floor || holds(sibling.dot));
        self
    }

    fn is_tombstone(&self) -> bool {
        self.siblings.iter().all(|sibling| sibling.value.is_none())
    }

    fn abridged(mut self) -> Self {
        for value in self.siblings.iter_mut().filter_map(|sibling| sibling.value.as_mut()) {
            value.bytes = None;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{KvRow, SIBLING_BYTES_MAX, SIBLINGS_MAX};
    use bytes::Bytes;
    use proptest::prelude::*;

    use crate::catalog::Catalog;
    use crate::causality::{Actor, CausalContext, HybridTime, Stamp};
    use crate::codec::{decode_format, encode_format};
    use crate::replication::{Record, TableId, Version};
    use crate::types::{BucketId, NodeId};

    const BUCKET: (BucketId, u64) = (BucketId::from_bytes([9; 16]), 1);

    /// An owner that mints: one stint, and a clock of its own.
    fn mint_at(node: u8, wall: u64) -> impl FnMut(Option<&Version>) -> Version {
        move |current| {
            let node = NodeId::from_bytes([node; 16]);
            let seen = current.map_or(0, |current| current.stamp.time.0);
            let stamp = Stamp { time: HybridTime(wall.max(seen + 1)), node };
            Version::succeed(current, Actor { node, boot: 1, stint: 0 }, stamp, 0)
        }
    }

    fn put(held: Option<&KvRow>, node: u8, context: CausalContext, value: &str) -> KvRow {
        let value = Some(Bytes::copy_from_slice(value.as_bytes()));
        KvRow::asked(BUCKET, context, value).minted(held, &mut mint_at(node, 1))
    }

    fn values(row: &KvRow) -> Vec<String> {
        let text = |bytes: &Option<Bytes>| {
            String::from_utf8(bytes.clone().unwrap_or_default().to_vec()).unwrap()
        };
        row.values().map(|(_, value)| text(&value.bytes)).collect()
    }

    /// Rows as a few owners make them: each step writes at one of them, blindly or with what
    /// another holds, or brings one's row to another.
    fn rows() -> impl Strategy<Value = Vec<KvRow>> {
        prop::collection::vec((0usize..3, 0usize..3, 0u8..4), 1..12).prop_map(|steps| {
            let mut owners: Vec<Option<KvRow>> = vec![None; 3];
            for (number, (at, other, kind)) in steps.into_iter().enumerate() {
                let seen = owners[other].as_ref().map(KvRow::context).unwrap_or_default();
                let node = u8::try_from(at).unwrap();
                owners[at] = match (kind, owners[at].take(), owners[other].clone()) {
                    (0, Some(held), Some(brought)) => Some(held.merge(brought)),
                    (0, held, brought) => held.or(brought),
                    (1, held, _) => Some(
                        KvRow::asked(BUCKET, seen, None)
                            .minted(held.as_ref(), &mut mint_at(node, number as u64)),
                    ),
                    (2, held, _) => Some(put(held.as_ref(), node, seen, &number.to_string())),
                    (_, held, _) => {
                        let blind = CausalContext::default();
                        Some(put(held.as_ref(), node, blind, &number.to_string()))
                    }
                };
            }
            let first = put(None, 7, CausalContext::default(), "first");
            owners.into_iter().map(|row| row.unwrap_or_else(|| first.clone())).collect()
        })
    }

    #[test]
    fn a_value_older_than_the_floor_enters_only_where_it_is_held() {
        let context = CausalContext::default();
        let deleted = put(None, 1, context.clone(), "deleted and purged since");
        let anew = KvRow::asked(BUCKET, context.clone(), Some(Bytes::from_static(b"anew")))
            .minted(None, &mut mint_at(2, 100));
        let late = KvRow::asked(BUCKET, context, Some(Bytes::from_static(b"late")))
            .minted(Some(&deleted), &mut mint_at(3, 200));
        let floor = HybridTime(50);

        let entering = late.clone().above(Some(&anew), floor);
        assert_eq!(values(&entering), ["late"]);
        let merged = anew.clone().merge(entering);
        assert_eq!(values(&merged), ["anew", "late"]);
        // Whoever brought it drops it when this comes back to it.
        assert_eq!(values(&late.clone().merge(merged)), ["anew", "late"]);
        // What is held here stands, however old.
        let held = deleted.clone().merge(anew);
        assert_eq!(late.clone().above(Some(&held), floor), late);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn rows_merge_by_the_laws_and_bytewise_alike(rows in rows()) {
            let [a, b, c] = [&rows[0], &rows[1], &rows[2]];
            let merged = |a: &KvRow, b: &KvRow| a.clone().merge(b.clone());

            let left = merged(&merged(a, b), c);
            let right = merged(a, &merged(c, b));

            prop_assert_eq!(merged(a, b), merged(b, a));
            prop_assert_eq!(encode_format(&left).unwrap(), encode_format(&right).unwrap());
            prop_assert_eq!(merged(a, a), a.clone());
            prop_assert_eq!(merged(&left, b), left);
        }
    }

    #[test]
    fn a_write_with_a_context_is_stamped_above_all_that_it_supersedes() {
        let far = KvRow::asked(BUCKET, CausalContext::default(), Some(Bytes::from_static(b"a")))
            .minted(None, &mut mint_at(1, 1_000));

        // Another owner, which has nothing of the key and a slow clock.
        let next = put(None, 2, far.context(), "b");
        let merged = far.merge(next.clone());

        assert!(next.version.stamp.time > HybridTime(1_000));
        assert_eq!(values(&merged), ["b"]);
        assert_eq!(merged.version.stamp, next.version.stamp);
    }

    #[test]
    fn a_vector_of_very_many_actors_is_kept_whole() {
        let mut row = put(None, 0, CausalContext::default(), "a");
        for node in 1..200 {
            row = put(Some(&row), node, row.context(), "b");
        }

        assert_eq!(row.version.seen.len(), 200);
        assert_eq!(values(&row), ["b"]);
        assert_eq!(row.clone().merge(row.clone()), row);
    }

    #[test]
    fn a_deletion_leaves_what_it_had_not_seen() {
        let seen = put(None, 1, CausalContext::default(), "seen");
        let both = put(Some(&seen), 2, CausalContext::default(), "unseen");

        let deleted =
            KvRow::asked(BUCKET, seen.context(), None).minted(Some(&both), &mut mint_at(1, 5));
        let all = KvRow::asked(BUCKET, deleted.context(), None)
            .minted(Some(&deleted), &mut mint_at(1, 6));

        assert_eq!(values(&deleted), ["unseen"]);
        assert!(!deleted.is_tombstone());
        assert!(all.is_tombstone());
        assert_eq!(all.siblings.len(), 1, "one deletion stands for all that it has seen");
    }

    #[test]
    fn a_blind_writer_is_refused_at_the_bound_and_whoever_has_read_is_not() {
        let blind = CausalContext::default;
        let mut row = put(None, 1, blind(), "0");
        for number in 1..SIBLINGS_MAX {
            let next = put(Some(&row), 1, blind(), &number.to_string());
            assert_eq!(next.refusal(Some(&row)), None, "{number}");
            row = next;
        }

        let refused = put(Some(&row), 1, blind(), "one more").refusal(Some(&row));
        let resolved = put(Some(&row), 1, row.context(), "resolved");

        assert!(refused.unwrap().contains("16 concurrent values"));
        assert_eq!(resolved.refusal(Some(&row)), None);
        assert_eq!(values(&resolved), ["resolved"]);
    }

    #[test]
    fn replicas_that_merged_to_more_take_writes_that_supersede_some() {
        let many = |node: u8| {
            (0..SIBLINGS_MAX).fold(None, |row: Option<KvRow>, number| {
                Some(put(row.as_ref(), node, CausalContext::default(), &number.to_string()))
            })
        };
        let (left, right) = (many(1).unwrap(), many(2).unwrap());
        let seen = left.context();
        let merged = left.merge(right);

        let half = put(Some(&merged), 1, seen, "half resolved");
        let blind = put(Some(&merged), 1, CausalContext::default(), "blind");

        assert_eq!(merged.siblings.len(), 2 * SIBLINGS_MAX);
        assert_eq!(half.refusal(Some(&merged)), None);
        assert!(blind.refusal(Some(&merged)).is_some());
    }

    #[test]
    fn large_siblings_are_bounded_together() {
        let quarter = "x".repeat(SIBLING_BYTES_MAX / 4);
        let mut row = put(None, 1, CausalContext::default(), &quarter);
        for _ in 0..3 {
            row = put(Some(&row), 1, CausalContext::default(), &quarter);
        }

        assert_eq!(row.refusal(None), None);
        assert!(put(Some(&row), 1, CausalContext::default(), "x").refusal(Some(&row)).is_some());
    }

    #[test]
    fn a_flipped_bit_of_a_value_is_damage() {
        let row = put(None, 1, CausalContext::default(), "some value");
        let stored = encode_format(&row).unwrap();
        let at = stored.windows(4).position(|window| window == b"some").unwrap();
        let mut flipped = stored.clone();
        flipped[at] ^= 1;

        assert_eq!(decode_format::<KvRow>(&stored).unwrap(), row);
        assert!(decode_format::<KvRow>(&flipped).is_err());
        assert!(Catalog::tables().upgraded(TableId::Kv, &flipped).unwrap().is_err());
    }

    #[test]
    fn a_row_is_written_as_its_fixture_says() {
        let fixture = include_str!("../../tests/fixtures/format-1/kv.hex");
        let value = put(None, 1, CausalContext::default(), "value");
        let deletion =
            KvRow::asked(BUCKET, CausalContext::default(), None).minted(None, &mut mint_at(2, 5));

        let row = value.merge(deletion);

        assert_eq!(hex::encode(encode_format(&row).unwrap()), fixture.trim());
    }

    #[test]
    fn a_listing_shows_sizes_and_no_bytes() {
        let row = put(None, 1, CausalContext::default(), "some value");

        let shown = decode_format::<KvRow>(&encode_format(&row.clone().abridged()).unwrap());

        let shown = shown.unwrap();
        assert_eq!(shown.values().next().unwrap().1.length, 10);
        assert_eq!(shown.values().next().unwrap().1.bytes, None);
        assert_eq!(shown.context(), row.context());
    }
}
