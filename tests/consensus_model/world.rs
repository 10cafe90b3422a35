//! The model: acceptors, coordinators and the messages between them, as the product's state
//! machines, driven in every possible order.
//!
//! Loss is a message that is never delivered, a crashed coordinator one whose messages are not.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate::causality::HybridTime;
use quorate::consensus::{
    Acceptor, Answer, Asked, Ballot, Ballots, Earlier, Effect, Electorate, ElectorateNumber,
    Erasure, Grant, Ground, Intent, Memory, Opening, Outcome, Proposer, Request, Standing, Step,
};
use quorate::types::OperationId;
use stateright::{Model, Property};

use crate::history::{Does, Event, Told, is_linearizable};
use crate::plan::{
    Bent, Content, EVERYWHERE, Edit, Mutation, Patience, Plan, Start, Transfer, node, number,
};

/// Up to where a rebuilding that goes by fences raises them.
const REBUILT_FENCE: HybridTime = HybridTime(1);

/// The property that every plan keeps.
pub(crate) const NOTHING_BROKEN: &str = "nothing is broken";

type Coordinator = Proposer<Content, Edit, Bent>;

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    /// To an acceptor, from an operation's coordinator or, without one, from anti-entropy.
    Request { to: u8, from: Option<usize>, asked: Asked<Content> },
    /// To an operation's coordinator.
    Answer { to: usize, from: u8, answer: Answer<Content> },
}

/// One storage node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) ground: Ground,
    pub(crate) acceptor: Acceptor<Content>,
    /// The versions that it keeps beside the present one, a bit each.
    rows: u8,
    /// What a crash leaves, where that is not what is in memory: only broken rules do that.
    disk: Option<Acceptor<Content>>,
    /// Answers that wait for the disk.
    held: Vec<(usize, Answer<Content>)>,
}

/// Where an operation stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Waiting,
    Running { coordinator: Coordinator, tries: u8, drawn: u64, pause: Option<Pause> },
    Over { outcome: Outcome<Content>, grant: Option<Grant<Content>>, electorate: u64, tries: u8 },
}

/// A coordinator that may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pause {
    Mixed,
    Again { above: u64, opening: Opening },
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    /// What was over when it began.
    after: u16,
    /// When its first ballot was drawn.
    began: u64,
    stage: Stage,
}

impl Client {
    fn told(&self) -> Option<&Outcome<Content>> {
        match &self.stage {
            Stage::Over { outcome, .. } => Some(outcome),
            _ => None,
        }
    }
}

/// What one old owner held and had promised.
type Copied = (Standing<Content>, Ballot);

/// What must never be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Breach {
    NotLinearizable,
    TwoValuesOfOneBallot,
    NoChain,
    WentBack,
    VersionLost,
}

/// A state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    clients: Vec<Client>,
    messages: BTreeSet<Arc<Message>>,
    /// The operation whose new messages are looked at next: what its coordinator just did can as
    /// well have been done right before one of them arrives.
    urgent: Option<usize>,
    /// How many nodes heard of anything: those that did not are alike, so the first of them hears
    /// first.
    touched: u8,
    replays: u8,
    proven: bool,
    wiped: bool,
    /// The latest electorate that was decided.
    decided: u64,
    /// What was copied from each old owner.
    copied: [Option<Copied>; 3],
    /// What a majority of the new owners has to hold and to have promised.
    installed: Option<(Option<Ballot>, Ballot)>,
    pub(crate) breach: Option<Breach>,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    Heard,
}

/// What can happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Begin {
        op: usize,
        time: u64,
        electorate: u64,
    },
    Retry {
        op: usize,
        time: u64,
    },
    Stop {
        op: usize,
    },
    TimeOut {
        op: usize,
    },
    /// A message arrives; and if its receiver answers, so does the answer, unless it is lost or
    /// the plan delays answers.
    Deliver {
        message: Arc<Message>,
        answer: Fate,
    },
    Replay {
        from: u8,
        to: u8,
    },
    Sync(u8),
    Crash(u8),
    Fence(u8),
    Prove,
    Purge(u8),
    Decide,
    Learn(u8),
    Copy(u8),
    Install,
    Wipe,
    Rebuild,
}

impl Plan {
    fn node_count(&self) -> u8 {
        if self.change.is_some() { 4 } else { 3 }
    }

    fn electorate(&self, number: u64) -> Electorate {
        let set = |names: [u8; 3]| names.into_iter().map(node).collect::<BTreeSet<_>>();
        let id = ElectorateNumber(number);
        match number {
            _ if self.wiped => Electorate::new(id, set([1, 2, 3])),
            1 => Electorate::new(id, set([1, 2, 3])),
            2 => Electorate::joint(id, set([1, 2, 3]), set([2, 3, 4])),
            _ => Electorate::new(id, set([2, 3, 4])),
        }
    }

