//! How much agreement a request asks for, and what its answer may claim.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A consistency level. Buckets are created at one of those that this release serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A majority of the owners writes, a majority of the owners reads.
    Quorum,
    /// Every owner.
    All,
}

/// Text that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no consistency level of this release: use quorum or all")]
pub struct ParseLevelError {
    /// What was given.
    pub text: String,
}

impl Level {
    /// The name in configuration, headers and the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }

    /// How many of `owners` must answer.
    #[must_use]
    pub const fn needed(self, owners: usize) -> usize {
        match self {
            Self::Quorum => owners / 2 + 1,
            Self::All => owners,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = ParseLevelError;

    fn from_str(text: &str) -> Result<Self, ParseLevelError> {
        match text {
            "quorum" => Ok(Self::Quorum),
            "all" => Ok(Self::All),
            _ => Err(ParseLevelError { text: text.to_owned() }),
        }
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
    /// Whether an owner was missing from it.
    pub degraded: bool,
}
