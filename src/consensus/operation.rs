//! What a client wants of one key, and what it is told in the end.

use serde::{Deserialize, Serialize};

use super::ballot::Ballot;
use super::cell::Cell;
use super::electorate::ElectorateNumber;
use super::rules::Kind;

/// A write that depends on what it replaces: a condition, or a head that keeps its predecessor.
/// It is applied once in each round that gets so far, so it decides by its arguments alone.
pub trait Change<V> {
    /// What becomes of `current`; `None` is a key that is deleted or never was.
    fn apply(&self, current: Option<&V>) -> Decision<V>;

    /// Whether what it writes keeps what it replaces, as the head of a versioned object keeps the
    /// version before (R7).
    fn keeps_base(&self) -> bool {
        false
    }
}

/// What a change makes of the present content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<V> {
    /// This replaces it; `None` deletes the key.
    Write(Option<V>),
    /// Its condition does not hold.
    Mismatch,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Intent<V, C> {
    /// Tells the content.
    Read,
    /// Writes this, whatever is there; `None` deletes the key.
    Write(Option<V>),
    /// Writes what depends on what is there.
    Change(C),
}

impl<V, C> Intent<V, C> {
    /// Its kind, for the rules of retries.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Read => Kind::Read,
            Self::Write(_) => Kind::Write,
            Self::Change(_) => Kind::Change,
        }
    }
}

/// What is certain of an operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome<V> {
    /// The write took effect.
    Applied,
    /// The condition did not hold when this was the content: nothing was written.
    Mismatch(Seen<V>),
    /// The content.
    Read(Seen<V>),
    /// The write may have taken effect, may yet, or never will (rule 7).
    Unknown,
    /// The write did not take effect and never will; a read was not answered.
    NotBegun,
}

/// A content that a majority holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen<V> {
    /// The round in which it does; `None` for a key that never was, or was purged.
    pub ballot: Option<Ballot>,
    /// The value.
    pub cell: Cell<V>,
}

/// The next round, promised by a majority together with the acceptance of a value (rule 8).
///
/// It is used once, by the process that earned it, while its electorate stands; and dropped on
/// any refusal, timeout, restart, change of electorate, or fence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Grant<V> {
    /// The round that is promised.
    pub ballot: Ballot,
    /// The value that a majority had accepted last when it promised, byte for byte.
    pub cell: Cell<V>,
    /// Whose promise it is.
    pub electorate: ElectorateNumber,
}