    fn ballots(&self, op: usize, tries: u8, time: u64) -> Ballots {
        let twice = self.broken(Mutation::BallotComesTwice);
        let name = if twice { 0x10 } else { 0x10 + op as u8 };
        let ballot = |serial: u64, time: u64| Ballot {
            era: 1,
            time: HybridTime(time),
            node: node(name),
            boot: 1,
            serial,
        };
        let own = ballot(1 + u64::from(tries) * 2, time);
        let next = self.grants.map(|later| ballot(2 + u64::from(tries) * 2, time + later));
        Ballots { own, next }
    }

    /// Whether another coordinator may finish the operation.
    fn is_repeated(&self, op: usize) -> bool {
        self.ops.iter().any(|other| other.start == Start::Repeats(op))
    }

    fn begin(&self, world: &mut World, op: usize, time: u64, electorate: u64) {
        let plan = self.ops[op];
        let named = if let Start::Repeats(first) = plan.start { first } else { op };
        let id = OperationId::from_bytes([named as u8 + 1; 16]);
        let electors = Arc::new(self.electorate(electorate));
        let mut coordinator = Proposer::new(self.rules(), id, plan.intent, electors);
        let ballots = self.ballots(op, 0, time);
        if let Start::Repeats(first) = plan.start
            && !self.broken(Mutation::EarlierBallotsForgotten)
        {
            let ballots = vec![self.ballots(first, 0, world.clients[first].began).own];
            let electorate = ElectorateNumber(1);
            coordinator = coordinator.repeating(Earlier { electorate, ballots });
        }
        let grant = match plan.start {
            Start::Granted(earlier) => match &mut world.clients[earlier].stage {
                Stage::Over { grant, .. } => grant.take(),
                _ => None,
            },
            _ => None,
        };
        let resumed = grant.and_then(|grant| {
            let next = ballots.next.filter(|next| *next > grant.ballot);
            coordinator.resume(grant, next)
        });
        let step = resumed.unwrap_or_else(|| match plan.start {
            Start::Read => coordinator.read(),
            Start::Blind => coordinator.write_blind(ballots),
            Start::Full | Start::Granted(_) | Start::Repeats(_) => coordinator.prepare(ballots),
        });
        world.clients[op].after = world.over(self);
        world.clients[op].began = time;
        let stage = Stage::Running { coordinator, tries: 1, drawn: time, pause: None };
        world.clients[op].stage = stage;
        world.urgent = Some(op);
        self.follow(world, op, step);
    }

    fn retry(&self, world: &mut World, op: usize, time: u64) {
        let blindly = self.ops[op].start == Start::Blind;
        let Stage::Running { coordinator, tries, drawn, pause } = &mut world.clients[op].stage
        else {
            return;
        };
        let ballots = self.ballots(op, *tries, time);
        let again = matches!(pause, Some(Pause::Again { opening: Opening::AsNew, .. }));
        (*tries, *drawn, *pause) = (*tries + 1, time, None);
        let step = match again && blindly {
            true => coordinator.write_blind(ballots),
            false => coordinator.prepare(ballots),
        };
        world.urgent = Some(op);
        self.follow(world, op, step);
    }

    /// The driver: does what the coordinator says.
    fn follow(&self, world: &mut World, op: usize, step: Step<Content>) {
        let Stage::Running { coordinator, pause, tries, .. } = &mut world.clients[op].stage else {
            return;
        };
        match step {
            Step::Wait => {}
            Step::Mixed | Step::Settled => *pause = Some(Pause::Mixed),
            Step::Again { above, opening } => {
                *pause = Some(Pause::Again { above: above.0, opening });
            }
            Step::Send(asked) => {
                let reached = |name: &u8| self.ops[op].reach & (1 << (name - 1)) != 0;
                for name in (1..=self.node_count()).filter(reached) {
                    if coordinator.electorate().members().contains(&node(name)) {
                        let asked = asked.clone();
                        let request = Message::Request { to: name, from: Some(op), asked };
                        world.messages.insert(Arc::new(request));
                    }
                }
            }
            Step::Done { outcome, grant } => {
                let electorate = coordinator.electorate().number().0;
                world.clients[op].stage = Stage::Over { outcome, grant, electorate, tries: *tries };
            }
        }
    }

    fn deliver(&self, world: &mut World, message: &Arc<Message>, fate: Fate) {
        if !self.duplicates {
            world.messages.remove(message);
        }
        match &**message {
            Message::Answer { to, from, answer } => self.hear(world, *to, *from, answer.clone()),
            Message::Request { to, from, asked } => {
                world.touched = world.touched.max(*to);
                let Some(answer) = self.ask(world, *to, *from, asked.clone()) else { return };
                if let (Some(op), Fate::Lost) = (*from, fate)
                    && self.broken(Mutation::SilenceTakenForUnsent)
                    && let Stage::Running { coordinator, .. } = &mut world.clients[op].stage
                {
                    let step = coordinator.unsent(node(*to));
                    return self.follow(world, op, step);
                }
                let Some(from) = from.filter(|_| fate == Fate::Heard) else { return };
                match self.delayed {
                    true => {
                        let answer = Message::Answer { to: from, from: *to, answer };
                        world.messages.insert(Arc::new(answer));
                    }
                    false => self.hear(world, from, *to, answer),
                }
            }
        }
    }

