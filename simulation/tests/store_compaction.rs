//! Room comes back, and nothing else goes: compaction under power cuts, races, damage and full
//! disks.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate::codec::Crc32c;
use quorate::env::{TaskHandle, Tasks, TokioTasks};
use quorate::store::{
    Batch, CommitLimits, CompactionLimits, CompactionReport, CompactionStep, Create, Disk,
    DiskFile, DiskSpace, Durability, Family, FamilyVisitor, KeyRange, MetaFigures, MetaStore,
    Operation, RecoveryReport, Rows, SegmentFigures, SegmentLog, SegmentOptions, StoreError, Visit,
};
use quorate::types::{ByteCount, DiskId, ExtentId};
use quorate_simulation::disk::SimDisk;
use quorate_simulation::meta::MemMeta;
use quorate_simulation::power::Power;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Tasks on this thread; blocking work in place, or later if it is held back.
#[derive(Clone)]
struct TestTasks {
    tasks: Arc<TokioTasks>,
    held_back: Arc<Mutex<Option<Vec<Work>>>>,
}

type Work = Box<dyn FnOnce() + Send>;

impl TestTasks {
    fn new() -> Self {
        Self { tasks: Arc::new(TokioTasks::current()), held_back: Arc::default() }
    }

    fn hold_back(&self) {
        *self.held_back.lock() = Some(Vec::new());
    }

    fn go_on(&self) -> Vec<Work> {
        self.held_back.lock().take().unwrap()
    }
}

impl Tasks for TestTasks {
    fn spawn(
        &self,
        name: &'static str,
        task: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> TaskHandle {
        self.tasks.spawn(name, task)
    }

    fn run_blocking(&self, work: Work) {
        let mut held_back = self.held_back.lock();
        match &mut *held_back {
            Some(later) => later.push(work),
            None => {
                drop(held_back);
                work();
            }
        }
    }
}

fn tasks() -> Arc<dyn Tasks> {
    Arc::new(TestTasks::new())
}

const DISK: DiskId = DiskId::from_bytes([0xd1; 16]);
const SEGMENT_BYTES: u64 = 6000;
const HEADER: u64 = 40;

async fn open_with(
    disk: &SimDisk,
    meta: &MemMeta,
    tasks: Arc<dyn Tasks>,
) -> Result<(SegmentLog, RecoveryReport), StoreError> {
    let options =
        SegmentOptions { segment_size: ByteCount(SEGMENT_BYTES), ..SegmentOptions::new(DISK) };
    SegmentLog::open(Arc::new(disk.clone()), Arc::new(meta.clone()), tasks, options).await
}

async fn open(disk: &SimDisk, meta: &MemMeta) -> Result<(SegmentLog, RecoveryReport), StoreError> {
    open_with(disk, meta, tasks()).await
}

fn machine(power: &Power) -> (SimDisk, MemMeta) {
    (SimDisk::new(power.clone()), MemMeta::new(power.clone()))
}

fn crash(disk: &SimDisk, meta: &MemMeta, seed: u64, power: &Power) -> (SimDisk, MemMeta) {
    (disk.crash(seed, power.clone()), meta.crash(seed, power.clone()))
}

fn extent(number: u8) -> ExtentId {
    ExtentId::from_bytes([number; 16])
}

fn chunk(extent: u8, number: u32) -> (Crc32c, Bytes) {
    let length = 600 + usize::try_from(number % 3).unwrap() * 13;
    let bytes = Bytes::from(vec![extent ^ u8::try_from(number).unwrap(); length]);
    (Crc32c::of(&bytes), bytes)
}

fn chunks(number: u8, count: u32) -> Vec<(Crc32c, Bytes)> {
    (0..count).map(|index| chunk(number, index)).collect()
}

fn record(number: u8) -> Bytes {
    Bytes::from(format!("record of extent {number}"))
}

async fn put(log: &SegmentLog, number: u8, count: u32) -> Result<(), StoreError> {
    log.put_whole(extent(number), 0, chunks(number, count), record(number)).await
}

fn forgetting(log: &SegmentLog, number: u8) -> Batch {
    let mut batch = Batch::new();
    log.forget(extent(number), 0, &mut batch);
    batch.delete(Family::Extents, [[number; 16].as_slice(), &[0]].concat());
    batch
}

fn rows_of(meta: &MemMeta) -> Rows {
    Rows::start(Arc::new(meta.clone()), tasks(), CommitLimits::default())
}

async fn forget(log: &SegmentLog, meta: &MemMeta, number: u8) -> Result<(), StoreError> {
    rows_of(meta).commit(forgetting(log, number)).await
}

/// The extents here are small, and their seals are taken to be as large.
fn limits() -> CompactionLimits {
    CompactionLimits { dead_percent_min: 15, ..CompactionLimits::default() }
}

/// Compacts until there is nothing left to do, and sums up.
async fn compact_all(log: &SegmentLog) -> Result<CompactionReport, StoreError> {
    let mut all = CompactionReport::default();
    for _ in 0..100 {
        let report = log.compact(limits()).await?;
        all.segments.extend(report.segments);
        all.moved_extents += report.moved_extents;
        all.copied_bytes += report.copied_bytes;
        all.freed_bytes += report.freed_bytes;
        all.damaged.extend(report.damaged);
        if report.step == CompactionStep::Idle {
            return Ok(all);
        }
    }
    panic!("it never comes to an end: {all:?}");
}

/// What a reader may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Here(u32),
    Gone,
    Either(u32),
}

