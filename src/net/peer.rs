//! The way to one peer: its address, its connections, and when to dial again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::endpoint::{Class, QuicLimits};
use super::hub::Hub;
use super::link::Link;
use super::stream::code;
use crate::env::{Monotonic, timeout_at};
use crate::types::NodeId;

/// The first pause after a failed dial; it doubles, with jitter, up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Connections of one class that a peer may hold beside the newest; two nodes that dial each
/// other at once have one more each, and keep both.
const OLD_LINKS_MAX: usize = 2;
/// Large requests of one peer that are assembled and served at once, in KiB.
const REQUEST_KIB_MAX: usize = 64 << 10;

/// A dial under way: all who want the connection wait for the one dial.
type Dialing = Shared<BoxFuture<'static, Result<Arc<Link>, String>>>;

/// What is known of one peer.
pub(super) struct Peer {
    pub(super) node: NodeId,
    address: Mutex<Option<SocketAddr>>,
    routes: [Arc<Route>; 2],
    /// Small requests of this peer that may be served at once.
    pub(super) calls: Arc<Semaphore>,
    /// Bulk transfers of this peer that may be served at once.
    pub(super) bulk: Arc<Semaphore>,
    /// KiB of its large requests that may be in memory at once.
    pub(super) request_kib: Arc<Semaphore>,
}

impl Peer {
    pub(super) fn new(node: NodeId, limits: &QuicLimits) -> Self {
        Self {
            node,
            address: Mutex::new(None),
            routes: Class::ALL.map(|class| Arc::new(Route::new(class))),
            calls: Arc::new(Semaphore::new(limits.calls_per_peer)),
            bulk: Arc::new(Semaphore::new(limits.bulk_per_peer)),
            request_kib: Arc::new(Semaphore::new(REQUEST_KIB_MAX)),
        }
    }

    pub(super) fn route(&self, class: Class) -> &Arc<Route> {
        &self.routes[class.index()]
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        *self.address.lock()
    }

    /// Lets go of all connections.
    pub(super) fn disconnect(&self) {
        self.routes.iter().for_each(|route| route.disconnect());
    }

    /// Notes where the peer is reached; at a new address it may be dialled at once.
    pub(super) fn learn(&self, address: SocketAddr) {
        let before = self.address.lock().replace(address);
        if before != Some(address) {
            self.routes.iter().for_each(|route| route.forget_failures());
        }
    }
}

/// Connections of one class with one peer, or with whoever is at an address.
pub(super) struct Route {
    class: Class,
    state: Mutex<RouteState>,
}

#[derive(Default)]
struct RouteState {
    link: Option<Arc<Link>>,
    /// Connections that a newer one took over from. What runs on them goes on.
    old: VecDeque<Arc<Link>>,
    dialing: Option<Dialing>,
    failures: u32,
    retry_at: Option<Monotonic>,
    reason: String,
}

/// What a route can do for a caller now.
enum Step {
    Ready(Arc<Link>),
    Wait(Dialing),
    Fail(String),
}

impl Route {
    pub(super) fn new(class: Class) -> Self {
        Self { class, state: Mutex::new(RouteState::default()) }
    }

    /// The newest connection, if it is alive.
    pub(super) fn live(&self) -> Option<Arc<Link>> {
        self.state.lock().link.as_ref().filter(|link| link.is_alive()).cloned()
    }

    /// A live connection, dialling `address` if need be. Fails at once while a failed dial is
    /// recent, with its reason.
    pub(super) async fn link(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        target: Target,
        deadline: Monotonic,
    ) -> Result<Arc<Link>, String> {
        match self.step(hub, target) {
            Step::Ready(link) => Ok(link),
            Step::Fail(reason) => Err(reason),
            Step::Wait(dialing) => timeout_at(&*hub.clock, deadline, dialing)
                .await
                .unwrap_or_else(|| Err("it was not connected before the deadline".to_owned())),
        }
    }

