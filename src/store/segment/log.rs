//! The segment log as its callers see it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::compaction::Compacting;
use super::files::SegmentFiles;
use super::ledger::Ledger;
use super::reader::{CheckedChunk, Reader};
use super::record::{HEADER_BYTES, PAYLOAD_BYTES_MAX};
use super::recovery::{RecoveryReport, recover};
use super::writer::{Action, Reply, Request, Work, Writer};
use super::{FragmentKey, SealedExtent, SegmentFigures, SegmentOptions, refused};
use crate::codec::Crc32c;
use crate::env::{TaskHandle, Tasks, blocking};
use crate::store::disk::{Disk, DiskSpace};
use crate::store::driver::{self, Burst};
use crate::store::error::StoreError;
use crate::store::figures::SEGMENT_LATENCY;
use crate::store::meta::{Batch, MetaStore};
use crate::types::ExtentId;

/// The longest record of an extent.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// The most chunks of an extent.
const CHUNKS_MAX: u32 = 1 << 16;

/// The chunks of one data folder. Clones share one writer, which ends with the last of them.
#[derive(Clone)]
pub struct SegmentLog {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    shared: Arc<Shared>,
    pub(super) reader: Arc<Reader>,
    pub(super) files: Arc<SegmentFiles>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) fresh: Arc<Notify>,
    /// Held by the one compaction that works.
    pub(super) compacting: tokio::sync::Mutex<Compacting>,
    tasks: Arc<dyn Tasks>,
    room_max: u32,
    _task: TaskHandle,
}

struct Shared {
    queue: Mutex<Queue>,
    room: Arc<Semaphore>,
    wake: Arc<Notify>,
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    running: bool,
    stopped: Option<StoreError>,
}

