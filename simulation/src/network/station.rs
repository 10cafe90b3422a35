//! One machine on the network, running or not.

use std::net::SocketAddr;
use std::sync::Arc;

use quorate::net::{Handler, LinkFacts};

use crate::clock::SimClock;
use crate::tasks::SimTasks;

/// What the network knows of a running node.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) boot: u64,
    pub(super) clock: SimClock,
    pub(super) tasks: SimTasks,
    pub(super) handler: Option<Arc<dyn Handler>>,
    pub(super) facts: Option<Arc<dyn LinkFacts>>,
}

pub(super) struct Station {
    pub(super) address: SocketAddr,
    boots: u64,
    pub(super) running: Option<Running>,
}

impl Station {
    pub(super) const fn new(address: SocketAddr) -> Self {
        Self { address, boots: 0, running: None }
    }

    /// Counts and notes a boot; its number.
    pub(super) fn boot(&mut self, clock: SimClock, tasks: SimTasks) -> u64 {
        self.boots += 1;
        let boot = self.boots;
        self.running = Some(Running { boot, clock, tasks, handler: None, facts: None });
        boot
    }
}