    fn hear(&self, world: &mut World, op: usize, from: u8, answer: Answer<Content>) {
        if let Stage::Running { coordinator, .. } = &mut world.clients[op].stage {
            let step = coordinator.handle(node(from), answer);
            self.follow(world, op, step);
        }
    }

    /// One node's answer, unless it has to wait for the disk.
    fn ask(
        &self,
        world: &mut World,
        to: u8,
        from: Option<usize>,
        asked: Asked<Content>,
    ) -> Option<Answer<Content>> {
        let rules = self.rules();
        let place = &mut world.nodes[usize::from(to - 1)];
        // A node that knows less learns the decided layout before it answers (rule 12).
        place.ground.electorate = place.ground.electorate.max(asked.electorate);
        let lost = match &asked.request {
            Request::Read => false,
            Request::Prepare { .. } => self.broken(Mutation::PromiseNotStored),
            Request::Accept { .. } => self.broken(Mutation::AcceptNotStored),
        };
        let shown = self.broken(Mutation::ReadShowsWhatIsNotStored);
        let before = place.acceptor.clone();
        let forced = from.is_none() && self.broken(Mutation::ReplayIgnoresPromise);
        let effect = match forced {
            true => self.force(place, asked),
            false => place.acceptor.handle(&rules, &place.ground, asked),
        };
        let stores = matches!(effect, Effect::StoreThenAnswer(_));
        let answer = effect.into_answer();
        let now = (place.acceptor.promised(), place.acceptor.accepted().map(|at| at.ballot));
        let was = (before.promised(), before.accepted().map(|at| at.ballot));
        let held = |acceptor: &Acceptor<Content>| {
            acceptor.accepted().map(|at| (at.cell.lineage.writer(), at.cell.content))
        };
        // The same version under another ballot is no new one (R7).
        if self.versioned
            && let (Some((old, Some(content))), Some((new, _))) =
                (held(&before), held(&place.acceptor))
            && old != new
        {
            place.rows |= 1 << content.0;
        }
        if now.0 < was.0 || now.1 < was.1 || Some(now.0) < now.1 {
            world.breach.get_or_insert(Breach::WentBack);
        }
        if stores && (lost || shown) {
            place.disk.get_or_insert(before);
        } else if stores {
            place.disk = None;
        }
        match (from, stores && shown) {
            (Some(from), true) => {
                place.held.push((from, answer));
                None
            }
            _ => Some(answer),
        }
    }

    /// What nodes do by themselves.
    fn tend(&self, world: &mut World, action: &Action) -> Option<()> {
        let at = |name: u8| usize::from(name - 1);
        match *action {
            Action::Sync(name) => {
                world.nodes[at(name)].disk = None;
                for (op, answer) in std::mem::take(&mut world.nodes[at(name)].held) {
                    self.hear(world, op, name, answer);
                }
            }
            Action::Crash(name) => {
                world.nodes[at(name)].held.clear();
                let disk = world.nodes[at(name)].disk.take()?;
                world.nodes[at(name)].acceptor = disk;
            }
            Action::Fence(name) => {
                world.nodes[at(name)].ground.fence = HybridTime(self.floor?);
                world.touched = world.touched.max(name);
            }
            Action::Prove => world.proven = true,
            Action::Purge(name) => self.purge(world, name, self.floor?),
            Action::Decide => world.decided += 1,
            Action::Learn(name) if self.broken(Mutation::RebuiltByFence) => {
                world.nodes[at(name)].ground.fence = REBUILT_FENCE;
            }
            Action::Learn(name) => {
                world.nodes[at(name)].ground.electorate = ElectorateNumber(world.decided);
            }
            Action::Wipe => {
                world.wiped = true;
                let voting = self.broken(Mutation::WipedVotes);
                let memory = if voting { Memory::Whole } else { Memory::Lost };
                let ground = Ground { memory, ..self.ground() };
                let acceptor = Acceptor::default();
                world.nodes[0] = Node { ground, acceptor, rows: 0, disk: None, held: Vec::new() };
            }
            Action::Rebuild => self.rebuild(world),
            Action::Copy(name) => {
                let node = &world.nodes[at(name)];
                let standing = node.acceptor.standing(&node.ground);
                world.copied[at(name)] = Some((standing, node.acceptor.promised()));
            }
            Action::Install => self.install(world),
            Action::Begin { .. }
            | Action::Retry { .. }
            | Action::Stop { .. }
            | Action::TimeOut { .. }
            | Action::Deliver { .. }
            | Action::Replay { .. } => return None,
        }
        Some(())
    }

    /// Anti-entropy that copies a value over a promise.
    fn force(&self, place: &mut Node, asked: Asked<Content>) -> Effect<Content> {
        let Request::Accept { ballot, .. } = &asked.request else {
            return place.acceptor.handle(&self.rules(), &place.ground, asked);
        };
        if place.acceptor.accepted().is_some_and(|at| at.ballot >= *ballot) {
            return place.acceptor.handle(&self.rules(), &place.ground, asked);
        }
        let rules = Plan { mutation: Some(Mutation::AcceptIgnoresPromise), ..self.clone() }.rules();
        place.acceptor.handle(&rules, &place.ground, asked)
    }

