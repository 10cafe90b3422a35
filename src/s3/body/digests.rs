//! The checksums that S3 knows, computed as bytes stream by.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use md5::{Digest as _, Md5};
use ring::digest;

use crate::catalog::{Checksum, ChecksumAlgorithm, ChecksumKind};

/// The algorithm's name in documents and headers' values.
pub(crate) const fn name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "CRC32",
        ChecksumAlgorithm::Crc32c => "CRC32C",
        ChecksumAlgorithm::Crc64Nvme => "CRC64NVME",
        ChecksumAlgorithm::Sha1 => "SHA1",
        ChecksumAlgorithm::Sha256 => "SHA256",
    }
}

/// The algorithm of that name, in any case.
pub(crate) fn parse(text: &str) -> Option<ChecksumAlgorithm> {
    ALL.into_iter().find(|algorithm| name(*algorithm).eq_ignore_ascii_case(text))
}

/// Every algorithm.
pub(crate) const ALL: [ChecksumAlgorithm; 5] = [
    ChecksumAlgorithm::Crc32,
    ChecksumAlgorithm::Crc32c,
    ChecksumAlgorithm::Crc64Nvme,
    ChecksumAlgorithm::Sha1,
    ChecksumAlgorithm::Sha256,
];

/// The header, and trailer, that carries a checksum.
pub(crate) const fn header_name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "x-amz-checksum-crc32",
        ChecksumAlgorithm::Crc32c => "x-amz-checksum-crc32c",
        ChecksumAlgorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
        ChecksumAlgorithm::Sha1 => "x-amz-checksum-sha1",
        ChecksumAlgorithm::Sha256 => "x-amz-checksum-sha256",
    }
}

/// Bytes of a raw checksum.
const fn width(algorithm: ChecksumAlgorithm) -> usize {
    match algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
        ChecksumAlgorithm::Crc64Nvme => 8,
        ChecksumAlgorithm::Sha1 => 20,
        ChecksumAlgorithm::Sha256 => 32,
    }
}

/// The raw bytes of a base64 checksum; `None` if it has another width.
pub(crate) fn decode_sum(algorithm: ChecksumAlgorithm, text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok().filter(|raw| raw.len() == width(algorithm))
}

enum Running {
    Crc(Crc),
    Hash(digest::Context),
}

impl Running {
    fn new(algorithm: ChecksumAlgorithm) -> Self {
        match algorithm {
            ChecksumAlgorithm::Crc32 => Self::Crc(Crc::new(CrcAlgorithm::Crc32IsoHdlc)),
            ChecksumAlgorithm::Crc32c => Self::Crc(Crc::new(CrcAlgorithm::Crc32Iscsi)),
            ChecksumAlgorithm::Crc64Nvme => Self::Crc(Crc::new(CrcAlgorithm::Crc64Nvme)),
            ChecksumAlgorithm::Sha1 => {
                Self::Hash(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY))
            }
            ChecksumAlgorithm::Sha256 => Self::Hash(digest::Context::new(&digest::SHA256)),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(crc) => crc.update(bytes),
            Self::Hash(hash) => hash.update(bytes),
        }
    }

    fn finish(self, width: usize) -> Vec<u8> {
        match self {
            Self::Crc(crc) => crc.finalize().to_be_bytes()[8 - width..].to_vec(),
            Self::Hash(hash) => hash.finish().as_ref().to_vec(),
        }
    }
}

/// MD5, for the ETag, and the checksums asked for, of one body.
pub(crate) struct Digests {
    md5: Md5,
    sums: Vec<(ChecksumAlgorithm, Running)>,
}

/// What [`Digests`] found.
pub(crate) struct Found {
    /// The MD5.
    pub(crate) md5: [u8; 16],
    /// The checksums asked for.
    pub(crate) checksums: Vec<Checksum>,
}

impl Digests {
    /// Digests that compute MD5 and each of `algorithms` once.
    pub(crate) fn new(algorithms: impl IntoIterator<Item = ChecksumAlgorithm>) -> Self {
        let mut sums: Vec<(ChecksumAlgorithm, Running)> = Vec::new();
        for algorithm in algorithms {
            if sums.iter().all(|(other, _)| *other != algorithm) {
                sums.push((algorithm, Running::new(algorithm)));
            }
        }
        Self { md5: Md5::new(), sums }
    }

    /// Takes in the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        for (_, running) in &mut self.sums {
            running.update(bytes);
        }
    }

    /// The digests of all bytes taken in.
    pub(crate) fn finish(self) -> Found {
        let sum = |(algorithm, running): (ChecksumAlgorithm, Running)| Checksum {
            algorithm,
            kind: ChecksumKind::FullObject,
            value: STANDARD.encode(running.finish(width(algorithm))),
        };
        Found {
            md5: self.md5.finalize().into(),
            checksums: self.sums.into_iter().map(sum).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Digests};

    #[test]
    fn the_check_values_of_the_standards_hold() {
        let mut digests = Digests::new(ALL);
        digests.update(b"1234");
        digests.update(b"56789");

        let found = digests.finish();

        let values: Vec<&str> = found.checksums.iter().map(|sum| sum.value.as_str()).collect();
        assert_eq!(hex::encode(found.md5), "25f9e794323b453885f5181f1b624d0b");
        assert_eq!(
            values,
            [
                "y/Q5Jg==",
                "4waSgw==",
                "rosUhgp5mIg=",
                "98O8HYCOBHMq32eZZczDTKeuNEE=",
                "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="
            ]
        );
    }
}
