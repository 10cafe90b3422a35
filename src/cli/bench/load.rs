//! Many requests at once, for a while.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use tokio::sync::mpsc;

use crate::env::{Clock, Monotonic, OsClock, TaskHandle, Tasks, TokioTasks};
use crate::types::ByteCount;

use super::client::{Failure, Moved, S3Client};
use super::content::mix;
use super::stats::Histogram;
use super::{BenchArgs, KEYS, Operation};

/// Workers that fill keys before a measurement, and how often each key is tried.
const FILLERS: u64 = 32;
const FILL_TRIES: u32 = 5;
/// A worker whose request failed waits, so that a dead server is not hammered.
const PAUSE: Duration = Duration::from_millis(20);
const ERROR_KINDS_MAX: usize = 32;
const DAMAGES_MAX: usize = 5;

/// What a run found.
#[derive(Default)]
pub(super) struct Outcome {
    /// How long it was measured.
    pub(super) elapsed: Duration,
    /// Latencies and bytes by operation.
    pub(super) done: BTreeMap<Operation, (Histogram, u64)>,
    /// Failures by kind.
    pub(super) errors: BTreeMap<String, u64>,
    /// The first answers that brought wrong bytes.
    pub(super) damage: Vec<String>,
}

impl Outcome {
    /// How many requests succeeded.
    pub(super) fn operations(&self) -> u64 {
        self.done.values().map(|(histogram, _)| histogram.count()).sum()
    }

    /// Object bytes moved.
    pub(super) fn bytes(&self) -> u64 {
        self.done.values().map(|(_, bytes)| bytes).sum()
    }

    fn succeeded(&mut self, operation: Operation, latency: Duration, moved: Moved) {
        let (histogram, bytes) =
            self.done.entry(operation).or_insert_with(|| (Histogram::new(), 0));
        histogram.record(latency);
        *bytes += moved.bytes;
    }

    fn failed(&mut self, failure: Failure) {
        let kind = match failure {
            Failure::Damage(what) => {
                if self.damage.len() < DAMAGES_MAX {
                    self.damage.push(what);
                }
                "damaged".to_owned()
            }
            Failure::Kind(kind) => kind,
        };
        let known = self.errors.contains_key(&kind) || self.errors.len() < ERROR_KINDS_MAX;
        *self.errors.entry(if known { kind } else { "other".to_owned() }).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        for (operation, (histogram, bytes)) in other.done {
            let (sum, all) = self.done.entry(operation).or_insert_with(|| (Histogram::new(), 0));
            sum.merge(&histogram);
            *all += bytes;
        }
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.damage.extend(other.damage);
        self.damage.truncate(DAMAGES_MAX);
    }
}

/// Counted while it runs, for the progress line.
#[derive(Default)]
struct Progress {
    operations: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
}

/// A load to be put on a bucket.
pub(super) struct Load {
    client: Arc<S3Client>,
    clock: Arc<OsClock>,
    operation: Operation,
    size: u64,
    concurrency: u64,
    duration: Duration,
    prefix: String,
    keys: Option<u64>,
    reads: u8,
    next: AtomicU64,
    progress: Progress,
}

impl Load {
    /// The load that `args` ask for.
    pub(super) fn new(client: Arc<S3Client>, clock: Arc<OsClock>, args: &BenchArgs) -> Self {
        let bounded = args.operation != Operation::Put;
        Self {
            client,
            clock,
            operation: args.operation,
            size: args.size.0,
            concurrency: u64::from(args.concurrency),
            duration: args.duration,
            prefix: args.prefix.clone(),
            keys: args.keys.or(bounded.then_some(KEYS)),
            reads: args.reads,
            next: AtomicU64::new(0),
            progress: Progress::default(),
        }
    }

    fn key(&self, index: u64) -> String {
        format!("{}{index:012}", self.prefix)
    }

    /// Writes every key that the measurement will read, list or delete.
    pub(super) async fn fill(self: &Arc<Self>, tasks: &TokioTasks) -> anyhow::Result<()> {
        let keys = self.keys.unwrap_or(KEYS);
        let text = format!("writing {keys} objects of {} first\n", ByteCount(self.size));
        drop(std::io::stderr().write_all(text.as_bytes()));
        let outcome = self
            .together(tasks, FILLERS.min(keys), |load, worker| async move {
                let mut outcome = Outcome::default();
                for index in (worker..keys).step_by(FILLERS as usize) {
                    if let Err(failure) = load.fill_one(index).await {
                        outcome.failed(failure);
                        break;
                    }
                }
                outcome
            })
            .await;
        match outcome.errors.first_key_value() {
            Some((kind, _)) => bail!("the objects cannot be written: {kind}"),
            None => Ok(()),
        }
    }

