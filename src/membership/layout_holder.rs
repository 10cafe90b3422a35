//! The layout in force on this node, and its durable copy.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::codec::{decode_format, encode_format};
use crate::ring::Layout;
use crate::store::{Batch, Durability, Family, MetaStore, StoreError};

const LAYOUT_KEY: &[u8] = b"layout";

/// The layout in force. Cheap to read.
pub struct LayoutHolder {
    current: ArcSwapOption<Layout>,
    meta: Arc<dyn MetaStore>,
    installed: watch::Sender<u64>,
}

impl LayoutHolder {
    /// Reads the durable layout, if there is one.
    ///
    /// # Errors
    /// If it is damaged or from a newer release.
    pub fn open(meta: Arc<dyn MetaStore>) -> Result<Arc<Self>, StoreError> {
        let stored = meta.get(Family::Local, LAYOUT_KEY)?;
        let current = stored
            .map(|bytes| {
                decode_format::<Layout>(&bytes).map(Arc::new).map_err(|error| StoreError::Damaged {
                    path: "meta/local/layout".into(),
                    reason: error.to_string(),
                })
            })
            .transpose()?;
        let version = current.as_ref().map_or(0, |layout| layout.version().0);
        let (installed, _) = watch::channel(version);
        Ok(Arc::new(Self { current: ArcSwapOption::from(current), meta, installed }))
    }

    /// The layout in force; `None` before `cluster init`.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Layout>> {
        self.current.load_full()
    }

    /// The version in force; 0 before `cluster init`. Tells of every change.
    #[must_use]
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.installed.subscribe()
    }

    /// Makes `layout` durable, then puts it in force. Blocks.
    ///
    /// # Errors
    /// If the disk refuses; then the layout is not in force.
    pub fn install(&self, layout: Arc<Layout>) -> Result<(), StoreError> {
        let bytes = encode_format(&*layout).map_err(|error| StoreError::Damaged {
            path: "meta/local/layout".into(),
            reason: error.to_string(),
        })?;
        let mut batch = Batch::new();
        batch.put(Family::Local, LAYOUT_KEY, bytes);
        self.meta.write(&[batch], Durability::Synced)?;
        let version = layout.version().0;
        self.current.store(Some(layout));
        self.installed.send_replace(version);
        Ok(())
    }
}
