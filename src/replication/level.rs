//! How much agreement a request asks for, and what its answer may claim.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A consistency level (Dynamo §4.5: R and W; §4.6: sloppy quorums).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Level {
    /// One replica writes, one replica reads; sloppy.
    Eventual,
    /// A majority writes, a majority reads; sloppy: while owners are away others stand in.
    Quorum,
    /// A majority of the owners themselves writes, a majority of them reads: nobody stands in.
    Strict,
    /// Every owner.
    All,
    /// As many as asked; sloppy.
    Numbers {
        /// Replicas that must answer a read.
        r: u8,
        /// Replicas that must have a write on stable storage.
        w: u8,
    },
}

/// Text that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no consistency level: use eventual, quorum, strict, all, or numbers as r=1,w=2"
)]
pub struct ParseLevelError {
    /// What was given.
    pub text: String,
}

impl Level {
    /// How many replicas must answer a read of a row with `owners` owners.
    #[must_use]
    pub fn reads(self, owners: usize) -> usize {
        match self {
            Self::Eventual => 1,
            Self::Quorum | Self::Strict => owners / 2 + 1,
            Self::All => owners,
            Self::Numbers { r, .. } => usize::from(r).clamp(1, owners.max(1)),
        }
    }

    /// How many replicas must have a write on stable storage.
    #[must_use]
    pub fn writes(self, owners: usize) -> usize {
        match self {
            Self::Eventual => 1,
            Self::Quorum | Self::Strict => owners / 2 + 1,
            Self::All => owners,
            Self::Numbers { w, .. } => usize::from(w).clamp(1, owners.max(1)),
        }
    }

    /// Whether the next nodes of the preference list stand in for owners that are away.
    #[must_use]
    pub const fn is_sloppy(self) -> bool {
        matches!(self, Self::Eventual | Self::Quorum | Self::Numbers { .. })
    }

    /// Whether reads meet acknowledged writes as long as all owners can be reached: R + W > n.
    #[must_use]
    pub fn overlaps(self, owners: usize) -> bool {
        self.reads(owners) + self.writes(owners) > owners
    }

    /// The same level, reading from another number of replicas.
    #[must_use]
    pub fn with_reads(self, r: u8, owners: usize) -> Self {
        let w = u8::try_from(self.writes(owners)).unwrap_or(u8::MAX);
        Self::Numbers { r, w }
    }

    /// The same level, writing to another number of replicas.
    #[must_use]
    pub fn with_writes(self, w: u8, owners: usize) -> Self {
        let r = u8::try_from(self.reads(owners)).unwrap_or(u8::MAX);
        Self::Numbers { r, w }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eventual => f.write_str("eventual"),
            Self::Quorum => f.write_str("quorum"),
            Self::Strict => f.write_str("strict"),
            Self::All => f.write_str("all"),
            Self::Numbers { r, w } => write!(f, "r={r},w={w}"),
        }
    }
}

impl FromStr for Level {
    type Err = ParseLevelError;

    fn from_str(text: &str) -> Result<Self, ParseLevelError> {
        let numbers = || {
            let (r, w) = text.split_once(',')?;
            let r = r.trim().strip_prefix("r=")?.parse().ok().filter(|r| *r > 0)?;
            let w = w.trim().strip_prefix("w=")?.parse().ok().filter(|w| *w > 0)?;
            Some(Self::Numbers { r, w })
        };
        match text {
            "eventual" => Ok(Self::Eventual),
            "quorum" => Ok(Self::Quorum),
            "strict" => Ok(Self::Strict),
            "all" => Ok(Self::All),
            _ => numbers().ok_or_else(|| ParseLevelError { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Level {
    type Error = ParseLevelError;

    fn try_from(text: String) -> Result<Self, ParseLevelError> {
        text.parse()
    }
}

impl From<Level> for String {
    fn from(level: Level) -> Self {
        level.to_string()
    }
}

/// What is known of an operation that did not succeed (I9): the `x-quorate-outcome` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It certainly did not happen and never will.
    None,
    /// It may have happened, or may still happen.
    Unknown,
}

impl Outcome {
    /// The header's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }
}

/// How an answer came about: the `x-quorate-level` and `x-quorate-degraded` headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The level that was reached.
    pub level: Level,
    /// Whether an owner was missing from it, or another node stood in for one.
    pub degraded: bool,
}

#[cfg(test)]
mod tests {
    use super::Level;

    #[test]
    fn a_level_is_read_as_it_is_written() {
        for text in ["eventual", "quorum", "strict", "all", "r=1,w=3"] {
            assert_eq!(text.parse::<Level>().unwrap().to_string(), text);
        }
        for text in ["", "QUORUM", "r=0,w=1", "r=1", "w=1,r=2", "r=300,w=1", "strong"] {
            assert!(text.parse::<Level>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_never_ask_for_more_replicas_than_there_are() {
        let level = Level::Numbers { r: 9, w: 2 };

        assert_eq!((level.reads(3), level.writes(3)), (3, 2));
        assert_eq!((level.reads(1), level.writes(1)), (1, 1));
    }

    #[test]
    fn majorities_overlap_and_single_replicas_do_not() {
        assert!(Level::Quorum.overlaps(3));
        assert!(!Level::Eventual.overlaps(3));
        assert!(!Level::Numbers { r: 1, w: 2 }.overlaps(3));
        assert!(Level::Eventual.overlaps(1));
    }
}
