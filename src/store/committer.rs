//! Group commit: many small batches, one synced write, and a view of what is on its way.
//!
//! # Invariants
//! 1. Batches reach the tables in the order in which their decisions were made.
//! 2. A pending row is in the overlay until its value can be read from the tables.
//! 3. Whoever relied on a pending row is answered only after that row is durable, and fails if
//!    it fails: a failed group takes everything that was queued behind it along.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::driver::Burst;
use super::error::StoreError;
use super::figures::{COMMIT_GROUPS, COMMIT_LATENCY, COMMIT_QUEUE, COMMITS};
use super::meta::{Batch, Durability, Family, MetaStore, Operation};
use crate::codec::Crc32c;
use crate::env::mutation::{Mutation, is_planted};

/// Locks over which keys are spread; two keys on one stripe merely wait for each other.
const STRIPES: usize = 256;

/// Bounds of the group commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitLimits {
    /// Batches in one synced write. Default 1,024.
    pub group_count_max: usize,
    /// Bytes of keys and values in one synced write, unless one batch alone has more.
    /// Default 4 MiB.
    pub group_bytes_max: usize,
    /// Updates that may be decided and not yet durable; more of them wait. Default 8,192.
    pub queue_count_max: usize,
}

impl Default for CommitLimits {
    fn default() -> Self {
        Self { group_count_max: 1024, group_bytes_max: 4 << 20, queue_count_max: 8192 }
    }
}

type Reply = oneshot::Sender<Result<(), StoreError>>;

/// What a caller waits for before it may answer.
pub(super) enum Wait {
    /// All that it saw is durable.
    Nothing,
    /// A commit on its way.
    Commit(oneshot::Receiver<Result<(), StoreError>>),
}

impl Wait {
    pub(super) async fn done(self) -> Result<(), StoreError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Commit(answer) => answer.await.unwrap_or(Err(StoreError::Stopping)),
        }
    }
}

/// The newest value of a row, and how far it is on its way to the disk.
pub(super) struct Seen {
    pub(super) value: Option<Bytes>,
    pending: Option<u64>,
    failures: u64,
}

struct Pending {
    number: u64,
    value: Option<Bytes>,
}

struct Waiting {
    number: u64,
    batch: Batch,
    reply: Reply,
    /// Given back when the batch is durable or has failed.
    _room: OwnedSemaphorePermit,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Waiting>,
    overlay: BTreeMap<Family, BTreeMap<Bytes, Pending>>,
    watchers: Vec<(u64, Reply)>,
    enqueued: u64,
    durable: u64,
    failures: u64,
    failure: Option<StoreError>,
    stopped: Option<StoreError>,
    running: bool,
}

impl State {
    fn check_running(&self) -> Result<(), StoreError> {
        self.stopped.clone().map_or(Ok(()), Err)
    }

    /// Whether the pending value that `seen` relies on has failed since.
    fn check_relied_on(&self, seen: &Seen) -> Result<(), StoreError> {
        if seen.pending.is_some() && seen.failures != self.failures {
            return Err(self.failure.clone().unwrap_or(StoreError::Stopping));
        }
        Ok(())
    }

    fn show(&mut self, number: u64, batch: &Batch) {
        for operation in batch.operations() {
            let (family, key, value) = match operation {
                Operation::Put { family, key, value } => (family, key, Some(value.clone())),
                Operation::Delete { family, key } => (family, key, None),
                // Nobody decides on a sum, so pending additions are not shown.
                Operation::Add { .. } => continue,
            };
            let rows = self.overlay.entry(*family).or_default();
            rows.insert(key.clone(), Pending { number, value });
        }
    }

    /// Takes the rows of a durable batch out of the overlay, unless a newer batch owns them.
    fn hide(&mut self, through: u64, batch: &Batch) {
        for operation in batch.operations() {
            let (Operation::Put { family, key, .. } | Operation::Delete { family, key }) =
                operation
            else {
                continue;
            };
            let Some(rows) = self.overlay.get_mut(family) else { continue };
            if rows.get(key).is_some_and(|row| row.number <= through) {
                rows.remove(key);
            }
        }
    }
}

/// The committer's half that callers and its task share.
pub(super) struct Committer {
    meta: Arc<dyn MetaStore>,
    limits: CommitLimits,
    stripes: Vec<Mutex<()>>,
    state: Mutex<State>,
    room: Arc<Semaphore>,
    wake: Arc<Notify>,
}

impl Committer {
    pub(super) fn new(meta: Arc<dyn MetaStore>, limits: CommitLimits) -> Self {
        Self {
            meta,
            limits,
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            state: Mutex::new(State::default()),
            room: Arc::new(Semaphore::new(limits.queue_count_max.max(1))),
            wake: Arc::default(),
        }
    }

    pub(super) fn meta(&self) -> &Arc<dyn MetaStore> {
        &self.meta
    }

    /// Waits until there is room for one more batch.
    pub(super) async fn room(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        match Arc::clone(&self.room).acquire_owned().await {
            Ok(room) => Ok(room),
            Err(_closed) => Err(self.state.lock().stopped.clone().unwrap_or(StoreError::Stopping)),
        }
    }

    /// How many updates are decided, or being decided, and not yet durable.
    pub(super) fn waiting(&self) -> usize {
        self.limits.queue_count_max.saturating_sub(self.room.available_permits())
    }

    /// Holds off other updates of this key, and of the few others on its stripe.
    pub(super) fn lock_key(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let stripe = usize::try_from(Crc32c::of(key).0).unwrap_or_default() % STRIPES;
        self.stripes[stripe].lock()
    }

