//! The twin of RocksDB: sorted maps, and a write-ahead log that a crash cuts short.
//!
//! A crash keeps every write up to the last synced one, and a prefix of those behind it, as
//! RocksDB's single log does for all column families together.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use quorate::store::{
    Batch, Durability, Family, FamilyVisitor, KeyRange, MetaFigures, MetaStore, Operation,
    StoreError, Visit, decode_sum, encode_sum,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::power::{Power, Step};

type Rows = BTreeMap<(Family, Bytes), Bytes>;

/// Rows in memory. Clones are one store; [`MemMeta::crash`] makes the next.
///
/// A visitor of a scan may read, and must not write.
#[derive(Clone)]
pub struct MemMeta {
    state: Arc<RwLock<State>>,
    power: Power,
}

#[derive(Clone, Default)]
struct State {
    rows: Rows,
    /// Writes that a crash may lose, oldest first: each row with the value it had before.
    unsynced: Vec<Vec<(Family, Bytes, Option<Bytes>)>>,
    failing: Option<StoreError>,
    dead: bool,
}

impl MemMeta {
    /// No rows.
    #[must_use]
    pub fn new(power: Power) -> Self {
        Self { state: Arc::default(), power }
    }

    /// Rows that another store held, as a backup that is put back.
    #[must_use]
    pub fn holding(rows: BTreeMap<(Family, Bytes), Bytes>, power: Power) -> Self {
        let state = State { rows, ..State::default() };
        Self { state: Arc::new(RwLock::new(state)), power }
    }

    /// What a restart finds: all up to the last synced write, and some of what came after. This
    /// store and its clones are of no more use.
    #[must_use]
    pub fn crash(&self, seed: u64, power: Power) -> Self {
        let mut state = std::mem::take(&mut *self.state.write());
        self.state.write().dead = true;
        let kept = StdRng::seed_from_u64(seed).random_range(0..=state.unsynced.len());
        for write in state.unsynced.drain(kept..).rev() {
            for (family, key, before) in write.into_iter().rev() {
                match before {
                    Some(value) => state.rows.insert((family, key), value),
                    None => state.rows.remove(&(family, key)),
                };
            }
        }
        let survived = State { rows: state.rows, ..State::default() };
        Self { state: Arc::new(RwLock::new(survived)), power }
    }

    /// What a restart finds when the process was killed and power stayed: all that was written.
    #[must_use]
    pub fn kill(&self, power: Power) -> Self {
        let mut old = self.state.write();
        let state = State { failing: None, ..old.clone() };
        old.dead = true;
        Self { state: Arc::new(RwLock::new(state)), power }
    }

    /// Every later write fails with `error`; `None` ends that.
    pub fn fail_writes(&self, error: Option<StoreError>) {
        self.state.write().failing = error;
    }

    /// Flips one bit of some row of `family`, as rot does: nothing notices but a checksum. Whether
    /// there was one to flip.
    #[must_use]
    pub fn flip_bit(&self, family: Family, draw: u64) -> bool {
        let mut state = self.state.write();
        let keys: Vec<Bytes> = state
            .rows
            .iter()
            .filter(|((of, _), value)| *of == family && !value.is_empty())
            .map(|((_, key), _)| key.clone())
            .collect();
        let Some(key) = usize::try_from(draw).ok().and_then(|at| keys.get(at % keys.len().max(1)))
        else {
            return false;
        };
        let Some(value) = state.rows.get_mut(&(family, key.clone())) else {
            return false;
        };
        let mut bytes = value.to_vec();
        let place = usize::try_from(draw >> 20).unwrap_or_default() % bytes.len();
        bytes[place] ^= 1 << (draw % 8);
        *value = bytes.into();
        true
    }

    /// All rows, for comparing.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<(Family, Bytes), Bytes> {
        self.state.read().rows.clone()
    }
}

impl MetaStore for MemMeta {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let state = self.state.read_recursive();
        alive(&state, &self.power)?;
        Ok(state.rows.get(&(family, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), StoreError> {
        let state = self.state.read_recursive();
        alive(&state, &self.power)?;
        show(&state.rows, family, range, visit);
        Ok(())
    }

    fn scan_together(
        &self,
        ranges: &[(Family, KeyRange)],
        visit: &mut FamilyVisitor<'_>,
    ) -> Result<(), StoreError> {
        let state = self.state.read_recursive();
        alive(&state, &self.power)?;
        for (family, range) in ranges {
            show(&state.rows, *family, range, &mut |key, value| visit(*family, key, value));
        }
        Ok(())
    }

    fn write(&self, batches: &[Batch], durability: Durability) -> Result<(), StoreError> {
        let mut state = self.state.write();
        alive(&state, &self.power)?;
        if let Some(error) = &state.failing {
            return Err(error.clone());
        }
        let step = self.power.step(match durability {
            Durability::Synced => "rows: synced write",
            Durability::Derived => "rows: derived write",
        });
        if step == Step::Off {
            return Err(off());
        }
        let operations = batches.iter().flat_map(Batch::operations);
        let undo = operations.map(|operation| apply(&mut state.rows, operation)).collect();
        state.unsynced.push(undo);
        if step == Step::Interrupted {
            return Err(off());
        }
        if durability == Durability::Synced {
            state.unsynced.clear();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.state.write();
        alive(&state, &self.power)?;
        if let Some(error) = &state.failing {
            return Err(error.clone());
        }
        if self.power.step("rows: sync") != Step::Done {
            return Err(off());
        }
        state.unsynced.clear();
        Ok(())
    }

    fn figures(&self) -> MetaFigures {
        MetaFigures::default()
    }
}

fn show(
    rows: &Rows,
    family: Family,
    range: &KeyRange,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
) {
    let mut from = Bound::Included((family, Bytes::copy_from_slice(&range.start)));
    loop {
        let next = rows.range((from.clone(), Bound::Unbounded)).next();
        let Some(((of, key), value)) = next else { return };
        let ended = range.end.as_ref().is_some_and(|end| key.as_ref() >= end.as_slice());
        if *of != family || ended {
            return;
        }
        from = match visit(key, value) {
            Visit::Stop => return,
            Visit::Seek(target) if target.as_slice() > key.as_ref() => {
                Bound::Included((family, Bytes::from(target)))
            }
            Visit::Next | Visit::Seek(_) => Bound::Excluded((family, key.clone())),
        };
    }
}

fn apply(rows: &mut Rows, operation: &Operation) -> (Family, Bytes, Option<Bytes>) {
    match operation {
        Operation::Put { family, key, value } => {
            (*family, key.clone(), rows.insert((*family, key.clone()), value.clone()))
        }
        Operation::Delete { family, key } => {
            (*family, key.clone(), rows.remove(&(*family, key.clone())))
        }
        Operation::Add { family, key, amount } => {
            let before = rows.get(&(*family, key.clone())).map_or(0, |sum| decode_sum(sum));
            let sum = encode_sum(before.wrapping_add(*amount)).to_vec().into();
            (*family, key.clone(), rows.insert((*family, key.clone()), sum))
        }
    }
}

fn alive(state: &State, power: &Power) -> Result<(), StoreError> {
    if state.dead || power.is_off() { Err(off()) } else { Ok(()) }
}

fn off() -> StoreError {
    StoreError::Stopped { path: PathBuf::from("simulated rows"), reason: "power is out".to_owned() }
}
