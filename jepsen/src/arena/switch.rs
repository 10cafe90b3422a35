//! A switch in user space: it reads each host's packets from a TUN device, decides what becomes
//! of them, and writes them to another's.
//!
//! # Invariants
//! 1. Only packets between two nodes are ever lost, held, doubled or damaged; clients reach all
//!    nodes at all times.
//! 2. A change of the rules holds for the next packet that is read.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use futures_util::FutureExt;
use parking_lot::Mutex;
use quorate::env::{Clock, Monotonic, OsClock, Tasks, TokioTasks};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use super::kernel::watch;
use super::link::{Draws, Quality};
use super::packet;

/// The host of all clients; nodes are hosts from 1.
pub(super) const CLIENTS: usize = 0;

/// Larger than any packet.
const BUFFER: usize = 65_536;

/// The last byte of the clients' address.
const CLIENTS_ADDRESS: u8 = 254;

/// The address of a host.
#[must_use]
pub(super) fn address(host: usize) -> Ipv4Addr {
    let last = match host {
        CLIENTS => CLIENTS_ADDRESS,
        node => u8::try_from(node).unwrap_or(u8::MAX),
    };
    Ipv4Addr::new(10, 77, 0, last)
}

fn host(address: Ipv4Addr) -> Option<usize> {
    match address.octets() {
        [10, 77, 0, CLIENTS_ADDRESS] => Some(CLIENTS),
        [10, 77, 0, node] => Some(usize::from(node)),
        _ => None,
    }
}

/// How many packets between nodes met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Read from nodes for nodes.
    pub packets: u64,
    /// Dropped at a cut.
    pub cut: u64,
    /// Lost on a bad link.
    pub lost: u64,
    /// Delivered twice.
    pub doubled: u64,
    /// Delivered later than at once.
    pub held: u64,
    /// Delivered with a flipped bit.
    pub damaged: u64,
}

impl Figures {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            cut: self.cut + other.cut,
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            held: self.held + other.held,
            damaged: self.damaged + other.damaged,
        }
    }

    /// What came since `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            packets: self.packets - before.packets,
            cut: self.cut - before.cut,
            lost: self.lost - before.lost,
            doubled: self.doubled - before.doubled,
            held: self.held - before.held,
            damaged: self.damaged - before.damaged,
        }
    }
}

#[derive(Default)]
struct Rules {
    /// How often each link is cut.
    cuts: BTreeMap<(usize, usize), usize>,
    qualities: BTreeMap<(usize, usize), Quality>,
    draws: BTreeMap<(usize, usize), Draws>,
    figures: BTreeMap<(usize, usize), Figures>,
}

impl Rules {
    fn figures(&mut self, link: (usize, usize)) -> &mut Figures {
        self.figures.entry(link).or_default()
    }
}

/// What waits for its time: when, in which order, for whom, and the packet.
type Held = Reverse<(Monotonic, u64, usize, Vec<u8>)>;

#[derive(Default)]
struct Waiting {
    packets: BinaryHeap<Held>,
    /// How many ever waited: those of one moment go in the order in which they came.
    ever: u64,
}

struct Shared {
    clock: Arc<OsClock>,
    seed: u64,
    ports: BTreeMap<usize, AsyncFd<File>>,
    rules: Arc<Mutex<Rules>>,
    held: Mutex<Waiting>,
    sooner: Notify,
}

/// A running switch; dropping it ends it, and with it the hosts' devices.
pub struct Switch {
    rules: Arc<Mutex<Rules>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Starts a switch between the devices of these hosts.
    ///
    /// # Errors
    /// If it has no thread to run on.
    pub fn start(
        devices: BTreeMap<usize, File>,
        seed: u64,
        clock: Arc<OsClock>,
    ) -> anyhow::Result<Self> {
        let rules = Arc::new(Mutex::new(Rules::default()));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let own = Arc::clone(&rules);
        let work = move || {
            runtime.block_on(async {
                let ports = devices.into_iter().map(|(host, file)| {
                    let port = watch(file);
                    port.map(|port| (host, port))
                });
                let Ok(ports) = ports.collect::<Result<_, _>>() else { return };
                let shared = Shared {
                    clock,
                    seed,
                    ports,
                    rules: own,
                    held: Mutex::default(),
                    sooner: Notify::new(),
                };
                serve(Arc::new(shared), stopped).await;
            });
        };
        let thread = std::thread::Builder::new().name("switch".to_owned());
        let thread = thread.spawn(work).context("the switch cannot be started")?;
        Ok(Self { rules, stop: Some(stop), thread: Some(thread) })
    }

    /// From now on nothing goes over these directed links, until each is mended as often as it
    /// was cut.
    pub fn cut(&self, links: &[(usize, usize)]) {
        let mut rules = self.rules.lock();
        for link in links {
            *rules.cuts.entry(*link).or_default() += 1;
        }
    }

    /// Takes back one cut of each of these links.
    pub fn mend(&self, links: &[(usize, usize)]) {
        let mut rules = self.rules.lock();
        for link in links {
            if let Some(count) = rules.cuts.get_mut(link) {
                *count -= 1;
                if *count == 0 {
                    rules.cuts.remove(link);
                }
            }
        }
    }

    /// Sets how good these links are.
    pub fn set_quality(&self, links: &[(usize, usize)], quality: Quality) {
        let mut rules = self.rules.lock();
        rules.qualities.extend(links.iter().map(|link| (*link, quality)));
    }

