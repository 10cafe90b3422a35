//! What operations read of documents and tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::listing::{decode_token, encode_token};
use super::{complete_upload, create_bucket, delete_objects};
use crate::codec::Crc32c;
use crate::fuzz::Target;

/// What each operation with a document makes of it.
pub(in crate::s3) fn documents(input: &[u8]) -> [bool; 3] {
    [
        complete_upload::parse(input).is_ok(),
        delete_objects::parse(input).is_ok(),
        create_bucket::check_location(input, "us-east-1").is_ok(),
    ]
}

/// Tokens as clients send them, with a checksum that holds and without.
pub(in crate::s3) fn tokens() {
    let corpus = [&b"photos/1"[..], b"", &[0, 0xff, 1]].map(encode_token);
    Target::text("tokens of listings", corpus, ["=", "-", "_", "AA", "é"]).run(|input| {
        let position = std::str::from_utf8(input).ok().and_then(|text| decode_token(text).ok());
        if let Some(position) = &position {
            assert_eq!(decode_token(&encode_token(position)).as_ref().ok(), Some(position));
        }
        let forged = [&[1][..], &Crc32c::of(input).0.to_le_bytes(), input].concat();
        let taken = decode_token(&URL_SAFE_NO_PAD.encode(forged));
        assert!(taken.is_ok_and(|position| position == input));
        position.is_some().to_string()
    });
}
