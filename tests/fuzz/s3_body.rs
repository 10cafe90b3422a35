//! Bodies in the framing `aws-chunked`.

use bytes::Bytes;

use super::chunked::{Decoder, Step, Trailing};
use super::digests;
use crate::auth::{ChunkSigner, SigningKey};
use crate::catalog::ChecksumAlgorithm;
use crate::fuzz::Target;

/// As which algorithms a checksum's text can be read.
pub(in crate::s3) fn widths(text: &str) -> Vec<bool> {
    let all = [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc64Nvme, ChecksumAlgorithm::Sha256];
    let named = digests::parse(text).is_some();
    let read = all.iter().map(|algorithm| digests::decode_sum(*algorithm, text).is_some());
    read.chain([named]).collect()
}

const BODIES: [&str; 4] = [
    "5;chunk-signature=00\r\nhello\r\n0;chunk-signature=11\r\n\r\n",
    "a\r\n0123456789\r\n0\r\nx-amz-checksum-crc32: AAAAAA==\r\nx-amz-trailer-signature: 22\r\n\r\n",
    "0\r\n\r\n",
    "3\nabc\n0\n\n",
];

const WORDS: [&str; 14] = [
    "\r\n",
    "\n",
    "0\r\n",
    ";chunk-signature=",
    "ffffffffffffffff",
    "fffffffffffffffff",
    "7fffffffffffffff",
    "-1",
    "+5",
    "0x5",
    "x-amz-trailer-signature: ",
    "x-amz-checksum-sha256: ",
    ":",
    "é",
];

fn decoder(signed: Option<()>, trailing: Trailing) -> Decoder {
    let signer = signed.map(|()| {
        let key = SigningKey::derive("secret", "20130524", "us-east-1");
        let scope = "20130524/us-east-1/s3/aws4_request";
        Box::new(ChunkSigner::new(key, "20130524T000000Z", scope, "00"))
    });
    Decoder::new(signer, trailing)
}

/// Decodes a body that comes in pieces of that size; it must be the same for all sizes.
fn decode(input: &[u8], size: usize, mut decoder: Decoder) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    for piece in input.chunks(size) {
        let mut piece = Bytes::copy_from_slice(piece);
        loop {
            match decoder.step(&mut piece) {
                Ok(Step::Data(data)) => body.extend_from_slice(&data),
                Ok(Step::Hungry) => break,
                Ok(Step::Done) => return Ok(body),
                Err(error) => return Err(error.code.text().to_owned()),
            }
        }
        assert!(piece.is_empty(), "what a hungry decoder was given is taken");
    }
    decoder.end().map_err(|error| error.code.text().to_owned())?;
    assert!(decoder.trailers().len() <= 16);
    Ok(body)
}

/// Bodies with and without signatures and trailers.
pub(in crate::s3) fn framed_bodies() {
    Target::text("framed bodies", BODIES.map(str::to_owned), WORDS).run(|input| {
        let mut said = String::new();
        for trailing in [Trailing::Expected, Trailing::Forbidden] {
            let whole = decode(input, input.len().max(1), decoder(None, trailing));
            let bytewise = decode(input, 1, decoder(None, trailing));
            // A broken body may be broken off anywhere.
            assert_eq!(whole.as_ref().ok(), bytewise.as_ref().ok());
            said += &whole.map_or_else(|code| code, |body| (body.len() > 5).to_string());
        }
        let signed = decode(input, 7, decoder(Some(()), Trailing::Expected));
        assert!(signed.is_err(), "nobody signed that");
        said
    });
}
