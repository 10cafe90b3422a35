//! Measures local storage: `cargo test --release -p quorate-simulation --test store_speed -- --ignored --nocapture --test-threads=1`.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate::codec::Crc32c;
use quorate::env::{Clock, OsClock, TokioTasks};
use quorate::store::{
    Batch, CommitLimits, Decided, Family, FolderDisk, MetaOptions, RocksMeta, Rows, SegmentLog,
    SegmentOptions,
};
use quorate::types::{DiskId, ExtentId};

const CHUNK: usize = 256 << 10;

/// CPU time of this process, kernel included, in steps of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

struct Measure(OsClock, quorate::env::Monotonic, Duration);

impl Measure {
    fn start() -> Self {
        let clock = OsClock::new();
        let now = clock.monotonic();
        Self(clock, now, cpu())
    }

    fn commits(&self, what: &str, count: f64) {
        let (wall, cpu) = (self.0.monotonic().since(self.1), cpu() - self.2);
        println!(
            "{what}: {:.0}/s, {:.1} us CPU each",
            count / wall.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / count
        );
    }

    fn bytes(&self, what: &str, mib: f64) {
        let (wall, cpu) = (self.0.monotonic().since(self.1), cpu() - self.2);
        println!(
            "{what}: {:.0} MiB/s, {:.2} CPU s/GiB",
            mib / wall.as_secs_f64(),
            cpu.as_secs_f64() * 1024.0 / mib
        );
    }
}

async fn update(rows: Rows, writer: u32, times: u32) {
    for number in 0..times {
        let key = Bytes::from(format!("bucket/{writer}/{:06}", number % 5000));
        let row = key.clone();
        rows.update(Family::Objects, key, move |_| {
            let mut batch = Batch::new();
            batch.put(Family::Objects, row, vec![7; 300]);
            Ok::<_, ()>(Decided { batch, outcome: () })
        })
        .await
        .unwrap()
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn commits() {
    let folder = tempfile::tempdir().unwrap();
    let meta = Arc::new(RocksMeta::open(folder.path(), MetaOptions::default()).unwrap());
    let rows = Rows::start(meta, Arc::new(TokioTasks::current()), CommitLimits::default());
    for (writers, times) in [(1, 2000_u32), (16, 2000), (128, 500)] {
        let measure = Measure::start();
        let all = (0..writers).map(|writer| update(rows.clone(), writer, times));
        let mut set = tokio::task::JoinSet::new();
        all.for_each(|task| drop(set.spawn(task)));
        set.join_all().await;
        measure.commits(&format!("{writers} writers"), f64::from(writers * times));
    }
}

fn open_disk() -> (tempfile::TempDir, Arc<FolderDisk>, Arc<RocksMeta>) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(FolderDisk::open(&folder.path().join("segments")).unwrap());
    let rows = folder.path().join("rows");
    let meta = Arc::new(RocksMeta::open(&rows, MetaOptions::default()).unwrap());
    (folder, disk, meta)
}

fn extent(number: u32) -> ExtentId {
    let mut id = [1; 16];
    id[..4].copy_from_slice(&number.to_le_bytes());
    ExtentId::from_bytes(id)
}

async fn put_wholes(log: SegmentLog, chunk: Bytes, first: u32, count: u32) {
    let crc = Crc32c::of(&chunk);
    for number in first..first + count {
        let chunks = vec![(crc, chunk.clone()); 4];
        log.put_whole(extent(number), 0, chunks, Bytes::from_static(b"r")).await.unwrap();
    }
}

async fn stream(log: SegmentLog, chunk: Bytes, number: u32) {
    let crc = Crc32c::of(&chunk);
    for index in 0..256 {
        log.append(extent(number), 0, index, crc, chunk.clone()).await.unwrap();
    }
    log.seal(extent(number), 0, 256, Bytes::from_static(b"r")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn chunks() {
    let (_folder, disk, meta) = open_disk();
    let options = SegmentOptions::new(DiskId::from_bytes([1; 16]));
    let tasks = Arc::new(TokioTasks::current());
    let (log, _) = SegmentLog::open(disk, meta, tasks, options).await.unwrap();
    let chunk = Bytes::from(vec![0x5a; CHUNK]);
    for (round, writers) in [1_u32, 16].into_iter().enumerate() {
        let base = 100_000 * (u32::try_from(round).unwrap() + 1);
        let measure = Measure::start();
        let mut set = tokio::task::JoinSet::new();
        for writer in 0..writers {
            let first = base + writer * 1000;
            drop(set.spawn(put_wholes(log.clone(), chunk.clone(), first, 512 / writers)));
        }
        set.join_all().await;
        measure.bytes(&format!("put_whole of 1 MiB, {writers} writers"), 512.0);
    }
    let measure = Measure::start();
    let mut set = tokio::task::JoinSet::new();
    for number in 0..4 {
        drop(set.spawn(stream(log.clone(), chunk.clone(), number)));
        drop(set.spawn(stream(log.clone(), chunk.clone(), 50 + number)));
    }
    set.join_all().await;
    measure.bytes("8 streams of 64 MiB", 512.0);
    let measure = Measure::start();
    for number in 0..4 {
        let mut next = 0;
        while next < 256 {
            let read = log.read_many(extent(number), 0, next..256).await.unwrap().unwrap();
            assert!(read.iter().all(Result::is_ok));
            next += u32::try_from(read.len()).unwrap();
        }
    }
    measure.bytes("read_many", 256.0);
    let measure = Measure::start();
    for index in 0..1024_u32 {
        log.read(extent(50 + index % 4), 0, index / 4).await.unwrap().unwrap();
    }
    measure.bytes("read, one chunk each", 256.0);
}
