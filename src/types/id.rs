//! Random 128-bit ids, one type for each kind of thing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no {kind}: expected 32 hexadecimal digits")]
pub struct ParseIdError {
    /// What kind of id was expected.
    pub kind: &'static str,
    /// What was given.
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes of this id, in key order.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The first eight digits: enough for a person to tell ids apart.
            #[must_use]
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError {
                    kind: $kind,
                    text: text.to_owned(),
                })?;
                Ok(Self(bytes))
            }
        }

        // Text where people read it (JSON, TOML), sixteen raw bytes between nodes and on disk.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    serde_bytes::ByteArray::<16>::deserialize(deserializer)
                        .map(|bytes| Self(bytes.into_array()))
                }
            }
        }
    };
}

id! {
    /// A node: one process with one identity file. Never reused for a wiped data folder.
    NodeId, "node id"
}
id! {
    /// A cluster, drawn when its first layout is written.
    ClusterId, "cluster id"
}
id! {
    /// A data folder's own id: a wiped or replaced disk has another.
    DiskId, "disk id"
}
id! {
    /// A bucket's own id. A bucket that is deleted and created again gets a new one, so no row
    /// of the old bucket can be taken for one of the new.
    BucketId, "bucket id"
}
id! {
    /// An extent: up to 64 MiB of immutable bytes of one object, written once.
    ExtentId, "extent id"
}
id! {
    /// A multipart upload in the sense of the S3 API.
    UploadId, "upload id"
}
id! {
    /// One operation of a client, through all its tries: what tells a write that took effect from
    /// one that did not, when its coordinator cannot know.
    OperationId, "operation id"
}

#[cfg(test)]
mod tests {
    use super::NodeId;
    use crate::codec::{decode_message, encode_message};

    #[test]
    fn an_id_is_text_for_people_and_bytes_between_nodes() {
        let id = NodeId::from_bytes([0xab; 16]);

        let json = serde_json::to_string(&id).unwrap();
        let wire = encode_message(&id).unwrap();

        assert_eq!(json, format!("\"{}\"", "ab".repeat(16)));
        assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), id);
        assert_eq!(wire.len(), 18);
        assert_eq!(decode_message::<NodeId>(&wire).unwrap(), id);
    }

    #[test]
    fn a_malformed_id_names_itself() {
        let error = "xyz".parse::<NodeId>().unwrap_err();

        assert_eq!(error.to_string(), "'xyz' is no node id: expected 32 hexadecimal digits");
    }
}