    fn purge(&self, world: &mut World, name: u8, floor: u64) {
        world.touched = world.touched.max(name);
        let alone = self.broken(Mutation::FloorRaisedAlone);
        let node = &mut world.nodes[usize::from(name - 1)];
        let floor = HybridTime(floor);
        if alone {
            node.ground.fence = node.ground.fence.max(floor);
        }
        node.ground.purged = floor;
        if node.acceptor.erase(&node.ground) == Erasure::Gone {
            node.acceptor = Acceptor::default();
        }
    }

    fn may_purge(&self, world: &World) -> bool {
        world.proven
            || self.broken(Mutation::FloorRaisedAlone)
            || self.broken(Mutation::PurgeWithoutProof) && world.all_fenced()
    }

    fn may_prove(&self, world: &World, floor: u64) -> bool {
        let fenced = world.all_fenced() || self.broken(Mutation::ProofBeforeFence);
        let held = |node: &Node| node.acceptor.accepted().map(|at| at.ballot);
        let old = world.nodes.iter().filter_map(held).find(|at| at.time.0 <= floor);
        let whole = world.nodes.iter().all(|node| node.ground.memory == Memory::Whole);
        !world.proven
            && whole
            && fenced
            && world.nodes.iter().all(|node| old.is_none() || held(node) == old)
    }

    fn may_decide(&self, world: &World) -> bool {
        let transferred = match self.change {
            None if !self.wiped => return false,
            None => false,
            Some(Transfer::Round(op)) => matches!(
                world.clients[op].stage,
                Stage::Over { outcome: Outcome::Read(_), electorate: 2, .. }
            ),
            Some(Transfer::Copy) => world.installed.is_some_and(|(least, promised)| {
                let holds = |node: &&Node| {
                    node.acceptor.accepted().map(|at| at.ballot) >= least
                        && node.acceptor.promised() >= promised
                };
                world.nodes[1..].iter().filter(holds).count() >= 2
            }),
        };
        match world.decided {
            1 => self.change.is_some() || world.wiped && !self.broken(Mutation::RebuiltByFence),
            2 if self.change.is_none() => false,
            2 => transferred || self.broken(Mutation::ChangeBeforeTransfer),
            _ => false,
        }
    }

    /// Brings the new owners what a majority of the old ones held: the greatest value, and the
    /// greatest promise with it.
    fn install(&self, world: &mut World) {
        let copied = world.copied.iter().flatten();
        let promised = copied.clone().map(|(_, promised)| *promised).max();
        let promised = match self.broken(Mutation::PromisesNotCopied) {
            true => Ballot::NONE,
            false => promised.unwrap_or(Ballot::NONE),
        };
        let held = copied.map(|(standing, _)| standing).max_by_key(|standing| standing.ballot());
        let request = match held {
            Some(Standing::Held { ballot, cell }) => {
                let (cell, next) = (cell.clone(), Some(promised).filter(|next| next > ballot));
                Some(Request::Accept { ballot: *ballot, cell, next })
            }
            _ if promised > Ballot::NONE => {
                Some(Request::Prepare { ballot: promised, inquiry: None })
            }
            _ => None,
        };
        world.installed = Some((held.and_then(Standing::ballot), promised));
        world.copied = [None, None, None];
        for to in 2..=4 {
            let Some(request) = request.clone() else { return };
            let asked = Asked { electorate: ElectorateNumber(2), request };
            world.messages.insert(Arc::new(Message::Request { to, from: None, asked }));
        }
    }

    /// The wiped node takes what the others held and votes again.
    fn rebuild(&self, world: &mut World) {
        let copied = world.copied.iter().flatten().map(|(standing, _)| standing.clone());
        let held = copied.max_by_key(Standing::ballot);
        let theirs = held.as_ref().and_then(Standing::ballot);
        let number = ElectorateNumber(world.decided);
        world.nodes[0].ground.electorate = world.nodes[0].ground.electorate.max(number);
        if let Some(Standing::Held { ballot, cell }) = held {
            let request = Request::Accept { ballot, cell, next: None };
            let electorate = world.nodes[0].ground.electorate;
            self.ask(world, 1, None, Asked { electorate, request });
        }
        if !self.broken(Mutation::RebuiltWithoutFloor) {
            self.take_floor(world, theirs);
        }
        world.nodes[0].ground.memory = Memory::Whole;
        if self.broken(Mutation::RebuiltByFence) {
            world.nodes[0].ground.fence = REBUILT_FENCE;
        }
        world.copied = [None, None, None];
    }

    /// Rule 11, of the wiped node: what the others closed is closed here too, and what came to it
    /// meanwhile and was purged by them goes.
    fn take_floor(&self, world: &mut World, theirs: Option<Ballot>) {
        let of = |place: usize| world.nodes[place].ground;
        let fence = of(1).fence.max(of(2).fence);
        let purged = of(1).purged.max(of(2).purged);
        let own = &mut world.nodes[0];
        own.ground = Ground { fence, purged, ..own.ground };
        let old = own.acceptor.accepted().is_some_and(|held| held.ballot.time <= purged);
        if old && theirs.is_none() {
            own.acceptor = Acceptor::default();
        }
    }