    async fn fill_one(&self, index: u64) -> Result<(), Failure> {
        let key = self.key(index);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.client.put(&key, self.size).await {
                Ok(_) => return Ok(()),
                Err(failure) if tries == FILL_TRIES => return Err(failure),
                Err(_) => self.clock.sleep(PAUSE * 10).await,
            }
        }
    }

    /// Puts the load on and says what came of it.
    pub(super) async fn measure(self: &Arc<Self>, tasks: &TokioTasks) -> Outcome {
        let start = self.clock.monotonic();
        let end = start + self.duration;
        let line = self.clone().progress_line(start);
        let line: Option<TaskHandle> =
            std::io::stderr().is_terminal().then(|| tasks.spawn("bench progress", Box::pin(line)));
        let mut outcome = self
            .together(tasks, self.concurrency, move |load, worker| async move {
                load.work(worker, end).await
            })
            .await;
        outcome.elapsed = self.clock.monotonic().since(start);
        if line.is_some() {
            drop(std::io::stderr().write_all(b"\r\x1b[K"));
        }
        outcome
    }

    /// Runs `count` workers and adds up what they found.
    async fn together<F>(
        self: &Arc<Self>,
        tasks: &TokioTasks,
        count: u64,
        work: impl Fn(Arc<Self>, u64) -> F,
    ) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (sender, mut receiver) = mpsc::channel(64);
        let workers: Vec<TaskHandle> = (0..count)
            .map(|worker| {
                let (sender, work) = (sender.clone(), work(Arc::clone(self), worker));
                let task = async move { drop(sender.send(work.await).await) };
                tasks.spawn("bench worker", Box::pin(task))
            })
            .collect();
        drop(sender);
        let mut sum = Outcome::default();
        while let Some(outcome) = receiver.recv().await {
            sum.merge(outcome);
        }
        drop(workers);
        sum
    }

    async fn work(&self, worker: u64, end: Monotonic) -> Outcome {
        let mut outcome = Outcome::default();
        let mut draw = mix(worker);
        loop {
            let start = self.clock.monotonic();
            draw = mix(draw);
            let Some((operation, index)) = self.choose(draw).filter(|_| start < end) else {
                return outcome;
            };
            match self.perform(operation, index).await {
                Ok(moved) => {
                    let latency = self.clock.monotonic().since(start);
                    self.progress.operations.fetch_add(1, Ordering::Relaxed);
                    self.progress.bytes.fetch_add(moved.bytes, Ordering::Relaxed);
                    outcome.succeeded(operation, latency, moved);
                }
                Err(failure) => {
                    self.progress.errors.fetch_add(1, Ordering::Relaxed);
                    outcome.failed(failure);
                    self.clock.sleep(PAUSE).await;
                }
            }
        }
    }

    /// What to do next and on which key; `None` when every key is deleted.
    fn choose(&self, draw: u64) -> Option<(Operation, u64)> {
        let keys = self.keys.unwrap_or(u64::MAX);
        let turn = || self.next.fetch_add(1, Ordering::Relaxed);
        match self.operation {
            Operation::Put => Some((Operation::Put, turn() % keys)),
            Operation::Delete => Some((Operation::Delete, turn())).filter(|(_, at)| *at < keys),
            Operation::Mixed if draw >> 32 & 0xffff >= u64::from(self.reads) * 0x1_0000 / 100 => {
                Some((Operation::Put, draw % keys))
            }
            Operation::Mixed | Operation::Get => Some((Operation::Get, draw % keys)),
            Operation::List => Some((Operation::List, 0)),
        }
    }

    async fn perform(&self, operation: Operation, index: u64) -> Result<Moved, Failure> {
        match operation {
            Operation::Put => self.client.put(&self.key(index), self.size).await,
            Operation::Get | Operation::Mixed => self.client.get(&self.key(index), self.size).await,
            Operation::Delete => self.client.delete(&self.key(index)).await,
            Operation::List => {
                self.client.list(&self.prefix, self.keys.unwrap_or(KEYS).min(1_000)).await
            }
        }
    }

    async fn progress_line(self: Arc<Self>, start: Monotonic) {
        let mut before = (0, 0);
        loop {
            self.clock.sleep(Duration::from_secs(1)).await;
            let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
            let now = (read(&self.progress.operations), read(&self.progress.bytes));
            let line = format!(
                "\r\x1b[K{:>4} s  {} op/s  {}/s  {} errors",
                self.clock.monotonic().since(start).as_secs(),
                now.0 - before.0,
                ByteCount(now.1 - before.1),
                read(&self.progress.errors)
            );
            drop(std::io::stderr().write_all(line.as_bytes()));
            before = now;
        }
    }
}
