//! Clients that write unique contents, read them back, list and delete.
//!
//! Each client has keys of its own and does one operation at a time, so what a key may hold
//! follows from what that client was told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorate::env::{Clock, OsClock, TaskHandle, Tasks};
use tokio::sync::oneshot;

use crate::client::{Client, Outcome};
use crate::content::{Written, mix};
use crate::expectation::{Expectations, Value};
use crate::history::{History, Kind, Operation};

/// The bucket that all clients share.
pub const BUCKET: &str = "jepsen";

/// Keys of each client: few, so that each is written often.
const KEYS: u64 = 24;

/// Body sizes, one for each way of storing: with the row, attached to it, and as extents.
const SIZES: [usize; 6] = [64, 1_000, 12 * 1024, 60 * 1024, 500 * 1024, 2_500 * 1024];

/// Violations that are kept; more add nothing.
const VIOLATIONS_MAX: usize = 100;

/// What all clients of a run share.
pub struct Load {
    client: Client,
    clock: Arc<OsClock>,
    endpoints: Vec<SocketAddr>,
    history: History,
    state: Mutex<State>,
    writes: AtomicU64,
    stopping: AtomicBool,
    tolerance: Mutex<Tolerance>,
}

struct State {
    /// The nodes that clients ask, from 1.
    targets: Vec<usize>,
    expectations: Expectations,
    violations: Vec<String>,
    /// Operations by (node, how they ended) since the last [`Load::take_counts`].
    counts: BTreeMap<(usize, &'static str), u64>,
    total: u64,
}

/// What may become of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// It may fail, as long as it says so.
    Failures,
    /// That it does not succeed is a violation.
    Nothing,
}

/// A running client.
pub struct Running {
    task: TaskHandle,
    ended: oneshot::Receiver<()>,
}

impl Load {
    /// A load on these endpoints, all of them asked.
    #[must_use]
    pub fn new(
        client: Client,
        clock: Arc<OsClock>,
        endpoints: Vec<SocketAddr>,
        history: History,
    ) -> Arc<Self> {
        let state = State {
            targets: (1..=endpoints.len()).collect(),
            expectations: Expectations::default(),
            violations: Vec::new(),
            counts: BTreeMap::new(),
            total: 0,
        };
        Arc::new(Self {
            client,
            clock,
            endpoints,
            history,
            state: Mutex::new(state),
            writes: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            tolerance: Mutex::new(Tolerance::Failures),
        })
    }

    /// Starts `count` clients whose choices follow from `seed`.
    pub fn start(self: &Arc<Self>, tasks: &dyn Tasks, count: u64, seed: u64) -> Vec<Running> {
        let start = |number| {
            let (sender, ended) = oneshot::channel();
            let worker = Worker {
                load: Arc::clone(self),
                number,
                process: number,
                step: count,
                draws: mix(seed ^ mix(number)),
            };
            let work = async move {
                worker.work().await;
                let _ = sender.send(());
            };
            Running { task: tasks.spawn("client", Box::pin(work)), ended }
        };
        (1..=count).map(start).collect()
    }

    /// Ends all clients after their current operations.
    pub async fn stop(&self, running: Vec<Running>) {
        self.stopping.store(true, Ordering::Relaxed);
        for client in running {
            // An error means that it panicked; that is a violation of ours.
            if client.ended.await.is_err() {
                self.violation("a client of the test panicked".to_owned());
            }
            client.task.detach();
        }
    }

    /// From now on clients ask these nodes only.
    pub fn ask(&self, targets: Vec<usize>) {
        self.state.lock().targets = targets;
    }

    /// Sets what may become of operations that begin from now on.
    pub fn tolerate(&self, tolerance: Tolerance) {
        *self.tolerance.lock() = tolerance;
    }

    /// Operations by (node, how they ended) since the last call.
    pub fn take_counts(&self) -> BTreeMap<(usize, &'static str), u64> {
        std::mem::take(&mut self.state.lock().counts)
    }

    /// Notes that something that must hold did not.
    pub fn violation(&self, what: String) {
        let mut state = self.state.lock();
        if state.violations.len() < VIOLATIONS_MAX {
            state.violations.push(what);
        }
    }

