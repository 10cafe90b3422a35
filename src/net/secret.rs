//! The one secret that all nodes of a cluster share, and the keys derived from it.

use std::fmt;

use ring::{digest, hkdf};

/// The shortest text that is taken for a secret, in bytes.
pub const SECRET_BYTES_MIN: usize = 16;

/// A text too short to be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster secret has {length} bytes, and needs at least {SECRET_BYTES_MIN}: \
     draw one with `openssl rand -hex 32` and give it to every node"
)]
pub struct WeakSecret {
    /// How long the text is.
    pub length: usize,
}

/// The secret of a cluster: who knows it is a node of it. Never shown, not even by `Debug`.
#[derive(Clone)]
pub struct ClusterSecret {
    key: [u8; 32],
}

impl ClusterSecret {
    /// The secret that `text` stands for: 64 hexadecimal digits are the key itself, any other
    /// text is stretched to one. Space around it is cut off, so a file may end in a newline.
    ///
    /// # Errors
    /// [`WeakSecret`] if the text is shorter than [`SECRET_BYTES_MIN`].
    pub fn parse(text: &str) -> Result<Self, WeakSecret> {
        let text = text.trim();
        if text.len() < SECRET_BYTES_MIN {
            return Err(WeakSecret { length: text.len() });
        }
        let mut key = [0; 32];
        if hex::decode_to_slice(text, &mut key).is_err() {
            key = expand(b"quorate cluster secret", text.as_bytes(), "key");
        }
        Ok(Self { key })
    }

    /// A key of its own for the purpose that `label` names. Equal on all nodes; no key tells
    /// anything of another or of the secret.
    #[must_use]
    pub fn derive(&self, label: &str) -> [u8; 32] {
        expand(b"quorate derived key", &self.key, label)
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(redacted)")
    }
}

/// HKDF-SHA256 (RFC 5869), one block.
fn expand(salt: &[u8], secret: &[u8], label: &str) -> [u8; 32] {
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let info = [label.as_bytes()];
    let mut key = [0; 32];
    let filled =
        pseudorandom.expand(&info, hkdf::HKDF_SHA256).and_then(|output| output.fill(&mut key));
    // One block is always within HKDF's bound of 255.
    assert!(filled.is_ok() && key.len() == digest::SHA256_OUTPUT_LEN, "HKDF refused one block");
    key
}

#[cfg(test)]
mod tests {
    use super::{ClusterSecret, WeakSecret};

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = ClusterSecret::parse("correct horse battery staple").unwrap();

        assert_eq!(format!("{secret:?}"), "ClusterSecret(redacted)");
    }

    #[test]
    fn a_short_secret_is_refused() {
        let error = ClusterSecret::parse(" hunter2\n").unwrap_err();

        assert_eq!(error, WeakSecret { length: 7 });
    }

    #[test]
    fn keys_differ_by_label_and_by_secret_and_not_by_the_newline_of_a_file() {
        let digits = "0123456789abcdef".repeat(4);
        let first = ClusterSecret::parse(&digits).unwrap();
        let again = ClusterSecret::parse(&format!("{digits}\n")).unwrap();
        let other = ClusterSecret::parse(&"fedcba9876543210".repeat(4)).unwrap();

        assert_eq!(first.derive("a"), again.derive("a"));
        assert_ne!(first.derive("a"), first.derive("b"));
        assert_ne!(first.derive("a"), other.derive("a"));
    }
}
