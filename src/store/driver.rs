//! Runs a writer's bursts off the async threads, one at a time, whenever there is work.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::env::{TaskHandle, Tasks, blocking};

/// A writer that drains its own queue.
pub(super) trait Burst: Send + Sync + 'static {
    /// Notified when the queue is no longer empty.
    fn wake(&self) -> Arc<Notify>;

    /// Works until the queue is empty. May block on a disk.
    fn run(&self);

    /// The node is stopping or a burst panicked: refuses what is queued and all that comes.
    fn refuse(&self);
}

/// Starts the task; it ends when the handle is dropped. It keeps the writer, and with it the
/// locks of the folders, only while a burst is under way.
pub(super) fn start<B: Burst>(
    name: &'static str,
    writer: &Arc<B>,
    tasks: Arc<dyn Tasks>,
) -> TaskHandle {
    let runner = Arc::clone(&tasks);
    let wake = writer.wake();
    let writer = Arc::downgrade(writer);
    tasks.spawn(
        name,
        Box::pin(async move {
            loop {
                wake.notified().await;
                let Some(burst) = writer.upgrade() else { return };
                if blocking(&runner, move || burst.run()).await.is_some() {
                    continue;
                }
                if let Some(writer) = writer.upgrade() {
                    writer.refuse();
                }
                return;
            }
        }),
    )
}
