//! What clients do, and what must hold of what they saw.

mod ground;
mod hand;
mod keepsakes;
mod lists;
mod registers;
mod sets;
mod siblings;
mod uploads;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use futures_util::future::join_all;

pub use ground::{Ground, Tally};
pub use hand::{Ended, Hand, KvRead, Where};

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Reads and writes of few objects in a `strict` bucket.
    Register,
    /// The same with deletions.
    DeleteRecreate,
    /// The same in an `eventual` bucket.
    Lww,
    /// New objects, and lists.
    List,
    /// A set: each element is an object, a read lists them all.
    Set,
    /// Objects that are uploaded in parts.
    Multipart,
    /// Values side by side, through the key-value API.
    Siblings,
}

const NAMES: [(Workload, &str); 7] = [
    (Workload::Register, "register"),
    (Workload::DeleteRecreate, "delete-recreate"),
    (Workload::Lww, "lww"),
    (Workload::List, "list"),
    (Workload::Set, "set"),
    (Workload::Multipart, "multipart"),
    (Workload::Siblings, "siblings"),
];

/// What Garage's tests call the same loads. Theirs differ in what is checked of them, and
/// everything that can be is checked here.
const OTHER_NAMES: [(Workload, &str); 4] = [
    (Workload::Register, "reg1"),
    (Workload::Register, "reg2"),
    (Workload::Set, "set1"),
    (Workload::Set, "set2"),
];

/// The bucket of every run.
pub const BUCKET: &str = "jepsen";

impl Workload {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        NAMES.iter().map(|(workload, _)| *workload).collect()
    }

    /// The level of its bucket, if it is not the usual one.
    #[must_use]
    pub const fn level(self) -> Option<&'static str> {
        match self {
            Self::Lww => Some("eventual"),
            _ => None,
        }
    }

    /// How many copies of a write are on stable storage when it is acknowledged.
    #[must_use]
    pub const fn copies(self) -> usize {
        match self {
            Self::Lww => 1,
            _ => 2,
        }
    }

    /// Whether it has objects beside its own that are written once: its history is one of
    /// registers.
    const fn has_keepsakes(self) -> bool {
        !matches!(self, Self::Set | Self::Siblings)
    }

    /// Writes what is there before all faults.
    pub async fn prepare(self, ground: &Arc<Ground>, seed: u64) {
        if self.has_keepsakes() {
            keepsakes::write_first(ground, seed).await;
        }
    }

    /// One client's work until all are asked to stop.
    pub async fn work(self, mut hand: Hand) {
        let nodes = hand.ground().nodes();
        while !hand.ground().is_stopping() {
            let Some(node) = hand.pick(&nodes) else { return };
            if self.has_keepsakes() && hand.draw(40) == 0 {
                keepsakes::write_one(&mut hand, node).await;
            }
            match self {
                Self::Register => registers::step(&mut hand, node, 0).await,
                Self::DeleteRecreate => registers::step(&mut hand, node, 25).await,
                Self::Lww => registers::step(&mut hand, node, 5).await,
                Self::List => lists::step(&mut hand, node).await,
                Self::Set => hand.step_of_set(node).await,
                Self::Multipart => hand.step_of_uploads(node).await,
                Self::Siblings => siblings::step(&mut hand, node).await,
            }
            hand.rest(Duration::from_millis(30)).await;
        }
    }

    /// Reads everything through every node, once faults are over and replicas have converged.
    pub async fn read_finally(self, ground: &Arc<Ground>, seed: u64) {
        let readers = ground.nodes().into_iter().map(|node| async move {
            let mut hand = ground.hand(seed);
            self.read_all(&mut hand, node).await;
            if self.has_keepsakes() {
                keepsakes::read_all(&mut hand, node).await;
            }
        });
        join_all(readers).await;
    }

    async fn read_all(self, hand: &mut Hand, node: usize) {
        match self {
            Self::Register | Self::DeleteRecreate | Self::Lww => {
                registers::read_all(hand, node).await;
            }
            Self::List => lists::read_all(hand, node).await,
            Self::Set => hand.read_set(node).await,
            Self::Multipart => hand.read_uploads(node).await,
            Self::Siblings => siblings::read_all(hand, node).await,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(workload, _)| workload == self).map(|(_, name)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

impl FromStr for Workload {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match NAMES.iter().chain(&OTHER_NAMES).find(|(_, name)| *name == text) {
            Some((workload, _)) => Ok(*workload),
            None => {
                let known: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
                bail!("'{text}' is no workload: use {}", known.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Workload;

    #[test]
    fn a_workload_is_read_as_it_is_written_and_by_its_other_names() {
        for workload in Workload::all() {
            assert_eq!(workload.to_string().parse::<Workload>().unwrap(), workload);
        }
        assert_eq!("reg2".parse::<Workload>().unwrap(), Workload::Register);
        assert_eq!("set1".parse::<Workload>().unwrap(), Workload::Set);
        let error = "bank".parse::<Workload>().err().unwrap();
        assert!(error.to_string().contains("register, delete-recreate"), "{error}");
    }
}
