//! Secret keys at rest: AES-256-GCM under a key derived from the cluster secret.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

use crate::env::Entropy;

/// Encrypts and decrypts the secrets of credentials.
pub struct SecretBox {
    key: LessSafeKey,
}

/// A secret that cannot be opened: it was sealed under another cluster secret, or is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored secret cannot be opened: it was sealed under another cluster secret")]
pub struct CannotOpen;

impl SecretBox {
    /// A box whose key is derived from `cluster_secret`.
    ///
    /// # Errors
    /// Never for the fixed lengths used here; the library's signature allows it.
    pub fn new(cluster_secret: &[u8]) -> Result<Self, CannotOpen> {
        Salt::new(HKDF_SHA256, b"quorate")
            .extract(cluster_secret)
            .expand(&[b"credential secrets v1"], &AES_256_GCM)
            .map(|material| Self { key: LessSafeKey::new(UnboundKey::from(material)) })
            .map_err(|_| CannotOpen)
    }

    /// Seals `secret` for the credential `id`, with a nonce of its own in front.
    ///
    /// # Errors
    /// Only if the secret is longer than the cipher allows (64 GiB).
    pub fn seal(
        &self,
        id: &str,
        secret: &str,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, CannotOpen> {
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&entropy.next_id()[..NONCE_LEN]);
        let mut sealed = secret.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(id.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| CannotOpen)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what [`SecretBox::seal`] made for the same `id`.
    ///
    /// # Errors
    /// [`CannotOpen`] if the key, the id or the bytes are others.
    pub fn open(&self, id: &str, sealed: &[u8]) -> Result<String, CannotOpen> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(CannotOpen)?;
        let mut bytes = sealed.to_vec();
        let opened = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(id.as_bytes()),
                &mut bytes,
            )
            .map_err(|_| CannotOpen)?;
        String::from_utf8(opened.to_vec()).map_err(|_| CannotOpen)
    }
}

#[cfg(test)]
mod tests {
    use super::SecretBox;
    use crate::env::OsEntropy;

    #[test]
    fn a_secret_opens_only_under_its_cluster_secret_and_for_its_id() {
        let ours = SecretBox::new(b"one secret").unwrap();
        let theirs = SecretBox::new(b"another secret").unwrap();

        let sealed = ours.seal("QK1", "hush", &OsEntropy::new()).unwrap();

        assert_eq!(ours.open("QK1", &sealed).as_deref(), Ok("hush"));
        assert!(ours.open("QK2", &sealed).is_err());
        assert!(theirs.open("QK1", &sealed).is_err());
        assert!(ours.open("QK1", &sealed[..5]).is_err());
    }
}
