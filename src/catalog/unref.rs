//! Bytes that lost their name: what a replaced head, part or upload no longer names is noted in
//! the batch that replaces it (DESIGN §8). The collector looks later whether anything else of the
//! same key names it, and frees it if not.
//!
//! What names an extent: the head of its object, a part that was not taken back, and an upload
//! that is being completed. An extent belongs to one key and was named by one write of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::blob::{ExtentRef, ObjectName};
use crate::causality::HybridTime;
use crate::codec::{Format, decode_format, encode_format};
use crate::replication::{Change, ReplicationError, TableId};
use crate::ring::Partition;
use crate::store::{Batch, Family};
use crate::types::{ExtentId, UploadId};

use super::keys::upload_part_of;
use super::rows::{BodyPlace, ObjectRow, UploadKind, UploadRow, UploadState};

/// How a head names an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Holding {
    /// As a piece of its body, placed by its own id.
    #[serde(rename = "o")]
    Own,
    /// As its whole body, placed with the object.
    #[serde(rename = "a")]
    Attached,
    /// As a piece of the list of its extents.
    #[serde(rename = "m")]
    Manifest,
}

/// An extent that something names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) length: u64,
    pub(super) holding: Holding,
}

/// Extents by id, and how they are named.
pub(super) type Names = BTreeMap<ExtentId, Named>;

/// What lost its name, or is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unreferenced {
    /// An extent is no longer named by a row.
    #[serde(rename = "x")]
    Extent {
        #[serde(rename = "l")]
        length: u64,
        #[serde(rename = "h")]
        holding: Holding,
    },
    /// An upload was completed or aborted: its parts are to be taken back.
    #[serde(rename = "u")]
    Parts,
    /// A completion was begun: if it is not done by then, it is done.
    #[serde(rename = "c")]
    Completing,
    /// The parts of a closed upload were taken back: at last it goes itself.
    #[serde(rename = "g")]
    Upload,
}

/// A row of [`Family::Unrefs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnrefRow {
    /// What it is about.
    #[serde(rename = "w")]
    pub(super) what: Unreferenced,
    /// Copies of the row that named it.
    #[serde(rename = "n")]
    pub(super) n: u8,
    /// When that changed.
    #[serde(rename = "s")]
    pub(super) since: HybridTime,
}

impl Format for UnrefRow {
    const NAME: &'static str = "unref";
    const NUMBER: u16 = 1;
}

/// The key of an [`UnrefRow`]: all of one object lie together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnrefName {
    pub(super) partition: Partition,
    pub(super) object: ObjectName,
    /// The extent's or upload's id.
    pub(super) id: [u8; 16],
}

impl UnrefName {
    /// Partition, routing key and object key with their lengths, id.
    pub(super) fn key(&self) -> Bytes {
        let ObjectName { routing, sort } = &self.object;
        let mut key = BytesMut::with_capacity(24 + routing.len() + sort.len());
        key.put_u32(self.partition.as_u32());
        key.put_u16(u16::try_from(routing.len()).unwrap_or(u16::MAX));
        key.put_slice(routing);
        key.put_u16(u16::try_from(sort.len()).unwrap_or(u16::MAX));
        key.put_slice(sort);
        key.put_slice(&self.id);
        key.freeze()
    }

    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        let (partition, rest) = key.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (routing, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (sort, id) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let object = ObjectName {
            routing: Bytes::copy_from_slice(routing),
            sort: Bytes::copy_from_slice(sort),
        };
        let partition = Partition::from_be_bytes(*partition);
        Some(Self { partition, object, id: id.try_into().ok()? })
    }
}

/// What a body names.
fn names_of_place(place: &BodyPlace) -> Names {
    let named = |extents: &[ExtentRef], holding| {
        let names = extents.iter();
        names.map(|extent| (extent.id, Named { length: extent.length, holding })).collect()
    };
    match place {
        BodyPlace::Inline { .. } => Names::new(),
        BodyPlace::Attached(extent) => named(&[*extent], Holding::Attached),
        BodyPlace::Extents(extents) => named(extents, Holding::Own),
        BodyPlace::Manifest(list) => named(list, Holding::Manifest),
    }
}

/// What a head names.
pub(super) fn names_of_head(row: &ObjectRow) -> Names {
    row.object.as_ref().map(|object| names_of_place(&object.body)).unwrap_or_default()
}

/// The body that a row of the uploads table names.
pub(super) fn place_of_upload(row: &UploadRow) -> Option<&BodyPlace> {
    match &row.kind {
        UploadKind::Part { body, .. } => Some(body),
        UploadKind::Upload { state: UploadState::Completing { head, .. }, .. } => Some(&head.body),
        // A completed upload's object has a head of its own, or had.
        UploadKind::Upload { .. } | UploadKind::Gone => None,
    }
}

