//! The twins do what RocksDB and a real folder do, for any sequence of operations.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use proptest::test_runner::Config;
use quorate::codec::Crc32c;
use quorate::env::TokioTasks;
use quorate::store::{
    Batch, CompactionLimits, CompactionStep, Create, Disk, DiskFile, Durability, Family,
    FolderDisk, KeyRange, MetaOptions, MetaStore, RocksMeta, SegmentLog, SegmentOptions,
    StoreError, Visit,
};
use quorate::types::{ByteCount, DiskId, ExtentId};
use quorate_simulation::disk::SimDisk;
use quorate_simulation::meta::MemMeta;
use quorate_simulation::power::Power;

type Change = (Family, Vec<u8>, Option<Vec<u8>>);

#[derive(Clone, Debug)]
enum RowStep {
    Write(Vec<Vec<Change>>, Durability),
    Sync,
    Get(Family, Vec<u8>),
    Scan { family: Family, range: KeyRange, seek: Option<Vec<u8>>, rows_max: usize },
    Reopen,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(0xff)], 0..4)
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![
        Just(Family::Objects),
        Just(Family::Inline),
        Just(Family::Credentials),
        Just(Family::Leaves)
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        key().prop_map(KeyRange::prefix),
        (key(), prop::option::of(key())).prop_map(|(start, end)| KeyRange { start, end }),
    ]
}

fn row_step() -> impl Strategy<Value = RowStep> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
    let batch = prop::collection::vec((family(), key(), value), 0..5);
    let durability = prop_oneof![Just(Durability::Synced), Just(Durability::Derived)];
    prop_oneof![
        6 => (prop::collection::vec(batch, 0..3), durability)
            .prop_map(|(batches, durability)| RowStep::Write(batches, durability)),
        1 => Just(RowStep::Sync),
        4 => (family(), key()).prop_map(|(family, key)| RowStep::Get(family, key)),
        4 => (family(), range(), prop::option::of(key()), 0_usize..9).prop_map(
            |(family, range, seek, rows_max)| RowStep::Scan { family, range, seek, rows_max }
        ),
        1 => Just(RowStep::Reopen),
    ]
}

fn batch(changes: &[Change]) -> Batch {
    let mut batch = Batch::new();
    for (family, key, value) in changes {
        match value {
            Some(value) if *family == Family::Leaves => {
                let amount = value.iter().fold(1, |amount, byte| amount << 8 | u128::from(*byte));
                batch.add(*family, key.clone(), amount << 64);
            }
            Some(value) => batch.put(*family, key.clone(), value.clone()),
            None => batch.delete(*family, key.clone()),
        }
    }
    batch
}

/// What a step shows, as text.
fn rows_shown(meta: &dyn MetaStore, step: &RowStep) -> String {
    match step {
        RowStep::Write(batches, durability) => {
            let batches: Vec<Batch> = batches.iter().map(|changes| batch(changes)).collect();
            format!("{:?}", meta.write(&batches, *durability).is_ok())
        }
        RowStep::Sync => format!("{:?}", meta.sync().is_ok()),
        RowStep::Get(family, key) => format!("{:?}", meta.get(*family, key).unwrap()),
        RowStep::Scan { family, range, seek, rows_max } => {
            let mut seen: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            meta.scan(*family, range, &mut |key, value| {
                seen.push((key.to_vec(), value.to_vec()));
                match (seen.len(), seek) {
                    (count, _) if count > *rows_max => Visit::Stop,
                    (2, Some(target)) => Visit::Seek(target.clone()),
                    _ => Visit::Next,
                }
            })
            .unwrap();
            format!("{seen:?}")
        }
        RowStep::Reopen => String::new(),
    }
}

fn open_rocks(path: &Path) -> RocksMeta {
    RocksMeta::open(path, MetaOptions::default()).unwrap()
}

proptest! {
    #![proptest_config(Config { cases: 24, ..Config::default() })]

    #[test]
    fn rows_in_memory_behave_as_in_rocksdb(steps in prop::collection::vec(row_step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let mut rocks = open_rocks(folder.path());
        let memory = MemMeta::new(Power::steady());

        for (index, step) in steps.iter().enumerate() {
            if matches!(step, RowStep::Reopen) {
                drop(rocks);
                rocks = open_rocks(folder.path());
            }
            assert_eq!(rows_shown(&rocks, step), rows_shown(&memory, step), "step {index}");
        }
    }
}

#[derive(Clone, Debug)]
enum FileStep {
    Open(usize, Create),
    Write(usize, u64, Vec<Vec<u8>>),
    Read(usize, u64, usize),
    Truncate(usize, u64),
    Sync(usize),
    Rename(usize, usize),
    Remove(usize),
    List,
}

fn file_step() -> impl Strategy<Value = FileStep> {
    let buffers = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..4);
    let create = prop_oneof![Just(Create::MustExist), Just(Create::IfMissing)];
    prop_oneof![
        3 => (0_usize..3, create).prop_map(|(file, create)| FileStep::Open(file, create)),
        6 => (0_usize..3, 0_u64..2000, buffers).prop_map(|(file, at, buffers)| FileStep::Write(file, at, buffers)),
        6 => (0_usize..3, 0_u64..2500, 0_usize..900).prop_map(|(file, at, count)| FileStep::Read(file, at, count)),
        2 => (0_usize..3, 0_u64..2000).prop_map(|(file, length)| FileStep::Truncate(file, length)),
        1 => (0_usize..3).prop_map(FileStep::Sync),
        1 => (0_usize..3, 0_usize..3).prop_map(|(from, to)| FileStep::Rename(from, to)),
        1 => (0_usize..3).prop_map(FileStep::Remove),
        1 => Just(FileStep::List),
    ]
}

