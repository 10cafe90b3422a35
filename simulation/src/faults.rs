//! Faults as data: a plan drawn from a seed, and the hand that carries it out.
//!
//! What destroys bytes (wiping, rot, bad sectors) strikes one machine of a run only, the unlucky
//! one: a second could take the last copy of what was acknowledged, which no store survives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate::types::NodeId;
use serde::{Deserialize, Serialize};

use crate::coverage::POINTS;
use crate::entropy::Seed;
use crate::trace::Event;
use crate::world::World;

/// A kind of fault: what `other` and `amount` of a [`Fault`] mean is said with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `node` and `other` cannot talk, either way.
    Split,
    /// Nothing passes from `node` to `other`; the way back is free.
    OneWay,
    /// `node` cannot talk to any other.
    Isolate,
    /// Everything between `node` and `other` takes at least `amount` milliseconds each way.
    Slow,
    /// Of what goes from `node` to `other`, `amount` of a thousand are lost and sent again.
    Lossy,
    /// The connections between `node` and `other` break, once.
    Reset,
    /// Of what peers ask of the copies of `node`, `amount` of a thousand never arrive: a quorum
    /// forms without it, and it is behind.
    Deaf,
    /// `node` is killed, and started again when the fault ends.
    Crash,
    /// Every machine loses power at once, and starts again when the fault ends.
    CrashAll,
    /// `node` dies the first time that it passes the crash point numbered `amount`.
    CrashPoint,
    /// `node` takes no step, as after SIGSTOP, until the fault ends.
    Pause,
    /// `node` is emptied, and starts again when the fault ends.
    Wipe,
    /// The disk of `node` takes no more bytes.
    DiskFull,
    /// Each access to the disk of `node` takes `amount` milliseconds more.
    SlowDisk,
    /// The next sync of the disk of `node` fails; the node is restarted when the fault ends.
    SyncError,
    /// A bit on the disk of `node` flips.
    Rot,
    /// A sector of the disk of `node` can be read no more.
    BadSector,
    /// The wall clock of `node` jumps by `amount` milliseconds; it is set right at the end.
    ClockJump,
    /// The wall clock of `node` gains `amount` per million; it is set right at the end.
    ClockDrift,
}

/// Kinds that concern the network alone.
pub const NETWORK: &[Kind] =
    &[Kind::Split, Kind::OneWay, Kind::Isolate, Kind::Slow, Kind::Lossy, Kind::Reset];

/// Kinds that stop a machine, and lose nothing that was synced.
pub const MACHINES: &[Kind] =
    &[Kind::Deaf, Kind::Crash, Kind::CrashAll, Kind::CrashPoint, Kind::Pause];

/// Kinds that concern a disk, and lose nothing that was synced.
pub const DISKS: &[Kind] = &[Kind::DiskFull, Kind::SlowDisk, Kind::SyncError];

/// Kinds that destroy bytes: they strike one machine of a run.
pub const RUIN: &[Kind] = &[Kind::Wipe, Kind::Rot, Kind::BadSector];

/// Kinds that concern clocks.
pub const CLOCKS: &[Kind] = &[Kind::ClockJump, Kind::ClockDrift];

impl Kind {
    /// Its name, for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::OneWay => "one-way cut",
            Self::Isolate => "isolation",
            Self::Slow => "slow link",
            Self::Lossy => "lossy link",
            Self::Reset => "reset",
            Self::Deaf => "deaf replica",
            Self::Crash => "crash",
            Self::CrashAll => "power cut of all",
            Self::CrashPoint => "crash point armed",
            Self::Pause => "pause",
            Self::Wipe => "wipe",
            Self::DiskFull => "full disk",
            Self::SlowDisk => "slow disk",
            Self::SyncError => "failed sync",
            Self::Rot => "rot",
            Self::BadSector => "bad sector",
            Self::ClockJump => "clock jump",
            Self::ClockDrift => "clock drift",
        }
    }

    /// The least and the greatest `amount`.
    const fn amounts(self) -> (u64, u64) {
        match self {
            Self::Slow => (50, 800),
            Self::Lossy => (50, 500),
            Self::Deaf => (300, 1_000),
            Self::CrashPoint => (0, POINTS.len() as u64 - 1),
            Self::SlowDisk => (5, 300),
            Self::ClockJump => (0, 20_000),
            Self::ClockDrift => (0, 100_000),
            Self::Rot | Self::BadSector => (0, i64::MAX as u64),
            _ => (0, 0),
        }
    }

    /// What is taken from a drawn amount, so that clocks go wrong both ways.
    const fn centre(self) -> i64 {
        match self {
            Self::ClockJump => 10_000,
            Self::ClockDrift => 50_000,
            _ => 0,
        }
    }
}