type Expectations = BTreeMap<u8, Expected>;

async fn verify(log: &SegmentLog, expected: &Expectations, context: &str) {
    for (number, expected) in expected {
        let count = match (expected, log.find(extent(*number), 0)) {
            (Expected::Gone | Expected::Either(_), Ok(None)) => continue,
            // Power was cut in the middle of it.
            (Expected::Either(_), Err(StoreError::Damaged { .. })) => continue,
            (Expected::Here(count) | Expected::Either(count), Ok(Some(found))) => {
                assert_eq!((found.chunks, &found.record), (*count, &record(*number)), "{context}");
                *count
            }
            (expected, found) => panic!("{number} is {found:?}, not {expected:?}: {context}"),
        };
        let verified = log.verify(extent(*number), 0).await.unwrap().unwrap();
        assert_eq!(verified.chunks, count, "{context}");
        for index in 0..count {
            match log.read(extent(*number), 0, index).await {
                Ok(read) => assert_eq!(read, Some(chunk(*number, index)), "{context}"),
                Err(StoreError::Damaged { .. }) if matches!(expected, Expected::Either(_)) => {
                    assert!(verified.damaged.contains(&index), "{context}");
                }
                Err(error) => panic!("chunk {index} of {number} is {error}: {context}"),
            }
        }
    }
}

fn bytes_on(disk: &SimDisk) -> u64 {
    let files = disk.list().unwrap();
    files.iter().map(|name| u64::try_from(disk.bytes(name).len()).unwrap()).sum()
}

/// Ten extents of two chunks each, some four to a segment.
async fn ten_extents(log: &SegmentLog) -> Expectations {
    let mut expected = Expectations::new();
    for number in 1..=10 {
        put(log, number, 2).await.unwrap();
        expected.insert(number, Expected::Here(2));
    }
    expected
}

async fn forget_some(
    log: &SegmentLog,
    meta: &MemMeta,
    numbers: &[u8],
    expected: &mut Expectations,
) {
    for number in numbers {
        forget(log, meta, *number).await.unwrap();
        expected.insert(*number, Expected::Gone);
    }
}

async fn with_forgotten(numbers: &[u8]) -> (SimDisk, MemMeta, SegmentLog, Expectations) {
    let (disk, meta) = machine(&Power::steady());
    let (log, _) = open(&disk, &meta).await.unwrap();
    let mut expected = ten_extents(&log).await;
    forget_some(&log, &meta, numbers, &mut expected).await;
    (disk, meta, log, expected)
}

#[tokio::test]
async fn the_room_of_forgotten_extents_comes_back() {
    let (disk, _meta, log, expected) = with_forgotten(&[1, 2, 3, 5, 6, 8]).await;
    let (before, figures) = (bytes_on(&disk), log.figures());
    assert_eq!(figures.bytes, before);

    let report = compact_all(&log).await.unwrap();

    assert_eq!(bytes_on(&disk), before - report.freed_bytes + growth(&figures, &log, &report));
    assert!(bytes_on(&disk) < before * 2 / 3, "{before} {}", bytes_on(&disk));
    assert!(!disk.list().unwrap().contains(&"0000000001.seg".to_owned()));
    assert_eq!(log.figures().live_bytes, 4 * (600 + 613 + 2 * HEADER));
    assert_eq!(log.figures().bytes, bytes_on(&disk));
    verify(&log, &expected, "compacted").await;
}

/// Bytes that the compaction itself wrote.
fn growth(before: &SegmentFigures, log: &SegmentLog, report: &CompactionReport) -> u64 {
    log.figures().bytes + report.freed_bytes - before.bytes
}

#[tokio::test]
async fn a_segment_without_living_bytes_goes_without_room_for_copies() {
    let (disk, _meta, log, expected) = with_forgotten(&[1, 2, 3, 4, 5]).await;
    disk.set_capacity(bytes_on(&disk));

    let report = compact_all(&log).await.unwrap();

    assert_eq!((report.segments, report.moved_extents), (vec![1], 0));
    assert!(report.freed_bytes > SEGMENT_BYTES / 2);
    verify(&log, &expected, "compacted").await;
}

#[tokio::test]
async fn segments_that_are_mostly_alive_stay() {
    let (disk, _meta, log, expected) = with_forgotten(&[1, 5, 9]).await;
    let before = bytes_on(&disk);

    let report = compact_all(&log).await.unwrap();

    assert_eq!((report, bytes_on(&disk)), (CompactionReport::default(), before));
    verify(&log, &expected, "compacted").await;
}