    /// Waits until every update that is deciding now has queued what it decided.
    pub(super) fn pass_deciders(&self) {
        for stripe in &self.stripes {
            drop(stripe.lock());
        }
    }

    /// The newest value of a row: the pending one, else the durable one.
    pub(super) fn newest(&self, family: Family, key: &[u8]) -> Result<Seen, StoreError> {
        let failures = {
            let state = self.state.lock();
            state.check_running()?;
            if let Some(row) = state.overlay.get(&family).and_then(|rows| rows.get(key)) {
                let value = row.value.clone();
                return Ok(Seen { value, pending: Some(row.number), failures: state.failures });
            }
            state.failures
        };
        // A row leaves the overlay only once the tables show it, so looking here second is safe.
        Ok(Seen { value: self.meta.get(family, key)?, pending: None, failures })
    }

    /// Queues a batch that was decided on `seen`.
    pub(super) fn enqueue(
        &self,
        batch: Batch,
        seen: Option<&Seen>,
        room: OwnedSemaphorePermit,
    ) -> Result<Wait, StoreError> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state.lock();
        state.check_running()?;
        if let Some(seen) = seen {
            state.check_relied_on(seen)?;
        }
        state.enqueued += 1;
        let number = state.enqueued;
        state.show(number, &batch);
        state.queue.push_back(Waiting { number, batch, reply, _room: room });
        COMMIT_QUEUE.inc();
        if !std::mem::replace(&mut state.running, true) {
            self.wake.notify_one();
        }
        Ok(Wait::Commit(answer))
    }

    /// What a caller that wrote nothing waits for: the pending value that it saw, if any.
    pub(super) fn watch(&self, seen: &Seen) -> Result<Wait, StoreError> {
        let Some(number) = seen.pending else { return Ok(Wait::Nothing) };
        let mut state = self.state.lock();
        state.check_relied_on(seen)?;
        if number <= state.durable {
            return Ok(Wait::Nothing);
        }
        let (reply, answer) = oneshot::channel();
        state.watchers.push((number, reply));
        Ok(Wait::Commit(answer))
    }

    fn next_group(&self) -> Option<Group> {
        let mut state = self.state.lock();
        let mut group = Group::default();
        let mut bytes = 0;
        while let Some(next) = state.queue.front() {
            bytes += next.batch.weight();
            let full = group.batches.len() >= self.limits.group_count_max;
            if full || (bytes > self.limits.group_bytes_max && !group.batches.is_empty()) {
                break;
            }
            let Some(next) = state.queue.pop_front() else { break };
            group.through = next.number;
            group.batches.push(next.batch);
            group.waiting.push((next.reply, next._room));
        }
        if group.batches.is_empty() {
            state.running = false;
            return None;
        }
        Some(group)
    }

    fn finish(&self, group: Group) {
        let ready = {
            let mut state = self.state.lock();
            state.durable = group.through;
            for batch in &group.batches {
                state.hide(group.through, batch);
            }
            let (ready, later) = std::mem::take(&mut state.watchers)
                .into_iter()
                .partition(|(number, _)| *number <= group.through);
            state.watchers = later;
            ready
        };
        count(&group);
        answer(group.waiting, ready, &Ok(()));
    }

    /// Fails `group` and all that was queued behind it: some of it was decided on rows that will
    /// never be durable.
    fn fail(&self, group: Group, error: StoreError) {
        let mut waiting = group.waiting;
        let watchers = {
            let mut state = self.state.lock();
            waiting.extend(state.queue.drain(..).map(|next| (next.reply, next._room)));
            state.overlay.clear();
            state.failures += 1;
            state.failure = Some(error.clone());
            if !matches!(error, StoreError::Full { .. }) {
                state.stopped = Some(error.clone());
                self.room.close();
            }
            std::mem::take(&mut state.watchers)
        };
        COMMIT_QUEUE.sub(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        answer(waiting, watchers, &Err(error));
    }
}

impl Burst for Committer {
    fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    fn run(&self) {
        while let Some(group) = self.next_group() {
            let timer = COMMIT_LATENCY.start_timer();
            let durability = match is_planted(Mutation::SkipRowSync) {
                true => Durability::Derived,
                false => Durability::Synced,
            };
            let written = self.meta.write(&group.batches, durability);
            timer.observe_duration();
            match written {
                Ok(()) => self.finish(group),
                Err(error) => {
                    tracing::error!(%error, batches = group.batches.len(), "row commits failed");
                    self.fail(group, error.into_stopped());
                }
            }
        }
    }

    fn refuse(&self) {
        self.fail(Group::default(), StoreError::Stopping);
    }
}

#[derive(Default)]
struct Group {
    through: u64,
    batches: Vec<Batch>,
    waiting: Vec<(Reply, OwnedSemaphorePermit)>,
}

fn count(group: &Group) {
    let batches = group.batches.len();
    COMMITS.inc_by(u64::try_from(batches).unwrap_or(u64::MAX));
    COMMIT_GROUPS.inc();
    COMMIT_QUEUE.sub(i64::try_from(batches).unwrap_or(i64::MAX));
}

fn answer(
    waiting: Vec<(Reply, OwnedSemaphorePermit)>,
    watchers: Vec<(u64, Reply)>,
    result: &Result<(), StoreError>,
) {
    let replies = waiting.into_iter().map(|(reply, _room)| reply);
    for reply in replies.chain(watchers.into_iter().map(|(_, reply)| reply)) {
        // A caller that has gone away wants no answer; its batch is durable all the same.
        drop(reply.send(result.clone()));
    }
}
