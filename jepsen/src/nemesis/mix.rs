//! Sets of kinds of faults by name, letters as in Garage's scenarios (pure).

use std::fmt;
use std::str::FromStr;

use anyhow::ensure;

use super::fault::Kind;

/// A set of kinds of faults; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    name: String,
    kinds: Vec<Kind>,
}

/// What each letter stands for.
const LETTERS: [(char, &[Kind]); 6] = [
    ('c', &[Kind::Clock]),
    ('d', &[Kind::Kill, Kind::KillSeveral, Kind::KillAll, Kind::Pause]),
    ('m', &[Kind::Power, Kind::PowerAll, Kind::FullDisk]),
    ('p', &[Kind::Halves, Kind::Ring, Kind::Bridge, Kind::OneWay]),
    ('s', &[Kind::Loss, Kind::Delay, Kind::Flap]),
    ('x', &[Kind::BitFlips, Kind::Truncate, Kind::Wipe]),
];

impl Mix {
    /// The kinds, each once.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Whether it has this kind.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// The same without this kind.
    #[must_use]
    pub fn without(mut self, kind: Kind) -> Self {
        self.kinds.retain(|other| *other != kind);
        self
    }

    /// Whether it takes away stored data of a node.
    #[must_use]
    pub fn destroys(&self) -> bool {
        self.kinds.iter().any(|kind| kind.destroys())
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Mix {
    type Err = anyhow::Error;

    /// Letters, `scmdp`; or names joined by `+`, `halves+kill`; or `none`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let name = text.to_owned();
        if text == "none" {
            return Ok(Self { name, kinds: Vec::new() });
        }
        if text.chars().all(|one| one == 'r' || LETTERS.iter().any(|(other, _)| *other == one)) {
            // Garage's letter for it.
            ensure!(!text.contains('r'), "r: this release cannot change the layout under load");
        }
        let letter = |letter: char| LETTERS.iter().find(|(other, _)| *other == letter);
        let mut kinds: Vec<Kind> = if text.chars().all(|one| letter(one).is_some()) {
            text.chars().filter_map(letter).flat_map(|(_, kinds)| kinds.iter().copied()).collect()
        } else {
            text.split('+').map(str::parse).collect::<Result<_, _>>()?
        };
        kinds.sort_unstable();
        kinds.dedup();
        Ok(Self { name, kinds })
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, LETTERS, Mix};

    #[test]
    fn the_letters_together_are_all_kinds() {
        let letters: String = LETTERS.iter().map(|(letter, _)| *letter).collect();

        assert_eq!(letters.parse::<Mix>().unwrap().kinds(), Kind::all());
    }

    #[test]
    fn kinds_may_be_named_one_by_one() {
        let mix: Mix = "kill+halves+kill".parse().unwrap();

        assert_eq!(mix.kinds(), [Kind::Halves, Kind::Kill]);
        assert!(!mix.destroys());
        assert!("x".parse::<Mix>().unwrap().destroys());
        assert!("kill+nothing".parse::<Mix>().is_err());
        let error = "cpr".parse::<Mix>().err().unwrap();
        assert!(error.to_string().contains("layout"), "{error}");
        assert!("ring".parse::<Mix>().is_ok());
        assert!("none".parse::<Mix>().unwrap().kinds().is_empty());
    }
}
