//! Faults as data: a plan drawn from a seed, and the hand that carries it out.

use std::sync::Arc;
use std::time::Duration;

use quorate::types::NodeId;
use serde::{Deserialize, Serialize};

use crate::entropy::Seed;
use crate::trace::Event;
use crate::world::World;

/// One thing that goes wrong, and later right again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Two nodes cannot talk, either way.
    Split {
        /// One of them.
        one: NodeId,
        /// The other.
        other: NodeId,
    },
    /// Nothing passes from one node to another; the way back is free.
    OneWay {
        /// Who is not heard.
        from: NodeId,
        /// Who does not hear.
        to: NodeId,
    },
    /// A node cannot talk to any other.
    Isolate {
        /// The node.
        node: NodeId,
    },
    /// Everything between two nodes takes at least this long, each way.
    Slow {
        /// One of them.
        one: NodeId,
        /// The other.
        other: NodeId,
        /// The shortest way, in milliseconds.
        least_millis: u64,
    },
    /// Of what goes from one node to another, much is lost and sent again.
    Lossy {
        /// The sender.
        from: NodeId,
        /// The receiver.
        to: NodeId,
        /// Of a thousand.
        permille: u16,
    },
    /// The connections between two nodes break, once.
    Reset {
        /// One of them.
        one: NodeId,
        /// The other.
        other: NodeId,
    },
    /// A node is killed, and started again when the fault ends.
    Crash {
        /// The node.
        node: NodeId,
    },
    /// A machine's wall clock jumps; it is set right when the fault ends.
    ClockJump {
        /// The machine.
        node: NodeId,
        /// How far, in milliseconds.
        millis: i64,
    },
    /// A machine's wall clock gains or loses; it is set right when the fault ends.
    ClockDrift {
        /// The machine.
        node: NodeId,
        /// Milliseconds gained per million.
        drift: i32,
    },
}

/// How many kinds [`Fault`] has.
const KINDS: u64 = 9;

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

impl Fault {
    /// Its kind in one word, for counters.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Split { .. } => "split",
            Self::OneWay { .. } => "one-way cut",
            Self::Isolate { .. } => "isolation",
            Self::Slow { .. } => "slow link",
            Self::Lossy { .. } => "lossy link",
            Self::Reset { .. } => "reset",
            Self::Crash { .. } => "crash",
            Self::ClockJump { .. } => "clock jump",
            Self::ClockDrift { .. } => "clock drift",
        }
    }

    /// The node that it hits, or the first of them.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        match *self {
            Self::Split { one, .. } | Self::Slow { one, .. } | Self::Reset { one, .. } => one,
            Self::OneWay { from, .. } | Self::Lossy { from, .. } => from,
            Self::Isolate { node }
            | Self::Crash { node }
            | Self::ClockJump { node, .. }
            | Self::ClockDrift { node, .. } => node,
        }
    }

    fn draw(seed: Seed, kind: u64, nodes: &[NodeId]) -> Self {
        let pick = |place: u64| nodes[usize::try_from(place).unwrap_or_default() % nodes.len()];
        let last = nodes.len() as u64 - 1;
        let first = seed.of("first").between(0, last);
        let second = first + seed.of("second").between(1, last.max(1));
        let (one, other) = (pick(first), pick(second));
        match kind {
            0 => Self::Split { one, other },
            1 => Self::OneWay { from: one, to: other },
            2 => Self::Isolate { node: one },
            3 => Self::Slow { one, other, least_millis: seed.of("slow").between(50, 800) },
            4 => {
                let permille = u16::try_from(seed.of("loss").between(50, 500)).unwrap_or(500);
                Self::Lossy { from: one, to: other, permille }
            }
            5 => Self::Reset { one, other },
            6 => Self::Crash { node: one },
            7 => {
                let far = i64::try_from(seed.of("jump").between(0, 20_000)).unwrap_or_default();
                Self::ClockJump { node: one, millis: far - 10_000 }
            }
            _ => {
                let drift = i32::try_from(seed.of("drift").between(0, 100_000)).unwrap_or_default();
                Self::ClockDrift { node: one, drift: drift - 50_000 }
            }
        }
    }
}

