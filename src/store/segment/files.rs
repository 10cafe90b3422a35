//! Open segment files, so that a read does not open one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::SegmentNumber;
use crate::store::disk::{Create, Disk, DiskFile};
use crate::store::error::StoreError;

/// Files kept open for reading; the one unused for longest is closed for another.
const OPEN_FILES_MAX: usize = 512;

pub(super) struct SegmentFiles {
    disk: Arc<dyn Disk>,
    open: Mutex<OpenFiles>,
}

#[derive(Default)]
struct OpenFiles {
    uses: u64,
    files: BTreeMap<SegmentNumber, (u64, Arc<dyn DiskFile>)>,
    /// Segments that are gone: whoever still has one open keeps it to himself, so that its room
    /// is given back with the last read.
    removed: BTreeSet<SegmentNumber>,
}

impl OpenFiles {
    fn get(&mut self, number: SegmentNumber) -> Option<Arc<dyn DiskFile>> {
        self.uses += 1;
        let (used, file) = self.files.get_mut(&number)?;
        *used = self.uses;
        Some(Arc::clone(file))
    }

    fn put(&mut self, number: SegmentNumber, file: Arc<dyn DiskFile>) {
        if self.removed.contains(&number) {
            return;
        }
        while self.files.len() >= OPEN_FILES_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (used, _))| *used);
            let Some(oldest) = oldest.map(|(number, _)| *number) else { break };
            self.files.remove(&oldest);
        }
        self.uses += 1;
        self.files.insert(number, (self.uses, file));
    }
}

impl SegmentFiles {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Mutex::new(OpenFiles::default()) }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The file of an existing segment.
    pub(super) fn existing(&self, number: SegmentNumber) -> Result<Arc<dyn DiskFile>, StoreError> {
        if let Some(file) = self.open.lock().get(number) {
            return Ok(file);
        }
        let file = self.disk.open(&number.file_name(), Create::MustExist)?;
        self.open.lock().put(number, Arc::clone(&file));
        Ok(file)
    }

    /// The file of a segment that is about to be begun.
    pub(super) fn created(&self, number: SegmentNumber) -> Result<Arc<dyn DiskFile>, StoreError> {
        let file = self.disk.open(&number.file_name(), Create::IfMissing)?;
        self.open.lock().put(number, Arc::clone(&file));
        Ok(file)
    }

    /// Removes a segment for good. Its name is gone durably once the folder is synced.
    pub(super) fn remove(&self, number: SegmentNumber) -> Result<(), StoreError> {
        self.disk.remove(&number.file_name())?;
        let mut open = self.open.lock();
        open.removed.insert(number);
        open.files.remove(&number);
        Ok(())
    }
}
