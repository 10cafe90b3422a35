//! Siblings against a reference model: sets of writes, as in the definition of causal histories
//! (Schwarz and Mattern, 1994), over thousands of random histories of one key.
//!
//! A history has replicas that mint, exchange and lose their records, restart with or without
//! them, messages that arrive late or twice, and clients that write with what they have read. The
//! model keeps, for each copy, the whole set of writes that it knows of and the subset that
//! stands; nothing in it is compressed, so nothing in it can be wrong about what a vector covers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Dot, Siblings, Stints, VersionVector};
use crate::types::NodeId;

/// The key's hash.
const KEY: u64 = 42;
const REPLICAS: usize = 4;
const CLIENTS: usize = 3;

type Write = u32;

/// One step of a history; numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client writes with its context.
    Put { client: usize, replica: usize },
    /// Somebody writes who has read nothing.
    PutBlindly { replica: usize },
    /// A client reads two copies, merged, and keeps the context.
    Read { client: usize, replica: usize, other: usize },
    /// One copy is merged into another.
    Exchange { from: usize, to: usize },
    /// A copy is on its way: a message, a hint, a backup.
    Send { from: usize },
    /// It arrives, perhaps not for the first time.
    Arrive { message: usize, to: usize },
    /// A record is removed while its node runs on.
    Remove { replica: usize },
    /// A node restarts with its record.
    Restart { replica: usize },
    /// A node restarts and has lost its record.
    RestartEmpty { replica: usize },
}

fn steps() -> impl Strategy<Value = Step> {
    let (client, replica) = (|| 0..CLIENTS, || 0..REPLICAS);
    prop_oneof![
        4 => (client(), replica()).prop_map(|(client, replica)| Step::Put { client, replica }),
        3 => replica().prop_map(|replica| Step::PutBlindly { replica }),
        3 => (client(), replica(), replica())
            .prop_map(|(client, replica, other)| Step::Read { client, replica, other }),
        4 => (replica(), replica()).prop_map(|(from, to)| Step::Exchange { from, to }),
        2 => replica().prop_map(|from| Step::Send { from }),
        2 => (0..8usize, replica()).prop_map(|(message, to)| Step::Arrive { message, to }),
        1 => replica().prop_map(|replica| Step::Remove { replica }),
        1 => replica().prop_map(|replica| Step::Restart { replica }),
        1 => replica().prop_map(|replica| Step::RestartEmpty { replica }),
    ]
}

/// A copy and what it is in the model.
#[derive(Clone, Debug, Default)]
struct Copy {
    siblings: Siblings<Write>,
    known: BTreeSet<Write>,
    standing: BTreeSet<Write>,
}

impl Copy {
    fn write(&mut self, context: &Context, dot: Dot, write: Write) {
        self.siblings.write(&context.seen, dot, write);
        self.standing.retain(|standing| !context.known.contains(standing));
        self.known.extend(&context.known);
        self.known.insert(write);
        self.standing.insert(write);
    }

    fn merge(&mut self, other: Self) {
        self.siblings = std::mem::take(&mut self.siblings).merge(other.siblings);
        let stands = |write: &Write| {
            let here = self.standing.contains(write) || !self.known.contains(write);
            let there = other.standing.contains(write) || !other.known.contains(write);
            here && there
        };
        let all: BTreeSet<Write> = self.standing.union(&other.standing).copied().collect();
        self.standing = all.into_iter().filter(stands).collect();
        self.known.extend(other.known);
    }
}

/// What a client has seen, and what it is in the model.
#[derive(Clone, Debug, Default)]
struct Context {
    seen: VersionVector,
    known: BTreeSet<Write>,
}

/// A node: its record of the key, if it has one.
struct Node {
    id: NodeId,
    boot: u32,
    stints: Stints,
    copy: Option<Copy>,
}

/// Whether a node that loses its record forgets its actor, as it must.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Losing {
    EndsTheStint,
    IsNotNoticed,
}

struct World {
    nodes: Vec<Node>,
    clients: Vec<Context>,
    messages: Vec<Copy>,
    dots: BTreeMap<Dot, Write>,
    losing: Losing,
}