    fn ground(&self) -> Ground {
        let none = HybridTime(0);
        let (electorate, memory) = (ElectorateNumber(1), Memory::Whole);
        Ground { electorate, memory, fence: none, purged: none }
    }

    /// What the nodes hold of a key that was written before its bucket was strong: the first two
    /// took a write that was acknowledged, with a stamp from the future.
    fn acceptors(&self) -> Vec<Acceptor<Content>> {
        let count = usize::from(self.node_count());
        if !self.legacy {
            return vec![Acceptor::default(); count];
        }
        let stamp = |time| Ballot { time: HybridTime(time), node: node(0x20), ..Ballot::NONE };
        let written = [(9, 1), (9, 1), (1, 7)];
        written
            .map(|(time, content)| Acceptor::legacy(stamp(time), Some(Content(content))))
            .to_vec()
    }

    fn wipe_actions(&self, world: &World, actions: &mut Vec<Action>) {
        if !self.wiped {
            return;
        }
        if !world.wiped {
            let over = |op: usize| matches!(world.clients[op].stage, Stage::Over { .. });
            if self.wiped_after.is_none_or(over) {
                actions.push(Action::Wipe);
            }
            return;
        }
        let fences = self.broken(Mutation::RebuiltByFence);
        for name in [2, 3] {
            let (place, at) = (&world.nodes[usize::from(name - 1)], usize::from(name - 1));
            let behind = place.ground.electorate.0 < world.decided;
            if behind && !fences || fences && place.ground.fence < REBUILT_FENCE {
                actions.push(Action::Learn(name));
            } else if world.nodes[0].ground.memory == Memory::Lost
                && world.copied[at].is_none()
                && (world.decided == 2 || fences)
            {
                actions.push(Action::Copy(name));
            }
            if behind && self.broken(Mutation::RebuiltTooSoon) && world.copied[at].is_none() {
                actions.push(Action::Copy(name));
            }
        }
        let needed = if self.broken(Mutation::RebuiltFromOne) { 1 } else { 2 };
        let lost = world.nodes[0].ground.memory == Memory::Lost;
        if lost && world.copied.iter().flatten().count() >= needed {
            actions.push(Action::Rebuild);
        }
    }

    fn op_actions(&self, world: &World, op: usize, actions: &mut Vec<Action>) {
        let (client, plan) = (&world.clients[op], self.ops[op]);
        match &client.stage {
            Stage::Waiting => {
                let begun = |first: usize| !matches!(world.clients[first].stage, Stage::Waiting);
                if let Start::Repeats(first) = plan.start
                    && !begun(first)
                {
                    return;
                }
                let ready = plan.after.is_none_or(|earlier| {
                    matches!(world.clients[earlier].stage, Stage::Over { .. })
                });
                let moves = self.change == Some(Transfer::Round(op));
                let electorates = if moves { 2..=2 } else { 1..=3 };
                for electorate in electorates.filter(|number| ready && *number <= world.decided) {
                    let timed = !matches!(plan.start, Start::Read);
                    let times = if timed { plan.times.0..=plan.times.1 } else { 0..=0 };
                    actions.extend(times.map(|time| Action::Begin { op, time, electorate }));
                }
            }
            Stage::Running { tries, drawn, pause, .. } => {
                let above = match pause {
                    None => {
                        if plan.patience == Patience::Short && *tries < plan.tries {
                            actions.push(Action::TimeOut { op });
                        }
                        return;
                    }
                    Some(Pause::Mixed) => 0,
                    Some(Pause::Again { above, .. }) => *above,
                };
                let least = above.max(*drawn) + 1;
                let may = *tries < plan.tries || matches!(pause, Some(Pause::Mixed));
                let times = least..=self.time_max;
                actions.extend(times.filter(|_| may).map(|time| Action::Retry { op, time }));
                if plan.does() != Does::Read {
                    actions.push(Action::Stop { op });
                }
            }
            Stage::Over { .. } => {}
        }
    }

    /// Every message that can arrive, of one operation or of all.
    fn deliveries(&self, world: &World, only: Option<usize>, actions: &mut Vec<Action>) {
        for message in &world.messages {
            let wanted = match &**message {
                Message::Request { to, from, .. } => {
                    (only.is_none() || *from == only) && self.may_touch(world, *to)
                }
                Message::Answer { .. } => only.is_none(),
            };
            if !wanted {
                continue;
            }
            let deliver = |answer| Action::Deliver { message: Arc::clone(message), answer };
            actions.push(deliver(Fate::Heard));
            if !self.delayed && self.loses(message) {
                actions.push(deliver(Fate::Lost));
            }
        }
    }

