//! Power is cut at every step that a commit and a recovery take; what was acknowledged stays.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use quorate::codec::Crc32c;
use quorate::env::{TaskHandle, Tasks, TokioTasks};
use quorate::store::{
    Batch, CommitLimits, Decided, Family, MetaStore, RecoveryReport, Rows, SegmentLog,
    SegmentOptions, StoreError,
};
use quorate::types::{ByteCount, DiskId, ExtentId};
use quorate_simulation::disk::SimDisk;
use quorate_simulation::meta::MemMeta;
use quorate_simulation::power::Power;

/// Tasks on this thread, blocking work in place.
struct InlineTasks(TokioTasks);

impl Tasks for InlineTasks {
    fn spawn(
        &self,
        name: &'static str,
        task: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> TaskHandle {
        self.0.spawn(name, task)
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

fn tasks() -> Arc<dyn Tasks> {
    Arc::new(InlineTasks(TokioTasks::current()))
}

const DISK: DiskId = DiskId::from_bytes([0xd1; 16]);
const SEGMENT: &str = "0000000001.seg";
const HEADER: usize = 40;

fn options() -> SegmentOptions {
    // Small segments, so that every run rolls a few times.
    SegmentOptions { segment_size: ByteCount(6000), ..SegmentOptions::new(DISK) }
}

async fn open(disk: &SimDisk, meta: &MemMeta) -> Result<(SegmentLog, RecoveryReport), StoreError> {
    SegmentLog::open(Arc::new(disk.clone()), Arc::new(meta.clone()), tasks(), options()).await
}

fn extent(number: u8) -> ExtentId {
    ExtentId::from_bytes([number; 16])
}

fn chunk(extent: u8, number: u32) -> (Crc32c, Bytes) {
    let length = 700 + usize::try_from(number).unwrap() * 13;
    let bytes = Bytes::from(vec![extent ^ u8::try_from(number).unwrap(); length]);
    (Crc32c::of(&bytes), bytes)
}

fn record(number: u8) -> Bytes {
    Bytes::from(format!("record of extent {number}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    Unknown,
    NeverSealed,
}

type Outcomes = Vec<(u8, u32, Outcome)>;

async fn whole(log: &SegmentLog, number: u8, chunks: u32, outcomes: &mut Outcomes) {
    let bytes = (0..chunks).map(|index| chunk(number, index)).collect();
    let put = log.put_whole(extent(number), 0, bytes, record(number)).await;
    outcomes.push((number, chunks, known(&put)));
}

fn known(result: &Result<(), StoreError>) -> Outcome {
    if result.is_ok() { Outcome::Acknowledged } else { Outcome::Unknown }
}

async fn append(log: &SegmentLog, number: u8, index: u32) {
    let (crc, bytes) = chunk(number, index);
    // A stopped log says so at the seal.
    drop(log.append(extent(number), 0, index, crc, bytes).await);
}

/// Small puts, interleaved streams, rolls, a checkpoint, an abandoned and an unsealed extent.
async fn scenario(log: &SegmentLog) -> Outcomes {
    let mut outcomes = Vec::new();
    whole(log, 1, 3, &mut outcomes).await;
    for index in 0..5 {
        append(log, 2, index).await;
        append(log, 3, index).await;
    }
    let (two, three) =
        tokio::join!(log.seal(extent(2), 0, 5, record(2)), log.seal(extent(3), 0, 5, record(3)));
    outcomes.extend([(2, 5, known(&two)), (3, 5, known(&three))]);
    drop(log.checkpoint().await);
    append(log, 4, 0).await;
    append(log, 5, 0).await;
    log.abandon(extent(5), 0);
    whole(log, 6, 6, &mut outcomes).await;
    whole(log, 7, 0, &mut outcomes).await;
    append(log, 4, 1).await;
    outcomes.extend([(4, 2, Outcome::NeverSealed), (5, 1, Outcome::NeverSealed)]);
    outcomes
}

async fn verify(log: &SegmentLog, report: &RecoveryReport, outcomes: &Outcomes, context: &str) {
    for (number, chunks, outcome) in outcomes {
        let found = log.find(extent(*number), 0);
        match (outcome, found) {
            (Outcome::Acknowledged, found) => {
                let found = found.unwrap().unwrap_or_else(|| panic!("{number} is lost: {context}"));
                assert_eq!((found.chunks, found.record), (*chunks, record(*number)), "{context}");
                for index in 0..*chunks {
                    let read = log.read(extent(*number), 0, index).await.unwrap();
                    assert_eq!(read, Some(chunk(*number, index)), "{context}");
                }
            }
            (_, Ok(None)) => {}
            (Outcome::Unknown, Ok(Some(_))) => {
                for index in 0..*chunks {
                    match log.read(extent(*number), 0, index).await {
                        Ok(read) => assert_eq!(read, Some(chunk(*number, index)), "{context}"),
                        Err(StoreError::Damaged { .. }) => {
                            assert!(report.damage_count > 0, "{context}");
                        }
                        Err(error) => panic!("{error}: {context}"),
                    }
                }
            }
            (Outcome::Unknown | Outcome::NeverSealed, Err(StoreError::Damaged { .. })) => {
                assert!(report.damage_count > 0, "{context}");
            }
            (_, found) => panic!("{number} was never sealed, and is {found:?}: {context}"),
        }
    }
}

/// Runs the scenario with power cut at step `steps`; `None` if it went through.
async fn run_until(steps: u64) -> (SimDisk, MemMeta, Outcomes, Option<&'static str>) {
    let power = Power::cut_after(steps);
    let (disk, meta) = (SimDisk::new(power.clone()), MemMeta::new(power.clone()));
    let outcomes = match open(&disk, &meta).await {
        Ok((log, _)) => scenario(&log).await,
        Err(_) => Vec::new(),
    };
    (disk, meta, outcomes, power.cut_at())
}

fn crash(disk: &SimDisk, meta: &MemMeta, seed: u64, power: &Power) -> (SimDisk, MemMeta) {
    (disk.crash(seed, power.clone()), meta.crash(seed, power.clone()))
}

const SEEDS: u64 = 12;

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut_at_every_step() {
    let mut points = BTreeSet::new();
    for steps in 0.. {
        let mut cut = None;
        for seed in 0..SEEDS {
            let (disk, meta, outcomes, at) = run_until(steps).await;
            cut = at;
            let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
            let context = format!("cut at step {steps} ({at:?}), seed {seed}");

            let (log, report) = open(&disk, &meta).await.unwrap();

            verify(&log, &report, &outcomes, &context).await;
            let mut again = Vec::new();
            whole(&log, 9, 4, &mut again).await;
            assert_eq!(again[0].2, Outcome::Acknowledged, "{context}");
            verify(&log, &report, &again, &context).await;
        }
        let Some(cut) = cut else { break };
        points.insert(cut);
    }

    let all = [
        "disk: create",
        "disk: sync",
        "disk: sync folder",
        "disk: truncate",
        "disk: write",
        "rows: derived write",
        "rows: sync",
    ];
    assert_eq!(points, BTreeSet::from(all), "each kind of step was interrupted");
}

/// Cuts the scenario at `steps` and its recovery at every step; returns where recovery was cut.
async fn recover_with_cuts(
    steps: u64,
    seed: u64,
) -> (Option<&'static str>, BTreeSet<&'static str>) {
    let mut points = BTreeSet::new();
    for recovery_steps in 0.. {
        let (disk, meta, outcomes, at) = run_until(steps).await;
        let power = Power::cut_after(recovery_steps);
        let (disk, meta) = crash(&disk, &meta, seed, &power);
        let went_through = open(&disk, &meta).await.is_ok();
        points.extend(power.cut_at());

        let (disk, meta) = crash(&disk, &meta, seed + 1, &Power::steady());
        let (log, report) = open(&disk, &meta).await.unwrap();

        // Damage may have been reported by the recovery that was cut.
        let damaged = RecoveryReport { damage_count: 1, ..report };
        let context = format!("cut at {steps} ({at:?}), then at {recovery_steps}, seed {seed}");
        verify(&log, &damaged, &outcomes, &context).await;
        if went_through {
            return (at, points);
        }
    }
    (None, points)
}

#[tokio::test]
async fn a_recovery_that_is_cut_at_any_step_can_be_repeated() {
    let mut points = BTreeSet::new();
    for (steps, seed) in (0..).flat_map(|steps| (0..SEEDS).map(move |seed| (steps, seed))) {
        let (cut, recovery_points) = recover_with_cuts(steps, seed).await;
        points.extend(recovery_points);
        if cut.is_none() {
            break;
        }
    }

    let all =
        ["disk: remove", "disk: sync", "disk: sync folder", "disk: truncate", "rows: synced write"];
    assert_eq!(points, BTreeSet::from(all), "each kind of step was interrupted");
}

#[tokio::test]
async fn what_a_restart_has_shown_survives_a_power_cut_after_it() {
    for (steps, seed) in (0..).flat_map(|steps| (0..SEEDS).map(move |seed| (steps, seed))) {
        let (disk, meta, outcomes, at) = run_until(steps).await;
        let (disk, meta) = (disk.kill(Power::steady()), meta.kill(Power::steady()));
        let (log, _) = open(&disk, &meta).await.unwrap();
        let shown = |(number, chunks, outcome)| match log.find(extent(number), 0) {
            Ok(Some(_)) => (number, chunks, Outcome::Acknowledged),
            _ => (number, chunks, outcome),
        };
        let shown: Outcomes = outcomes.into_iter().map(shown).collect();

        let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
        let (log, report) = open(&disk, &meta).await.unwrap();

        verify(&log, &report, &shown, &format!("cut at {steps} ({at:?}), seed {seed}")).await;
        if at.is_none() {
            break;
        }
    }
}

#[tokio::test]
async fn recovering_twice_changes_nothing_more_than_once() {
    for (steps, seed) in (0..).zip((0..SEEDS).cycle()) {
        let (disk, meta, _, at) = run_until(steps).await;
        let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
        drop(open(&disk, &meta).await.unwrap());
        let (rows, files) = (meta.rows(), disk.bytes(SEGMENT));

        let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
        let (_, report) = open(&disk, &meta).await.unwrap();

        assert_eq!((meta.rows(), disk.bytes(SEGMENT)), (rows, files), "{at:?}");
        assert_eq!((report.replayed_seals, report.damage_count), (0, 0), "{at:?} {report:?}");
        if at.is_none() {
            break;
        }
    }
}

#[tokio::test]
async fn a_lost_index_is_derived_from_the_segments() {
    let (disk, meta) = (SimDisk::new(Power::steady()), MemMeta::new(Power::steady()));
    let (log, _) = open(&disk, &meta).await.unwrap();
    let outcomes = scenario(&log).await;

    let meta = MemMeta::new(Power::steady());
    let (log, report) = open(&disk.crash(1, Power::steady()), &meta).await.unwrap();

    assert_eq!(report.replayed_seals, 5);
    verify(&log, &report, &outcomes, "without an index").await;
}

async fn two_extents() -> (SimDisk, MemMeta) {
    let (disk, meta) = (SimDisk::new(Power::steady()), MemMeta::new(Power::steady()));
    let (log, _) = open(&disk, &meta).await.unwrap();
    whole(&log, 1, 2, &mut Vec::new()).await;
    whole(&log, 2, 2, &mut Vec::new()).await;
    (disk, meta)
}

#[tokio::test]
async fn every_flipped_byte_is_damage_and_never_absence() {
    let length = two_extents().await.0.bytes(SEGMENT).len();

    for position in (0..length).step_by(7) {
        let (disk, meta) = two_extents().await;
        disk.flip_bit(SEGMENT, position, 3);
        let (log, _) = open(&disk, &meta).await.unwrap();

        let mut damaged = 0;
        for number in [1, 2] {
            for index in 0..2 {
                match log.read(extent(number), 0, index).await {
                    Ok(read) => assert_eq!(read, Some(chunk(number, index))),
                    Err(StoreError::Damaged { .. }) => damaged += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(damaged <= 1, "one byte damages one chunk at most, at {position}");
    }
}

#[tokio::test]
async fn a_flipped_byte_in_a_replay_without_index_is_reported() {
    let (disk, _) = two_extents().await;
    let header_of_second_chunk = HEADER + HEADER + 700;
    disk.flip_bit(SEGMENT, header_of_second_chunk + 9, 0);

    let meta = MemMeta::new(Power::steady());
    let (log, report) = open(&disk, &meta).await.unwrap();

    assert_eq!(report.damage_count, 1);
    assert_eq!(u64::try_from(header_of_second_chunk).unwrap(), report.damage[0].start);
    assert_eq!(log.read(extent(1), 0, 0).await.unwrap(), Some(chunk(1, 0)));
    assert!(matches!(log.read(extent(1), 0, 1).await, Err(StoreError::Damaged { .. })));
    assert_eq!(log.read(extent(2), 0, 1).await.unwrap(), Some(chunk(2, 1)));
}

#[tokio::test]
async fn an_extent_whose_seal_rotted_is_suspect_until_it_is_written_again() {
    let (disk, _) = two_extents().await;
    let first_seal = HEADER + 2 * HEADER + 700 + 713;
    disk.flip_bit(SEGMENT, first_seal + 9, 0);

    let meta = MemMeta::new(Power::steady());
    let (log, report) = open(&disk, &meta).await.unwrap();

    assert_eq!(report.suspects, [(extent(1), 0)]);
    assert!(matches!(log.find(extent(1), 0), Err(StoreError::Damaged { .. })));
    let mut outcomes = Vec::new();
    whole(&log, 1, 2, &mut outcomes).await;
    verify(&log, &report, &outcomes, "written again").await;
}

#[tokio::test]
async fn a_segment_stored_inside_a_chunk_is_not_replayed() {
    let (disk, meta) = two_extents().await;
    let (log, _) = open(&disk, &meta).await.unwrap();
    let copy = Bytes::from(disk.bytes(SEGMENT));
    log.put_whole(extent(3), 0, vec![(Crc32c::of(&copy), copy)], record(3)).await.unwrap();
    let (first, second) = (disk.bytes(SEGMENT), "0000000002.seg");
    let name = if first.len() > 5000 { SEGMENT } else { second };
    let start = if name == second { HEADER } else { 3300 };
    for position in start..start + HEADER {
        disk.flip_bit(name, position, 1);
    }

    let (log, report) = open(&disk, &MemMeta::new(Power::steady())).await.unwrap();

    assert!(report.damage_count > 0);
    assert_eq!(report.replayed_seals, 3);
    assert_eq!(log.read(extent(1), 0, 0).await.unwrap(), Some(chunk(1, 0)));
}

#[tokio::test]
async fn a_cut_file_leaves_the_earlier_extents_and_damages_the_later() {
    let (disk, meta) = two_extents().await;
    let length = disk.bytes(SEGMENT).len();
    disk.cut(SEGMENT, length / 2);

    let (log, report) = open(&disk, &meta).await.unwrap();

    assert_eq!(report.damage_count, 1);
    assert_eq!(log.read(extent(1), 0, 1).await.unwrap(), Some(chunk(1, 1)));
    assert!(matches!(log.read(extent(2), 0, 1).await, Err(StoreError::Damaged { .. })));
    let mut outcomes = Vec::new();
    whole(&log, 2, 2, &mut outcomes).await;
    verify(&log, &report, &outcomes, "repaired").await;
}

#[tokio::test]
async fn an_unreadable_sector_damages_its_chunk_only() {
    let (disk, meta) = two_extents().await;
    let second = u64::try_from(HEADER + HEADER + 700).unwrap();
    disk.make_unreadable(SEGMENT, second + 100..second + 101);
    let (log, _) = open(&disk, &meta).await.unwrap();

    let read = log.read_many(extent(1), 0, 0..9).await.unwrap().unwrap();

    assert_eq!(read.len(), 2);
    assert_eq!(read[0].as_ref().unwrap(), &chunk(1, 0));
    assert!(matches!(read[1], Err(StoreError::Damaged { .. })));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_room() {
    let (disk, meta) = two_extents().await;
    let (log, report) = open(&disk, &meta).await.unwrap();
    let used = disk.bytes(SEGMENT).len();
    for room in (0..4000).step_by(97) {
        disk.set_capacity(u64::try_from(used + room).unwrap());
        append(&log, 5, 0).await;
        let bytes = (0..6).map(|index| chunk(6, index)).collect();
        let whole_put = log.put_whole(extent(6), 0, bytes, record(6)).await;
        let sealed = log.seal(extent(5), 0, 9, record(5)).await;

        assert!(matches!(whole_put, Err(StoreError::Full { .. })), "{room} {whole_put:?}");
        assert!(sealed.is_err());
        assert_eq!(log.read(extent(1), 0, 0).await.unwrap(), Some(chunk(1, 0)));
    }

    disk.set_capacity(1 << 30);
    let mut outcomes = vec![(5, 1, Outcome::NeverSealed), (6, 6, Outcome::NeverSealed)];
    whole(&log, 7, 3, &mut outcomes).await;

    verify(&log, &report, &outcomes, "room again").await;
    let (log, report) =
        open(&disk.crash(3, Power::steady()), &MemMeta::new(Power::steady())).await.unwrap();
    assert_eq!(report.damage_count, 0);
    verify(&log, &report, &outcomes, "room again, and a crash").await;
}

#[tokio::test]
async fn a_seal_in_the_next_segment_fails_with_the_chunks_that_found_no_room() {
    for length in (1500..3500).step_by(10) {
        let (disk, meta) = two_extents().await;
        let (log, _) = open(&disk, &meta).await.unwrap();
        disk.set_capacity(u64::try_from(disk.bytes(SEGMENT).len() + 300).unwrap());
        let bytes = Bytes::from(vec![1; length]);

        let put = log.put_whole(extent(5), 0, vec![(Crc32c::of(&bytes), bytes)], record(5)).await;

        assert!(matches!(put, Err(StoreError::Full { .. })), "{length}: {put:?}");
    }
}

#[tokio::test]
async fn what_a_full_disk_took_of_a_failed_group_is_gone() {
    let (disk, meta) = two_extents().await;
    let (log, _) = open(&disk, &meta).await.unwrap();
    disk.set_capacity(u64::try_from(disk.bytes(SEGMENT).len() + 1200).unwrap());
    let small = log.put_whole(extent(5), 0, vec![chunk(5, 0)], record(5));
    let large = log.put_whole(extent(6), 0, vec![chunk(6, 0), chunk(6, 1)], record(6));
    let (small, large) = tokio::join!(small, large);
    assert!(small.is_err() && large.is_err(), "they share one write: {small:?} {large:?}");
    disk.set_capacity(1 << 30);
    let mut outcomes = Vec::new();
    whole(&log, 7, 0, &mut outcomes).await;

    let rebuilt = MemMeta::new(Power::steady());
    let (log, report) = open(&disk.crash(1, Power::steady()), &rebuilt).await.unwrap();

    assert_eq!((report.damage_count, report.replayed_seals), (0, 3));
    assert_eq!(log.find(extent(5), 0).unwrap(), None);
    verify(&log, &report, &outcomes, "after the full disk").await;
}

#[tokio::test]
async fn a_forgotten_extent_stays_forgotten_after_a_crash() {
    for seed in 0..SEEDS {
        let (disk, meta) = two_extents().await;
        let (log, _) = open(&disk, &meta).await.unwrap();
        let rows = Rows::start(Arc::new(meta.clone()), tasks(), CommitLimits::default());
        let mut batch = Batch::new();
        log.forget(extent(1), 0, &mut batch);
        rows.commit(batch).await.unwrap();

        let (disk, meta) = crash(&disk, &meta, seed, &Power::steady());
        let (log, _) = open(&disk, &meta).await.unwrap();

        assert_eq!(log.find(extent(1), 0).unwrap(), None);
        assert_eq!(log.read(extent(2), 0, 0).await.unwrap(), Some(chunk(2, 0)));
    }
}

#[tokio::test]
async fn a_failed_sync_stops_the_log() {
    let (disk, meta) = two_extents().await;
    let (log, _) = open(&disk, &meta).await.unwrap();
    disk.fail_syncs(1);

    let mut outcomes = Vec::new();
    whole(&log, 7, 2, &mut outcomes).await;
    let later = log.put_whole(extent(8), 0, vec![chunk(8, 0)], record(8)).await;

    assert_eq!(outcomes[0].2, Outcome::Unknown);
    assert!(matches!(later, Err(StoreError::Stopped { .. })));
    assert_eq!(log.find(extent(7), 0).unwrap(), None);
    assert_eq!(log.read(extent(1), 0, 0).await.unwrap(), Some(chunk(1, 0)));
}

#[tokio::test]
async fn a_folder_of_another_disk_is_refused() {
    let (disk, meta) = two_extents().await;
    let other = SegmentOptions::new(DiskId::from_bytes([0xee; 16]));

    let opened = SegmentLog::open(Arc::new(disk), Arc::new(meta), tasks(), other).await.map(|_| ());

    assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{opened:?}");
}

fn increment(seen: Option<&[u8]>, key: &Bytes) -> Result<Decided<u64>, ()> {
    let count = seen.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap())) + 1;
    let mut batch = Batch::new();
    batch.put(Family::Objects, key.clone(), count.to_le_bytes().to_vec());
    Ok(Decided { batch, outcome: count })
}

#[tokio::test]
async fn acknowledged_updates_survive_a_power_cut_at_every_step() {
    for steps in 0..40 {
        let power = Power::cut_after(steps);
        let meta = MemMeta::new(power.clone());
        let rows = Rows::start(Arc::new(meta.clone()), tasks(), CommitLimits::default());
        let key = Bytes::from_static(b"counter");
        let mut highest = 0;
        for _ in 0..20 {
            let step = || rows.update(Family::Objects, key.clone(), |seen| increment(seen, &key));
            let (a, b, c) = tokio::join!(step(), step(), step());
            let acknowledged = [a, b, c].into_iter().flatten().map(Result::unwrap);
            highest = acknowledged.fold(highest, u64::max);
        }

        let meta = meta.crash(steps, Power::steady());

        let found = meta.get(Family::Objects, &key).unwrap();
        let found = found.map_or(0, |bytes| u64::from_le_bytes(bytes[..].try_into().unwrap()));
        assert!(found >= highest, "{found} < {highest} at {steps}");
        assert!(found <= highest + 3);
        assert!(power.is_off() || highest == 60);
    }
}

#[tokio::test]
async fn whoever_saw_a_pending_row_fails_with_it() {
    let meta = MemMeta::new(Power::steady());
    let rows = Rows::start(Arc::new(meta.clone()), tasks(), CommitLimits::default());
    let key = Bytes::from_static(b"k");
    meta.fail_writes(Some(StoreError::Full { path: "meta".into() }));

    let (write, look) = tokio::join!(
        rows.update(Family::Objects, key.clone(), |seen| increment(seen, &key)),
        rows.update(Family::Objects, key.clone(), |seen| {
            assert!(seen.is_some(), "the pending value is shown");
            Err::<Decided<()>, &str>("condition failed")
        }),
    );
    assert!(matches!(write, Err(StoreError::Full { .. })));
    assert!(matches!(look, Err(StoreError::Full { .. })));

    meta.fail_writes(None);
    let after = rows.update(Family::Objects, key.clone(), |seen| increment(seen, &key)).await;
    assert_eq!(after.unwrap(), Ok(1), "the failed value is gone");
    meta.fail_writes(Some(StoreError::Stopped { path: "meta".into(), reason: "sync".into() }));
    assert!(rows.commit(one_row()).await.is_err());
    meta.fail_writes(None);
    assert!(matches!(rows.commit(one_row()).await, Err(StoreError::Stopped { .. })));
}

fn one_row() -> Batch {
    let mut batch = Batch::new();
    batch.put(Family::Buckets, Bytes::from_static(b"b"), Bytes::new());
    batch
}