    /// All violations so far.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.state.lock().violations.clone()
    }

    /// The history that operations are told to.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How many operations there were, and how many keys must be there.
    #[must_use]
    pub fn size(&self) -> (u64, usize) {
        let state = self.state.lock();
        (state.total, state.expectations.acknowledged())
    }

    /// Reads every key and lists the bucket through every node, once faults are over.
    pub async fn audit(&self) {
        let keys = self.state.lock().expectations.keys();
        for node in 1..=self.endpoints.len() {
            for key in &keys {
                self.audit_key(node, key).await;
            }
            self.audit_list(node, &keys).await;
        }
    }

    async fn audit_key(&self, node: usize, key: &str) {
        let mut last = String::new();
        for _ in 0..5 {
            match self.read("audit", node, key).await {
                Ok(()) => return,
                Err(reason) => last = reason,
            }
            self.clock.sleep(Duration::from_millis(500)).await;
        }
        self.violation(format!("{key} cannot be read through node {node}: {last}"));
    }

    async fn audit_list(&self, node: usize, keys: &[String]) {
        let mut last = String::new();
        for _ in 0..5 {
            match self.list("audit", node, "", keys).await {
                Ok(()) => return,
                Err(reason) => last = reason,
            }
            self.clock.sleep(Duration::from_millis(500)).await;
        }
        self.violation(format!("the bucket cannot be listed through node {node}: {last}"));
    }

    /// Reads a key and compares; an error if it could not be read at all.
    async fn read(&self, process: &str, node: usize, key: &str) -> Result<(), String> {
        let mut operation = operation(process, "read", node, Some(key));
        self.history.append(&operation, Kind::Invoke, None);
        let path = format!("/{BUCKET}/{key}");
        match self.client.get(self.endpoints[node - 1], &path).await {
            Outcome::Ok(found) => {
                let recognised = self.state.lock().expectations.recognise(key, found.as_ref());
                operation.bytes = found.map(|bytes| bytes.len());
                match recognised {
                    Ok(value) => {
                        operation.value = value.map(|written| written.number).into();
                        self.history.append(&operation, Kind::Ok, None);
                    }
                    Err(what) => {
                        self.history.append(&operation, Kind::Ok, Some(what.clone()));
                        self.violation(format!("through node {node}: {what}"));
                    }
                }
                Ok(())
            }
            Outcome::Fail(reason) | Outcome::Info(reason) => {
                self.history.append(&operation, Kind::Fail, Some(reason.clone()));
                Err(reason)
            }
        }
    }

    /// Lists what begins with `prefix` and compares it with `keys`, all of which begin so.
    async fn list(
        &self,
        process: &str,
        node: usize,
        prefix: &str,
        keys: &[String],
    ) -> Result<(), String> {
        let operation = operation(process, "list", node, Some(prefix));
        self.history.append(&operation, Kind::Invoke, None);
        let listed = match self.client.list(self.endpoints[node - 1], BUCKET, prefix).await {
            Outcome::Ok(listed) => listed,
            Outcome::Fail(reason) | Outcome::Info(reason) => {
                self.history.append(&operation, Kind::Fail, Some(reason.clone()));
                return Err(reason);
            }
        };
        self.history.append(&operation, Kind::Ok, None);
        let expectations = self.state.lock().expectations.clone();
        for key in keys {
            if expectations.must_exist(key) == Some(true) && !listed.contains(key) {
                self.violation(format!("{key} is missing in a list through node {node}"));
            }
        }
        for key in &listed {
            if expectations.must_exist(key) == Some(false) {
                self.violation(format!("{key} is listed through node {node} and must not be"));
            }
        }
        if !listed.is_sorted_by(|one, other| one < other) {
            self.violation(format!("a list through node {node} is out of order or repeats"));
        }
        Ok(())
    }

    /// Writes or deletes a key.
    async fn change(&self, process: &str, node: usize, key: &str, value: Value) -> Change {
        let mut operation = operation(process, "delete", node, Some(key));
        if let Some(written) = value {
            "write".clone_into(&mut operation.f);
            operation.value = written.number.into();
            operation.bytes = Some(written.length);
        }
        self.history.append(&operation, Kind::Invoke, None);
        let path = format!("/{BUCKET}/{key}");
        let endpoint = self.endpoints[node - 1];
        let outcome = match value {
            Some(written) => self.client.put(endpoint, &path, written.bytes()).await.map(|_| ()),
            None => self.client.delete(endpoint, &path).await,
        };
        match outcome {
            Outcome::Ok(()) => {
                self.state.lock().expectations.settled(key, value);
                self.history.append(&operation, Kind::Ok, None);
                Change::Done
            }
            Outcome::Fail(reason) => {
                self.history.append(&operation, Kind::Fail, Some(reason.clone()));
                Change::Failed(reason)
            }
            Outcome::Info(reason) => {
                self.state.lock().expectations.uncertain(key, value);
                self.history.append(&operation, Kind::Info, Some(reason.clone()));
                Change::Unknown(reason)
            }
        }
    }

    /// Writes whose number is unique in this run.
    fn next_write(&self, length: usize) -> Written {
        Written { number: self.writes.fetch_add(1, Ordering::Relaxed) + 1, length }
    }
}

