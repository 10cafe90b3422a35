//! Stored values: a format number in front, and a way up from every older number.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{DecodeError, EncodeError, decode_message, encode_message};

/// A value that is stored on disk and must stay readable for ever.
///
/// The first two bytes are [`Format::NUMBER`], little-endian; the rest is a named MessagePack
/// map. Adding a field with `#[serde(default)]` keeps the number. Anything else takes a new
/// number and an arm in [`Format::decode_older`]; `tests/upgrade.rs` keeps a fixture of each.
pub trait Format: Serialize + DeserializeOwned {
    /// The name that error messages use.
    const NAME: &'static str;
    /// The number that this release writes.
    const NUMBER: u16;

    /// Reads the payload of an older `number`.
    ///
    /// # Errors
    /// [`FormatError::Unknown`] if this release never knew that number.
    fn decode_older(number: u16, _payload: &[u8]) -> Result<Self, FormatError> {
        Err(FormatError::Unknown { name: Self::NAME, number, newest: Self::NUMBER })
    }
}

/// A stored value that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Fewer bytes than a format number takes.
    #[error("a stored {name} has {length} bytes, too few for a format number")]
    Short {
        /// The kind of value.
        name: &'static str,
        /// How many bytes there were.
        length: usize,
    },
    /// Written by a newer release, or not by us at all.
    #[error(
        "a stored {name} has format {number}; this release reads up to {newest}: upgrade this node"
    )]
    Unknown {
        /// The kind of value.
        name: &'static str,
        /// The number found.
        number: u16,
        /// The newest number this release knows.
        newest: u16,
    },
    /// A value of ours that cannot be written: a bug in its type.
    #[error("a {name} cannot be stored: {reason}")]
    Unwritable {
        /// The kind of value.
        name: &'static str,
        /// What the encoder said.
        reason: String,
    },
    /// The payload is damaged.
    #[error("a stored {name} is damaged: {source}")]
    Damaged {
        /// The kind of value.
        name: &'static str,
        /// What the decoder said.
        #[source]
        source: DecodeError,
    },
}

/// Encodes `value` with its format number in front.
///
/// # Errors
/// Only if the type cannot be represented.
pub fn encode_format<T: Format>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let payload = encode_message(value)?;
    let mut bytes = Vec::with_capacity(payload.len() + 2);
    bytes.extend_from_slice(&T::NUMBER.to_le_bytes());
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

/// Decodes a stored value of this or an older format.
///
/// # Errors
/// [`FormatError`] names the kind of value and what is wrong with it.
pub fn decode_format<T: Format>(bytes: &[u8]) -> Result<T, FormatError> {
    let Some((number, payload)) = bytes.split_first_chunk::<2>() else {
        return Err(FormatError::Short { name: T::NAME, length: bytes.len() });
    };
    let number = u16::from_le_bytes(*number);
    if number == T::NUMBER {
        return decode_message(payload)
            .map_err(|source| FormatError::Damaged { name: T::NAME, source });
    }
    if number > T::NUMBER {
        return Err(FormatError::Unknown { name: T::NAME, number, newest: T::NUMBER });
    }
    T::decode_older(number, payload)
}

#[cfg(test)]
mod tests {
    use super::{Format, FormatError, decode_format, encode_format};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        count: u64,
    }

    impl Format for Sample {
        const NAME: &'static str = "sample";
        const NUMBER: u16 = 3;
    }

    #[test]
    fn a_value_survives_the_way_to_disk_and_back() {
        let bytes = encode_format(&Sample { count: 7 }).unwrap();

        assert_eq!(&bytes[..2], &[3, 0]);
        assert_eq!(decode_format::<Sample>(&bytes).unwrap(), Sample { count: 7 });
    }

    #[test]
    fn a_newer_format_is_refused_with_its_name() {
        let mut bytes = encode_format(&Sample { count: 7 }).unwrap();
        bytes[0] = 4;

        let error = decode_format::<Sample>(&bytes).unwrap_err();

        assert!(matches!(error, FormatError::Unknown { number: 4, newest: 3, .. }));
        assert!(error.to_string().contains("sample"));
    }

    #[test]
    fn a_cut_value_is_damage_and_not_a_panic() {
        let bytes = encode_format(&Sample { count: 7 }).unwrap();

        for length in 0..bytes.len() {
            assert!(decode_format::<Sample>(&bytes[..length]).is_err());
        }
    }
}