    /// Whether an answer is also tried as lost. A promise that its coordinator does not hear of
    /// does what one does that is given later: by default only acceptances are lost.
    fn loses(&self, message: &Message) -> bool {
        let accepts = |asked: &Asked<Content>| matches!(asked.request, Request::Accept { .. });
        match message {
            Message::Request { asked, from: Some(_), .. } => self.lossy || accepts(asked),
            _ => false,
        }
    }

    /// Of nodes that are alike, the first hears first.
    fn may_touch(&self, world: &World, name: u8) -> bool {
        let alike = self.change.is_none()
            && !self.wiped
            && !self.legacy
            && self.ops.iter().all(|op| op.reach == EVERYWHERE);
        !alike || name <= world.touched + 1
    }

    fn upkeep_actions(&self, world: &World, actions: &mut Vec<Action>) {
        for name in 1..=self.node_count() {
            let node = &world.nodes[usize::from(name - 1)];
            if !self.may_touch(world, name) {
                continue;
            }
            if node.disk.is_some() {
                actions.extend([Action::Sync(name), Action::Crash(name)]);
            }
            if let Some(floor) = self.floor {
                if node.ground.fence.0 < floor && !self.broken(Mutation::FloorRaisedAlone) {
                    actions.push(Action::Fence(name));
                }
                let whole = node.ground.memory == Memory::Whole;
                if node.ground.purged.0 < floor && whole && self.may_purge(world) {
                    actions.push(Action::Purge(name));
                }
            }
            let behind = node.ground.electorate.0 < world.decided;
            if behind && name <= 3 && self.change == Some(Transfer::Copy) {
                actions.push(Action::Learn(name));
            }
            let copies = self.change == Some(Transfer::Copy) && world.installed.is_none();
            let fenced = node.ground.electorate.0 == 2 || self.broken(Mutation::CopyBeforeFence);
            let at = usize::from(name - 1);
            if copies && world.decided == 2 && fenced && name <= 3 && world.copied[at].is_none() {
                actions.push(Action::Copy(name));
            }
        }
        if self.floor.is_some_and(|floor| self.may_prove(world, floor)) {
            actions.push(Action::Prove);
        }
        if self.may_decide(world) {
            actions.push(Action::Decide);
        }
        self.wipe_actions(world, actions);
        if self.change.is_some() && world.copied.iter().flatten().count() >= 2 {
            actions.push(Action::Install);
        }
    }

    fn replay_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let held =
            |name: u8| world.nodes[usize::from(name - 1)].acceptor.accepted().map(|at| at.ballot);
        let names = 1..=self.node_count();
        for (from, to) in names.clone().flat_map(|from| names.clone().map(move |to| (from, to))) {
            if world.replays > 0 && held(from) > held(to) {
                actions.push(Action::Replay { from, to });
            }
        }
    }

    fn replay(&self, world: &mut World, from: u8, to: u8) {
        world.replays -= 1;
        let node = &world.nodes[usize::from(from - 1)];
        if let Some(held) = node.acceptor.accepted() {
            let (ballot, cell) = (held.ballot, held.cell.clone());
            let request = Request::Accept { ballot, cell, next: None };
            let asked = Asked { electorate: node.ground.electorate, request };
            world.messages.insert(Arc::new(Message::Request { to, from: None, asked }));
        }
    }

    /// Drops messages that can never change anything any more.
    fn tidy(&self, world: &mut World) {
        let (nodes, clients) = (&world.nodes, &world.clients);
        let rules = self.rules();
        let over = |op: usize| matches!(clients[op].stage, Stage::Over { .. });
        world.messages.retain(|message| match &**message {
            Message::Answer { to, .. } => !over(*to),
            Message::Request { to, from, asked } => {
                let place = &nodes[usize::from(*to - 1)];
                if asked.electorate > place.ground.electorate
                    || !from.is_none_or(over)
                    || self.broken(Mutation::FenceForgotten)
                    || self.broken(Mutation::ReplayIgnoresPromise)
                    || place.disk.is_some()
                    || self.wiped && !world.wiped && *to == 1
                {
                    return true;
                }
                let mut after = place.acceptor.clone();
                after.handle(&rules, &place.ground, asked.clone());
                after != place.acceptor
            }
        });
    }
}

impl World {
    fn all_fenced(&self) -> bool {
        let least = self.nodes.iter().map(|node| node.ground.fence).min();
        least.is_some_and(|fence| fence > HybridTime(0))
    }

    /// The operations of which something certain is known.
    fn over(&self, plan: &Plan) -> u16 {
        let certain = |op: usize, client: &Client| match &client.stage {
            Stage::Over { outcome: Outcome::NotBegun, .. } => !plan.is_repeated(op),
            Stage::Over { outcome, .. } => !matches!(outcome, Outcome::Unknown),
            _ => false,
        };
        let clients = self.clients.iter().enumerate().filter(|(op, client)| certain(*op, client));
        let first = |op: usize| match plan.ops[op].start {
            Start::Repeats(first) => first,
            _ => op,
        };
        clients.fold(0, |mask, (op, _)| mask | 1 << op | 1 << first(op))
    }