impl SegmentLog {
    /// Opens the log in `disk`, recovering what a crash left, and starts its writer.
    ///
    /// Damage is no error: it is in the report, and what it hit answers `Damaged`.
    ///
    /// # Errors
    /// If the folder belongs to another disk or cannot be read, or the tables fail.
    pub async fn open(
        disk: Arc<dyn Disk>,
        meta: Arc<dyn MetaStore>,
        tasks: Arc<dyn Tasks>,
        options: SegmentOptions,
    ) -> Result<(Self, RecoveryReport), StoreError> {
        let files = Arc::new(SegmentFiles::new(disk));
        let (recovering, rows) = (Arc::clone(&files), Arc::clone(&meta));
        let recovered = blocking(&tasks, move || {
            let recovered = recover(&recovering, &*rows, options.disk)?;
            let ledger = Ledger::open(options.disk, rows, &recovered.lengths)?;
            Ok((recovered, Arc::new(ledger)))
        });
        let (recovered, ledger) = recovered.await.unwrap_or(Err(StoreError::Stopping))?;
        let fresh = Arc::new(Notify::new());
        // Rows of an earlier run may wait.
        fresh.notify_one();
        let writer = Writer::new(
            options,
            Arc::clone(&meta),
            Arc::clone(&files),
            &recovered,
            Arc::clone(&ledger),
            Arc::clone(&fresh),
        )?;
        let room_max = u32::try_from(options.queue_bytes_max.0).unwrap_or(u32::MAX).max(1);
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            room: Arc::new(Semaphore::new(usize::try_from(room_max).unwrap_or(1))),
            wake: Arc::default(),
            writer: Mutex::new(writer),
        });
        let task = driver::start("segment writer", &shared, Arc::clone(&tasks));
        let reader = Arc::new(Reader::new(options.disk, meta, Arc::clone(&files)));
        let compacting = tokio::sync::Mutex::default();
        let inner = Inner {
            shared,
            reader,
            files,
            ledger,
            fresh,
            compacting,
            tasks,
            room_max,
            _task: task,
        };
        Ok((Self { inner: Arc::new(inner) }, recovered.report))
    }

    /// Queues one chunk of an extent and resolves once there is room for it; it is durable only
    /// with the extent's seal, which also reports if it could not be written. Chunks of one extent
    /// are numbered from 0; one that is appended again replaces the first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if `payload` does not match `crc`; [`StoreError::Stopped`].
    pub async fn append(
        &self,
        extent: ExtentId,
        fragment: u8,
        chunk: u32,
        crc: Crc32c,
        payload: Bytes,
    ) -> Result<(), StoreError> {
        let key = FragmentKey { extent, fragment };
        check_chunk(key, chunk, crc, &payload)?;
        let room = self.inner.room(payload.len()).await?;
        let action = Action::Chunk { number: chunk, crc, payload };
        self.inner.shared.send(Work::Extent(key, action), Some(room))
    }

    /// Makes the extent's chunks 0 to `chunks` durable together with `record`, which becomes its
    /// row in `Family::Extents`. Many seals share one sync.
    ///
    /// # Errors
    /// [`StoreError::Full`] if any of it found no room; [`StoreError::Stopped`] after a failed
    /// sync; [`StoreError::Io`] if chunks are missing. The extent is then abandoned.
    pub async fn seal(
        &self,
        extent: ExtentId,
        fragment: u8,
        chunks: u32,
        record: Bytes,
    ) -> Result<(), StoreError> {
        let key = FragmentKey { extent, fragment };
        check_seal(key, chunks, &record)?;
        let room = self.inner.room(record.len()).await?;
        let (reply, answer) = oneshot::channel();
        let action = Action::Seal { chunks, record, reply };
        self.inner.shared.send(Work::Extent(key, action), Some(room))?;
        answer.await.unwrap_or(Err(StoreError::Stopping))
    }

    /// Writes a small extent at once: its chunks and its seal, with one sync.
    ///
    /// # Errors
    /// As for [`SegmentLog::append`] and [`SegmentLog::seal`].
    pub async fn put_whole(
        &self,
        extent: ExtentId,
        fragment: u8,
        chunks: Vec<(Crc32c, Bytes)>,
        record: Bytes,
    ) -> Result<(), StoreError> {
        let key = FragmentKey { extent, fragment };
        check_seal(key, u32::try_from(chunks.len()).unwrap_or(u32::MAX), &record)?;
        for (number, (crc, payload)) in (0..).zip(&chunks) {
            check_chunk(key, number, *crc, payload)?;
        }
        let bytes = chunks.iter().map(|(_, payload)| payload.len() + HEADER_BYTES).sum::<usize>();
        let room = self.inner.room(bytes + record.len()).await?;
        let (reply, answer) = oneshot::channel();
        let action = Action::Whole { chunks, record, reply };
        self.inner.shared.send(Work::Extent(key, action), Some(room))?;
        answer.await.unwrap_or(Err(StoreError::Stopping))
    }

    /// Forgets an extent that was appended to and not sealed: its writer went away.
    pub fn abandon(&self, extent: ExtentId, fragment: u8) {
        let key = FragmentKey { extent, fragment };
        // A log that has stopped has forgotten it already.
        drop(self.inner.shared.send(Work::Extent(key, Action::Abandon), None));
    }

    /// Adds to `batch` what forgets a sealed extent here: once it is committed, its bytes are
    /// dead, and a compaction gives their room back. If it is dropped or fails, nothing changes.
    /// The row in `Family::Extents` is the caller's to change in the same batch.
    ///
    /// The batch itself, or a copy of it, must be what is written: it keeps compactions from the
    /// extent until then.
    pub fn forget(&self, extent: ExtentId, fragment: u8, batch: &mut Batch) {
        // Replay begins behind the seals whose rows were durable before this batch, so it does
        // not bring the extent back.
        self.inner.ledger.forget(FragmentKey { extent, fragment }, batch);
    }

    /// What is durable of an extent.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it may have been here and its seal cannot be read.
    pub fn find(&self, extent: ExtentId, fragment: u8) -> Result<Option<SealedExtent>, StoreError> {
        self.inner.reader.find(FragmentKey { extent, fragment })
    }

    /// One chunk that matched its checksum; `None` only if it is certainly not here.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is here and cannot be read or fails its checksum.
    pub async fn read(
        &self,
        extent: ExtentId,
        fragment: u8,
        chunk: u32,
    ) -> Result<Option<CheckedChunk>, StoreError> {
        let key = FragmentKey { extent, fragment };
        let Some(runs) = self.inner.reader.runs(key)? else { return Ok(None) };
        if chunk >= runs.chunks() {
            return Ok(None);
        }
        let reader = Arc::clone(&self.inner.reader);
        self.inner.blocking(move || reader.read(key, chunk, &runs)).await
    }

    /// The first chunks of a range, in one hop off the async threads: as many as lie within
    /// 4 MiB, at least one if there is one; ask again from where it ended. Each is checked by
    /// itself. `None` only if the extent is certainly not here; fewer than asked for if it is
    /// forgotten meanwhile.
    ///
    /// # Errors
    /// Outside, if the extent cannot be found; inside, [`StoreError::Damaged`] for that chunk.
    pub async fn read_many(
        &self,
        extent: ExtentId,
        fragment: u8,
        chunks: Range<u32>,
    ) -> Result<Option<Vec<Result<CheckedChunk, StoreError>>>, StoreError> {
        let key = FragmentKey { extent, fragment };
        let Some(runs) = self.inner.reader.runs(key)? else { return Ok(None) };
        let reader = Arc::clone(&self.inner.reader);
        let read = move || reader.read_many(key, &runs, chunks);
        blocking(&self.inner.tasks, read).await.map(Some).ok_or(StoreError::Stopping)
    }

    /// Makes the derived rows durable, which shortens the next recovery. Called now and then, and
    /// at the node's stop.
    ///
    /// # Errors
    /// Those of the tables.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let reader = Arc::clone(&self.inner.reader);
        self.inner.blocking(move || reader.meta().sync()).await
    }

    /// Sizes for `/metrics`.
    #[must_use]
    pub fn figures(&self) -> SegmentFigures {
        self.inner.ledger.figures()
    }

    /// Room on the disk. Compaction of a segment needs room for what it copies, so writers are to
    /// be refused before the last of it is gone.
    ///
    /// # Errors
    /// If the system does not tell.
    pub async fn space(&self) -> Result<DiskSpace, StoreError> {
        let files = Arc::clone(&self.inner.files);
        self.inner.blocking(move || files.disk().space()).await
    }
}

