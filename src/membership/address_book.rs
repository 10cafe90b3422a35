//! Whom this node ever met, durably: names and addresses of members that are away, and what is
//! remembered of their lives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::codec::{Format, decode_format, encode_format};
use crate::store::{Batch, Durability, Family, KeyRange, MetaStore, StoreError, Visit};
use crate::types::NodeId;

use super::bootstrap::facts;
use super::gossip::PeerState;
use super::lives::{LifeSign, Remembered};

/// Before the peer's id in the family of this node's own facts.
const KEY_PREFIX: &[u8] = b"peer|";
/// Nodes that are remembered; strangers beyond it are not.
const ENTRIES_MAX: usize = 1_024;

/// What is remembered of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquaintance {
    /// Its id.
    #[serde(rename = "n")]
    pub node: NodeId,
    /// The operator's name for it.
    #[serde(rename = "m")]
    pub name: String,
    /// Where it was reached last.
    #[serde(rename = "a")]
    pub address: SocketAddr,
    /// Its lives.
    #[serde(rename = "l")]
    pub lives: Remembered,
}

impl Format for Acquaintance {
    const NAME: &'static str = "address book entry";
    const NUMBER: u16 = 1;
}

struct Entry {
    known: Acquaintance,
    stored: bool,
}

/// The durable address book.
pub struct AddressBook {
    meta: Arc<dyn MetaStore>,
    entries: Mutex<BTreeMap<NodeId, Entry>>,
}

fn key(node: NodeId) -> Vec<u8> {
    [KEY_PREFIX, node.as_bytes()].concat()
}

impl AddressBook {
    /// Reads what was remembered. An entry that cannot be read is forgotten: peers tell again.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub fn open(meta: Arc<dyn MetaStore>) -> Result<Arc<Self>, StoreError> {
        let mut entries = BTreeMap::new();
        let range = KeyRange::prefix(KEY_PREFIX.to_vec());
        meta.scan(Family::Local, &range, &mut |_, value| {
            match decode_format::<Acquaintance>(value) {
                Ok(known) => drop(entries.insert(known.node, Entry { known, stored: true })),
                Err(error) => tracing::warn!(%error, "an address book entry is forgotten"),
            }
            Visit::Next
        })?;
        Ok(Arc::new(Self { meta, entries: Mutex::new(entries) }))
    }

    /// Takes in what gossip knows of other nodes; `me` is left out. Not durable before
    /// [`AddressBook::save`].
    pub fn note(&self, me: NodeId, peers: &[PeerState]) {
        let mut entries = self.entries.lock();
        for peer in peers.iter().filter(|peer| peer.node != me) {
            let Some(name) = peer.facts.get(facts::NAME) else { continue };
            let known = entries.get(&peer.node).map(|entry| &entry.known);
            if known.is_none() && entries.len() >= ENTRIES_MAX {
                continue;
            }
            let mut lives = known.map(|known| known.lives).unwrap_or_default();
            let sign = peer.facts.get(facts::ALIVE).and_then(|text| text.parse::<LifeSign>().ok());
            sign.into_iter().for_each(|sign| lives.hear(sign));
            let (node, address) = (peer.node, peer.peer_address);
            let now = Acquaintance { node, name: name.clone(), address, lives };
            if known != Some(&now) {
                entries.insert(node, Entry { known: now, stored: false });
            }
        }
    }

    /// Makes everything durable that was noted. Blocks.
    ///
    /// # Errors
    /// If the disk refuses; it is tried again the next time.
    pub fn save(&self) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let mut saved = Vec::new();
        {
            let entries = self.entries.lock();
            for entry in entries.values().filter(|entry| !entry.stored) {
                let bytes = encode_format(&entry.known).map_err(|error| StoreError::Damaged {
                    path: "meta/local/peer".into(),
                    reason: error.to_string(),
                })?;
                batch.put(Family::Local, key(entry.known.node), bytes);
                saved.push(entry.known.clone());
            }
        }
        if saved.is_empty() {
            return Ok(());
        }
        self.meta.write(&[batch], Durability::Synced)?;
        let mut entries = self.entries.lock();
        for known in saved {
            if let Some(entry) = entries.get_mut(&known.node).filter(|entry| entry.known == known) {
                entry.stored = true;
            }
        }
        Ok(())
    }

    /// What is remembered of `node`.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<Acquaintance> {
        self.entries.lock().get(&node).map(|entry| entry.known.clone())
    }

    /// Everybody, in id order.
    #[must_use]
    pub fn all(&self) -> Vec<Acquaintance> {
        self.entries.lock().values().map(|entry| entry.known.clone()).collect()
    }
}

/// This node's own signs of life, stored before they are told.
pub struct OwnSigns {
    meta: Arc<dyn MetaStore>,
    last: Mutex<u64>,
}

const OWN_KEY: &[u8] = b"alive";

impl OwnSigns {
    /// Reads the last sign; 0 if there never was one.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub fn open(meta: Arc<dyn MetaStore>) -> Result<Self, StoreError> {
        let stored = meta.get(Family::Local, OWN_KEY)?;
        let last = stored
            .and_then(|bytes| Some(u64::from_le_bytes(bytes[..].try_into().ok()?)))
            .unwrap_or_default();
        Ok(Self { meta, last: Mutex::new(last) })
    }

    /// The last durable sign.
    #[must_use]
    pub fn last(&self) -> u64 {
        *self.last.lock()
    }

    /// Stores a new sign: `wall`, or more if that lies behind the last one. Blocks.
    ///
    /// # Errors
    /// If the disk refuses; then nothing is to be told.
    pub fn give(&self, wall: u64) -> Result<u64, StoreError> {
        let mut last = self.last.lock();
        let sign = wall.max(last.saturating_add(1));
        let mut batch = Batch::new();
        batch.put(Family::Local, OWN_KEY, sign.to_le_bytes().to_vec());
        self.meta.write(&[batch], Durability::Synced)?;
        *last = sign;
        Ok(sign)
    }
}