    /// Whether everything that was told, and a read by a new client of any majority now, can be
    /// explained.
    fn judge(&mut self, plan: &Plan) {
        let told = |client: &Client| match &client.stage {
            Stage::Waiting => Told::Nothing,
            Stage::Running { coordinator: _, .. } => Told::Open,
            Stage::Over { outcome, .. } => match outcome {
                Outcome::Applied => Told::Applied,
                Outcome::Mismatch(seen) | Outcome::Read(seen) => {
                    Told::Saw(number(seen.cell.content))
                }
                Outcome::Unknown => Told::Open,
                Outcome::NotBegun => Told::Nothing,
            },
        };
        let events = plan.ops.iter().zip(&self.clients).enumerate().map(|(at, (op, client))| {
            let told = match (told(client), op.intent) {
                (Told::Open, Intent::Read) => Told::Nothing,
                // Somebody else may finish it: only the last to see to it can tell.
                (Told::Nothing, _) if plan.is_repeated(at) => Told::Open,
                (told, _) => told,
            };
            Event { does: op.does(), told, after: client.after }
        });
        let mut history: Vec<Event> = events.collect();
        // What is told of an operation twice is told of one operation.
        for (op, plan) in plan.ops.iter().enumerate() {
            let Start::Repeats(first) = plan.start else { continue };
            if let Stage::Over { outcome, .. } = &self.clients[op].stage {
                match (outcome, history[first].told) {
                    (Outcome::NotBegun, Told::Applied) => {
                        self.breach.get_or_insert(Breach::NotLinearizable);
                    }
                    (Outcome::Applied, _) => history[first].told = Told::Applied,
                    (Outcome::NotBegun, _) => history[first].told = Told::Nothing,
                    _ => {}
                }
            }
            history[op].told = Told::Nothing;
        }
        let reads = self.hidden_reads(plan);
        let after = self.over(plan);
        let fine = reads.into_iter().all(|saw| {
            history.push(Event { does: Does::Read, told: Told::Saw(saw), after });
            let fine = is_linearizable(&history);
            history.pop();
            fine
        });
        if !fine {
            self.breach.get_or_insert(Breach::NotLinearizable);
        }
    }

    /// What new rounds would find now, each through another majority of the latest electorate.
    fn hidden_reads(&self, plan: &Plan) -> BTreeSet<u8> {
        let joint = self.decided == 2 && !plan.wiped;
        let lost = |at: &&usize| self.nodes[**at].ground.memory == Memory::Lost;
        let (old, new): ([usize; 3], [usize; 3]) = match self.decided {
            _ if plan.wiped => ([0, 1, 2], [0, 1, 2]),
            1 => ([0, 1, 2], [0, 1, 2]),
            2 => ([0, 1, 2], [1, 2, 3]),
            _ => ([1, 2, 3], [1, 2, 3]),
        };
        let mut found = BTreeSet::new();
        for (one, other) in old.iter().flat_map(|one| new.iter().map(move |other| (one, other))) {
            let voters =
                old.iter().filter(|at| *at != one).chain(new.iter().filter(|at| *at != other));
            let voters: Vec<&usize> = voters.collect();
            if voters.iter().any(lost) {
                continue;
            }
            let held = voters.into_iter().filter_map(|at| self.nodes[*at].acceptor.accepted());
            let greatest = held.max_by_key(|at| at.ballot);
            if joint || one == other {
                found.insert(number(greatest.and_then(|at| at.cell.content)));
            }
        }
        found
    }

    /// P2 and P3, of all that acceptors remember.
    fn judge_chain(&mut self) {
        let mut accepted: Vec<(Ballot, u8, &quorate::consensus::Lineage)> = Vec::new();
        let mut two = false;
        for node in &self.nodes {
            let now = node.acceptor.accepted().map(|at| (at.ballot, &at.cell.lineage));
            for (ballot, lineage) in node.acceptor.trail().ballots().chain(now) {
                match accepted.iter_mut().find(|(known, ..)| *known == ballot) {
                    Some((_, count, known)) => {
                        *count += 1;
                        two |= *known != lineage;
                    }
                    None => accepted.push((ballot, 1, lineage)),
                }
            }
        }
        accepted.retain(|(_, count, _)| *count >= 2);
        accepted.sort_by_key(|(ballot, ..)| *ballot);
        let follows = |pair: &[(Ballot, u8, &quorate::consensus::Lineage)]| {
            let (before, after) = (pair[0].2.operations(), pair[1].2.operations());
            let made =
                after.split_last().is_some_and(|(_, rest)| rest == before || rest.is_empty());
            before == after || made
        };
        let chain = accepted.windows(2).all(follows);
        if two {
            self.breach.get_or_insert(Breach::TwoValuesOfOneBallot);
        } else if !chain {
            self.breach.get_or_insert(Breach::NoChain);
        }
    }

