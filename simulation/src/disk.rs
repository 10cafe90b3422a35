//! The twin of a data folder: files in memory that a crash, a full disk and rot can hit.
//!
//! A crash keeps synced bytes. Of each file's unsynced writes it keeps none, all, a torn prefix or
//! any subset, in pieces of 512 bytes; of unsynced creations, removals and renames, a prefix.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate::store::{Create, Disk, DiskFile, DiskSpace, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::power::{Power, Step};

/// What a disk writes at once, even when power is cut.
const PIECE_BYTES: usize = 512;
const UNLIMITED: u64 = 1 << 50;

/// A folder in memory. Clones are one disk; [`SimDisk::crash`] makes the next.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    power: Power,
}

type FileNumber = u64;

#[derive(Clone)]
struct State {
    files: BTreeMap<FileNumber, FileState>,
    names: BTreeMap<String, FileNumber>,
    names_synced: BTreeMap<String, FileNumber>,
    names_unsynced: Vec<NameChange>,
    files_made: FileNumber,
    capacity: u64,
    sync_failures: u64,
    folder_sync_failures: u64,
    dead: bool,
}

#[derive(Clone, Default)]
struct FileState {
    bytes: Vec<u8>,
    /// Writes that a crash may lose, oldest first.
    unsynced: Vec<Change>,
    unreadable: Vec<Range<u64>>,
}

#[derive(Clone)]
enum Change {
    Write { position: usize, bytes: Vec<u8>, before: Vec<u8>, length_before: usize },
    Truncate { length: usize, before: Vec<u8>, length_before: usize },
}

#[derive(Clone)]
enum NameChange {
    Set(String, FileNumber),
    Remove(String),
    Rename(String, String),
}

impl SimDisk {
    /// An empty folder without limits.
    #[must_use]
    pub fn new(power: Power) -> Self {
        let state = State {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            names_synced: BTreeMap::new(),
            names_unsynced: Vec::new(),
            files_made: 0,
            capacity: UNLIMITED,
            sync_failures: 0,
            folder_sync_failures: 0,
            dead: false,
        };
        Self { state: Arc::new(Mutex::new(state)), power }
    }

    /// What a restart finds. This disk, its clones and open files are of no more use.
    #[must_use]
    pub fn crash(&self, seed: u64, power: Power) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let next = Self::new(power);
        let mut old = self.state.lock();
        old.dead = true;
        let mut new = next.state.lock();
        new.files_made = old.files_made;
        new.capacity = old.capacity;
        new.names = old.names_synced.clone();
        let kept = dice.random_range(0..=old.names_unsynced.len());
        for change in &old.names_unsynced[..kept] {
            change.apply(&mut new.names);
        }
        new.names_synced = new.names.clone();
        for (number, file) in &old.files {
            new.files.insert(*number, file.crashed(&mut dice));
        }
        drop(new);
        next
    }

    /// What a restart finds when the process was killed and power stayed: all that was written,
    /// synced or not. This disk, its clones and open files are of no more use.
    #[must_use]
    pub fn kill(&self, power: Power) -> Self {
        let mut old = self.state.lock();
        let state = State { sync_failures: 0, folder_sync_failures: 0, ..old.clone() };
        old.dead = true;
        Self { state: Arc::new(Mutex::new(state)), power }
    }

    /// From now on all files together may have `bytes`.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity = bytes;
    }

    /// The next `count` syncs of files or folder fail.
    pub fn fail_syncs(&self, count: u64) {
        self.state.lock().sync_failures = count;
    }

    /// The next `count` syncs of the folder fail, those of files do not.
    pub fn fail_folder_syncs(&self, count: u64) {
        self.state.lock().folder_sync_failures = count;
    }

    /// From now on there is room for a few bytes more and no others.
    pub fn fill_up(&self) {
        let mut state = self.state.lock();
        state.capacity = state.used() + 1_000;
    }

    /// There is room again.
    pub fn make_room(&self) {
        self.state.lock().capacity = UNLIMITED;
    }

    /// Flips a bit of some file. Whether there was one.
    #[must_use]
    pub fn rot(&self, draw: u64) -> bool {
        let Some((name, position)) = self.some_place(draw) else { return false };
        self.flip_bit(&name, position, u8::try_from(draw % 8).unwrap_or_default());
        true
    }

    /// Lets a sector of some file be unreadable from now on. Whether there was one.
    #[must_use]
    pub fn lose_sector(&self, draw: u64) -> bool {
        let Some((name, position)) = self.some_place(draw) else { return false };
        let start = widened(position / PIECE_BYTES * PIECE_BYTES);
        self.make_unreadable(&name, start..start + widened(PIECE_BYTES));
        true
    }

    /// A file that is not empty, and a place in it.
    fn some_place(&self, draw: u64) -> Option<(String, usize)> {
        let mut state = self.state.lock();
        let names: Vec<String> = state.names.keys().cloned().collect();
        let mut files = names.into_iter().filter_map(|name| {
            let length = state.file(&name)?.bytes.len();
            (length > 0).then_some((name, length))
        });
        let files: Vec<(String, usize)> = files.by_ref().collect();
        let draw = usize::try_from(draw >> 3).unwrap_or_default();
        let (name, length) = files.get(draw % files.len().max(1))?;
        Some((name.clone(), draw / files.len() % length))
    }

    /// Flips one bit of a byte, as rot does: nothing notices but a checksum.
    pub fn flip_bit(&self, name: &str, position: usize, bit: u8) {
        if let Some(byte) =
            self.state.lock().file(name).and_then(|file| file.bytes.get_mut(position))
        {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// Reads of these bytes fail from now on.
    pub fn make_unreadable(&self, name: &str, range: Range<u64>) {
        if let Some(file) = self.state.lock().file(name) {
            file.unreadable.push(range);
        }
    }

    /// Loses all bytes from `length` on, synced or not.
    pub fn cut(&self, name: &str, length: usize) {
        if let Some(file) = self.state.lock().file(name) {
            file.bytes.truncate(length);
            file.unsynced.clear();
        }
    }

    /// The bytes of a file now.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.state.lock().file(name).map(|file| file.bytes.clone()).unwrap_or_default()
    }

    /// Puts a file there, synced.
    pub fn restore(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        let number = state.create(name);
        state.names_synced.insert(name.to_owned(), number);
        state.files.insert(number, FileState { bytes, ..FileState::default() });
    }

    fn step(&self, state: &State, name: &'static str) -> Result<Step, StoreError> {
        self.alive(state)?;
        match self.power.step(name) {
            Step::Off => Err(off()),
            step => Ok(step),
        }
    }

    fn alive(&self, state: &State) -> Result<(), StoreError> {
        if state.dead || self.power.is_off() { Err(off()) } else { Ok(()) }
    }

    fn change_names(&self, name: &'static str, change: NameChange) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let step = self.step(&state, name)?;
        change.apply(&mut state.names);
        state.names_unsynced.push(change);
        survived(step)
    }
}

