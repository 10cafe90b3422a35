//! What rounds say to acceptors, and what they answer.

use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;

use super::ballot::Ballot;
use super::cell::Cell;
use super::electorate::ElectorateNumber;
use super::trail::{Inquiry, Testimony};

/// A request to one acceptor of one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Asked<V> {
    /// As whose voter the acceptor is asked (rule 12).
    #[serde(rename = "n")]
    pub electorate: ElectorateNumber,
    /// What it is asked.
    #[serde(rename = "r")]
    pub request: Request<V>,
}

/// What an acceptor can be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Request<V> {
    /// What have you accepted? Changes nothing.
    Read,
    /// Promise to take part in no earlier round, and say what you accepted.
    Prepare {
        /// The round.
        ballot: Ballot,
        /// What is asked of the operation's earlier tries, if there were any.
        inquiry: Option<Inquiry>,
    },
    /// Accept this value, unless you promised a later round. Anti-entropy says the same when it
    /// brings a value that it found elsewhere (rule 10), with `next` left out.
    Accept {
        /// The round.
        ballot: Ballot,
        /// The value.
        cell: Cell<V>,
        /// A later round to be promised in the same breath (rule 8).
        next: Option<Ballot>,
    },
}

/// What an acceptor has accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Standing<V> {
    /// Nothing, or a delete that was purged since: they are the same to everybody.
    Absent,
    /// A value.
    Held {
        /// The round that it was accepted in.
        ballot: Ballot,
        /// The value.
        cell: Cell<V>,
    },
}

impl<V> Standing<V> {
    /// The round of what is held.
    #[must_use]
    pub const fn ballot(&self) -> Option<Ballot> {
        match self {
            Self::Absent => None,
            Self::Held { ballot, .. } => Some(*ballot),
        }
    }
}

/// What an acceptor answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Answer<V> {
    /// To a read.
    Standing(Standing<V>),
    /// It takes part in no earlier round than this any more.
    Promised {
        /// The round.
        ballot: Ballot,
        /// What it has accepted.
        standing: Standing<V>,
        /// What it knows of the operation's earlier tries, if it was asked.
        testimony: Option<Testimony>,
    },
    /// The value of that round is on stable storage.
    Accepted {
        /// The round.
        ballot: Ballot,
        /// The round that it promised in the same breath.
        next: Option<Ballot>,
    },
    /// It did nothing.
    Refused(Refusal),
}

/// A request that an acceptor does not follow. Nothing is stored for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// What is refused.
    pub of: Declined,
    /// Why.
    pub why: Why,
}

/// What an acceptor refused to do.
///
/// Only of an acceptance does a refusal say something about the past: the refusal of a prepare
/// that came twice says nothing of the acceptance that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Declined {
    /// To say what it holds.
    Read,
    /// To promise this round.
    Prepare(Ballot),
    /// To accept a value in this round.
    Accept {
        /// The round.
        ballot: Ballot,
        /// Whether it had accepted it before.
        past: Past,
    },
}

/// Why an acceptor refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Why {
    /// It has promised or accepted a later round.
    Overtaken {
        /// The latest it has seen.
        seen: Ballot,
    },
    /// The partition's past is closed up to a time (rule 11).
    Fenced {
        /// That time.
        fence: HybridTime,
    },
    /// It votes in another electorate (rule 12). If its number is the lower, it has to learn the
    /// later one before it answers.
    OtherElectorate {
        /// The one it votes in.
        number: ElectorateNumber,
    },
    /// Its record of this key is damaged: it does not know what it promised (rule 9).
    Abstains,
}

impl Why {
    /// Whether the refusal holds for ever, for every copy of the same request, also for one that
    /// another node makes of it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Overtaken { .. } | Self::Fenced { .. })
    }

    /// The time that a new try has to exceed.
    #[must_use]
    pub const fn above(self) -> HybridTime {
        match self {
            Self::Overtaken { seen } => seen.time,
            Self::Fenced { fence } => fence,
            Self::OtherElectorate { .. } | Self::Abstains => HybridTime(0),
        }
    }
}

/// Whether an acceptor accepted a round before it refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Past {
    /// It did not.
    Never,
    /// It did, or does not remember.
    Perhaps,
}
