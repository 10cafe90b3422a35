//! Amounts of bytes, written as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. Text form: `0`, `512`, `64KiB`, `256MiB`, `1.5GiB`, `4TiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

/// Text that is no amount of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no byte count: write for instance 512, 64KiB, 256MiB, 1.5GiB or 4TiB")]
pub struct ParseByteCountError {
    /// What was given.
    pub text: String,
}

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteCount {
    /// `count` KiB.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// `count` MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// `count` GiB.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The count for slices in memory; saturates on machines with narrow pointers.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in UNITS {
            if self.0 >= size && size > 1 {
                let tenths = (u128::from(self.0) * 10 + u128::from(size) / 2) / u128::from(size);
                return match tenths % 10 {
                    0 => f.pad(&format!("{} {unit}", tenths / 10)),
                    fraction => f.pad(&format!("{}.{fraction} {unit}", tenths / 10)),
                };
            }
        }
        f.pad(&format!("{} B", self.0))
    }
}

impl FromStr for ByteCount {
    type Err = ParseByteCountError;

    fn from_str(text: &str) -> Result<Self, ParseByteCountError> {
        let error = || ParseByteCountError { text: text.to_owned() };
        let trimmed = text.trim();
        let (number, size) = UNITS
            .iter()
            .find_map(|(unit, size)| Some((trimmed.strip_suffix(unit)?, *size)))
            .unwrap_or((trimmed, 1));
        let number = number.trim();
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(size).map(Self).ok_or_else(error);
        }
        let (whole, fraction) = number.split_once('.').ok_or_else(error)?;
        if size == 1 || fraction.is_empty() || fraction.len() > 6 {
            return Err(error());
        }
        let whole: u64 = whole.parse().map_err(|_| error())?;
        let parts: u64 = fraction.parse().map_err(|_| error())?;
        let scale = 10u64.pow(u32::try_from(fraction.len()).map_err(|_| error())?);
        let part = u128::from(parts) * u128::from(size) / u128::from(scale);
        whole
            .checked_mul(size)
            .and_then(|bytes| bytes.checked_add(u64::try_from(part).ok()?))
            .map(Self)
            .ok_or_else(error)
    }
}

impl Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }

        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ByteCount;

    #[test]
    fn people_write_units() {
        assert_eq!("64KiB".parse(), Ok(ByteCount(65_536)));
        assert_eq!("1.5GiB".parse(), Ok(ByteCount(1_610_612_736)));
        assert_eq!("512".parse(), Ok(ByteCount(512)));
        assert!("64 bananas".parse::<ByteCount>().is_err());
        assert!("99999999999TiB".parse::<ByteCount>().is_err());
    }

    #[test]
    fn people_read_units() {
        assert_eq!(ByteCount(1_610_612_736).to_string(), "1.5 GiB");
        assert_eq!(ByteCount(65_536).to_string(), "64 KiB");
        assert_eq!(ByteCount(17).to_string(), "17 B");
    }
}
