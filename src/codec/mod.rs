//! Bytes to values and back: message encoding, numbered stored formats, checksums.
//!
//! # Invariants
//! 1. Every stored value starts with its format number; an unknown newer number is refused
//!    with its name, never guessed at (`tests/upgrade.rs`).
//! 2. Trailing bytes are an error: a value that decodes is the whole input.
//! 3. Integers are little-endian, except where byte order must equal key order.

mod crc32c;
mod format;
mod message;

pub use crc32c::Crc32c;
pub use format::{Format, FormatError, decode_format, encode_format};
pub use message::{DecodeError, EncodeError, decode_message, encode_message};
