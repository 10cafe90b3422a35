//! What can go wrong.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};

use crate::arena::Quality;

/// A kind of fault, from which a schedule draws faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two halves that do not hear each other.
    Halves,
    /// Each node hears a majority, no two of them the same.
    Ring,
    /// Two halves that share one node.
    Bridge,
    /// Some hear others that do not hear them.
    OneWay,
    /// One node is cut off and not, several times a second.
    Flap,
    /// Links lose, double, reorder and damage packets.
    Loss,
    /// Links take long, and not always equally long.
    Delay,
    /// SIGKILL of one node.
    Kill,
    /// SIGKILL of several nodes.
    KillSeveral,
    /// SIGKILL of all nodes.
    KillAll,
    /// SIGSTOP of one or two nodes.
    Pause,
    /// One node's power goes: what it had not synced is lost.
    Power,
    /// The power of all nodes goes.
    PowerAll,
    /// One node's clock jumps or drifts.
    Clock,
    /// Bits of one node's segment files flip while it is down.
    BitFlips,
    /// One node's segment files lose their ends while it is down.
    Truncate,
    /// One node's disk is full.
    FullDisk,
    /// One node's folder is emptied while it is down.
    Wipe,
}

/// All kinds, with their names.
const NAMES: [(Kind, &str); 18] = [
    (Kind::Halves, "halves"),
    (Kind::Ring, "ring"),
    (Kind::Bridge, "bridge"),
    (Kind::OneWay, "one-way"),
    (Kind::Flap, "flap"),
    (Kind::Loss, "loss"),
    (Kind::Delay, "delay"),
    (Kind::Kill, "kill"),
    (Kind::KillSeveral, "kill-several"),
    (Kind::KillAll, "kill-all"),
    (Kind::Pause, "pause"),
    (Kind::Power, "power"),
    (Kind::PowerAll, "power-all"),
    (Kind::Clock, "clock"),
    (Kind::BitFlips, "bit-flips"),
    (Kind::Truncate, "truncate"),
    (Kind::FullDisk, "full-disk"),
    (Kind::Wipe, "wipe"),
];

impl Kind {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        NAMES.iter().map(|(kind, _)| *kind).collect()
    }

    /// Whether it takes away stored data, of one node.
    #[must_use]
    pub const fn destroys(self) -> bool {
        matches!(self, Self::BitFlips | Self::Truncate | Self::Wipe)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(kind, _)| kind == self).map(|(_, name)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match NAMES.iter().find(|(_, name)| *name == text) {
            Some((kind, _)) => Ok(*kind),
            None => {
                let known: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
                bail!("'{text}' is no nemesis: use {}", known.join(", "))
            }
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Nothing goes over these directed links.
    Cut {
        /// Which shape this is.
        kind: Kind,
        /// From, to.
        links: Vec<(usize, usize)>,
    },
    /// A node is cut off for as long as it then is not, again and again.
    Flap {
        /// Which.
        node: usize,
        /// For so long.
        period: Duration,
    },
    /// These directed links are bad.
    Links {
        /// In which way.
        kind: Kind,
        /// From, to.
        links: Vec<(usize, usize)>,
        /// How bad.
        quality: Quality,
    },
    /// Nodes are killed, and started again at the end.
    Kill {
        /// Which.
        nodes: Vec<usize>,
    },
    /// Nodes stop in their tracks.
    Pause {
        /// Which.
        nodes: Vec<usize>,
    },
    /// Nodes lose their power, and get it back at the end.
    Power {
        /// Which.
        nodes: Vec<usize>,
    },
    /// A node's clock is off.
    Clock {
        /// Which.
        node: usize,
        /// By so much from the beginning.
        offset_ms: i64,
        /// So many percent of a second pass in each.
        rate_percent: u32,
    },
    /// A node is killed, its segment files are damaged, it is started at once.
    BitFlips {
        /// Which.
        node: usize,
        /// So many.
        flips: u32,
        /// What the places follow from.
        seed: u64,
    },
    /// A node is killed, its segment files are cut, it is started at once.
    Truncate {
        /// Which.
        node: usize,
        /// What the lengths follow from.
        seed: u64,
    },
    /// A node's disk has no room left.
    FullDisk {
        /// Which.
        node: usize,
    },
    /// A node is killed, its folder is emptied, and it is started again at the end.
    Wipe {
        /// Which.
        node: usize,
    },
}

impl Fault {
    /// Its name in histories.
    #[must_use]
    pub fn name(&self) -> String {
        let kind = match self {
            Self::Cut { kind, .. } | Self::Links { kind, .. } => *kind,
            Self::Flap { .. } => Kind::Flap,
            Self::Kill { .. } => Kind::Kill,
            Self::Pause { .. } => Kind::Pause,
            Self::Power { .. } => Kind::Power,
            Self::Clock { .. } => Kind::Clock,
            Self::BitFlips { .. } => Kind::BitFlips,
            Self::Truncate { .. } => Kind::Truncate,
            Self::FullDisk { .. } => Kind::FullDisk,
            Self::Wipe { .. } => Kind::Wipe,
        };
        kind.to_string()
    }

    /// The node that it strikes, if it is one.
    #[must_use]
    pub fn node(&self) -> Option<usize> {
        match self {
            Self::Flap { node, .. }
            | Self::Clock { node, .. }
            | Self::BitFlips { node, .. }
            | Self::Truncate { node, .. }
            | Self::FullDisk { node }
            | Self::Wipe { node } => Some(*node),
            Self::Kill { nodes } | Self::Pause { nodes } | Self::Power { nodes } => {
                nodes.first().copied().filter(|_| nodes.len() == 1)
            }
            Self::Cut { .. } | Self::Links { .. } => None,
        }
    }

    /// What else there is to say of it.
    #[must_use]
    pub fn detail(&self) -> Value {
        match self {
            Self::Cut { links, .. } => json!({ "links": links }),
            Self::Flap { period, .. } => json!({ "period_ms": millis(*period) }),
            Self::Links { links, quality, .. } => json!({
                "links": links,
                "loss_thousandths": quality.loss,
                "duplicates_thousandths": quality.duplicates,
                "reorder_thousandths": quality.reorder,
                "damage_thousandths": quality.damage,
                "delay_ms": millis(quality.delay),
                "jitter_ms": millis(quality.jitter),
            }),
            Self::Kill { nodes } | Self::Pause { nodes } | Self::Power { nodes } => {
                json!({ "nodes": nodes })
            }
            Self::Clock { offset_ms, rate_percent, .. } => {
                json!({ "offset_ms": offset_ms, "rate_percent": rate_percent })
            }
            Self::BitFlips { flips, .. } => json!({ "flips": flips }),
            Self::Truncate { .. } | Self::FullDisk { .. } | Self::Wipe { .. } => json!({}),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        if let Some(node) = self.node() {
            write!(f, " n{node}")?;
        }
        match self.detail() {
            Value::Object(fields) if fields.is_empty() => Ok(()),
            detail => write!(f, " {detail}"),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in Kind::all() {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
        }
        let error = "earthquake".parse::<Kind>().err().unwrap();
        assert!(error.to_string().contains("halves, ring"), "{error}");
    }
}
