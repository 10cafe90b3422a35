//! What a node knows of itself and its peers from earlier, read at its start.

use std::sync::Arc;

use crate::env::Entropy;
use crate::store::{MetaStore, StoreError};

use super::address_book::{AddressBook, OwnSigns};
use super::clocks::Clocks;
use super::identity::Identity;
use super::lives::Awakening;
use super::rebuilding::Rebuilding;

/// What membership keeps beside the layout. Cheap to clone.
#[derive(Clone)]
pub struct Memory {
    /// Readings of peers' clocks.
    pub clocks: Arc<Clocks>,
    /// Whom this node ever met.
    pub book: Arc<AddressBook>,
    /// This node's own signs of life.
    pub signs: Arc<OwnSigns>,
    /// Which partitions it may speak for.
    pub rebuilding: Arc<Rebuilding>,
    /// How this life began.
    pub awakening: Awakening,
}

impl Memory {
    /// Reads everything from the tables of the node that has started as `identity`.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub fn open(
        meta: &Arc<dyn MetaStore>,
        identity: &Identity,
        entropy: &dyn Entropy,
        clocks: Arc<Clocks>,
    ) -> Result<Self, StoreError> {
        let folder = identity.folder();
        let signs = OwnSigns::open(Arc::clone(meta))?;
        let awakening = Awakening {
            boot: identity.boot,
            life: entropy.fork("life").next_u64(),
            found: signs.last(),
            folder,
        };
        Ok(Self {
            clocks,
            book: AddressBook::open(Arc::clone(meta))?,
            signs: Arc::new(signs),
            rebuilding: Rebuilding::open(Arc::clone(meta), folder)?,
            awakening,
        })
    }
}