/// One thing that goes wrong, and later right again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// The node that it hits.
    pub node: NodeId,
    /// The other node, where there are two.
    pub other: NodeId,
    /// How much, where that matters.
    pub amount: i64,
}

impl Fault {
    /// A fault of one node that has no amount.
    #[must_use]
    pub const fn at(kind: Kind, node: NodeId) -> Self {
        Self { kind, node, other: node, amount: 0 }
    }

    /// A fault between two nodes that has no amount.
    #[must_use]
    pub const fn between(kind: Kind, node: NodeId, other: NodeId) -> Self {
        Self { kind, node, other, amount: 0 }
    }

    /// The name of the crash point that is meant.
    #[must_use]
    pub fn point(&self) -> Option<&'static str> {
        usize::try_from(self.amount).ok().and_then(|number| POINTS.get(number)).copied()
    }
}

/// A fault and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// When it begins, in milliseconds since the plan began.
    pub at_millis: u64,
    /// How long it lasts, in milliseconds.
    pub lasts_millis: u64,
    /// What happens.
    pub fault: Fault,
}

/// Which kinds of faults strike in a run, how often and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    kinds: Vec<Kind>,
    pause_millis_max: u64,
    lasts_millis_max: u64,
}

impl Mix {
    /// Some of the `allowed` kinds, at some rate: each seed leaves others out.
    #[must_use]
    pub fn swarm(seed: Seed, allowed: &[&[Kind]]) -> Self {
        let allowed = allowed.concat();
        let chosen = |kind: &Kind| seed.of(kind.name()).happens(400);
        let mut kinds: Vec<Kind> = allowed.iter().copied().filter(chosen).collect();
        if kinds.is_empty() {
            kinds.push(pick(seed.of("only kind"), &allowed));
        }
        let pause_millis_max = pick(seed.of("rate"), &[600, 2_000, 2_000, 6_000]);
        let lasts_millis_max = pick(seed.of("length"), &[1_500, 6_000, 6_000, 20_000]);
        Self { kinds, pause_millis_max, lasts_millis_max }
    }

    /// Whether faults of that kind may strike.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

/// One of several, for a seed that is drawn from once.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn pick<T: Copy>(seed: Seed, from: &[T]) -> T {
    let last = from.len() as u64 - 1;
    from[usize::try_from(seed.between(0, last)).unwrap_or_default()]
}

/// Draws the faults of a run over `span`; those that destroy bytes strike the first node.
///
/// # Panics
/// If `nodes` is empty.
#[must_use]
pub fn plan(seed: Seed, nodes: &[NodeId], span: Duration, mix: &Mix) -> Vec<PlannedFault> {
    assert!(!nodes.is_empty(), "faults need somebody to hit");
    let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut plan = Vec::new();
    let mut at_millis = 0;
    for number in 0_u64.. {
        let draw = seed.of("fault").with(number);
        at_millis += draw.of("pause").between(20, mix.pause_millis_max);
        if at_millis >= span {
            break;
        }
        let kind = pick(draw.of("kind"), &mix.kinds);
        // Nothing outlasts the span, so that what is healed at its end is all that is left.
        let lasts_millis =
            draw.of("lasts").between(100, mix.lasts_millis_max).min(span - at_millis + 100);
        let place = draw.of("first").between(0, nodes.len() as u64 - 1);
        let node = if RUIN.contains(&kind) { 0 } else { place };
        let other = node + draw.of("second").between(1, (nodes.len() as u64 - 1).max(1));
        let at = |place: u64| nodes[usize::try_from(place).unwrap_or_default() % nodes.len()];
        let (low, high) = kind.amounts();
        let amount = i64::try_from(draw.of("amount").between(low, high)).unwrap_or_default();
        let amount = amount - kind.centre();
        let fault = Fault { kind, node: at(node), other: at(other), amount };
        plan.push(PlannedFault { at_millis, lasts_millis, fault });
    }
    plan
}

/// What faults do to machines beyond the network and the clocks.
pub trait Machines: Send + Sync {
    /// Starts a node on what its machine's disks hold.
    fn restart(&self, node: NodeId);

    /// Lets a fault of a machine or its disk begin.
    fn strike(&self, fault: Fault);

    /// Ends such a fault.
    fn relieve(&self, fault: Fault);
}