#[tokio::test]
async fn tiny_extents_are_not_copied_for_ever() {
    let (disk, meta) = machine(&Power::steady());
    let (log, _) = open(&disk, &meta).await.unwrap();
    let byte = Bytes::from_static(b"x");
    for number in 1..=200 {
        let chunks = vec![(Crc32c::of(&byte), byte.clone())];
        log.put_whole(extent(number), 0, chunks, record(number)).await.unwrap();
    }
    assert!(disk.list().unwrap().len() > 3);

    assert_eq!(compact_all(&log).await.unwrap(), CompactionReport::default());

    for number in 1..=200 {
        forget(&log, &meta, number).await.unwrap();
    }
    compact_all(&log).await.unwrap();
    assert_eq!(disk.list().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_known_of_live_bytes_is_what_a_restart_counts() {
    for seed in 0..40 {
        let mut dice = StdRng::seed_from_u64(seed);
        let (disk, meta) = machine(&Power::steady());
        let (log, _) = open(&disk, &meta).await.unwrap();
        for _ in 0..60 {
            let number = dice.random_range(1..=12);
            match dice.random_range(0..8) {
                0..4 => drop(put(&log, number, dice.random_range(0..4)).await),
                4..6 => drop(forget(&log, &meta, number).await),
                6 => drop(forgetting(&log, number)),
                _ => drop(log.compact(limits()).await),
            }
        }
        let figures = log.figures();

        let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
        let (log, _) = open(&disk, &meta).await.unwrap();

        assert_eq!(log.figures(), figures, "seed {seed}");
        assert_eq!(figures.bytes, bytes_on(&disk));
    }
}

/// Puts, forgets, puts again and compacts, with an extent being written all along. What the
/// callers know in the end.
async fn scenario(log: &SegmentLog, meta: &MemMeta) -> Expectations {
    let mut expected = Expectations::new();
    let (crc, bytes) = chunk(30, 0);
    drop(log.append(extent(30), 0, 0, crc, bytes).await);
    for number in 1..=9 {
        put_expecting(log, number, 2, &mut expected).await;
    }
    for number in [1, 3, 5, 6] {
        let here = expected[&number];
        expected.insert(number, after_forget(&forget(log, meta, number).await, here));
    }
    // Its chunks are damaged, say: the bytes are written once more.
    put_expecting(log, 4, 2, &mut expected).await;
    for number in 10..=12 {
        let small = CompactionLimits { copied_max: ByteCount(1), ..limits() };
        drop(log.compact(small).await);
        put_expecting(log, number, 1, &mut expected).await;
    }
    drop(log.checkpoint().await);
    let here = expected[&7];
    expected.insert(7, after_forget(&forget(log, meta, 7).await, here));
    drop(compact_all(log).await);
    let (crc, bytes) = chunk(30, 1);
    drop(log.append(extent(30), 0, 1, crc, bytes).await);
    let sealed = log.seal(extent(30), 0, 2, record(30)).await;
    expected.insert(30, if sealed.is_ok() { Expected::Here(2) } else { Expected::Either(2) });
    for number in [8, 9] {
        let here = expected[&number];
        expected.insert(number, after_forget(&forget(log, meta, number).await, here));
    }
    drop(compact_all(log).await);
    expected
}

async fn put_expecting(log: &SegmentLog, number: u8, count: u32, expected: &mut Expectations) {
    let put = put(log, number, count).await;
    if put.is_ok() {
        expected.insert(number, Expected::Here(count));
    } else {
        expected.entry(number).or_insert(Expected::Either(count));
    }
}

fn after_forget(forgotten: &Result<(), StoreError>, before: Expected) -> Expected {
    match (forgotten, before) {
        (Ok(()), _) => Expected::Gone,
        (Err(_), Expected::Here(count)) => Expected::Either(count),
        (Err(_), before) => before,
    }
}

async fn run_until(steps: u64) -> (SimDisk, MemMeta, Expectations, Option<&'static str>) {
    let power = Power::cut_after(steps);
    let (disk, meta) = machine(&power);
    let expected = match open(&disk, &meta).await {
        Ok((log, _)) => scenario(&log, &meta).await,
        Err(_) => Expectations::new(),
    };
    (disk, meta, expected, power.cut_at())
}

/// Compacts what a restart found, and looks whether all room came back.
async fn compact_and_verify(log: &SegmentLog, expected: &Expectations, context: &str) {
    let report = compact_all(log).await.unwrap_or_else(|error| panic!("{error}: {context}"));
    verify(log, expected, context).await;
    let figures = log.figures();
    let pinned = u64::try_from(report.damaged.len()).unwrap();
    let room = 2 * figures.live_bytes + (3 + pinned) * SEGMENT_BYTES;
    assert!(figures.bytes <= room, "room did not come back: {figures:?} {context}");
}

const SEEDS: u64 = 12;

#[tokio::test]
async fn nothing_is_lost_or_brought_back_by_a_power_cut_at_any_step() {
    let mut points = BTreeSet::new();
    for steps in 0.. {
        let mut cut = None;
        for seed in 0..SEEDS {
            let (disk, meta, expected, at) = run_until(steps).await;
            cut = at;
            let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
            let context = format!("cut at step {steps} ({at:?}), seed {seed}");

            let (log, _) = open(&disk, &meta).await.unwrap();

            verify(&log, &expected, &context).await;
            compact_and_verify(&log, &expected, &context).await;
            let (disk, meta) = crash(&disk, &meta, seed + 100, &Power::steady());
            let (log, _) = open(&disk, &meta).await.unwrap();
            verify(&log, &expected, &format!("{context}, and again")).await;
            assert_eq!(log.figures().bytes, bytes_on(&disk), "{context}");
        }
        let Some(cut) = cut else { break };
        points.insert(cut);
    }

    let all = [
        "disk: create",
        "disk: remove",
        "disk: sync",
        "disk: sync folder",
        "disk: truncate",
        "disk: write",
        "rows: derived write",
        "rows: sync",
        "rows: synced write",
    ];
    assert_eq!(points, BTreeSet::from(all), "each kind of step was interrupted");
}

#[tokio::test]
async fn nothing_is_lost_or_brought_back_if_the_restart_is_cut_too() {
    for steps in (0..).step_by(3) {
        let mut cut = None;
        for again in 0.. {
            let seed = steps * 31 + again;
            let (disk, meta, expected, at) = run_until(steps).await;
            cut = at;
            let power = Power::cut_after(again);
            let (disk, meta) = crash(&disk, &meta, seed, &power);
            if let Ok((log, _)) = open(&disk, &meta).await {
                drop(compact_all(&log).await);
            }
            let (disk, meta) = crash(&disk, &meta, seed + 1, &Power::steady());
            let (log, _) = open(&disk, &meta).await.unwrap();

            let context = format!("cut at {steps} ({at:?}), then at {again}, seed {seed}");
            verify(&log, &expected, &context).await;
            compact_and_verify(&log, &expected, &context).await;
            if !power.is_off() {
                break;
            }
        }
        if cut.is_none() {
            break;
        }
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_at_any_step() {
    for steps in 0.. {
        let (disk, meta, expected, at) = run_until(steps).await;
        let (disk, meta) = (disk.kill(Power::steady()), meta.kill(Power::steady()));
        let (log, _) = open(&disk, &meta).await.unwrap();

        let context = format!("killed at {steps} ({at:?})");
        verify(&log, &expected, &context).await;
        compact_and_verify(&log, &expected, &context).await;
        if at.is_none() {
            break;
        }
    }
}

async fn random_work(
    log: &SegmentLog,
    meta: &MemMeta,
    dice: &mut StdRng,
    expected: &mut Expectations,
) {
    let number = dice.random_range(1..=8);
    match (dice.random_range(0..9), expected.get(&number).copied()) {
        (0..4, before) => {
            let count = 1 + u32::from(number) % 3;
            put_expecting(log, number, count, expected).await;
            if before == Some(Expected::Gone) && expected[&number] == Expected::Gone {
                expected.insert(number, Expected::Either(count));
            }
        }
        (4..6, Some(here)) => {
            let forgotten = forget(log, meta, number).await;
            expected.insert(number, after_forget(&forgotten, here));
        }
        (4..6, None) => {}
        _ => drop(log.compact(limits()).await),
    }
}

#[tokio::test]
async fn any_sequence_of_work_and_crashes_keeps_what_was_acknowledged() {
    for seed in 0..150 {
        let mut dice = StdRng::seed_from_u64(seed);
        let (mut disk, mut meta) = machine(&Power::steady());
        let mut expected = Expectations::new();
        for life in 0..5 {
            let power = Power::cut_after(dice.random_range(0..200));
            (disk, meta) = crash(&disk, &meta, dice.random(), &power);
            let Ok((log, _)) = open(&disk, &meta).await else { continue };
            for _ in 0..25 {
                random_work(&log, &meta, &mut dice, &mut expected).await;
            }
            if !power.is_off() {
                verify(&log, &expected, &format!("seed {seed}, life {life}")).await;
            }
        }
        let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
        let (log, _) = open(&disk, &meta).await.unwrap();
        verify(&log, &expected, &format!("seed {seed}, in the end")).await;
        compact_and_verify(&log, &expected, &format!("seed {seed}, in the end")).await;
    }
}

async fn yields(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_forgotten_extent_is_not_brought_back_whenever_it_is_forgotten() {
    for (begun, lasting) in (0..30).flat_map(|begun| (0..30).map(move |lasting| (begun, lasting))) {
        let (disk, meta, log, mut expected) = with_forgotten(&[1, 2, 5, 6]).await;
        let rows = rows_of(&meta);
        let forgetting = async {
            yields(begun).await;
            let batch = forgetting(&log, 3);
            yields(lasting).await;
            rows.commit(batch).await.unwrap();
        };
        let (compacted, ()) = tokio::join!(compact_all(&log), forgetting);
        compacted.unwrap();
        expected.insert(3, Expected::Gone);

        let context = format!("begun after {begun}, committed {lasting} later");
        verify(&log, &expected, &context).await;
        compact_and_verify(&log, &expected, &context).await;
        let (disk, meta) = crash(&disk, &meta, begun, &Power::steady());
        let (log, _) = open(&disk, &meta).await.unwrap();
        verify(&log, &expected, &format!("{context}, after a crash")).await;
    }
}

/// Rows that another thread changes at the worst moment: just before a compaction moves one.
#[derive(Clone)]
struct RacingMeta {
    meta: MemMeta,
    key: Bytes,
    batch: Arc<Mutex<Option<Batch>>>,
}

impl MetaStore for RacingMeta {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.meta.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), StoreError> {
        self.meta.scan(family, range, visit)
    }

    fn scan_together(
        &self,
        ranges: &[(Family, KeyRange)],
        visit: &mut FamilyVisitor<'_>,
    ) -> Result<(), StoreError> {
        self.meta.scan_together(ranges, visit)
    }

    fn write(&self, batches: &[Batch], durability: Durability) -> Result<(), StoreError> {
        let moves = |operation: &Operation| match operation {
            Operation::Put { family, key, .. } => *family == Family::Chunks && *key == self.key,
            _ => false,
        };
        if batches.iter().flat_map(Batch::operations).any(moves) {
            self.commit()?;
        }
        self.meta.write(batches, durability)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.meta.sync()
    }

    fn figures(&self) -> MetaFigures {
        self.meta.figures()
    }
}

impl RacingMeta {
    fn commit(&self) -> Result<(), StoreError> {
        let batch = self.batch.lock().take();
        batch.map_or(Ok(()), |batch| self.meta.write(&[batch], Durability::Synced))
    }
}

#[tokio::test]
async fn a_batch_that_is_written_while_rows_are_moved_is_not_undone() {
    let (disk, meta, log, mut expected) = with_forgotten(&[1, 2, 5, 6]).await;
    drop(log);
    let key = [[3; 16].as_slice(), &[0], DISK.as_bytes()].concat().into();
    let racing = RacingMeta { meta: meta.clone(), key, batch: Arc::default() };
    let options =
        SegmentOptions { segment_size: ByteCount(SEGMENT_BYTES), ..SegmentOptions::new(DISK) };
    let rows = Arc::new(racing.clone());
    let (log, _) = SegmentLog::open(Arc::new(disk), rows, tasks(), options).await.unwrap();
    *racing.batch.lock() = Some(forgetting(&log, 3));

    compact_all(&log).await.unwrap();
    racing.commit().unwrap();

    expected.insert(3, Expected::Gone);
    compact_and_verify(&log, &expected, "it was forgotten").await;
}

#[tokio::test]
async fn seals_of_copies_whose_rows_were_not_moved_bring_nothing_back() {
    let (disk, meta, log, mut expected) = with_forgotten(&[1, 2]).await;
    for number in 3..=10 {
        register(&log, &meta, number).await.unwrap();
    }
    meta.fail_writes(Some(StoreError::Full { path: "rows".into() }));
    let failed = compact_all(&log).await;
    assert!(matches!(failed, Err(StoreError::Full { .. })), "{failed:?}");
    meta.fail_writes(None);
    verify(&log, &expected, "nothing was moved").await;
    forget_some(&log, &meta, &[3], &mut expected).await;

    let (disk, meta) = crash(&disk, &meta, 1, &Power::steady());
    let (log, report) = open(&disk, &meta).await.unwrap();

    assert_eq!(report.replayed_seals, 1, "the other extent's row was moved: {report:?}");
    verify(&log, &expected, "after a crash").await;
    assert_eq!(fresh(&log).await, [0; 0]);
    compact_and_verify(&log, &expected, "compacted").await;
    assert!(!disk.list().unwrap().contains(&"0000000001.seg".to_owned()));
}

#[tokio::test]
async fn an_extent_that_is_sealed_again_while_it_is_moved_keeps_the_newer_row() {
    for begun in 0..40 {
        let (disk, meta, log, mut expected) = with_forgotten(&[1, 2, 5, 6]).await;
        let again = async {
            yields(begun).await;
            put(&log, 3, 2).await.unwrap();
            forget(&log, &meta, 7).await.unwrap();
        };
        let (compacted, ()) = tokio::join!(compact_all(&log), again);
        compacted.unwrap();
        expected.insert(7, Expected::Gone);

        let context = format!("written again after {begun}");
        verify(&log, &expected, &context).await;
        let figures = log.figures();
        let (disk, meta) = crash(&disk, &meta, begun, &Power::steady());
        let (log, _) = open(&disk, &meta).await.unwrap();
        verify(&log, &expected, &format!("{context}, after a crash")).await;
        assert_eq!(log.figures(), figures, "{context}");
    }
}

#[tokio::test]
async fn a_restart_does_not_miss_a_segment_that_was_removed() {
    for seed in 0..SEEDS {
        let (disk, meta) = machine(&Power::steady());
        let (log, _) = open(&disk, &meta).await.unwrap();
        let expected = ten_extents(&log).await;
        log.checkpoint().await.unwrap();
        for number in 1..=10 {
            put(&log, number, 2).await.unwrap();
        }
        assert!(compact_all(&log).await.unwrap().segments.len() > 2);

        let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
        let (log, report) = open(&disk, &meta).await.unwrap();

        assert_eq!(report.damage_count, 0, "seed {seed}: {report:?}");
        verify(&log, &expected, &format!("seed {seed}")).await;
    }
}

#[tokio::test]
async fn an_extent_that_is_being_forgotten_keeps_its_bytes_until_the_batch_is_written() {
    let (disk, meta, log, mut expected) = with_forgotten(&[1, 2, 3]).await;
    let batch = forgetting(&log, 4);
    let copy = batch.clone();

    compact_all(&log).await.unwrap();
    verify(&log, &expected, "nothing is written").await;
    drop(copy);
    compact_all(&log).await.unwrap();
    verify(&log, &expected, "one copy of the batch was dropped").await;
    assert!(disk.list().unwrap().contains(&"0000000001.seg".to_owned()), "its segment stays");

    rows_of(&meta).commit(batch).await.unwrap();
    expected.insert(4, Expected::Gone);
    let report = compact_all(&log).await.unwrap();

    assert!(report.freed_bytes > 0, "{report:?}");
    verify(&log, &expected, "written").await;
}

#[tokio::test]
async fn a_batch_that_fails_loses_no_bytes_and_pins_none() {
    let (_disk, meta, log, expected) = with_forgotten(&[1, 2, 3]).await;
    meta.fail_writes(Some(StoreError::Full { path: "rows".into() }));
    forget(&log, &meta, 4).await.unwrap_err();
    meta.fail_writes(None);
    drop(forgetting(&log, 4));

    let report = compact_all(&log).await.unwrap();

    assert_eq!(report.moved_extents, 1, "{report:?}");
    verify(&log, &expected, "compacted").await;
}

#[tokio::test]
async fn a_segment_goes_only_once_the_rows_that_replace_its_extents_are_durable() {
    for seed in 0..SEEDS {
        let (disk, meta) = machine(&Power::steady());
        let (log, _) = open(&disk, &meta).await.unwrap();
        let expected = ten_extents(&log).await;
        log.checkpoint().await.unwrap();
        for number in 1..=5 {
            put(&log, number, 2).await.unwrap();
        }
        let report = log.compact(limits()).await.unwrap();
        assert_eq!((report.step, report.moved_extents), (CompactionStep::Removed, 0));

        let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
        // One of the chunks that were written again rots while power is off: the restart does not
        // take the older ones instead, for they are gone.
        let rotten = chunk(1, 0).1;
        let places = disk.list().unwrap().into_iter().filter_map(|name| {
            let at = disk.bytes(&name).windows(rotten.len()).position(|bytes| bytes == rotten)?;
            Some((name, at))
        });
        let (name, at) = places.last().unwrap();
        disk.flip_bit(&name, at, 3);

        let (log, _) = open(&disk, &meta).await.unwrap();
        let whole =
            log.read(extent(1), 0, 1).await.unwrap_or_else(|error| panic!("{seed}: {error}"));
        assert_eq!(whole, Some(chunk(1, 1)), "seed {seed}");
        assert!(log.read(extent(1), 0, 0).await.is_err());
        let others = expected.into_iter().filter(|(number, _)| *number != 1).collect();
        verify(&log, &others, &format!("seed {seed}")).await;
    }
}

#[tokio::test]
async fn a_damaged_chunk_stays_damaged_until_the_extent_is_written_again() {
    let (disk, meta, log, mut expected) = with_forgotten(&[1, 2]).await;
    let segment = "0000000001.seg";
    let third = usize::try_from(HEADER).unwrap() + 2 * (3 * 40 + 600 + 613 + 28 + 21 + 4) + 60;
    disk.flip_bit(segment, third, 3);
    let third = expected.remove(&3).unwrap();

    let report = compact_all(&log).await.unwrap();

    assert_eq!(report.damaged, [(extent(3), 0)]);
    assert!(matches!(log.read(extent(3), 0, 0).await, Err(StoreError::Damaged { .. })));
    assert_eq!(log.read(extent(3), 0, 1).await.unwrap(), Some(chunk(3, 1)));
    assert_eq!(log.verify(extent(3), 0).await.unwrap().unwrap().damaged, [0]);
    assert_eq!(compact_all(&log).await.unwrap(), CompactionReport::default(), "it is left alone");
    assert!(disk.list().unwrap().contains(&segment.to_owned()));
    verify(&log, &expected, "the others were moved").await;
    let (disk, meta) = crash(&disk, &meta, 1, &Power::steady());
    let (log, _) = open(&disk, &meta).await.unwrap();
    assert!(matches!(log.read(extent(3), 0, 0).await, Err(StoreError::Damaged { .. })));

    put(&log, 3, 2).await.unwrap();
    expected.insert(3, third);
    compact_all(&log).await.unwrap();

    assert!(!disk.list().unwrap().contains(&segment.to_owned()), "repaired, so its room is free");
    verify(&log, &expected, "repaired").await;
}

#[tokio::test]
async fn a_row_that_cannot_be_decoded_keeps_every_segment() {
    let (disk, meta, log, _) = with_forgotten(&[1, 2, 3, 4, 5]).await;
    let mut batch = Batch::new();
    let key = [[9; 16].as_slice(), &[0], DISK.as_bytes()].concat();
    batch.put(Family::Chunks, key, Bytes::from_static(b"from a later release"));
    meta.write(&[batch], Durability::Synced).unwrap();
    let before = bytes_on(&disk);

    let refused = compact_all(&log).await;

    assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
    assert_eq!(bytes_on(&disk), before);
    forget(&log, &meta, 9).await.unwrap();
    assert!(compact_all(&log).await.unwrap().freed_bytes > 0);
}

#[tokio::test]
async fn a_reader_that_knew_the_old_place_gets_the_right_bytes() {
    let (disk, meta, log, _) = with_forgotten(&[1, 2, 3]).await;
    drop(log);
    let tasks = TestTasks::new();
    // Opened anew, so that no file is open yet.
    let (log, _) = open_with(&disk, &meta, Arc::new(tasks.clone())).await.unwrap();
    let mut read = Box::pin(log.read(extent(4), 0, 1));
    let mut read_many = Box::pin(log.read_many(extent(4), 0, 0..2));
    tasks.hold_back();
    assert!(futures_util::poll!(&mut read).is_pending());
    assert!(futures_util::poll!(&mut read_many).is_pending());
    let later = tasks.go_on();

    let report = compact_all(&log).await.unwrap();
    assert_eq!(report.segments.first(), Some(&1), "{report:?}");
    assert!(!disk.list().unwrap().contains(&"0000000001.seg".to_owned()));
    assert_eq!(later.len(), 2);
    later.into_iter().for_each(|work| work());

    assert_eq!(read.await.unwrap(), Some(chunk(4, 1)));
    let read: Vec<_> = read_many.await.unwrap().unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(read, chunks(4, 2));
}

#[tokio::test]
async fn a_reader_of_an_extent_that_was_forgotten_meanwhile_finds_nothing() {
    let (disk, meta, log, mut expected) = with_forgotten(&[1, 2, 3]).await;
    drop(log);
    let tasks = TestTasks::new();
    let (log, _) = open_with(&disk, &meta, Arc::new(tasks.clone())).await.unwrap();
    let mut read = Box::pin(log.read(extent(4), 0, 1));
    tasks.hold_back();
    assert!(futures_util::poll!(&mut read).is_pending());
    let later = tasks.go_on();

    forget_some(&log, &meta, &[4], &mut expected).await;
    compact_all(&log).await.unwrap();
    later.into_iter().for_each(|work| work());

    assert_eq!(read.await.unwrap(), None);
}

#[tokio::test]
async fn an_extent_that_is_being_written_keeps_its_segments() {
    let (disk, meta) = machine(&Power::steady());
    let (log, _) = open(&disk, &meta).await.unwrap();
    let (crc, bytes) = chunk(20, 0);
    log.append(extent(20), 0, 0, crc, bytes).await.unwrap();
    let mut expected = ten_extents(&log).await;
    forget_some(&log, &meta, &[1, 2, 3, 4, 5], &mut expected).await;
    compact_all(&log).await.unwrap();
    assert!(disk.list().unwrap().contains(&"0000000001.seg".to_owned()));

    let (crc, bytes) = chunk(20, 1);
    log.append(extent(20), 0, 1, crc, bytes).await.unwrap();
    log.seal(extent(20), 0, 2, record(20)).await.unwrap();
    expected.insert(20, Expected::Here(2));

    compact_all(&log).await.unwrap();
    assert!(!disk.list().unwrap().contains(&"0000000001.seg".to_owned()));
    verify(&log, &expected, "sealed late").await;
}

#[tokio::test]
async fn chunks_of_a_writer_that_went_away_are_freed() {
    let (disk, meta) = machine(&Power::steady());
    let (log, _) = open(&disk, &meta).await.unwrap();
    for number in 0..9 {
        let (crc, bytes) = chunk(20, number);
        log.append(extent(20), 0, number, crc, bytes).await.unwrap();
    }
    put(&log, 1, 1).await.unwrap();
    log.abandon(extent(20), 0);
    let expected = Expectations::from([(1, Expected::Here(1)), (20, Expected::Gone)]);
    put(&log, 2, 1).await.unwrap();

    compact_all(&log).await.unwrap();

    assert_eq!(disk.list().unwrap().len(), 1);
    verify(&log, &expected, "compacted").await;
}

#[tokio::test]
async fn a_full_disk_in_the_middle_loses_nothing() {
    for room in (0..9000).step_by(61) {
        let (disk, meta, log, expected) = with_forgotten(&[1, 2, 5, 6, 8]).await;
        // Compaction keeps a mebibyte of room, so its own choice is made with more than there is.
        let liar = LyingDisk { disk: disk.clone() };
        drop(log);
        let options =
            SegmentOptions { segment_size: ByteCount(SEGMENT_BYTES), ..SegmentOptions::new(DISK) };
        let (log, _) = SegmentLog::open(Arc::new(liar), Arc::new(meta.clone()), tasks(), options)
            .await
            .unwrap();
        disk.set_capacity(bytes_on(&disk) + room);

        let compacted = compact_all(&log).await;

        let context = format!("room for {room}");
        assert!(matches!(compacted, Ok(_) | Err(StoreError::Full { .. })), "{compacted:?}");
        verify(&log, &expected, &context).await;
        disk.set_capacity(1 << 40);
        compact_and_verify(&log, &expected, &context).await;
        let (disk, meta) = crash(&disk, &meta, room, &Power::steady());
        let (log, report) = open(&disk, &meta).await.unwrap();
        assert_eq!(report.damage_count, 0);
        verify(&log, &expected, &format!("{context}, after a crash")).await;
    }
}

/// A disk that says that it has room.
struct LyingDisk {
    disk: SimDisk,
}

impl Disk for LyingDisk {
    fn open(&self, name: &str, create: Create) -> Result<Arc<dyn DiskFile>, StoreError> {
        self.disk.open(name, create)
    }

    fn list(&self) -> Result<Vec<String>, StoreError> {
        self.disk.list()
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        self.disk.rename(from, to)
    }

    fn sync_folder(&self) -> Result<(), StoreError> {
        self.disk.sync_folder()
    }

    fn space(&self) -> Result<DiskSpace, StoreError> {
        Ok(DiskSpace { free: 1 << 40, total: 1 << 40 })
    }
}

#[tokio::test]
async fn without_room_for_copies_nothing_is_copied() {
    let (disk, _meta, log, expected) = with_forgotten(&[1, 2, 3]).await;
    disk.set_capacity(bytes_on(&disk) + 5000);

    let report = compact_all(&log).await.unwrap();

    assert_eq!(report, CompactionReport::default());
    assert_eq!(log.space().await.unwrap().free, 5000);
    verify(&log, &expected, "nothing was done").await;
}

#[tokio::test]
async fn a_compaction_that_is_dropped_at_any_point_does_no_harm() {
    for polls in 0..60 {
        let (_disk, meta, log, mut expected) = with_forgotten(&[1, 2, 5, 6]).await;
        let mut step = Box::pin(log.compact(limits()));
        for _ in 0..polls {
            if futures_util::poll!(&mut step).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(step);
        forget_some(&log, &meta, &[3], &mut expected).await;
        compact_and_verify(&log, &expected, &format!("dropped after {polls}")).await;
    }
}

#[tokio::test]
async fn a_failed_sync_of_the_folder_stops_the_log() {
    let (disk, meta, log, expected) = with_forgotten(&[1, 2, 3, 4, 5]).await;
    // The first sync is of the segment that is written to.
    disk.fail_folder_syncs(1);

    let failed = log.compact(limits()).await;

    assert!(matches!(failed, Err(StoreError::Stopped { .. })), "{failed:?}");
    assert!(matches!(put(&log, 11, 1).await, Err(StoreError::Stopped { .. })));
    verify(&log, &expected, "reads go on").await;
    let (disk, meta) = crash(&disk, &meta, 3, &Power::steady());
    let (log, _) = open(&disk, &meta).await.unwrap();
    verify(&log, &expected, "after a crash").await;
}

async fn fresh(log: &SegmentLog) -> Vec<u8> {
    let fresh = log.fresh(100).await.unwrap();
    for found in &fresh {
        assert_eq!(found.record, record(found.extent.as_bytes()[0]));
    }
    fresh.into_iter().map(|fresh| fresh.extent.as_bytes()[0]).collect()
}

async fn register(log: &SegmentLog, meta: &MemMeta, number: u8) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    log.registered(extent(number), 0, &mut batch);
    rows_of(meta).commit(batch).await
}

#[tokio::test]
async fn an_extent_is_fresh_until_it_is_registered() {
    let (disk, meta) = machine(&Power::steady());
    let (log, _) = open(&disk, &meta).await.unwrap();
    log.freshened().notified().await;
    let told = log.freshened();
    let mut told = Box::pin(told.notified());
    assert!(futures_util::poll!(&mut told).is_pending());

    ten_extents(&log).await;

    assert!(futures_util::poll!(&mut told).is_ready());
    assert_eq!(log.fresh(3).await.unwrap().len(), 3);
    for number in [1, 2, 4, 5, 6, 7, 8] {
        register(&log, &meta, number).await.unwrap();
    }
    forget(&log, &meta, 9).await.unwrap();
    assert_eq!(fresh(&log).await, [3, 10]);
    let rows = meta.rows().into_keys().filter(|(family, _)| *family == Family::Fresh);
    assert_eq!(rows.count(), 2, "whatever is forgotten is not fresh either");
    for number in [1, 2, 5] {
        forget(&log, &meta, number).await.unwrap();
    }
    assert!(compact_all(&log).await.unwrap().moved_extents > 0);
    assert_eq!(fresh(&log).await, [3, 10], "a compaction makes nothing fresh");

    let (disk, meta) = crash(&disk, &meta, 5, &Power::steady());
    let (log, _) = open(&disk, &meta).await.unwrap();
    log.freshened().notified().await;
    assert_eq!(fresh(&log).await, [3, 10], "a restart makes nothing fresh");
}

/// Puts eight extents and registers every third one.
async fn put_and_register(log: &SegmentLog, meta: &MemMeta) -> BTreeSet<u8> {
    let mut registered = BTreeSet::new();
    for number in 1..=8 {
        drop(put(log, number, 2).await);
        if number % 3 == 0 && register(log, meta, number).await.is_ok() {
            registered.insert(number);
        }
    }
    registered
}

#[tokio::test]
async fn whatever_a_crash_left_sealed_and_unregistered_is_fresh() {
    for (steps, seed) in (0..).flat_map(|steps| (0..SEEDS).map(move |seed| (steps, seed))) {
        let power = Power::cut_after(steps);
        let (disk, meta) = machine(&power);
        let mut registered = BTreeSet::new();
        if let Ok((log, _)) = open(&disk, &meta).await {
            registered = put_and_register(&log, &meta).await;
        }
        let cut = power.is_off();
        let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
        let (log, _) = open(&disk, &meta).await.unwrap();

        let fresh = fresh(&log).await;

        for number in 1..=8 {
            let here = log.find(extent(number), 0).unwrap().is_some();
            let unknown = number % 3 == 0 && !registered.contains(&number);
            let is_fresh = fresh.contains(&number);
            assert!(
                is_fresh == (here && !registered.contains(&number)) || unknown,
                "{number} here {here} fresh {is_fresh}, cut at {steps}, seed {seed}"
            );
        }
        if !cut {
            break;
        }
    }
}

#[tokio::test]
async fn held_extents_are_listed_in_pages() {
    let (_disk, _meta, log, _) = with_forgotten(&[2, 7]).await;
    log.put_whole(extent(4), 3, chunks(4, 1), record(4)).await.unwrap();

    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = log.held(after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some((last.extent, last.fragment));
        all.extend(page.iter().map(|held| (held.extent.as_bytes()[0], held.fragment, held.length)));
    }

    let two = Some(1213);
    let first =
        [(1, 0, two), (3, 0, two), (4, 0, two), (4, 3, Some(600)), (5, 0, two), (6, 0, two)];
    assert_eq!(all[..6], first);
    assert_eq!(all[6..], [(8, 0, two), (9, 0, two), (10, 0, two)]);
    assert_eq!(log.verify(extent(2), 0).await.unwrap(), None);
    assert_eq!(log.verify(extent(1), 0).await.unwrap().unwrap().verified_bytes, 1213);
}