/// Draws a plan over `span`: some of the kinds (a swarm: each seed leaves others out), one
/// fault each half second on average, lasting 0.1 to 6 seconds.
///
/// # Panics
/// If `nodes` is empty.
#[must_use]
pub fn plan(seed: Seed, nodes: &[NodeId], span: Duration) -> Vec<PlannedFault> {
    assert!(!nodes.is_empty(), "faults need somebody to hit");
    let mut kinds: Vec<u64> =
        (0..KINDS).filter(|kind| seed.of("kind").with(*kind).happens(600)).collect();
    if kinds.is_empty() {
        kinds.push(seed.of("only kind").between(0, KINDS - 1));
    }
    let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut plan = Vec::new();
    let mut at_millis = 0;
    for number in 0_u64.. {
        let draw = seed.of("fault").with(number);
        at_millis += draw.of("pause").between(20, 980);
        if at_millis >= span {
            break;
        }
        let place = draw.of("kind").between(0, kinds.len() as u64 - 1);
        let kind = kinds[usize::try_from(place).unwrap_or_default()];
        let lasts_millis = draw.of("lasts").between(100, 6_000);
        plan.push(PlannedFault { at_millis, lasts_millis, fault: Fault::draw(draw, kind, nodes) });
    }
    plan
}

/// Carries the plan out. `restart` starts a node after its crash. Returns when every fault has
/// ended and everything is healed.
pub async fn carry_out(
    world: &Arc<World>,
    plan: &[PlannedFault],
    restart: impl Fn(NodeId) + Send + Sync,
) {
    let began = world.time().elapsed();
    let mut steps: Vec<(u64, bool, usize)> = Vec::new();
    for (place, planned) in plan.iter().enumerate() {
        steps.push((planned.at_millis, true, place));
        steps.push((planned.at_millis + planned.lasts_millis, false, place));
    }
    steps.sort_unstable();
    for (millis, begins, place) in steps {
        let due = began + Duration::from_millis(millis);
        world.time().sleep(due.saturating_sub(world.time().elapsed())).await;
        let fault = plan[place].fault;
        if begins {
            begin(world, fault);
        } else {
            end(world, fault, &restart);
        }
    }
    heal_all(world, restart);
}

fn begin(world: &World, fault: Fault) {
    world.trace().record(Event::at(fault.node(), "fault", 0, fault.kind()));
    let network = world.network();
    match fault {
        Fault::Split { one, other } => {
            network.cut(one, other);
            network.cut(other, one);
        }
        Fault::OneWay { from, to } => network.cut(from, to),
        Fault::Isolate { node } => {
            for other in world.nodes().into_iter().filter(|other| *other != node) {
                network.cut(node, other);
                network.cut(other, node);
            }
        }
        Fault::Slow { one, other, least_millis } => {
            let slow = network.usual_quality().slow(Duration::from_millis(least_millis));
            network.set_quality(one, other, slow);
            network.set_quality(other, one, slow);
        }
        Fault::Lossy { from, to, permille } => {
            network.set_quality(from, to, network.usual_quality().lossy(permille));
        }
        Fault::Reset { one, other } => network.reset(one, other),
        Fault::Crash { node } => world.crash(node),
        Fault::ClockJump { node, millis } => {
            if let Some(wall) = world.wall(node) {
                wall.jump(millis);
            }
        }
        Fault::ClockDrift { node, drift } => {
            if let Some(wall) = world.wall(node) {
                wall.set_drift(drift);
            }
        }
    }
}

fn end(world: &World, fault: Fault, restart: &impl Fn(NodeId)) {
    let network = world.network();
    let heal = |one, other| {
        network.heal(one, other);
        network.heal(other, one);
    };
    match fault {
        Fault::Split { one, other } => heal(one, other),
        Fault::OneWay { from, to } => network.heal(from, to),
        Fault::Isolate { node } => world.nodes().into_iter().for_each(|other| heal(node, other)),
        Fault::Slow { one, other, .. } | Fault::Lossy { from: one, to: other, .. } => {
            network.set_quality(one, other, network.usual_quality());
            network.set_quality(other, one, network.usual_quality());
        }
        Fault::Reset { .. } => {}
        Fault::Crash { node } => {
            if !world.is_up(node) {
                restart(node);
            }
        }
        Fault::ClockJump { node, .. } | Fault::ClockDrift { node, .. } => {
            if let Some(wall) = world.wall(node) {
                wall.set_right();
            }
        }
    }
}

/// Heals every link, sets every clock right and starts every node that is down.
pub fn heal_all(world: &World, restart: impl Fn(NodeId)) {
    let nodes = world.nodes();
    for one in &nodes {
        for other in &nodes {
            world.network().heal(*one, *other);
            world.network().set_quality(*one, *other, world.network().usual_quality());
        }
        if let Some(wall) = world.wall(*one) {
            wall.set_right();
        }
        if !world.is_up(*one) {
            restart(*one);
        }
    }
}