/// What a step shows, as text. Files are opened anew for each, so that names decide.
fn files_shown(disk: &dyn Disk, step: &FileStep) -> String {
    let name = |number: &usize| format!("file-{number}");
    let file = |number: &usize| disk.open(&name(number), Create::MustExist).ok();
    let with = |number: &usize, work: &dyn Fn(Arc<dyn DiskFile>) -> String| {
        file(number).map_or_else(|| "missing".to_owned(), work)
    };
    match step {
        FileStep::Open(number, create) => {
            format!("{}", disk.open(&name(number), *create).is_ok())
        }
        FileStep::Write(number, at, buffers) => with(number, &|file| {
            let buffers: Vec<&[u8]> = buffers.iter().map(Vec::as_slice).collect();
            file.write_at(*at, &buffers).unwrap();
            format!("{}", file.length().unwrap())
        }),
        FileStep::Read(number, at, count) => with(number, &|file| {
            let mut buffer = vec![0; *count];
            let filled = file.read_at(*at, &mut buffer).unwrap();
            format!("{:?}", &buffer[..filled])
        }),
        FileStep::Truncate(number, length) => with(number, &|file| {
            file.truncate(*length).unwrap();
            format!("{}", file.length().unwrap())
        }),
        FileStep::Sync(number) => with(number, &|file| format!("{}", file.sync().is_ok())),
        FileStep::Rename(from, to) if from == to => String::new(),
        FileStep::Rename(from, to) => format!("{}", disk.rename(&name(from), &name(to)).is_ok()),
        FileStep::Remove(number) => format!("{}", disk.remove(&name(number)).is_ok()),
        FileStep::List => format!("{:?} {}", disk.list().unwrap(), disk.sync_folder().is_ok()),
    }
}

proptest! {
    #[test]
    fn files_in_memory_behave_as_in_a_folder(steps in prop::collection::vec(file_step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let real = FolderDisk::open(folder.path()).unwrap();
        let twin = SimDisk::new(Power::steady());

        for (index, step) in steps.iter().enumerate() {
            assert_eq!(files_shown(&real, step), files_shown(&twin, step), "step {index}");
        }
    }
}

#[test]
fn a_second_process_is_told_who_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows");
    let (_disk, _meta) = (FolderDisk::open(folder.path()).unwrap(), open_rocks(&rows));

    let disk = FolderDisk::open(folder.path()).map(|_| ()).unwrap_err();
    let meta = RocksMeta::open(&rows, MetaOptions::default()).map(|_| ()).unwrap_err();

    assert!(disk.to_string().contains("another process holds it"), "{disk}");
    assert!(meta.to_string().contains("another process holds it"), "{meta}");
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FolderDisk::open(folder.path()).unwrap();

    for name in ["", ".", "..", "../x", "/etc/passwd", "a/b"] {
        assert!(disk.open(name, Create::IfMissing).is_err(), "{name}");
    }
}

#[test]
fn a_torn_log_of_rows_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let log = written_rows(folder.path());
    let whole = std::fs::read(&log).unwrap();
    assert!(whole.len() > 100_000, "the rows are in the log");

    std::fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    let rocks = open_rocks(folder.path());
    assert!(rocks.get(Family::Objects, &[98]).unwrap().is_some());
    assert_eq!(rocks.get(Family::Objects, &[99]).unwrap(), None);
}

#[test]
fn a_rotten_log_of_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = written_rows(folder.path());
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, bytes).unwrap();

    let error = RocksMeta::open(folder.path(), MetaOptions::default()).map(|_| ()).unwrap_err();

    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

/// Writes a hundred rows and returns the log that holds them.
fn written_rows(path: &Path) -> std::path::PathBuf {
    let rocks = open_rocks(path);
    for number in 0..100_u8 {
        let mut batch = Batch::new();
        batch.put(Family::Objects, vec![number], vec![number; 1000]);
        rocks.write(&[batch], Durability::Synced).unwrap();
    }
    drop(rocks);
    let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap()
}

const DISK: DiskId = DiskId::from_bytes([5; 16]);

async fn open_log(path: &Path) -> (SegmentLog, quorate::store::RecoveryReport) {
    open_over(path, Arc::new(open_rocks(&path.join("rows")))).await
}