impl State {
    fn file(&mut self, name: &str) -> Option<&mut FileState> {
        let number = self.names.get(name)?;
        self.files.get_mut(number)
    }

    fn create(&mut self, name: &str) -> FileNumber {
        self.files_made += 1;
        self.names.insert(name.to_owned(), self.files_made);
        self.files.insert(self.files_made, FileState::default());
        self.files_made
    }

    fn used(&self) -> u64 {
        let numbers = self.names.values();
        numbers
            .filter_map(|number| self.files.get(number))
            .map(|file| widened(file.bytes.len()))
            .sum()
    }

    fn room(&self) -> usize {
        usize::try_from(self.capacity.saturating_sub(self.used())).unwrap_or(usize::MAX)
    }

    fn check_sync(&mut self) -> Result<(), StoreError> {
        counted_down(&mut self.sync_failures)
    }

    fn check_folder_sync(&mut self) -> Result<(), StoreError> {
        counted_down(&mut self.folder_sync_failures)?;
        self.check_sync()
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str, create: Create) -> Result<Arc<dyn DiskFile>, StoreError> {
        let mut state = self.state.lock();
        self.alive(&state)?;
        let number = match (state.names.get(name), create) {
            (Some(number), _) => *number,
            (None, Create::MustExist) => return Err(missing("open", name)),
            (None, Create::IfMissing) => {
                let step = self.step(&state, "disk: create")?;
                let number = state.create(name);
                state.names_unsynced.push(NameChange::Set(name.to_owned(), number));
                survived(step)?;
                number
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), number }))
    }

    fn list(&self) -> Result<Vec<String>, StoreError> {
        let state = self.state.lock();
        self.alive(&state)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        if !self.state.lock().names.contains_key(name) {
            return Err(missing("remove", name));
        }
        self.change_names("disk: remove", NameChange::Remove(name.to_owned()))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        if !self.state.lock().names.contains_key(from) {
            return Err(missing("rename", from));
        }
        self.change_names("disk: rename", NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn sync_folder(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        survived(self.step(&state, "disk: sync folder")?)?;
        state.check_folder_sync()?;
        state.names_unsynced.clear();
        state.names_synced = state.names.clone();
        Ok(())
    }

    fn space(&self) -> Result<DiskSpace, StoreError> {
        let state = self.state.lock();
        let free = state.capacity.saturating_sub(state.used());
        Ok(DiskSpace { free, total: state.capacity })
    }
}

struct SimFile {
    disk: SimDisk,
    number: FileNumber,
}

impl SimFile {
    fn with<T>(
        &self,
        state: &mut State,
        work: impl FnOnce(&mut FileState) -> T,
    ) -> Result<T, StoreError> {
        state.files.get_mut(&self.number).map(work).ok_or_else(off)
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, position: u64, buffers: &[&[u8]]) -> Result<(), StoreError> {
        let mut state = self.disk.state.lock();
        let step = self.disk.step(&state, "disk: write")?;
        let room = state.room();
        let position = usize::try_from(position).map_err(|_| missing("write", "far away"))?;
        let mut bytes = buffers.concat();
        let wanted = bytes.len();
        self.with(&mut state, |file| {
            let overwritten = file.bytes.len().saturating_sub(position);
            bytes.truncate(room.saturating_add(overwritten).min(wanted));
            let fits = bytes.len() == wanted;
            file.write(position, bytes);
            fits
        })?
        .then_some(())
        .ok_or_else(|| StoreError::Full { path: simulated() })?;
        survived(step)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let mut state = self.disk.state.lock();
        self.disk.alive(&state)?;
        let end = position.saturating_add(widened(buffer.len()));
        self.with(&mut state, |file| {
            if file.unreadable.iter().any(|bad| bad.start < end && position < bad.end) {
                return Err(missing("read", "a bad sector"));
            }
            let from = usize::try_from(position).unwrap_or(usize::MAX).min(file.bytes.len());
            let count = buffer.len().min(file.bytes.len() - from);
            buffer[..count].copy_from_slice(&file.bytes[from..from + count]);
            Ok(count)
        })?
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.disk.state.lock();
        survived(self.disk.step(&state, "disk: sync")?)?;
        state.check_sync()?;
        self.with(&mut state, |file| file.unsynced.clear())
    }

    fn length(&self) -> Result<u64, StoreError> {
        let mut state = self.disk.state.lock();
        self.disk.alive(&state)?;
        self.with(&mut state, |file| widened(file.bytes.len()))
    }

    fn truncate(&self, length: u64) -> Result<(), StoreError> {
        let mut state = self.disk.state.lock();
        let step = self.disk.step(&state, "disk: truncate")?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.with(&mut state, |file| file.truncate(length))?;
        survived(step)
    }
}

impl FileState {
    fn write(&mut self, position: usize, bytes: Vec<u8>) {
        let length_before = self.bytes.len();
        let end = (position + bytes.len()).min(length_before);
        let before = self.bytes.get(position..end).unwrap_or_default().to_vec();
        place(&mut self.bytes, position, &bytes);
        self.unsynced.push(Change::Write { position, bytes, before, length_before });
    }

    fn truncate(&mut self, length: usize) {
        let length_before = self.bytes.len();
        let before = self.bytes.get(length..).unwrap_or_default().to_vec();
        self.bytes.resize(length, 0);
        self.unsynced.push(Change::Truncate { length, before, length_before });
    }

    fn crashed(&self, dice: &mut StdRng) -> Self {
        let mut bytes = self.bytes.clone();
        for change in self.unsynced.iter().rev() {
            change.undo(&mut bytes);
        }
        let style = dice.random_range(0..4);
        let kept = dice.random_range(0..=self.unsynced.len());
        for (index, change) in self.unsynced.iter().enumerate() {
            match style {
                0 => {}
                1 => change.redo(&mut bytes, |_| true),
                2 if index > kept => {}
                2 if index == kept => {
                    let pieces = dice.random_range(0..64);
                    change.redo(&mut bytes, |piece| piece < pieces);
                }
                2 => change.redo(&mut bytes, |_| true),
                _ => change.redo(&mut bytes, |_| dice.random_bool(0.5)),
            }
        }
        Self { bytes, unsynced: Vec::new(), unreadable: self.unreadable.clone() }
    }
}

impl Change {
    fn undo(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { position, before, length_before, .. } => {
                file.truncate(*length_before);
                place(file, *position, before);
                file.truncate(*length_before);
            }
            Self::Truncate { length, before, length_before } => {
                file.truncate(*length);
                file.extend_from_slice(before);
                file.truncate(*length_before);
            }
        }
    }

    fn redo(&self, file: &mut Vec<u8>, mut keeps: impl FnMut(usize) -> bool) {
        match self {
            Self::Write { position, bytes, .. } => {
                for (piece, part) in bytes.chunks(PIECE_BYTES).enumerate() {
                    if keeps(piece) {
                        place(file, position + piece * PIECE_BYTES, part);
                    }
                }
            }
            Self::Truncate { length, .. } if keeps(0) => file.resize(*length, 0),
            Self::Truncate { .. } => {}
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, FileNumber>) {
        match self {
            Self::Set(name, number) => {
                names.insert(name.clone(), *number);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(number) = names.remove(from) {
                    names.insert(to.clone(), number);
                }
            }
        }
    }
}

/// Writes `bytes` at `position`, with zeros in between if the file ends before.
fn place(file: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = position + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[position..end].copy_from_slice(bytes);
}

/// Fails as often as `failures` says.
fn counted_down(failures: &mut u64) -> Result<(), StoreError> {
    if *failures == 0 {
        return Ok(());
    }
    *failures -= 1;
    Err(StoreError::Stopped { path: simulated(), reason: "the sync failed".to_owned() })
}

fn survived(step: Step) -> Result<(), StoreError> {
    if step == Step::Done { Ok(()) } else { Err(off()) }
}

fn widened(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn simulated() -> PathBuf {
    PathBuf::from("simulated disk")
}

fn missing(action: &'static str, name: &str) -> StoreError {
    StoreError::Io { action, path: simulated().join(name), reason: "not there".to_owned() }
}

fn off() -> StoreError {
    StoreError::Stopped { path: simulated(), reason: "power is out".to_owned() }
}