impl Inner {
    /// Runs `work` off the async threads.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        blocking(&self.tasks, work).await.unwrap_or(Err(StoreError::Stopping))
    }

    /// Queues work of `bytes` and waits for its answer.
    pub(super) async fn ask<T>(
        &self,
        bytes: usize,
        work: impl FnOnce(Reply<T>) -> Work,
    ) -> Result<T, StoreError> {
        let room = self.room(bytes).await?;
        let (reply, answer) = oneshot::channel();
        self.shared.send(work(reply), Some(room))?;
        answer.await.unwrap_or(Err(StoreError::Stopping))
    }

    /// Nothing more is written.
    pub(super) fn stop(&self, error: &StoreError) {
        self.shared.stop(error);
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, StoreError> {
        // A request that is larger than the whole queue gets the queue for itself.
        let bytes = u32::try_from(bytes + HEADER_BYTES).unwrap_or(u32::MAX).min(self.room_max);
        match Arc::clone(&self.shared.room).acquire_many_owned(bytes).await {
            Ok(room) => Ok(room),
            Err(_closed) => Err(self.shared.stopped()),
        }
    }
}

impl Shared {
    fn send(&self, work: Work, room: Option<OwnedSemaphorePermit>) -> Result<(), StoreError> {
        let mut queue = self.queue.lock();
        if let Some(stopped) = &queue.stopped {
            return Err(stopped.clone());
        }
        queue.requests.push_back(Request { work, room });
        if !std::mem::replace(&mut queue.running, true) {
            self.wake.notify_one();
        }
        Ok(())
    }

    fn stopped(&self) -> StoreError {
        self.queue.lock().stopped.clone().unwrap_or(StoreError::Stopping)
    }

    fn next_group(&self) -> Option<Vec<Request>> {
        let mut queue = self.queue.lock();
        if queue.requests.is_empty() {
            queue.running = false;
            return None;
        }
        Some(queue.requests.drain(..).collect())
    }

    fn stop(&self, error: &StoreError) {
        let refused = {
            let mut queue = self.queue.lock();
            queue.stopped.get_or_insert_with(|| error.clone());
            std::mem::take(&mut queue.requests)
        };
        self.room.close();
        for request in refused {
            request.work.refuse(error);
        }
    }
}

impl Burst for Shared {
    fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    fn run(&self) {
        let mut writer = self.writer.lock();
        while let Some(group) = self.next_group() {
            let timer = SEGMENT_LATENCY.start_timer();
            writer.write(group);
            timer.observe_duration();
            if let Some(error) = writer.stopped() {
                self.stop(error);
            }
        }
    }

    fn refuse(&self) {
        self.stop(&StoreError::Stopping);
    }
}

fn check_chunk(
    key: FragmentKey,
    chunk: u32,
    crc: Crc32c,
    payload: &Bytes,
) -> Result<(), StoreError> {
    if payload.len() > PAYLOAD_BYTES_MAX || chunk >= CHUNKS_MAX {
        let reason = format!("chunk {chunk} of {} bytes is out of bounds", payload.len());
        return Err(refused("append", key, reason));
    }
    if !crc.matches(payload) {
        return Err(StoreError::Damaged {
            path: std::path::PathBuf::from(format!("extent {}", key.extent)),
            reason: format!("chunk {chunk} was damaged on its way here"),
        });
    }
    Ok(())
}

fn check_seal(key: FragmentKey, chunks: u32, record: &Bytes) -> Result<(), StoreError> {
    if chunks > CHUNKS_MAX || record.len() > RECORD_BYTES_MAX {
        let reason =
            format!("{chunks} chunks and a record of {} bytes are out of bounds", record.len());
        return Err(refused("seal", key, reason));
    }
    Ok(())
}
