//! Signs of life: how a data folder that is older than what its peers remember is found out.
//!
//! A node stores a sign before it tells it to anybody, so no peer ever remembers one that the
//! node's own folder does not hold, unless that folder was put back to an earlier state.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a node tells of its present life: gossip carries it as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LifeSign {
    /// How often the node had been started.
    pub boot: u32,
    /// Drawn at that start: two starts that count alike are told apart.
    pub life: u64,
    /// A time, in milliseconds since 1970 by the node's own clock, that its folder holds.
    pub alive: u64,
}

impl fmt::Display for LifeSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}.{}", self.boot, self.life, self.alive)
    }
}

/// Text that is no sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no sign of life")]
pub(super) struct NoLifeSign;

impl FromStr for LifeSign {
    type Err = NoLifeSign;

    fn from_str(text: &str) -> Result<Self, NoLifeSign> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(NoLifeSign);
        let boot = part()?.parse().map_err(|_| NoLifeSign)?;
        let life = u64::from_str_radix(part()?, 16).map_err(|_| NoLifeSign)?;
        let alive = part()?.parse().map_err(|_| NoLifeSign)?;
        Ok(Self { boot, life, alive })
    }
}

/// What a peer remembers of a node's lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The highest boot heard of.
    #[serde(rename = "b")]
    pub boot: u32,
    /// The life that was heard last with it.
    #[serde(rename = "l")]
    pub life: u64,
    /// The greatest sign of that life.
    #[serde(rename = "a")]
    pub alive: u64,
    /// The greatest sign of all lives before.
    #[serde(rename = "p")]
    pub before: u64,
}

impl Remembered {
    /// Takes in a sign; signs of former boots are old news.
    pub(super) fn hear(&mut self, sign: LifeSign) {
        if sign.boot < self.boot {
            return;
        }
        if (sign.boot, sign.life) != (self.boot, self.life) {
            self.before = self.before.max(self.alive);
            self.alive = 0;
        }
        self.boot = sign.boot;
        self.life = sign.life;
        self.alive = self.alive.max(sign.alive);
    }

    /// The greatest sign ever heard.
    #[must_use]
    pub(super) fn last(&self) -> u64 {
        self.alive.max(self.before)
    }
}

/// How a node's present life began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awakening {
    /// How often the node has been started, this time included.
    pub boot: u32,
    /// Drawn at this start.
    pub life: u64,
    /// The sign that its folder held at this start; 0 for a folder that never held one.
    pub found: u64,
    /// Whether the folder says itself that it is new.
    pub folder: Folder,
}

/// What a folder says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// It holds what this node has ever acknowledged.
    Whole,
    /// It was empty when the node re-entered: that peers remember more is no surprise.
    Rebuilding,
}

/// A folder that is older than what a peer remembers of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rollback {
    /// It was started more often than it knows.
    #[error(
        "the data folder was put back to an earlier state: it counts {own} starts, and a peer \
         remembers {remembered}"
    )]
    Starts {
        /// Starts that the folder counts.
        own: u32,
        /// Starts that the peer remembers.
        remembered: u32,
    },
    /// It was alive later than it knows.
    #[error(
        "the data folder was put back to an earlier state: a peer remembers it {} s younger",
        missing_ms / 1_000
    )]
    Signs {
        /// How much later the peer's sign is, in milliseconds.
        missing_ms: u64,
    },
}

/// Whether the folder that woke so is older than what a peer remembers of it.
///
/// # Errors
/// [`Rollback`] says how that is known.
pub(super) fn check_folder(own: Awakening, remembered: Remembered) -> Result<(), Rollback> {
    let starts = Rollback::Starts { own: own.boot, remembered: remembered.boot };
    if remembered.boot > own.boot {
        return Err(starts);
    }
    let this_life = remembered.boot == own.boot && remembered.life == own.life;
    if remembered.boot == own.boot && !this_life {
        return Err(starts);
    }
    let earlier = if this_life { remembered.before } else { remembered.last() };
    if own.folder == Folder::Whole && earlier > own.found {
        return Err(Rollback::Signs { missing_ms: earlier - own.found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Awakening, Folder, LifeSign, Remembered, Rollback, check_folder};

    const fn sign(boot: u32, life: u64, alive: u64) -> LifeSign {
        LifeSign { boot, life, alive }
    }

    fn memory(signs: &[LifeSign]) -> Remembered {
        let mut memory = Remembered::default();
        signs.iter().for_each(|sign| memory.hear(*sign));
        memory
    }

    fn woken(boot: u32, life: u64, found: u64) -> Awakening {
        Awakening { boot, life, found, folder: Folder::Whole }
    }

    #[test]
    fn an_ordinary_restart_is_no_rollback() {
        let before = memory(&[sign(4, 1, 100), sign(4, 1, 200)]);
        check_folder(woken(5, 2, 200), before).unwrap();
        // The folder held a sign that gossip had not spread yet.
        check_folder(woken(5, 2, 210), before).unwrap();

        let after = memory(&[sign(4, 1, 200), sign(5, 2, 900)]);
        check_folder(woken(5, 2, 210), after).unwrap();
    }

    #[test]
    fn a_folder_that_was_started_more_often_than_it_knows_was_rolled_back() {
        let memory = memory(&[sign(9, 1, 100)]);

        let found = check_folder(woken(5, 2, 100), memory);

        assert_eq!(found, Err(Rollback::Starts { own: 5, remembered: 9 }));
    }

    #[test]
    fn a_folder_rolled_back_within_one_life_is_found_out_even_after_it_spoke() {
        // Its snapshot was taken at 150, it lived on until 200, and woke from the snapshot.
        let spoke = memory(&[sign(4, 1, 200), sign(5, 2, 5_000)]);

        assert_eq!(check_folder(woken(5, 2, 150), spoke), Err(Rollback::Signs { missing_ms: 50 }));
    }

    #[test]
    fn two_lives_of_one_boot_are_a_rollback() {
        let memory = memory(&[sign(5, 1, 100)]);

        let found = check_folder(woken(5, 2, 100), memory);

        assert_eq!(found, Err(Rollback::Starts { own: 5, remembered: 5 }));
    }

    #[test]
    fn a_rebuilding_folder_knows_that_it_lost_its_past() {
        let memory = memory(&[sign(5, 1, 100)]);
        let own = Awakening { folder: Folder::Rebuilding, ..woken(1_006, 7, 0) };

        check_folder(own, memory).unwrap();
    }

    proptest! {
        #[test]
        fn signs_are_read_as_they_are_written(boot: u32, life: u64, alive: u64, text: String) {
            let sign = sign(boot, life, alive);

            prop_assert_eq!(sign.to_string().parse(), Ok(sign));
            prop_assert!(text.parse::<LifeSign>().is_err() || text.contains('.'));
        }

        #[test]
        fn no_order_of_hearing_accuses_an_honest_folder(
            signs in prop::collection::vec((0u32..4, 0u64..50), 0..20),
        ) {
            // Each boot's signs lie above all that the folder held before.
            let signs = signs.iter().map(|(boot, at)| {
                sign(*boot, u64::from(*boot), u64::from(*boot) * 100 + at)
            });
            let memory = memory(&signs.collect::<Vec<_>>());

            prop_assert!(check_folder(woken(4, 4, 400), memory).is_ok());
        }
    }
}
