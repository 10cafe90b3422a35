//! Reading an object's bytes after its head.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{StreamExt, TryStreamExt, once};

use crate::blob::{Blobs, ExtentRef};
use crate::replication::Served;

use super::body::ByteStream;
use super::error::CatalogError;
use super::objects::decode_manifest;
use super::records::ObjectHead;
use super::rows::BodyPlace;

/// An object whose head was read and whose bytes can be.
pub struct ObjectReader {
    /// The object.
    pub head: ObjectHead,
    /// How the read was served.
    pub served: Served,
    pub(super) blobs: Blobs,
    pub(super) n: usize,
    pub(super) routing: Bytes,
    pub(super) place: BodyPlace,
    pub(super) inline: Bytes,
}

impl ObjectReader {
    /// The bytes of `range`; what lies beyond the object's end is left out. Extents never
    /// change, so the bytes are those of the head that was read, whatever happens to the key.
    #[must_use]
    pub fn read(&self, range: Range<u64>) -> ByteStream {
        let range = range.start.min(self.head.size)..range.end.min(self.head.size);
        if range.is_empty() {
            return Box::pin(futures_util::stream::empty());
        }
        match &self.place {
            BodyPlace::Inline { .. } => {
                Box::pin(once(std::future::ready(self.inline_range(range))))
            }
            BodyPlace::Attached(extent) => Box::pin(
                self.blobs
                    .read_attached(*extent, self.routing.clone(), self.n, range)
                    .map_err(CatalogError::from),
            ),
            BodyPlace::Extents(extents) => {
                Box::pin(self.blobs.read(extents, self.n, range).map_err(CatalogError::from))
            }
            BodyPlace::Manifest(list) => {
                let (blobs, list, n) = (self.blobs.clone(), list.clone(), self.n);
                let opened = async move {
                    let extents = load_manifest(&blobs, &list, n).await?;
                    Ok::<_, CatalogError>(
                        blobs.read(&extents, n, range).map_err(CatalogError::from),
                    )
                };
                Box::pin(once(opened).try_flatten())
            }
        }
    }

    fn inline_range(&self, range: Range<u64>) -> Result<Bytes, CatalogError> {
        let fits = || -> Option<Bytes> {
            let (start, end) =
                (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
            (end <= self.inline.len()).then(|| self.inline.slice(start..end))
        };
        fits().ok_or_else(|| CatalogError::BytesUnavailable {
            reason: "the inline bytes are shorter than their head says".into(),
        })
    }
}

/// Reads the list of extents of a body that has many.
pub(super) async fn load_manifest(
    blobs: &Blobs,
    list: &[ExtentRef],
    n: usize,
) -> Result<Vec<ExtentRef>, CatalogError> {
    let length = list.iter().map(|extent| extent.length).sum();
    let mut bytes = BytesMut::new();
    let mut stream = blobs.read(list, n, 0..length);
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    decode_manifest(&bytes)
}
