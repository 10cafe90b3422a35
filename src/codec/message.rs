//! Messages between nodes: named MessagePack maps, so that releases N and N+1 can talk.
//!
//! A field added later carries `#[serde(default)]`; a field unknown to the reader is skipped.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value could not be written as MessagePack: a bug in the type, never in the input.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode {type_name}: {source}")]
pub struct EncodeError {
    /// The Rust type that was to be encoded.
    pub type_name: &'static str,
    /// What the serializer said.
    #[source]
    pub source: rmp_serde::encode::Error,
}

/// Bytes that are not a value of the wanted type.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not MessagePack of this type.
    #[error("cannot decode {type_name} from {length} bytes: {source}")]
    Malformed {
        /// The Rust type that was expected.
        type_name: &'static str,
        /// How many bytes there were.
        length: usize,
        /// What the deserializer said.
        #[source]
        source: rmp_serde::decode::Error,
    },
    /// A value was decoded, and bytes were left over.
    #[error("{trailing} bytes follow a complete {type_name}")]
    Trailing {
        /// The Rust type that was expected.
        type_name: &'static str,
        /// How many bytes were left.
        trailing: usize,
    },
}

/// Encodes `value` as a named MessagePack map.
///
/// # Errors
/// Only if the type cannot be represented.
pub fn encode_message<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    rmp_serde::to_vec_named(value)
        .map_err(|source| EncodeError { type_name: std::any::type_name::<T>(), source })
}

/// Decodes exactly one value from `bytes`.
///
/// # Errors
/// [`DecodeError`] if the bytes are malformed or longer than the value.
pub fn decode_message<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    // rmp-serde's `from_slice` accepts trailing bytes in silence, so the rest is looked at here.
    let mut rest = bytes;
    let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).map_err(|source| {
        DecodeError::Malformed {
            type_name: std::any::type_name::<T>(),
            length: bytes.len(),
            source,
        }
    })?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing {
            type_name: std::any::type_name::<T>(),
            trailing: rest.len(),
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::{DecodeError, decode_message, encode_message};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        name: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        name: String,
        #[serde(default)]
        zone: Option<String>,
    }

    #[test]
    fn releases_side_by_side_understand_each_other() {
        let old = encode_message(&Old { name: "n1".into() }).unwrap();
        let new = encode_message(&New { name: "n1".into(), zone: Some("a".into()) }).unwrap();

        assert_eq!(decode_message::<New>(&old).unwrap().zone, None);
        assert_eq!(decode_message::<Old>(&new).unwrap().name, "n1");
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode_message(&Old { name: "n1".into() }).unwrap();
        bytes.push(0);

        let error = decode_message::<Old>(&bytes).unwrap_err();

        assert!(matches!(error, DecodeError::Trailing { trailing: 1, .. }));
    }
}