impl World {
    fn new(losing: Losing) -> Self {
        let node = |number: usize| {
            let id = NodeId::from_bytes([number as u8; 16]);
            Node { id, boot: 1, stints: Stints::new(id, 1), copy: None }
        };
        Self {
            nodes: (0..REPLICAS).map(node).collect(),
            clients: vec![Context::default(); CLIENTS],
            messages: Vec::new(),
            dots: BTreeMap::new(),
            losing,
        }
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Put { client, replica } => {
                let context = self.clients[client].clone();
                let copy = self.put(replica, &context)?;
                // With siblings left the client has not seen them, so it gets no context.
                if copy.siblings.len() == 1 {
                    self.clients[client] =
                        Context { seen: copy.siblings.seen().clone(), known: copy.known };
                }
            }
            Step::PutBlindly { replica } => {
                self.put(replica, &Context::default())?;
            }
            Step::Read { client, replica, other } => {
                let mut copy = self.nodes[replica].copy.clone().unwrap_or_default();
                copy.merge(self.nodes[other].copy.clone().unwrap_or_default());
                self.clients[client] =
                    Context { seen: copy.siblings.seen().clone(), known: copy.known };
            }
            Step::Exchange { from, to } => {
                if let Some(copy) = self.nodes[from].copy.clone() {
                    self.nodes[to].copy.get_or_insert_default().merge(copy);
                }
            }
            Step::Send { from } => self.messages.extend(self.nodes[from].copy.clone()),
            Step::Arrive { message, to } => {
                if let Some(copy) = self.messages.get(message).cloned() {
                    self.nodes[to].copy.get_or_insert_default().merge(copy);
                }
            }
            Step::Remove { replica } => {
                let node = &mut self.nodes[replica];
                node.copy = None;
                if self.losing == Losing::EndsTheStint {
                    node.stints.forget(KEY);
                }
            }
            Step::Restart { replica } | Step::RestartEmpty { replica } => {
                let node = &mut self.nodes[replica];
                node.boot += 1;
                node.stints = Stints::new(node.id, node.boot);
                if matches!(step, Step::RestartEmpty { .. }) {
                    node.copy = None;
                }
            }
        }
        self.check()
    }

    /// An owner mints, under the key's lock, with what it holds itself.
    fn put(&mut self, replica: usize, context: &Context) -> Result<Copy, String> {
        let write = self.dots.len() as Write;
        let node = &mut self.nodes[replica];
        let seen = node.copy.as_ref().map(|copy| copy.siblings.seen());
        let actor = node.stints.actor(KEY, seen);
        let counter = seen.map_or(0, |seen| seen.counter(actor)) + 1;
        let dot = Dot { actor, counter };
        if let Some(earlier) = self.dots.insert(dot, write) {
            return Err(format!("{dot:?} is write {earlier} and write {write}"));
        }
        let copy = node.copy.get_or_insert_default();
        copy.write(context, dot, write);
        Ok(copy.clone())
    }

    fn check(&self) -> Result<(), String> {
        let copies = self.nodes.iter().filter_map(|node| node.copy.as_ref());
        for copy in copies.chain(&self.messages) {
            self.check_copy(copy)?;
        }
        Ok(())
    }

    fn check_copy(&self, copy: &Copy) -> Result<(), String> {
        let values: BTreeSet<Write> = copy.siblings.iter().map(|(_, write)| *write).collect();
        if values != copy.standing {
            return Err(format!("{values:?} stand, {:?} should", copy.standing));
        }
        for (dot, write) in &self.dots {
            let (covered, known) =
                (copy.siblings.seen().contains(*dot), copy.known.contains(write));
            if covered != known {
                return Err(format!("{dot:?}: covered {covered}, known {known}"));
            }
        }
        Ok(())
    }

    /// Everybody exchanges with everybody, in an order of its own for each of them.
    fn converge(&mut self) -> Result<(), String> {
        for round in 0..REPLICAS {
            for to in 0..REPLICAS {
                self.take(Step::Exchange { from: (to + round) % REPLICAS, to })?;
            }
        }
        for message in 0..self.messages.len() {
            for to in 0..REPLICAS {
                self.take(Step::Arrive { message, to })?;
            }
        }
        let first = self.nodes[0].copy.as_ref().map(|copy| &copy.siblings);
        let same = |node: &Node| node.copy.as_ref().map(|copy| &copy.siblings) == first;
        if self.nodes.iter().all(same) { Ok(()) } else { Err("copies differ at the end".into()) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn siblings_are_what_the_causal_histories_say(steps in prop::collection::vec(steps(), 1..80)) {
        let mut world = World::new(Losing::EndsTheStint);
        for step in steps {
            if let Err(fault) = world.take(step) {
                prop_assert!(false, "{step:?}: {fault}");
            }
        }
        prop_assert_eq!(world.converge(), Ok(()));
    }
}

/// Riak's kv679, second form: a record is removed, an older copy of it comes back, and the node
/// counts on from there.
const LOST_AND_BACK: [Step; 7] = [
    Step::PutBlindly { replica: 0 },
    Step::Send { from: 0 },
    Step::PutBlindly { replica: 0 },
    Step::Exchange { from: 0, to: 1 },
    Step::Remove { replica: 0 },
    Step::Arrive { message: 0, to: 0 },
    Step::PutBlindly { replica: 0 },
];

#[test]
fn a_replica_that_lost_its_record_never_mints_a_dot_that_an_old_vector_covers() {
    let mut world = World::new(Losing::EndsTheStint);
    for step in LOST_AND_BACK {
        world.take(step).unwrap();
    }
    world.converge().unwrap();

    let standing = world.nodes[1].copy.as_ref().unwrap().siblings.len();
    assert_eq!(standing, 3, "the write after the loss stands beside the two before it");
}

#[test]
fn the_model_notices_a_dot_that_is_minted_twice() {
    let mut world = World::new(Losing::IsNotNoticed);

    let ended: Result<(), String> = LOST_AND_BACK.into_iter().try_for_each(|step| world.take(step));

    assert!(ended.unwrap_err().contains("is write 1 and write 2"));
}