    /// R7: every version that led to a chosen one is on a majority, as the present one or in a
    /// row, and none is both.
    fn judge_versions(&mut self, plan: &Plan) {
        let current = |node: &Node| node.acceptor.accepted().and_then(|at| at.cell.content);
        let holds = |node: &Node, content: u8| {
            number(current(node)) == content || node.rows & 1 << content != 0
        };
        let twice = |node: &Node| current(node).is_some_and(|now| node.rows & 1 << now.0 != 0);
        let mut lost = self.nodes.iter().any(twice);
        for node in &self.nodes {
            let Some(accepted) = node.acceptor.accepted() else { continue };
            let same = |other: &&Node| {
                other.acceptor.accepted().is_some_and(|at| at.ballot == accepted.ballot)
            };
            if self.nodes.iter().filter(same).count() < 2 {
                continue;
            }
            for (op, planned) in plan.ops.iter().enumerate() {
                let id = OperationId::from_bytes([op as u8 + 1; 16]);
                if let Does::Write(content) = planned.does()
                    && accepted.cell.lineage.contains(id)
                {
                    lost |= self.nodes.iter().filter(|node| holds(node, content)).count() < 2;
                }
            }
        }
        if lost {
            self.breach.get_or_insert(Breach::VersionLost);
        }
    }

    /// What an operation was told in the end, and with which try.
    pub(crate) fn told(&self, op: usize) -> Option<(&Outcome<Content>, u8)> {
        match &self.clients[op].stage {
            Stage::Over { outcome, tries, .. } => Some((outcome, *tries)),
            _ => None,
        }
    }

    /// The electorate in which an operation was over.
    pub(crate) fn electorate_of(&self, op: usize) -> Option<u64> {
        match &self.clients[op].stage {
            Stage::Over { electorate, .. } => Some(*electorate),
            _ => None,
        }
    }
}

impl Model for Plan {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let node = |acceptor| {
            let held = Vec::new();
            Node { ground: self.ground(), acceptor, rows: 0, disk: None, held }
        };
        let waiting = Client { after: 0, began: 0, stage: Stage::Waiting };
        let mut clients = vec![waiting; self.ops.len()];
        if self.legacy {
            let (outcome, electorate) = (Outcome::Applied, 1);
            clients[0].stage = Stage::Over { outcome, grant: None, electorate, tries: 0 };
        }
        vec![World {
            nodes: self.acceptors().into_iter().map(node).collect(),
            clients,
            messages: BTreeSet::new(),
            urgent: None,
            touched: 0,
            replays: self.replays,
            proven: false,
            wiped: false,
            decided: 1,
            copied: [None, None, None],
            installed: None,
            breach: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.breach.is_some() {
            return;
        }
        if let Some(op) = world.urgent {
            self.op_actions(world, op, actions);
            self.deliveries(world, Some(op), actions);
            return;
        }
        for op in 0..self.ops.len() {
            self.op_actions(world, op, actions);
        }
        self.deliveries(world, None, actions);
        self.upkeep_actions(world, actions);
        self.replay_actions(world, actions);
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Begin { op, time, electorate } => self.begin(&mut world, op, time, electorate),
            Action::Retry { op, time } => self.retry(&mut world, op, time),
            Action::Stop { op } | Action::TimeOut { op } => {
                let stops = matches!(action, Action::Stop { .. });
                let Stage::Running { coordinator, .. } = &mut world.clients[op].stage else {
                    return None;
                };
                world.urgent = (!stops).then_some(op);
                let step = match stops {
                    true => Step::Done { outcome: coordinator.give_up(), grant: None },
                    false => coordinator.time_out(),
                };
                // To be told nothing is to be told that nothing is known.
                let told = Step::Done { outcome: Outcome::Unknown, grant: None };
                if step == told && !self.ops.iter().any(|other| other.after == Some(op)) {
                    return None;
                }
                self.follow(&mut world, op, step);
            }
            Action::Deliver { message, answer } => {
                world.urgent = None;
                self.deliver(&mut world, &message, answer);
                let lost = answer == Fate::Lost && world.nodes == before.nodes;
                let idle = world.nodes == before.nodes && world.clients == before.clients;
                if lost || idle && world.messages.len() <= before.messages.len() {
                    return None;
                }
            }
            Action::Replay { from, to } => self.replay(&mut world, from, to),
            upkeep => self.tend(&mut world, &upkeep)?,
        }
        self.tidy(&mut world);
        let accepted = |world: &World| -> Vec<_> {
            world.nodes.iter().map(|n| n.acceptor.accepted().map(|at| at.ballot)).collect()
        };
        let told = |world: &World| -> Vec<_> {
            world.clients.iter().map(|client| client.told().cloned()).collect()
        };
        let written = accepted(before) != accepted(&world);
        let voter = |world: &World| world.nodes[0].ground.memory;
        if written || told(before) != told(&world) || voter(before) != voter(&world) {
            world.judge(self);
        }
        if written && self.floor.is_none() && self.change.is_none() && !self.wiped {
            world.judge_chain();
        }
        if self.versioned {
            world.judge_versions(self);
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all =
            vec![Property::always(NOTHING_BROKEN, |_, world: &World| world.breach.is_none())];
        all.extend(self.sometimes.iter().map(|(name, seen)| Property::sometimes(name, *seen)));
        all
    }
}