enum Change {
    Done,
    Failed(String),
    Unknown(String),
}

struct Worker {
    load: Arc<Load>,
    number: u64,
    /// The process of the history; an uncertain outcome retires it.
    process: u64,
    step: u64,
    draws: u64,
}

impl Worker {
    fn draw(&mut self, bound: u64) -> u64 {
        self.draws = mix(self.draws);
        self.draws % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let place = self.draw(from.len().max(1) as u64);
        from.get(usize::try_from(place).ok()?).copied()
    }

    async fn work(mut self) {
        while !self.load.stopping.load(Ordering::Relaxed) {
            let targets = self.load.state.lock().targets.clone();
            if let Some(node) = self.pick(&targets) {
                let tolerance = *self.load.tolerance.lock();
                let change = self.operate(node).await;
                self.count(node, tolerance, &change);
                if matches!(change, Change::Unknown(_)) {
                    self.process += self.step;
                }
            }
            let pause = Duration::from_millis(self.draw(20));
            self.load.clock.sleep(pause).await;
        }
    }

    async fn operate(&mut self, node: usize) -> Change {
        let place = self.draw(KEYS);
        let key = format!("c{}/k{place}", self.number);
        let process = self.process.to_string();
        let read = |result: Result<(), String>| match result {
            Ok(()) => Change::Done,
            Err(reason) => Change::Failed(reason),
        };
        match self.draw(100) {
            0..45 => {
                let length = self.pick(&SIZES).unwrap_or_default();
                let written = self.load.next_write(length);
                self.load.change(&process, node, &key, Some(written)).await
            }
            45..55 => self.load.change(&process, node, &key, None).await,
            55..97 => read(self.load.read(&process, node, &key).await),
            _ => {
                let prefix = format!("c{}/", self.number);
                let keys = self.load.state.lock().expectations.keys();
                let own: Vec<String> =
                    keys.into_iter().filter(|key| key.starts_with(&prefix)).collect();
                read(self.load.list(&process, node, &prefix, &own).await)
            }
        }
    }

    fn count(&self, node: usize, tolerance: Tolerance, change: &Change) {
        let (word, reason) = match change {
            Change::Done => ("ok", None),
            Change::Failed(reason) => ("fail", Some(reason)),
            Change::Unknown(reason) => ("info", Some(reason)),
        };
        {
            let mut state = self.load.state.lock();
            state.total += 1;
            *state.counts.entry((node, word)).or_default() += 1;
        }
        if let Some(reason) = reason.filter(|_| tolerance == Tolerance::Nothing) {
            self.load.violation(format!("node {node} did not serve: {reason}"));
        }
    }
}

fn operation(process: &str, f: &str, node: usize, key: Option<&str>) -> Operation {
    Operation {
        process: process.to_owned(),
        f: f.to_owned(),
        key: key.map(str::to_owned),
        node: Some(node),
        ..Operation::default()
    }
}
