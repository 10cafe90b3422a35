//! Runs a writer's bursts off the async threads, one at a time, whenever there is work.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::env::{TaskHandle, Tasks, blocking};

/// A writer that drains its own queue.
pub(super) trait Burst: Send + Sync + 'static {
    /// Notified when the queue is no longer empty.
    fn wake(&self) -> &Notify;

    /// Works until the queue is empty. May block on a disk.
    fn run(&self);

    /// The node is stopping or a burst panicked: refuses what is queued and all that comes.
    fn refuse(&self);
}

/// Starts the task; it ends when the handle is dropped.
pub(super) fn start<B: Burst>(
    name: &'static str,
    writer: Arc<B>,
    tasks: Arc<dyn Tasks>,
) -> TaskHandle {
    let runner = Arc::clone(&tasks);
    tasks.spawn(
        name,
        Box::pin(async move {
            loop {
                writer.wake().notified().await;
                let burst = Arc::clone(&writer);
                if blocking(&runner, move || burst.run()).await.is_none() {
                    writer.refuse();
                    return;
                }
            }
        }),
    )
}
