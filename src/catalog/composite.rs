//! ETags and checksums of multipart objects, from those of their parts (pure; S3 user guide,
//! "Checking object integrity").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, checksum, checksum_combine};
use md5::{Digest as _, Md5};
use ring::digest;

use super::records::{Checksum, ChecksumAlgorithm, ChecksumKind};

/// Why parts do not combine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CompositeError {
    /// A part's ETag is no MD5 in hexadecimal.
    #[error("the ETag '{etag}' of a part is no MD5 in hexadecimal")]
    NoMd5 {
        /// What it is.
        etag: String,
    },
    /// A part has no checksum of the algorithm, or one of another width.
    #[error("part {index} (from 0) has no usable {algorithm:?} checksum")]
    NoChecksum {
        /// Which part, in order, from 0.
        index: usize,
        /// The algorithm.
        algorithm: ChecksumAlgorithm,
    },
    /// SHA-1 and SHA-256 of a whole cannot be had from those of its parts.
    #[error("a {algorithm:?} of all bytes cannot be combined from those of the parts")]
    NotLinear {
        /// The algorithm.
        algorithm: ChecksumAlgorithm,
    },
}

/// A part's size in bytes and its checksums.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartSum<'a> {
    /// Its bytes.
    pub(super) size: u64,
    /// Its checksums.
    pub(super) checksums: &'a [Checksum],
}

/// The ETag of an object made of parts with these ETags (MD5 in hexadecimal, without quotes,
/// in order): MD5 over the parts' raw MD5s, with `-<parts>` behind it.
///
/// # Errors
/// [`CompositeError::NoMd5`].
pub(super) fn multipart_etag<'a>(
    etags: impl IntoIterator<Item = &'a str>,
) -> Result<String, CompositeError> {
    let mut md5 = Md5::new();
    let mut parts = 0usize;
    for etag in etags {
        let mut raw = [0; 16];
        hex::decode_to_slice(etag, &mut raw)
            .map_err(|_| CompositeError::NoMd5 { etag: etag.to_owned() })?;
        md5.update(raw);
        parts += 1;
    }
    Ok(format!("{}-{parts}", hex::encode(md5.finalize())))
}

/// The checksum of an object made of `parts`, in order.
///
/// Composite: the algorithm over the parts' raw checksums, with `-<parts>` behind it. Full
/// object: the checksum of all bytes, which only CRCs allow.
///
/// # Errors
/// [`CompositeError::NoChecksum`], [`CompositeError::NotLinear`].
pub(super) fn combined_checksum(
    algorithm: ChecksumAlgorithm,
    kind: ChecksumKind,
    parts: &[PartSum<'_>],
) -> Result<Checksum, CompositeError> {
    let raw = |(index, part): (usize, &PartSum<'_>)| {
        raw_sum(algorithm, part).ok_or(CompositeError::NoChecksum { index, algorithm })
    };
    let sums = parts.iter().enumerate().map(raw).collect::<Result<Vec<_>, _>>()?;
    let value = match kind {
        ChecksumKind::Composite => {
            format!("{}-{}", STANDARD.encode(of(algorithm, &sums.concat())), parts.len())
        }
        ChecksumKind::FullObject => {
            let crc = crc(algorithm).ok_or(CompositeError::NotLinear { algorithm })?;
            let whole = parts.iter().zip(&sums).fold(checksum(crc, b""), |before, (part, sum)| {
                checksum_combine(crc, before, number(sum), part.size)
            });
            STANDARD.encode(&whole.to_be_bytes()[8 - width(algorithm)..])
        }
    };
    Ok(Checksum { algorithm, kind, value })
}

const fn width(algorithm: ChecksumAlgorithm) -> usize {
    match algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
        ChecksumAlgorithm::Crc64Nvme => 8,
        ChecksumAlgorithm::Sha1 => 20,
        ChecksumAlgorithm::Sha256 => 32,
    }
}