async fn open_log_and_rows(path: &Path) -> (SegmentLog, Arc<RocksMeta>) {
    let meta = Arc::new(open_rocks(&path.join("rows")));
    (open_over(path, Arc::clone(&meta)).await.0, meta)
}

async fn open_over(
    path: &Path,
    meta: Arc<RocksMeta>,
) -> (SegmentLog, quorate::store::RecoveryReport) {
    let disk = Arc::new(FolderDisk::open(&path.join("segments")).unwrap());
    let options = SegmentOptions { segment_size: ByteCount::mib(4), ..SegmentOptions::new(DISK) };
    SegmentLog::open(disk, meta, Arc::new(TokioTasks::current()), options).await.unwrap()
}

fn chunk(number: u8) -> (Crc32c, Bytes) {
    let bytes = Bytes::from(vec![number; 256 << 10]);
    (Crc32c::of(&bytes), bytes)
}

async fn put_ten(log: &SegmentLog) {
    for number in 0..10 {
        let chunks = (0..4).map(|index| chunk(number * 4 + index)).collect();
        let extent = ExtentId::from_bytes([number; 16]);
        log.put_whole(extent, 0, chunks, Bytes::from_static(b"record")).await.unwrap();
    }
}

#[tokio::test]
async fn extents_in_real_files_survive_a_restart_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open_log(folder.path()).await;
    put_ten(&log).await;
    drop(log);

    let (log, report) = open_log(folder.path()).await;

    assert_eq!((report.replayed_seals, report.damage_count, report.segments), (0, 0, 3));
    for number in 0..10 {
        let extent = ExtentId::from_bytes([number; 16]);
        let read = log.read_many(extent, 0, 0..4).await.unwrap().unwrap();
        let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
        assert_eq!(read, (0..4).map(|index| chunk(number * 4 + index)).collect::<Vec<_>>());
        assert_eq!(log.read(extent, 0, 3).await.unwrap(), Some(chunk(number * 4 + 3)));
        assert_eq!(log.read(extent, 0, 4).await.unwrap(), None);
    }
}

#[tokio::test]
async fn compaction_of_real_files_gives_their_room_back() {
    let folder = tempfile::tempdir().unwrap();
    let (log, meta) = open_log_and_rows(folder.path()).await;
    put_ten(&log).await;
    for number in [0, 1, 2, 4, 5, 8] {
        let mut batch = Batch::new();
        log.forget(ExtentId::from_bytes([number; 16]), 0, &mut batch);
        meta.write(&[batch], Durability::Synced).unwrap();
    }
    // It is open for reading when its segment goes.
    assert_eq!(log.read(ExtentId::from_bytes([3; 16]), 0, 0).await.unwrap(), Some(chunk(12)));
    let before = log.figures().bytes;

    let mut freed = 0;
    loop {
        let report = log.compact(CompactionLimits::default()).await.unwrap();
        freed += report.freed_bytes;
        if report.step == CompactionStep::Idle {
            break;
        }
    }

    let segments = folder.path().join("segments");
    let sizes = std::fs::read_dir(&segments).unwrap().map(|file| file.unwrap().metadata().unwrap());
    let on_disk: u64 = sizes.map(|file| file.len()).sum();
    assert!(freed > 0 && on_disk < before * 2 / 3, "{before} {freed} {on_disk}");
    assert_eq!(on_disk, log.figures().bytes);
    four_are_left(&log).await;
    drop((log, meta));
    four_are_left(&open_log(folder.path()).await.0).await;
}

async fn four_are_left(log: &SegmentLog) {
    for number in [3, 6, 7, 9] {
        let extent = ExtentId::from_bytes([number; 16]);
        let read = log.read_many(extent, 0, 0..4).await.unwrap().unwrap();
        let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
        assert_eq!(read, (0..4).map(|index| chunk(number * 4 + index)).collect::<Vec<_>>());
    }
    assert_eq!(log.held(None, 20).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_flipped_byte_and_a_cut_tail_in_real_files_hit_only_what_they_hit() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open_log(folder.path()).await;
    put_ten(&log).await;
    drop(log);
    let segments = folder.path().join("segments");
    let (first, last) = (segments.join("0000000001.seg"), segments.join("0000000003.seg"));
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[300 << 10] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..bytes.len() - 1000]).unwrap();

    let (log, report) = open_log(folder.path()).await;

    let mut damaged = Vec::new();
    for number in 0..10 {
        for index in 0..4 {
            match log.read(ExtentId::from_bytes([number; 16]), 0, index).await {
                Ok(read) => {
                    assert_eq!(read, Some(chunk(number * 4 + u8::try_from(index).unwrap())))
                }
                Err(StoreError::Damaged { .. }) => damaged.push((number, index)),
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(damaged, [(0, 1), (9, 3)]);
    assert_eq!(report.damage_count, 1, "the cut is noticed, for it was synced");
}