/// Carries the plan out. Returns when every fault has ended; links that two faults had cut may
/// still be cut.
pub async fn carry_out(world: &Arc<World>, plan: &[PlannedFault], machines: &dyn Machines) {
    let began = world.time().elapsed();
    let mut steps: Vec<(u64, bool, usize)> = Vec::new();
    for (place, planned) in plan.iter().enumerate() {
        steps.push((planned.at_millis, true, place));
        steps.push((planned.at_millis + planned.lasts_millis, false, place));
    }
    steps.sort_unstable();
    // Machines are stopped by one fault at a time: the end of another must not start them.
    let mut held: BTreeMap<NodeId, u32> = BTreeMap::new();
    for (millis, begins, place) in steps {
        let due = began + Duration::from_millis(millis);
        world.time().sleep(due.saturating_sub(world.time().elapsed())).await;
        let fault = plan[place].fault;
        if begins {
            world.trace().record(Event::at(fault.node, "fault", 0, fault.kind.name()));
            begin(world, fault, machines);
        } else {
            end(world, fault, machines);
        }
        for node in down_after(world, fault) {
            let holds = held.entry(node).or_default();
            *holds = if begins { *holds + 1 } else { holds.saturating_sub(1) };
            if !begins && *holds == 0 && !world.is_up(node) {
                machines.restart(node);
            }
        }
    }
}

/// The nodes that a fault stops until it ends.
fn down_after(world: &World, fault: Fault) -> Vec<NodeId> {
    match fault.kind {
        Kind::CrashAll => world.nodes(),
        Kind::Crash | Kind::CrashPoint | Kind::Wipe | Kind::SyncError => vec![fault.node],
        _ => Vec::new(),
    }
}

fn begin(world: &World, fault: Fault, machines: &dyn Machines) {
    let network = world.network();
    let Fault { kind, node, other, amount } = fault;
    let permille = u16::try_from(amount).unwrap_or(1_000);
    match kind {
        Kind::Split => {
            network.cut(node, other);
            network.cut(other, node);
        }
        Kind::OneWay => network.cut(node, other),
        Kind::Isolate => isolate(world, node),
        Kind::Slow => {
            let least = Duration::from_millis(amount.unsigned_abs());
            network.set_quality(node, other, network.usual_quality().slow(least));
            network.set_quality(other, node, network.usual_quality().slow(least));
        }
        Kind::Lossy => network.set_quality(node, other, network.usual_quality().lossy(permille)),
        Kind::Reset => network.reset(node, other),
        Kind::Deaf => network.set_deaf(node, permille),
        Kind::Pause => {
            isolate(world, node);
            world.pause(node);
        }
        Kind::SlowDisk => world.slow_disk(node, Duration::from_millis(amount.unsigned_abs())),
        Kind::ClockJump => world.with_wall(node, |wall| wall.jump(amount)),
        Kind::ClockDrift => {
            let drift = i32::try_from(amount).unwrap_or_default();
            world.with_wall(node, |wall| wall.set_drift(drift));
        }
        _ => machines.strike(fault),
    }
}

fn isolate(world: &World, node: NodeId) {
    for other in world.nodes().into_iter().filter(|other| *other != node) {
        world.network().cut(node, other);
        world.network().cut(other, node);
    }
}

fn end(world: &World, fault: Fault, machines: &dyn Machines) {
    let network = world.network();
    let heal = |one, other| {
        network.heal(one, other);
        network.heal(other, one);
    };
    let Fault { kind, node, other, .. } = fault;
    match kind {
        Kind::Split => heal(node, other),
        Kind::OneWay => network.heal(node, other),
        Kind::Isolate => world.nodes().into_iter().for_each(|other| heal(node, other)),
        Kind::Slow | Kind::Lossy => {
            network.set_quality(node, other, network.usual_quality());
            network.set_quality(other, node, network.usual_quality());
        }
        Kind::Reset => {}
        Kind::Deaf => network.set_deaf(node, 0),
        Kind::Pause => {
            world.nodes().into_iter().for_each(|other| heal(node, other));
            world.resume(node);
        }
        Kind::SlowDisk => world.slow_disk(node, Duration::ZERO),
        Kind::ClockJump | Kind::ClockDrift => world.with_wall(node, |wall| wall.set_right()),
        _ => machines.relieve(fault),
    }
}

/// Heals what concerns these nodes: links between them, clocks, disks; starts those that are
/// down. The others stay cut off.
pub fn heal(world: &World, nodes: &[NodeId], machines: &dyn Machines) {
    let network = world.network();
    for one in nodes {
        for other in nodes {
            network.heal(*one, *other);
            network.set_quality(*one, *other, network.usual_quality());
        }
        network.set_deaf(*one, 0);
        world.with_wall(*one, |wall| wall.set_right());
        world.slow_disk(*one, Duration::ZERO);
        world.resume(*one);
        for kind in [Kind::DiskFull, Kind::CrashPoint] {
            machines.relieve(Fault::at(kind, *one));
        }
        if !world.is_up(*one) {
            machines.restart(*one);
        }
    }
}

/// Cuts these nodes off from all others, for good or until [`heal`].
pub fn cut_off(world: &World, nodes: &[NodeId]) {
    nodes.iter().for_each(|node| isolate(world, *node));
}