/// What a row of the uploads table names.
pub(super) fn names_of_upload(row: &UploadRow) -> Names {
    place_of_upload(row).map(names_of_place).unwrap_or_default()
}

/// What a change takes the name of: what was named before, or by what came, and is not after.
pub(super) fn dropped(before: Names, incoming: Names, after: &Names) -> Names {
    let mut dropped = before;
    dropped.extend(incoming);
    dropped.retain(|id, _| !after.contains_key(id));
    dropped
}

fn decoded<T: Format>(
    change: &Change<'_>,
    names: impl Fn(&T) -> Names,
) -> Result<(Option<T>, T, Names), ReplicationError> {
    let before = change.before.map(decode_format::<T>).transpose()?;
    let after = decode_format::<T>(change.after)?;
    let incoming = if change.incoming == change.after {
        Names::new()
    } else {
        names(&decode_format::<T>(change.incoming)?)
    };
    let known = before.as_ref().map(&names).unwrap_or_default();
    let lost = dropped(known, incoming, &names(&after));
    Ok((before, after, lost))
}

fn is_completing(row: &UploadRow) -> bool {
    matches!(&row.kind, UploadKind::Upload { state: UploadState::Completing { .. }, .. })
}

fn is_closed(row: &UploadRow) -> bool {
    let UploadKind::Upload { state, .. } = &row.kind else { return false };
    matches!(state, UploadState::Aborted | UploadState::Completed { .. })
}

/// Adds to the batch of a change what loses its name by it.
///
/// # Errors
/// If a record cannot be read.
pub(super) fn note_unrefs(
    change: &Change<'_>,
    now: HybridTime,
    batch: &mut Batch,
) -> Result<(), ReplicationError> {
    if change.before.is_none() && change.incoming == change.after && !is_upload(change) {
        return Ok(());
    }
    let mut put = |object: &ObjectName, id: [u8; 16], what: Unreferenced| {
        let name = UnrefName { partition: change.partition, object: object.clone(), id };
        let row = UnrefRow { what, n: change.n, since: now };
        let row = encode_format(&row).map_err(|error| damaged(&error))?;
        batch.put(Family::Unrefs, name.key(), row);
        Ok::<_, ReplicationError>(())
    };
    let routing = change.row.routing.clone();
    let (object, lost) = if is_upload(change) {
        let (before, after, lost) = decoded::<UploadRow>(change, names_of_upload)?;
        let Some((sort, upload)) = upload_part_of(&change.row.sort) else {
            return Err(ReplicationError::Damaged("no upload's key".into()));
        };
        let object = ObjectName { routing, sort };
        if is_closed(&after) && !before.as_ref().is_some_and(is_closed) {
            put(&object, *upload.as_bytes(), Unreferenced::Parts)?;
        } else if is_completing(&after) && !before.as_ref().is_some_and(is_completing) {
            put(&object, *upload.as_bytes(), Unreferenced::Completing)?;
        }
        (object, lost)
    } else {
        let (_, _, lost) = decoded::<ObjectRow>(change, names_of_head)?;
        (ObjectName { routing, sort: change.row.sort.clone() }, lost)
    };
    for (id, Named { length, holding }) in lost {
        put(&object, *id.as_bytes(), Unreferenced::Extent { length, holding })?;
    }
    Ok(())
}

fn is_upload(change: &Change<'_>) -> bool {
    change.row.table == TableId::Uploads
}

fn damaged(error: &dyn std::fmt::Display) -> ReplicationError {
    ReplicationError::Damaged(error.to_string())
}

/// What all rows of one key name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// Named by a head, a part or an upload.
    pub(super) direct: BTreeSet<ExtentId>,
    /// Lists of extents, which are named too.
    pub(super) manifests: Vec<Vec<ExtentRef>>,
}

impl Claims {
    /// Takes in what a body names.
    pub(super) fn add(&mut self, place: &BodyPlace) {
        self.direct.extend(names_of_place(place).keys());
        if let BodyPlace::Manifest(list) = place {
            self.manifests.push(list.clone());
        }
    }

    /// As [`Claims::add`], if there is a body.
    pub(super) fn add_if(&mut self, place: Option<&BodyPlace>) {
        if let Some(place) = place {
            self.add(place);
        }
    }
}

/// The upload that an id of an [`UnrefName`] names.
pub(super) fn upload_id(id: [u8; 16]) -> UploadId {
    UploadId::from_bytes(id)
}

#[cfg(test)]
#[path = "unref_tests.rs"]
mod tests;
