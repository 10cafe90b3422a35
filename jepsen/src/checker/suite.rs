//! Which checkers belong to a workload, and what a level promises.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::regular::Stale;
use super::{
    Finding, Verdict, content, counter, last_write, linearizable, listing, progress, regular, set,
    siblings,
};
use crate::history::Entry;

/// What clients did, as far as checkers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Objects that are written, read, deleted and listed, each with a content of its own.
    Register,
    /// Keys of the key-value API, with contexts.
    Siblings,
    /// Sets: `add` of one number, `read` of all.
    Set,
    /// Counters: `add` of an amount, `read` of the sum.
    Counter,
}

impl Workload {
    /// What a history is of, as its calls look.
    #[must_use]
    pub fn of_history(entries: &[Entry]) -> Self {
        let mut reads = entries.iter().filter(|entry| entry.f == "read");
        let shows_several = reads.any(|read| read.value.is_array());
        let adds = entries.iter().any(|entry| entry.f == "add");
        let has_context = entries.iter().any(|entry| entry.context.is_some());
        match (adds, shows_several) {
            (true, true) => Self::Set,
            (true, false) => Self::Counter,
            (false, several) if several || has_context => Self::Siblings,
            (false, _) => Self::Register,
        }
    }
}

/// What the level of a history promises to readers of registers, sets and lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// `strong`: an order of all calls of a key explains what each saw.
    Linearizable,
    /// `strict` and `all`: reads see acknowledged writes.
    Regular,
    /// Sloppy levels: replicas converge to the last write.
    Converging,
}

impl Promise {
    /// What `level` promises.
    #[must_use]
    pub fn of_level(level: &str) -> Self {
        match level {
            "strong" => Self::Linearizable,
            "strict" | "all" => Self::Regular,
            _ => Self::Converging,
        }
    }

    /// The least that the levels of a history's lines promise; `strict`'s if they name none.
    #[must_use]
    pub fn of_history(entries: &[Entry]) -> Self {
        let levels = entries.iter().filter_map(|entry| entry.mode.as_deref());
        levels.map(Self::of_level).max().unwrap_or(Self::Regular)
    }

    const fn stale(self) -> Stale {
        match self {
            Self::Linearizable | Self::Regular => Stale::Violation,
            Self::Converging => Stale::Counted,
        }
    }
}

/// What a history is checked for.
#[derive(Clone, Copy, Debug)]
pub struct Demands {
    /// What clients did.
    pub workload: Workload,
    /// What they were promised.
    pub promise: Promise,
    /// How much the clocks of nodes may differ.
    pub skew: Duration,
    /// How soon after the last fault every request must be served.
    pub progress_within: Duration,
    /// How many values a read of one key may show.
    pub siblings_max: usize,
}

impl Demands {
    /// What is usual for `workload` under `promise`, on one machine whose clock is not tampered
    /// with: two stamps of one millisecond may be in either order.
    #[must_use]
    pub const fn usual(workload: Workload, promise: Promise) -> Self {
        Self {
            workload,
            promise,
            skew: Duration::from_millis(20),
            progress_within: Duration::from_secs(30),
            // 16 on each of two sides of a split.
            siblings_max: 32,
        }
    }
}

/// The verdicts of all checkers that belong to `demands`.
///
/// # Errors
/// If the history cannot be read as one of that workload.
pub fn check(entries: &[Entry], demands: &Demands) -> anyhow::Result<Vec<Verdict>> {
    let stale = demands.promise.stale();
    let lists = entries.iter().any(|entry| entry.f == "list");
    let mut verdicts = match demands.workload {
        Workload::Register => {
            let mut verdicts = match demands.promise {
                Promise::Linearizable => vec![linearizable::check(entries)?],
                Promise::Regular => Vec::new(),
                Promise::Converging => vec![last_write::check(entries, demands.skew)?],
            };
            verdicts.push(regular::check(entries, stale)?);
            verdicts.push(content::check(entries)?);
            verdicts
        }
        Workload::Siblings => vec![siblings::check(entries, demands.siblings_max)?],
        Workload::Set => vec![set::check(entries, stale)?],
        Workload::Counter => vec![counter::check(entries)?],
    };
    if lists {
        verdicts.push(listing::check(entries, stale)?);
    }
    verdicts.push(progress::check(entries, demands.progress_within)?);
    Ok(verdicts)
}

/// The worst of several findings.
#[must_use]
pub fn worst(verdicts: &[Verdict]) -> Finding {
    let has = |finding| verdicts.iter().any(|verdict| verdict.finding == finding);
    if has(Finding::Violated) {
        Finding::Violated
    } else if has(Finding::Unknown) || verdicts.is_empty() {
        Finding::Unknown
    } else {
        Finding::Holds
    }
}

/// Text that names no workload or promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName(String);

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is none of those that there are", self.0)
    }
}

impl std::error::Error for UnknownName {}

impl FromStr for Workload {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Ok(match text {
            "register" | "objects" | "delete-recreate" | "lww" | "list" | "multipart" => {
                Self::Register
            }
            "siblings" => Self::Siblings,
            "set" => Self::Set,
            "counter" => Self::Counter,
            _ => return Err(UnknownName(text.to_owned())),
        })
    }
}

impl FromStr for Promise {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Ok(match text {
            "linearizable" | "strong" => Self::Linearizable,
            "regular" | "strict" | "all" => Self::Regular,
            "converging" | "quorum" | "eventual" => Self::Converging,
            _ => return Err(UnknownName(text.to_owned())),
        })
    }
}
