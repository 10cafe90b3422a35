//! Derived signing keys, kept for the day: deriving one costs four HMACs.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::signature::SigningKey;
use super::verify::Signatory;

/// So many keys are kept; at the limit all are dropped and derived again as needed.
const KEYS_MAX: usize = 1024;

struct Kept {
    secret: String,
    key: SigningKey,
}

/// Keys by access key id, day and region.
#[derive(Default)]
pub(super) struct KeyCache {
    keys: Mutex<BTreeMap<(String, String, String), Kept>>,
}

impl KeyCache {
    /// The credential's key for that day and region.
    pub(super) fn key(&self, credential: &impl Signatory, day: &str, region: &str) -> SigningKey {
        let secret = credential.secret_access_key();
        let name = (credential.access_key_id().to_owned(), day.to_owned(), region.to_owned());
        // A credential deleted and created again under the same id has another secret.
        let kept = self
            .keys
            .lock()
            .get(&name)
            .filter(|kept| kept.secret == secret)
            .map(|kept| kept.key.clone());
        kept.unwrap_or_else(|| SigningKey::derive(secret, day, region))
    }

    /// Keeps a key that a request was verified with.
    pub(super) fn keep(
        &self,
        credential: &impl Signatory,
        day: &str,
        region: &str,
        key: &SigningKey,
    ) {
        let name = (credential.access_key_id().to_owned(), day.to_owned(), region.to_owned());
        let mut keys = self.keys.lock();
        if keys.get(&name).is_some_and(|kept| kept.secret == credential.secret_access_key()) {
            return;
        }
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        let secret = credential.secret_access_key().to_owned();
        keys.insert(name, Kept { secret, key: key.clone() });
    }
}
