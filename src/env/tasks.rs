//! Starting work, as the tasks seam gives it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// Ends its task when it is dropped or aborted; `detach` lets the task run to its own end.
pub struct TaskHandle {
    abort: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl TaskHandle {
    /// A handle that ends its task by calling `abort`.
    pub fn new(abort: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { abort: Some(Box::new(abort)) }
    }

    /// Lets the task run to its own end.
    pub fn detach(mut self) {
        self.abort = None;
    }

    /// Ends the task at its next await.
    pub fn abort(mut self) {
        if let Some(abort) = self.abort.take() {
            abort();
        }
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        if let Some(abort) = self.abort.take() {
            abort();
        }
    }
}

/// Where a node's tasks run.
pub trait Tasks: Send + Sync + 'static {
    /// Runs `task` beside the caller. Dropping the handle ends it.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle;

    /// Runs `work`, which may block on a disk, off the async threads; the simulation runs it in
    /// place.
    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>);
}

/// Runs `work` off the async threads and waits for its value; `None` if the node is stopping
/// or `work` panicked.
pub async fn blocking<T: Send + 'static>(
    tasks: &Arc<dyn Tasks>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    tasks.run_blocking(Box::new(move || {
        // The caller may have gone away; then nobody wants the value.
        drop(sender.send(work()));
    }));
    receiver.await.ok()
}
