//! What goes wrong with machines and their disks, and who dies where.

use std::rc::Rc;
use std::sync::{Arc, Weak};

use quorate::env::probe::{self, Listener};
use quorate::store::{Family, StoreError};
use quorate::types::NodeId;

use super::{Cluster, Machine};
use crate::coverage::{Armed, Coverage};
use crate::faults::{Fault, Kind, Machines};
use crate::tasks::running_node;
use crate::trace::Event;

impl Machines for Arc<Cluster> {
    fn restart(&self, node: NodeId) {
        self.start(node);
    }

    fn strike(&self, fault: Fault) {
        let node = fault.node;
        match fault.kind {
            Kind::Crash => self.crash(node),
            Kind::CrashAll => self.cut_power(),
            Kind::CrashPoint => {
                if let Some(point) = fault.point() {
                    self.coverage.arm(Armed { node, point });
                }
            }
            Kind::Wipe => {
                // A node that was never a member has nothing to lose.
                let _emptied = self.wipe(node);
            }
            _ => self.with_machine(node, |machine| machine.suffer(fault)),
        }
    }

    fn relieve(&self, fault: Fault) {
        let node = fault.node;
        match fault.kind {
            Kind::CrashPoint => self.coverage.disarm(node),
            Kind::DiskFull => self.with_machine(node, |machine| {
                machine.segments.make_room();
                machine.meta.fail_writes(None);
            }),
            // What the failed sync has not brought to the disk may be lost by now.
            Kind::SyncError => self.crash(node),
            _ => {}
        }
    }
}

impl Machine {
    fn suffer(&mut self, fault: Fault) {
        let draw = fault.amount.unsigned_abs();
        self.failing |= matches!(fault.kind, Kind::DiskFull | Kind::SyncError);
        match fault.kind {
            Kind::DiskFull => {
                self.segments.fill_up();
                let path = "a full disk".into();
                self.meta.fail_writes(Some(StoreError::Full { path }));
            }
            Kind::SyncError => {
                self.segments.fail_syncs(1);
                let stopped = StoreError::Stopped {
                    path: "a failing disk".into(),
                    reason: "the sync failed".to_owned(),
                };
                self.meta.fail_writes(Some(stopped));
            }
            // Half of the time among the rows, else in the segments.
            Kind::Rot if draw.is_multiple_of(2) => {
                let _there_may_be_none = self.meta.flip_bit(Family::Inline, draw >> 1);
            }
            Kind::Rot => {
                let _there_may_be_none = self.segments.rot(draw >> 1);
            }
            Kind::BadSector => {
                let _there_may_be_none = self.segments.lose_sector(draw);
            }
            _ => {}
        }
    }
}

impl Cluster {
    /// Every machine loses power at the same moment.
    fn cut_power(&self) {
        for node in self.world.nodes() {
            self.with_machine(node, |machine| machine.power.cut("a power cut of all"));
            self.crash(node);
        }
    }

    pub(super) fn with_machine(&self, node: NodeId, work: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.machines.lock().get_mut(&node) {
            work(machine);
        }
    }

    /// Hears of every probe that the nodes pass, until the thread listens to another cluster.
    pub(super) fn listen(self: &Arc<Self>) {
        let ears = Ears { coverage: self.coverage.clone(), cluster: Arc::downgrade(self) };
        probe::listen(Some(Rc::new(ears)));
    }

    /// Lets the running node die in the middle of its step.
    fn die(&self, node: NodeId, point: &'static str) {
        self.world.trace().record(Event::at(node, "crash point", 0, point));
        let mut fallen = None;
        self.with_machine(node, |machine| {
            machine.power.kill(point);
            fallen = machine.node.take();
        });
        self.world.crash(node);
        // Its own code is still on the stack, and may hold what its end would want.
        self.fallen.lock().extend(fallen);
    }
}

/// Who listens to a cluster's probes.
struct Ears {
    coverage: Coverage,
    cluster: Weak<Cluster>,
}

impl Listener for Ears {
    fn crash_point(&self, name: &'static str) {
        let Some(node) = running_node() else { return };
        self.coverage.pass(name);
        if self.coverage.dies(node, name)
            && let Some(cluster) = self.cluster.upgrade()
        {
            cluster.die(node, name);
        }
    }

    fn sometimes(&self, name: &'static str) {
        self.coverage.pass(name);
    }
}