const fn crc(algorithm: ChecksumAlgorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
    }
}

fn raw_sum(algorithm: ChecksumAlgorithm, part: &PartSum<'_>) -> Option<Vec<u8>> {
    let sum = part.checksums.iter().find(|sum| sum.algorithm == algorithm)?;
    STANDARD.decode(&sum.value).ok().filter(|raw| raw.len() == width(algorithm))
}

fn of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Vec<u8> {
    match (algorithm, crc(algorithm)) {
        (_, Some(crc)) => checksum(crc, bytes).to_be_bytes()[8 - width(algorithm)..].to_vec(),
        (ChecksumAlgorithm::Sha1, None) => {
            digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
        }
        (_, None) => digest::digest(&digest::SHA256, bytes).as_ref().to_vec(),
    }
}

/// A CRC's bytes, big-endian, as the number that the arithmetic wants.
fn number(raw: &[u8]) -> u64 {
    raw.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{
        Checksum, ChecksumAlgorithm, ChecksumKind, CompositeError, PartSum, combined_checksum,
        multipart_etag, of,
    };

    const CRCS: [ChecksumAlgorithm; 3] =
        [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme];

    fn sum(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Vec<Checksum> {
        let value = STANDARD.encode(of(algorithm, bytes));
        vec![Checksum { algorithm, kind: ChecksumKind::FullObject, value }]
    }

    #[test]
    fn the_etag_is_the_md5_of_the_parts_md5s() {
        // md5("a"), md5("b"); the result computed with Python's hashlib.
        let etag = multipart_etag([
            "0cc175b9c0f1b6a831c399e269772661",
            "92eb5ffee6ae2fec3ad71c777531578f",
        ]);

        assert_eq!(etag.as_deref(), Ok("96e024ba2074fe77e8e965ba43a704be-2"));
        assert!(matches!(multipart_etag(["x"]), Err(CompositeError::NoMd5 { .. })));
    }

    #[test]
    fn a_composite_is_the_sum_of_the_sums() {
        let (a, b) = (sum(ChecksumAlgorithm::Sha256, b"a"), sum(ChecksumAlgorithm::Sha256, b"b"));
        let parts = [PartSum { size: 1, checksums: &a }, PartSum { size: 1, checksums: &b }];

        let whole =
            combined_checksum(ChecksumAlgorithm::Sha256, ChecksumKind::Composite, &parts).unwrap();

        assert_eq!(whole.value, "5aAf7hTg7VxIcU8iGA8lrYNltT+XefedxKPX6Tlj+Uo=-2");
    }

    #[test]
    fn a_whole_sha_and_a_part_without_checksum_do_not_combine() {
        let a = sum(ChecksumAlgorithm::Sha1, b"a");
        let parts = [PartSum { size: 1, checksums: &a }];

        let whole = combined_checksum(ChecksumAlgorithm::Sha1, ChecksumKind::FullObject, &parts);
        let other = combined_checksum(ChecksumAlgorithm::Crc32, ChecksumKind::Composite, &parts);

        assert_eq!(whole, Err(CompositeError::NotLinear { algorithm: ChecksumAlgorithm::Sha1 }));
        assert!(matches!(other, Err(CompositeError::NoChecksum { index: 0, .. })));
    }

    proptest! {
        #[test]
        fn crcs_of_parts_combine_to_the_crc_of_the_whole(parts: Vec<Vec<u8>>) {
            for algorithm in CRCS {
                let sums: Vec<_> = parts.iter().map(|part| sum(algorithm, part)).collect();
                let listed: Vec<_> = parts
                    .iter()
                    .zip(&sums)
                    .map(|(part, sums)| PartSum { size: part.len() as u64, checksums: sums })
                    .collect();

                let whole = combined_checksum(algorithm, ChecksumKind::FullObject, &listed).unwrap();

                prop_assert_eq!(&whole.value, &sum(algorithm, &parts.concat())[0].value);
            }
        }
    }
}
