//! Keys that clients choose.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

/// The longest key, as in the S3 API: 1,024 bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 1024;

/// A client's key: 1 to 1,024 bytes of UTF-8, any characters. `a/b` may stand beside `a/b/c`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Key(Bytes);

/// A key that no bucket may hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing at all.
    #[error("a key must not be empty")]
    Empty,
    /// Longer than [`KEY_BYTES_MAX`].
    #[error("the key has {length} bytes; at most {KEY_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not UTF-8, which the S3 API demands.
    #[error("the key is not valid UTF-8")]
    NotUtf8,
}

impl Key {
    /// Takes a client's bytes as a key.
    ///
    /// # Errors
    /// [`InvalidKey`] if they are empty, too long, or not UTF-8.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, InvalidKey> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if bytes.len() > KEY_BYTES_MAX {
            return Err(InvalidKey::TooLong { length: bytes.len() });
        }
        if std::str::from_utf8(&bytes).is_err() {
            return Err(InvalidKey::NotUtf8);
        }
        Ok(Self(bytes))
    }

    /// The bytes, in listing order.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // `new` is the only way in, and it checked.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes, shared.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Bytes::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidKey, Key};

    #[test]
    fn the_longest_legal_key_is_1024_bytes() {
        assert!(Key::new(vec![b'a'; 1024]).is_ok());
        assert_eq!(Key::new(vec![b'a'; 1025]), Err(InvalidKey::TooLong { length: 1025 }));
        assert_eq!(Key::new(Vec::new()), Err(InvalidKey::Empty));
        assert_eq!(Key::new(vec![0xff]), Err(InvalidKey::NotUtf8));
    }
}