    /// Makes these links good again.
    pub fn clear_quality(&self, links: &[(usize, usize)]) {
        let mut rules = self.rules.lock();
        rules.qualities.retain(|link, _| !links.contains(link));
    }

    /// Makes every link perfect.
    pub fn heal(&self) {
        let mut rules = self.rules.lock();
        rules.cuts.clear();
        rules.qualities.clear();
    }

    /// What happened so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let rules = self.rules.lock();
        rules.figures.values().fold(Figures::default(), |sum, one| sum.plus(*one))
    }

    /// What happened so far on these links.
    #[must_use]
    pub fn figures_of(&self, links: &[(usize, usize)]) -> Figures {
        let rules = self.rules.lock();
        let figures = links.iter().filter_map(|link| rules.figures.get(link));
        figures.fold(Figures::default(), |sum, one| sum.plus(*one))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A switch that panicked has ended, too.
            drop(thread.join());
        }
    }
}

/// The links between two groups of nodes, in both directions.
#[must_use]
pub fn between(one: &[usize], other: &[usize]) -> Vec<(usize, usize)> {
    let pairs = one.iter().flat_map(|one| other.iter().map(|other| (*one, *other)));
    pairs.filter(|(one, other)| one != other).flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

async fn serve(shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let tasks = TokioTasks::current();
    let mut running = Vec::new();
    for host in shared.ports.keys().copied() {
        let port = Arc::clone(&shared);
        running.push(tasks.spawn("port", async move { port.read_from(host).await }.boxed()));
    }
    let pacer = Arc::clone(&shared);
    running.push(tasks.spawn("pacer", async move { pacer.pace().await }.boxed()));
    // Either a word or the end of whoever might have given it.
    drop(stopped.await);
}

impl Shared {
    async fn read_from(&self, from: usize) {
        let mut buffer = vec![0; BUFFER];
        let Some(port) = self.ports.get(&from) else { return };
        while let Ok(mut ready) = port.readable().await {
            match ready.try_io(|port| port.get_ref().read(&mut buffer)) {
                Ok(Ok(length)) => self.forward(from, &buffer[..length]),
                // The device is gone.
                Ok(Err(_)) => return,
                Err(_nothing_there) => {}
            }
        }
    }

    fn forward(&self, from: usize, packet: &[u8]) {
        let Some(to) = packet::ends(packet).and_then(|(_, target)| host(target)) else { return };
        if from == CLIENTS || to == CLIENTS {
            self.write_to(to, packet);
            return;
        }
        let arrivals = {
            let mut rules = self.rules.lock();
            let is_cut = rules.cuts.contains_key(&(from, to));
            let figures = rules.figures((from, to));
            figures.packets += 1;
            if is_cut {
                figures.cut += 1;
                return;
            }
            let Some(quality) = rules.qualities.get(&(from, to)).copied() else {
                drop(rules);
                self.write_to(to, packet);
                return;
            };
            let draws = rules.draws.entry((from, to));
            let draws = draws.or_insert_with(|| Draws::of(self.seed, from, to));
            let arrivals = quality.arrivals(draws);
            let figures = rules.figures((from, to));
            figures.lost += u64::from(arrivals.is_empty());
            figures.doubled += u64::from(arrivals.len() > 1);
            arrivals
        };
        for arrival in arrivals {
            let mut copy = packet.to_vec();
            let damaged = arrival.damage.is_some_and(|draw| packet::damage(&mut copy, draw));
            {
                let mut rules = self.rules.lock();
                let figures = rules.figures((from, to));
                figures.damaged += u64::from(damaged);
                figures.held += u64::from(!arrival.after.is_zero());
            }
            if arrival.after.is_zero() {
                self.write_to(to, &copy);
            } else {
                self.hold(self.clock.monotonic() + arrival.after, to, copy);
            }
        }
    }

    fn hold(&self, due: Monotonic, to: usize, packet: Vec<u8>) {
        let mut held = self.held.lock();
        let sooner = held.packets.peek().is_none_or(|Reverse(first)| due < first.0);
        let place = held.ever;
        held.ever += 1;
        held.packets.push(Reverse((due, place, to, packet)));
        if sooner {
            self.sooner.notify_one();
        }
    }

    /// Delivers what is held when its time comes.
    async fn pace(&self) {
        loop {
            let next = self.held.lock().packets.peek().map(|Reverse(first)| first.0);
            match next {
                None => self.sooner.notified().await,
                Some(due) if due <= self.clock.monotonic() => self.deliver_one(),
                Some(due) => {
                    let wait = self.clock.sleep_until(due);
                    futures_util::future::select(wait, Box::pin(self.sooner.notified())).await;
                }
            }
        }
    }

    fn deliver_one(&self) {
        let first = self.held.lock().packets.pop();
        let Some(Reverse((_, _, to, packet))) = first else { return };
        self.write_to(to, &packet);
    }

    /// A packet that the kernel does not take is lost, as on any network.
    fn write_to(&self, to: usize, packet: &[u8]) {
        if let Some(port) = self.ports.get(&to) {
            drop(port.get_ref().write(packet));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CLIENTS, address, between, host};

    #[test]
    fn hosts_and_addresses_belong_together() {
        for number in [CLIENTS, 1, 2, 7] {
            assert_eq!(host(address(number)), Some(number));
        }
        assert_eq!(host(std::net::Ipv4Addr::new(10, 78, 0, 1)), None);
    }

    #[test]
    fn nobody_is_cut_off_from_itself() {
        assert_eq!(between(&[1], &[1, 2, 3]), [(1, 2), (2, 1), (1, 3), (3, 1)]);
    }
}
