//! The steps of an exchange, without anybody to talk to: which rows to ask for, which to give.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What one replica tells of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowDigest {
    /// Routing and sort key, as they are stored.
    pub(crate) key: Bytes,
    /// The digest of its record.
    pub(crate) digest: [u8; 16],
    /// Whether bytes that belong to it are not there.
    pub(crate) missing: bool,
}

/// The rows of some leaves between two keys, in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowPage {
    /// The rows.
    pub(crate) rows: Vec<RowDigest>,
    /// The first key that was not looked at; `None` if all were.
    pub(crate) next: Option<Bytes>,
}

/// A row that both replicas hold, each in another state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) key: Bytes,
    /// The digest of the peer's record.
    pub(crate) theirs: [u8; 16],
}

/// What two pages differ in, as far as both reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// Rows that the peer has and this node has not.
    pub(crate) theirs: Vec<Bytes>,
    /// Rows that differ.
    pub(crate) both: Vec<Conflict>,
    /// Rows that this node has and the peer has not.
    pub(crate) mine: Vec<RowDigest>,
    /// Rows with equal records whose bytes are missing at one side only.
    pub(crate) half_missing: usize,
    /// Where the next pages begin; `None` if all was compared.
    pub(crate) next: Option<Bytes>,
}

impl Differences {
    /// What two replicas' pages, begun at the same key, differ in.
    pub(crate) fn between(mine: &RowPage, theirs: &RowPage) -> Self {
        let next = match (&mine.next, &theirs.next) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs).clone()),
            (next, None) | (None, next) => next.clone(),
        };
        // Beyond the shorter page nothing is known of one side.
        let seen = |row: &&RowDigest| next.as_ref().is_none_or(|next| row.key < *next);
        let mut differences = Self { next: next.clone(), ..Self::default() };
        let mut theirs = theirs.rows.iter().filter(seen).peekable();
        for row in mine.rows.iter().filter(seen) {
            while let Some(other) = theirs.next_if(|other| other.key < row.key) {
                differences.theirs.push(other.key.clone());
            }
            match theirs.next_if(|other| other.key == row.key) {
                None => differences.mine.push(row.clone()),
                Some(other) if other.digest != row.digest => {
                    differences.both.push(Conflict { key: row.key.clone(), theirs: other.digest });
                }
                // Bytes that are missing at one side are fetched there, not pushed from here.
                Some(other) if other.missing != row.missing => differences.half_missing += 1,
                Some(_) => {}
            }
        }
        differences.theirs.extend(theirs.map(|other| other.key.clone()));
        differences
    }

    /// Whether no record differs.
    pub(crate) fn is_empty(&self) -> bool {
        self.theirs.is_empty() && self.both.is_empty() && self.mine.is_empty()
    }

    /// The keys of the rows that the peer is asked for.
    pub(crate) fn wanted(&self) -> Vec<Bytes> {
        let both = self.both.iter().map(|conflict| &conflict.key);
        self.theirs.iter().chain(both).cloned().collect()
    }
}

/// Bytes of a row beside its key.
const ROW_BYTES: usize = 2 + 16 + 1;
const MISSING: u8 = 1;

impl RowDigest {
    /// What it takes on the wire.
    pub(crate) fn weight(&self) -> usize {
        self.key.len() + ROW_BYTES
    }
}