    /// Begins to dial unless that is pointless now; for senders that must not wait.
    pub(super) fn nudge(self: &Arc<Self>, hub: &Arc<Hub>, target: Target) {
        drop(self.step(hub, target));
    }

    /// Makes `link` the one that is used from now on.
    pub(super) fn install(&self, link: Arc<Link>) {
        let mut state = self.state.lock();
        state.failures = 0;
        state.retry_at = None;
        let before = state.link.replace(link);
        state.old.extend(before);
        state.old.retain(|old| old.is_alive());
        while state.old.len() > OLD_LINKS_MAX {
            if let Some(oldest) = state.old.pop_front() {
                oldest.connection.close(code::CLOSED, b"newer connections took over");
            }
        }
    }

    /// Lets go of connections that have ended.
    pub(super) fn sweep(&self) {
        let mut state = self.state.lock();
        state.link.take_if(|link| !link.is_alive());
        state.old.retain(|old| old.is_alive());
    }

    /// Lets go of all connections.
    pub(super) fn disconnect(&self) {
        let state = std::mem::take(&mut *self.state.lock());
        // Dropped after the lock: the last holder of a link may drop its route too.
        drop(state);
    }

    fn forget_failures(&self) {
        let mut state = self.state.lock();
        state.failures = 0;
        state.retry_at = None;
    }

    fn step(self: &Arc<Self>, hub: &Arc<Hub>, target: Target) -> Step {
        let mut state = self.state.lock();
        if let Some(link) = state.link.as_ref().filter(|link| link.is_alive()) {
            return Step::Ready(Arc::clone(link));
        }
        if let Some(dialing) = &state.dialing {
            return Step::Wait(dialing.clone());
        }
        if state.retry_at.is_some_and(|moment| hub.clock.monotonic() < moment) {
            return Step::Fail(state.reason.clone());
        }
        let dialing = self.dial(hub, target);
        state.dialing = Some(dialing.clone());
        Step::Wait(dialing)
    }

    /// Starts the one dial. It is a task of its own, so that a caller with a short deadline
    /// does not break it off for the others.
    fn dial(self: &Arc<Self>, hub: &Arc<Hub>, target: Target) -> Dialing {
        let (sender, receiver) = oneshot::channel();
        let (route, dialler) = (Arc::clone(self), Arc::clone(hub));
        let task = async move {
            let result = dialler.dial(target, route.class).await;
            route.dialled(&dialler, &result);
            drop(sender.send(result));
        };
        hub.tasks.spawn("peer dial", Box::pin(task)).detach();
        let stopped = || Err("this node is stopping".to_owned());
        receiver.map(move |result| result.unwrap_or_else(|_| stopped())).boxed().shared()
    }

    fn dialled(&self, hub: &Hub, result: &Result<Arc<Link>, String>) {
        let mut state = self.state.lock();
        state.dialing = None;
        match result {
            Ok(link) => {
                state.failures = 0;
                state.retry_at = None;
                state.link.get_or_insert_with(|| Arc::clone(link));
            }
            Err(reason) => {
                let doubled = PAUSE_MIN * 2u32.pow(state.failures.min(10));
                let pause = doubled.min(PAUSE_MAX);
                let jitter = hub.entropy.below(50);
                state.failures = state.failures.saturating_add(1);
                state.retry_at =
                    Some(hub.clock.monotonic() + pause.mul_f64(0.5 + jitter as f64 / 100.0));
                state.reason.clone_from(reason);
            }
        }
    }
}

/// Whom to dial.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// A node, which must prove to be the one.
    Node(NodeId, SocketAddr),
    /// Whichever node of the cluster listens there.
    Anyone(SocketAddr),
}

impl Target {
    pub(super) const fn address(self) -> SocketAddr {
        match self {
            Self::Node(_, address) | Self::Anyone(address) => address,
        }
    }
}
