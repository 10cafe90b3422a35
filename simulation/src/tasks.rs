//! The twin of task starting: one thread, seeded start order, all of a node's tasks stoppable.
#![expect(clippy::disallowed_methods, reason = "this file starts tasks: others are sent to it")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use quorate::env::{TaskHandle, Tasks};
use quorate::types::NodeId;
use tokio::task::AbortHandle;

use crate::entropy::Seed;

/// A started task may let up to this many others run before its first step.
const YIELDS_MAX: u64 = 3;

std::thread_local! {
    static RUNNING: Cell<Option<NodeId>> = const { Cell::new(None) };
}

/// Whose code ran before, to go back to.
struct Outer(Option<NodeId>);

impl Drop for Outer {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

/// The node whose code this thread runs now; `None` between nodes.
#[must_use]
pub fn running_node() -> Option<NodeId> {
    RUNNING.get()
}

#[derive(Default)]
struct Register {
    /// No task starts any more: the node has crashed or the world has ended.
    stopped: bool,
    started: u64,
    running: BTreeMap<u64, AbortHandle>,
    /// Tasks that wait for the pause to end, if there is one.
    paused: Option<Vec<Waker>>,
    panics: Vec<String>,
}

/// Where the tasks of one boot of one node run. Clones share the register.
#[derive(Clone)]
pub struct SimTasks {
    seed: Seed,
    /// Whose tasks these are; `None` for what is on the wire.
    node: Option<NodeId>,
    blocking_max: Duration,
    /// Milliseconds that each piece of blocking work takes besides.
    slow_millis: Arc<AtomicU64>,
    register: Arc<Mutex<Register>>,
}

impl SimTasks {
    /// An empty register. Blocking work takes a seeded time of up to `blocking_max`; if that is
    /// zero it runs in place.
    #[must_use]
    pub fn new(seed: Seed, blocking_max: Duration) -> Self {
        Self {
            seed,
            node: None,
            blocking_max,
            slow_millis: Arc::default(),
            register: Arc::default(),
        }
    }

    /// The same, as the tasks of a node.
    #[must_use]
    pub fn of(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    /// Takes no further step until [`SimTasks::resume`], as after SIGSTOP: time goes on, and what
    /// is due is late.
    pub fn pause(&self) {
        self.register.lock().paused.get_or_insert_default();
    }

    /// Ends a pause.
    pub fn resume(&self) {
        let waiting = self.register.lock().paused.take();
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// One step of a task, in the node's name, unless it is paused.
    fn step(&self, task: &mut BoxFuture<'static, ()>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(waiting) = &mut self.register.lock().paused {
            waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        let _outer = Outer(RUNNING.replace(self.node));
        task.poll_unpin(context)
    }

    /// Lets each piece of blocking work take so much longer from now on, as on a failing disk.
    pub fn slow_down(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.slow_millis.store(millis, Ordering::Relaxed);
    }

    /// Stops every task before its next step, and starts none any more. A task that calls this
    /// itself runs on to its next await.
    pub fn stop_all(&self) {
        let running = {
            let mut register = self.register.lock();
            register.stopped = true;
            std::mem::take(&mut register.running)
        };
        for task in running.into_values() {
            task.abort();
        }
    }

    /// Whether [`SimTasks::stop_all`] was called.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.register.lock().stopped
    }

    /// The tasks that panicked, as `name: message`. A simulated node must never panic.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        self.register.lock().panics.clone()
    }

    fn start(&self, name: &'static str, task: BoxFuture<'static, ()>) -> Option<u64> {
        let number = {
            let mut register = self.register.lock();
            if register.stopped {
                return None;
            }
            register.started += 1;
            register.started
        };
        let yields = self.seed.with(number).between(0, YIELDS_MAX);
        let shared = Arc::clone(&self.register);
        let (tasks, mut task) = (self.clone(), task);
        let handle = tokio::spawn(async move {
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            let stepping = poll_fn(move |context| tasks.step(&mut task, context));
            let ended = AssertUnwindSafe(stepping).catch_unwind().await;
            let mut register = shared.lock();
            register.running.remove(&number);
            if let Err(panic) = ended {
                register.panics.push(format!("{name}: {}", message(&*panic)));
            }
        })
        .abort_handle();
        self.register.lock().running.insert(number, handle);
        Some(number)
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

impl Tasks for SimTasks {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        let started = self.start(name, task);
        let register = Arc::clone(&self.register);
        TaskHandle::new(move || {
            let task = started.and_then(|number| register.lock().running.remove(&number));
            if let Some(task) = task {
                task.abort();
            }
        })
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        let slow = Duration::from_millis(self.slow_millis.load(Ordering::Relaxed));
        if self.blocking_max.is_zero() && slow.is_zero() {
            if !self.stopped() {
                work();
            }
            return;
        }
        let started = self.register.lock().started;
        let longest = u64::try_from(self.blocking_max.as_millis()).unwrap_or(u64::MAX);
        let pause =
            Duration::from_millis(self.seed.of("blocking").with(started).between(0, longest));
        self.start(
            "blocking work",
            Box::pin(async move {
                tokio::time::sleep(pause + slow).await;
                work();
            }),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use quorate::env::{Tasks, blocking};

    use super::SimTasks;
    use crate::clock::WorldTime;
    use crate::entropy::Seed;

    #[tokio::test(start_paused = true)]
    async fn a_stopped_node_takes_no_further_step() {
        let time = WorldTime::begin();
        let tasks = SimTasks::new(Seed(1), Duration::ZERO);
        let steps = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&steps);
        let work = async move {
            loop {
                time.sleep(Duration::from_millis(10)).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };

        tasks.spawn("counter", Box::pin(work)).detach();
        time.sleep(Duration::from_millis(35)).await;
        tasks.stop_all();
        time.sleep(Duration::from_millis(100)).await;

        assert_eq!(steps.load(Ordering::Relaxed), 3);
        tasks.spawn("late", Box::pin(async { panic!("started after the stop") })).detach();
        time.sleep(Duration::from_millis(10)).await;
        assert!(tasks.panics().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_kept_with_the_name_of_its_task() {
        let time = WorldTime::begin();
        let tasks = SimTasks::new(Seed(1), Duration::ZERO);

        tasks.spawn("worker", Box::pin(async { panic!("broken") })).detach();
        time.sleep(Duration::from_millis(1)).await;

        assert_eq!(tasks.panics(), ["worker: broken"]);
    }

    #[tokio::test(start_paused = true)]
    async fn blocking_work_takes_simulated_time() {
        let time = WorldTime::begin();
        let tasks: Arc<dyn Tasks> = Arc::new(SimTasks::new(Seed(3), Duration::from_millis(50)));

        let value = blocking(&tasks, || 7).await;

        assert_eq!(value, Some(7));
        assert!(time.elapsed() <= Duration::from_millis(51));
    }
}