impl RowPage {
    /// The rows, as they travel.
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.rows.iter().map(RowDigest::weight).sum());
        for row in &self.rows {
            // Keys are bounded far below 64 KiB where they are made.
            bytes.put_u16_le(u16::try_from(row.key.len()).unwrap_or(u16::MAX));
            bytes.put_slice(&row.key);
            bytes.put_slice(&row.digest);
            bytes.put_u8(if row.missing { MISSING } else { 0 });
        }
        bytes.freeze()
    }

    /// A page of what [`RowPage::encode`] made; `None` if the bytes are something else or the
    /// rows are not in order.
    pub(crate) fn decode(mut bytes: Bytes, next: Option<Bytes>) -> Option<Self> {
        let mut rows: Vec<RowDigest> = Vec::new();
        while bytes.has_remaining() {
            if bytes.remaining() < ROW_BYTES {
                return None;
            }
            let length = usize::from(bytes.get_u16_le());
            if bytes.remaining() < length + ROW_BYTES - 2 {
                return None;
            }
            let key = bytes.split_to(length);
            let mut digest = [0; 16];
            bytes.copy_to_slice(&mut digest);
            let missing = bytes.get_u8() & MISSING != 0;
            let ordered = rows.last().is_none_or(|last| last.key < key);
            if !ordered || next.as_ref().is_some_and(|next| key >= *next) {
                return None;
            }
            rows.push(RowDigest { key, digest, missing });
        }
        Some(Self { rows, next })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Differences, RowDigest, RowPage};
    use bytes::Bytes;
    use proptest::prelude::*;

    type Rows = BTreeMap<u8, u8>;

    fn key(number: u8) -> Bytes {
        Bytes::copy_from_slice(&[b'k', number])
    }

    /// What a replica with these rows tells from `from` on, at most `limit` rows.
    fn page(rows: &Rows, from: Option<&Bytes>, limit: usize) -> RowPage {
        let mut told: Vec<RowDigest> = rows
            .iter()
            .map(|(&number, &value)| RowDigest {
                key: key(number),
                digest: [value; 16],
                missing: false,
            })
            .filter(|row| from.is_none_or(|from| row.key >= *from))
            .collect();
        let next = told.get(limit).map(|row| row.key.clone());
        told.truncate(limit);
        RowPage { rows: told, next }
    }

    /// Exchanges as the driver does: pull, merge (the greater value wins), push.
    fn exchange(a: &mut Rows, b: &mut Rows, limits: (usize, usize)) -> usize {
        let (mut from, mut moved) = (None, 0);
        loop {
            let (mine, theirs) =
                (page(a, from.as_ref(), limits.0), page(b, from.as_ref(), limits.1));
            let found = Differences::between(&mine, &theirs);
            for wanted in found.wanted() {
                let value = b[&wanted[1]];
                let held = a.entry(wanted[1]).or_insert(value);
                *held = value.max(*held);
                moved += 1;
            }
            for row in &found.mine {
                b.insert(row.key[1], a[&row.key[1]]);
                moved += 1;
            }
            for row in &found.both {
                let merged = a[&row.key[1]];
                if [merged; 16] != row.theirs {
                    b.insert(row.key[1], merged);
                    moved += 1;
                }
            }
            match found.next {
                None => return moved,
                next => from = next,
            }
        }
    }

    proptest! {
        #[test]
        fn after_an_exchange_both_hold_the_merge_of_both(
            a in prop::collection::btree_map(0_u8..40, 0_u8..4, 0..40),
            b in prop::collection::btree_map(0_u8..40, 0_u8..4, 0..40),
            limits in (1_usize..7, 1_usize..7),
        ) {
            let mut merged = a.clone();
            for (key, value) in &b {
                let held = merged.entry(*key).or_insert(*value);
                *held = (*held).max(*value);
            }
            let differing = (0..40).filter(|key| a.get(key) != b.get(key)).count();

            let (mut mine, mut theirs) = (a, b);
            let moved = exchange(&mut mine, &mut theirs, limits);

            prop_assert_eq!(&mine, &merged);
            prop_assert_eq!(&theirs, &merged);
            prop_assert!(moved <= 2 * differing);
        }

        #[test]
        fn equal_replicas_move_nothing(
            rows in prop::collection::btree_map(0_u8..40, 0_u8..4, 0..40), limit in 1_usize..9,
        ) {
            let (mut mine, mut theirs) = (rows.clone(), rows);

            prop_assert_eq!(exchange(&mut mine, &mut theirs, (limit, 3)), 0);
        }

        #[test]
        fn pages_survive_the_way_to_a_peer(
            rows in prop::collection::btree_map(0_u8..40, 0_u8..4, 0..40), limit in 1_usize..9,
        ) {
            let told = page(&rows, None, limit);

            let heard = RowPage::decode(told.encode(), told.next.clone());

            prop_assert_eq!(heard, Some(told));
        }

        #[test]
        fn foreign_bytes_are_refused_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200), next: Option<[u8; 3]>,
        ) {
            let next = next.map(|next| Bytes::copy_from_slice(&next));
            let _ = RowPage::decode(bytes.into(), next);
        }
    }

    #[test]
    fn rows_out_of_order_are_no_page() {
        let row = |number| RowDigest { key: key(number), digest: [0; 16], missing: true };
        let page = RowPage { rows: vec![row(2), row(1)], next: None };

        assert_eq!(RowPage::decode(page.encode(), None), None);
    }
}
