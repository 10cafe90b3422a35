//! Rows as the replicas use them: durable reads, and atomic updates that commit in groups.

use std::sync::Arc;

use bytes::Bytes;

use super::committer::{CommitLimits, Committer, Wait};
use super::driver;
use super::error::StoreError;
use super::meta::{Batch, Cached, Family, MetaStore};
use crate::env::{TaskHandle, Tasks, blocking};

/// One node's rows. Clones share one committer, which ends with the last of them.
#[derive(Clone)]
pub struct Rows {
    inner: Arc<Inner>,
}

struct Inner {
    committer: Arc<Committer>,
    tasks: Arc<dyn Tasks>,
    _task: TaskHandle,
}

/// A row that is written for nothing but its place in the queue.
const BARRIER_KEY: &[u8] = b"barrier";

/// What an update decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided<T> {
    /// The rows to write; none if the newest value needs no change.
    pub batch: Batch,
    /// What the caller of the update gets once that is durable.
    pub outcome: T,
}

impl Rows {
    /// Starts the committer over `meta`.
    #[must_use]
    pub fn start(meta: Arc<dyn MetaStore>, tasks: Arc<dyn Tasks>, limits: CommitLimits) -> Self {
        let committer = Arc::new(Committer::new(meta, limits));
        let task = driver::start("row committer", &committer, Arc::clone(&tasks));
        Self { inner: Arc::new(Inner { committer, tasks, _task: task }) }
    }

    /// The durable value of a row. Not for what clients wait for: it may ask the disk.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it cannot be verified.
    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.meta().get(family, key)
    }

    /// As [`Rows::get`], off the async threads if the disk must be asked: there a read may take
    /// as long as all other requests together.
    ///
    /// # Errors
    /// As for [`Rows::get`], or [`StoreError::Stopping`].
    pub async fn fetch(&self, family: Family, key: &Bytes) -> Result<Option<Bytes>, StoreError> {
        match self.meta().get_cached(family, key)? {
            Cached::Known(value) => Ok(value),
            Cached::Unknown => {
                let key = key.clone();
                self.scan_with(move |meta| meta.get(family, &key)).await
            }
        }
    }

    /// The newest value of a row, which may be pending: for decisions under the lock of another
    /// row that every change of this one goes through. It is durable once that decision is.
    ///
    /// # Errors
    /// As for [`Rows::get`].
    pub fn newest(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.inner.committer.newest(family, key)?.value)
    }

    /// Updates that are decided and not yet durable.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.committer.waiting()
    }

    /// Runs `work`, which may scan for long, off the async threads. It sees durable rows only.
    ///
    /// # Errors
    /// What `work` answers, or [`StoreError::Stopping`].
    pub async fn scan_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn MetaStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let meta = Arc::clone(self.meta());
        let done = blocking(&self.inner.tasks, move || work(&*meta)).await;
        done.unwrap_or(Err(StoreError::Stopping))
    }

    /// Shows `decide` the newest value of a row, pending or durable, queues the batch that it
    /// returns, and resolves once all that the outcome relies on is durable: that batch, or the
    /// pending value that was seen if nothing is written.
    ///
    /// Updates of one `(family, key)` exclude each other while they decide. The batch may touch
    /// other rows too; these are safe from other writers only if all of them go through this key.
    /// An update that is dropped while it waits may still become durable.
    ///
    /// # Errors
    /// Outside: [`StoreError::Full`] (this update and those queued behind it failed, later ones
    /// may succeed) or [`StoreError::Stopped`] (all later ones fail). Inside: what `decide` says,
    /// and then nothing was written.
    pub async fn update<T, E>(
        &self,
        family: Family,
        key: Bytes,
        decide: impl FnOnce(Option<&[u8]>) -> Result<Decided<T>, E>,
    ) -> Result<Result<T, E>, StoreError> {
        let committer = &self.inner.committer;
        // What is decided under the key's lock is decided from memory.
        self.fetch(family, &key).await?;
        let room = committer.room().await?;
        let (outcome, wait): (Result<T, E>, Wait) = {
            let _key = committer.lock_key(&key);
            let seen = committer.newest(family, &key)?;
            match decide(seen.value.as_deref()) {
                Ok(Decided { batch, outcome }) if !batch.is_empty() => {
                    (Ok(outcome), committer.enqueue(batch, Some(&seen), room)?)
                }
                Ok(Decided { outcome, .. }) => (Ok(outcome), committer.watch(&seen)?),
                Err(error) => (Err(error), committer.watch(&seen)?),
            }
        };
        wait.done().await?;
        Ok(outcome)
    }

    /// Writes `batch` without looking at older values; durable when it returns.
    ///
    /// # Errors
    /// As for [`Rows::update`].
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let room = self.inner.committer.room().await?;
        self.inner.committer.enqueue(batch, None, room)?.done().await
    }

    /// Resolves when everything that was decided before this call is durable, so that a scan of
    /// the tables sees it.
    ///
    /// # Errors
    /// As for [`Rows::update`].
    pub async fn barrier(&self) -> Result<(), StoreError> {
        self.inner.committer.pass_deciders();
        let mut batch = Batch::new();
        batch.put(Family::Local, BARRIER_KEY, Bytes::new());
        self.commit(batch).await
    }

    /// The tables below, whose values are durable.
    #[must_use]
    pub fn meta(&self) -> &Arc<dyn MetaStore> {
        self.inner.committer.meta()
    }
}
