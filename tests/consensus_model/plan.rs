//! What is run in a model: operations, faults, and the one rule that is broken, if any.

use std::collections::BTreeSet;

use quorate::causality::HybridTime;
use quorate::consensus::rules::{Binding, Kind, Position, Rules, Traces, Verdict};
use quorate::consensus::{
    Ballot, Change, Decision, Electorate, ElectorateNumber, Ground, Intent, Recollection,
};
use quorate::types::NodeId;

use crate::history::Does;
use crate::world::World;

/// The content of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Content(pub(crate) u8);

impl quorate::consensus::Content for Content {
    fn is_deleted(&self) -> bool {
        false
    }
}

/// A write that depends on what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Edit {
    /// If the content is `from`, make it `to`.
    Swap { from: Option<Content>, to: Option<Content> },
    /// A new version, on top of whatever is there.
    Version(Content),
}

impl Change<Content> for Edit {
    fn apply(&self, current: Option<&Content>) -> Decision<Content> {
        match *self {
            Self::Swap { from, to } if current.copied() == from => Decision::Write(to),
            Self::Swap { .. } => Decision::Mismatch,
            Self::Version(to) => Decision::Write(Some(to)),
        }
    }

    fn keeps_base(&self) -> bool {
        matches!(self, Self::Version(_))
    }
}

/// How an operation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Start {
    /// A read of one round, if that is enough.
    Read,
    /// An accept without prepare.
    Blind,
    /// Prepare, then accept.
    Full,
    /// With the grant that this operation of the same coordinator earned.
    Granted(usize),
    /// As this operation once more, by another coordinator that knows its ballots.
    Repeats(usize),
}

/// One operation of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Op {
    pub(crate) intent: Intent<Content, Edit>,
    pub(crate) start: Start,
    /// It begins when this one is over.
    pub(crate) after: Option<usize>,
    /// The earliest and the latest time of its first ballot: how far clocks may be apart.
    pub(crate) times: (u64, u64),
    /// The most tries it makes.
    pub(crate) tries: u8,
    /// Whether its coordinator may lose patience at any time.
    pub(crate) patience: Patience,
    /// The nodes that its requests can reach, a bit each from the first: the others' are lost.
    pub(crate) reach: u8,
}

/// Every node.
pub(crate) const EVERYWHERE: u8 = 0b1111;

/// Whether a coordinator waits for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Patience {
    Endless,
    Short,
}

impl Op {
    pub(crate) const fn does(&self) -> Does {
        match self.intent {
            Intent::Read => Does::Read,
            Intent::Write(None) => Does::Write(0),
            Intent::Write(Some(to)) => Does::Write(to.0),
            Intent::Change(Edit::Version(to)) => Does::Write(to.0),
            Intent::Change(Edit::Swap { from, to }) => {
                Does::Swap { from: number(from), to: number(to) }
            }
        }
    }

    pub(crate) const fn after(self, earlier: usize) -> Self {
        Self { after: Some(earlier), ..self }
    }

    pub(crate) const fn at(self, times: (u64, u64)) -> Self {
        Self { times, ..self }
    }

    pub(crate) const fn reaching(self, reach: u8) -> Self {
        Self { reach, ..self }
    }

    pub(crate) const fn tried_twice(self) -> Self {
        Self { tries: 2, ..self }
    }

    pub(crate) const fn cut_short(self) -> Self {
        Self { tries: 2, patience: Patience::Short, ..self }
    }
}

/// The register's number for a content; 0 for none.
pub(crate) const fn number(content: Option<Content>) -> u8 {
    match content {
        None => 0,
        Some(content) => content.0,
    }
}

const fn op(intent: Intent<Content, Edit>, start: Start) -> Op {
    let (patience, reach) = (Patience::Endless, EVERYWHERE);
    Op { intent, start, after: None, times: (1, 1), tries: 1, patience, reach }
}

pub(crate) const fn blind(to: u8) -> Op {
    op(Intent::Write(Some(Content(to))), Start::Blind)
}

pub(crate) const fn put(to: u8) -> Op {
    op(Intent::Write(Some(Content(to))), Start::Full)
}

pub(crate) const fn delete() -> Op {
    op(Intent::Write(None), Start::Blind)
}

pub(crate) const fn swap(from: u8, to: u8) -> Op {
    let (from, to) = (Some(Content(from)), Some(Content(to)));
    op(Intent::Change(Edit::Swap { from, to }), Start::Full)
}

/// Puts a version of an object that keeps the one before.
pub(crate) const fn version(to: u8) -> Op {
    op(Intent::Change(Edit::Version(Content(to))), Start::Full)
}

/// The first operation again, by a coordinator that found it unfinished.
pub(crate) const fn repeated(op: Op) -> Op {
    Op { start: Start::Repeats(0), after: None, tries: 1, patience: Patience::Endless, ..op }
}

pub(crate) const fn create(to: u8) -> Op {
    op(Intent::Change(Edit::Swap { from: None, to: Some(Content(to)) }), Start::Full)
}

pub(crate) const fn read() -> Op {
    op(Intent::Read, Start::Read)
}

/// A read that prepares at once.
pub(crate) const fn identity() -> Op {
    op(Intent::Read, Start::Full)
}

pub(crate) const fn granted(op: Op, earlier: usize) -> Op {
    Op { start: Start::Granted(earlier), after: Some(earlier), ..op }
}

/// Something that can be seen in a state, and its name.
pub(crate) type Sight = (&'static str, fn(&Plan, &World) -> bool);

/// What the world of a model does besides.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) ops: Vec<Op>,
    /// The latest time that any ballot is drawn at.
    pub(crate) time_max: u64,
    /// Whether every message may come again.
    pub(crate) duplicates: bool,
    /// Whether answers may come late, not only at once or never.
    pub(crate) delayed: bool,
    /// Whether any answer may be lost alone, not only what was accepted.
    pub(crate) lossy: bool,
    /// How often anti-entropy may bring one node's value to another.
    pub(crate) replays: u8,
    /// How many operations values remember.
    pub(crate) lineage: usize,
    /// How many past acceptances acceptors remember.
    pub(crate) trail: usize,
    /// How much later than a write's own round the one is that it asks for besides.
    pub(crate) grants: Option<u64>,
    /// Up to which time deletes are purged.
    pub(crate) floor: Option<u64>,
    /// Whether node 1 loses its disk, once, at any time; it is rebuilt in a later electorate of
    /// the same owners.
    pub(crate) wiped: bool,
    /// The operation that is over before it does, if not at any time.
    pub(crate) wiped_after: Option<usize>,
    /// Whether contents are versions, and nodes keep those that were replaced in rows.
    pub(crate) versioned: bool,
    /// Whether the first operation was over before the key's bucket was strong.
    pub(crate) legacy: bool,
    /// How the layout changes from nodes 1, 2, 3 to nodes 2, 3, 4.
    pub(crate) change: Option<Transfer>,
    /// What must be seen somewhere, or the plan is about nothing.
    pub(crate) sometimes: Vec<Sight>,
    pub(crate) mutation: Option<Mutation>,
}

/// How new owners get what the old ones hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// The read at this place in the plan, with a full round in the joint electorate.
    Round(usize),
    /// A copy of what a majority of the old owners holds after the fence, brought as accepts.
    Copy,
}

impl Plan {
    pub(crate) fn new(name: &'static str, ops: &[Op]) -> Self {
        Self {
            name,
            ops: ops.to_vec(),
            time_max: 3,
            duplicates: false,
            delayed: false,
            lossy: false,
            replays: 0,
            lineage: 8,
            trail: 8,
            grants: None,
            floor: None,
            wiped: false,
            wiped_after: None,
            versioned: false,
            legacy: false,
            change: None,
            sometimes: Vec::new(),
            mutation: None,
        }
    }

    pub(crate) const fn rules(&self) -> Bent {
        Bent { mutation: self.mutation, lineage: self.lineage, trail: self.trail }
    }

    pub(crate) fn broken(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// A planted fault: one rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Mutation {
    BallotComesTwice,
    PromiseGoesBack,
    AcceptIgnoresPromise,
    PromiseNotStored,
    AcceptNotStored,
    ReadShowsWhatIsNotStored,
    BuildsOnLeast,
    FastReadOfTheGreatest,
    OneIsEnough,
    MismatchFromMinority,
    UnknownToldAsNotBegun,
    GrantWithoutItsPromise,
    GrantMismatchUnconfirmed,
    ReplayIgnoresPromise,
    BlindAgainAfterMajority,
    FullAgainRegardless,
    FullAgainUnlessInHighest,
    AdoptionOverlooked,
    DroppedTrailDenied,
    ChangeTriedAgain,
    PresentDenied,
    PastDenied,
    FloorRaisedAlone,
    ProofBeforeFence,
    PurgeWithoutProof,
    FenceForgotten,
    OldElectorateServed,
    NewOwnersAloneDecide,
    OldOwnersAloneDecide,
    FastReadOfOldOwners,
    ChangeBeforeTransfer,
    CopyBeforeFence,
    PromisesNotCopied,
    WipedVotes,
    RebuiltByFence,
    RebuiltTooSoon,
    RebuiltFromOne,
    RebuiltWithoutFloor,
    FenceKeepsOutMerge,
    EvidenceOfAnotherElectorate,
    VersionBuiltOnMinority,
    EraOverlooked,
    SilenceTakenForUnsent,
    DeniedUnburied,
    EarlierBallotsForgotten,
}

impl Mutation {
    /// Every one.
    pub(crate) const ALL: &[Self] = &[
        Self::BallotComesTwice,
        Self::PromiseGoesBack,
        Self::AcceptIgnoresPromise,
        Self::PromiseNotStored,
        Self::AcceptNotStored,
        Self::ReadShowsWhatIsNotStored,
        Self::BuildsOnLeast,
        Self::FastReadOfTheGreatest,
        Self::OneIsEnough,
        Self::MismatchFromMinority,
        Self::UnknownToldAsNotBegun,
        Self::GrantWithoutItsPromise,
        Self::GrantMismatchUnconfirmed,
        Self::ReplayIgnoresPromise,
        Self::BlindAgainAfterMajority,
        Self::FullAgainRegardless,
        Self::FullAgainUnlessInHighest,
        Self::AdoptionOverlooked,
        Self::DroppedTrailDenied,
        Self::ChangeTriedAgain,
        Self::PresentDenied,
        Self::PastDenied,
        Self::FloorRaisedAlone,
        Self::ProofBeforeFence,
        Self::PurgeWithoutProof,
        Self::FenceForgotten,
        Self::OldElectorateServed,
        Self::NewOwnersAloneDecide,
        Self::OldOwnersAloneDecide,
        Self::FastReadOfOldOwners,
        Self::ChangeBeforeTransfer,
        Self::CopyBeforeFence,
        Self::PromisesNotCopied,
        Self::WipedVotes,
        Self::RebuiltByFence,
        Self::RebuiltTooSoon,
        Self::RebuiltFromOne,
        Self::RebuiltWithoutFloor,
        Self::FenceKeepsOutMerge,
        Self::EvidenceOfAnotherElectorate,
        Self::VersionBuiltOnMinority,
        Self::EraOverlooked,
        Self::SilenceTakenForUnsent,
        Self::DeniedUnburied,
        Self::EarlierBallotsForgotten,
    ];
}

/// The product's rules with at most one bent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bent {
    mutation: Option<Mutation>,
    lineage: usize,
    trail: usize,
}

impl Bent {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

fn part(electorate: &Electorate, nodes: &BTreeSet<NodeId>, owners: [u8; 3]) -> bool {
    let owners: BTreeSet<NodeId> = owners.iter().map(|name| node(*name)).collect();
    let joint = electorate.members().len() > 3;
    match joint {
        true => owners.intersection(nodes).count() >= 2,
        false => electorate.is_majority(nodes),
    }
}

/// The id of a storage node, or of a coordinator.
pub(crate) const fn node(name: u8) -> NodeId {
    NodeId::from_bytes([name; 16])
}

impl Rules for Bent {
    fn may_promise(&self, ballot: Ballot, position: Position) -> bool {
        Binding.may_promise(ballot, position) || self.is(Mutation::PromiseGoesBack)
    }

    fn may_accept(&self, ballot: Ballot, position: Position) -> bool {
        let promise = ballot >= position.promised || self.is(Mutation::AcceptIgnoresPromise);
        promise && ballot >= position.accepted
    }

    fn is_fenced(&self, ballot: Ballot, ground: &Ground) -> bool {
        let forgotten = self.is(Mutation::FenceForgotten) && ground.purged > HybridTime(0);
        Binding.is_fenced(ballot, ground) && !forgotten
    }

    fn serves(&self, own: ElectorateNumber, asked: ElectorateNumber) -> bool {
        own == asked || asked < own && self.is(Mutation::OldElectorateServed)
    }

    fn holds_evidence(&self, own: ElectorateNumber, then: ElectorateNumber) -> bool {
        own == then || self.is(Mutation::EvidenceOfAnotherElectorate)
    }

    fn may_keep(&self, electorate: &Electorate, same: &BTreeSet<NodeId>) -> bool {
        Binding.may_keep(electorate, same) || self.is(Mutation::VersionBuiltOnMinority)
    }

    fn fences_without_vote(&self) -> bool {
        self.is(Mutation::FenceKeepsOutMerge)
    }

    fn may_deny_unburied(&self) -> bool {
        self.is(Mutation::DeniedUnburied)
    }

    fn denies(&self, recollection: Recollection) -> bool {
        let Recollection { present, past, dropped } = recollection;
        let present = present && !self.is(Mutation::PresentDenied);
        let past = past && !self.is(Mutation::PastDenied);
        let dropped = dropped && !self.is(Mutation::DroppedTrailDenied);
        !present && !past && !dropped
    }

    fn lineage_bound(&self) -> usize {
        self.lineage
    }

    fn trail_bounds(&self, _: Ballot) -> (usize, HybridTime) {
        (self.trail, HybridTime(0))
    }

    fn are_enough(&self, electorate: &Electorate, nodes: &BTreeSet<NodeId>) -> bool {
        match self.mutation {
            Some(Mutation::OneIsEnough) => !nodes.is_empty(),
            Some(Mutation::NewOwnersAloneDecide) => part(electorate, nodes, [2, 3, 4]),
            Some(Mutation::OldOwnersAloneDecide) => part(electorate, nodes, [1, 2, 3]),
            _ => Binding.are_enough(electorate, nodes),
        }
    }

    fn may_read(&self, electorate: &Electorate, same: &BTreeSet<NodeId>) -> bool {
        match self.mutation {
            Some(Mutation::FastReadOfTheGreatest) => !same.is_empty(),
            Some(Mutation::FastReadOfOldOwners) => part(electorate, same, [1, 2, 3]),
            _ => Binding.may_read(electorate, same),
        }
    }

    fn outranks(&self, one: Option<Ballot>, other: Option<Ballot>) -> bool {
        let time = |ballot: Option<Ballot>| ballot.map(|ballot| (ballot.time, ballot));
        match self.mutation {
            Some(Mutation::BuildsOnLeast) => one < other,
            Some(Mutation::EraOverlooked) => time(one) > time(other),
            _ => Binding.outranks(one, other),
        }
    }

    fn may_tell_mismatch(&self, electorate: &Electorate, same: &BTreeSet<NodeId>) -> bool {
        Binding.may_tell_mismatch(electorate, same) || self.is(Mutation::MismatchFromMinority)
    }

    fn may_tell_mismatch_unasked(&self) -> bool {
        self.is(Mutation::GrantMismatchUnconfirmed)
    }

    fn promises_next(&self, next: Ballot, ballot: Ballot, promised: Ballot) -> bool {
        Binding.promises_next(next, ballot, promised) && !self.is(Mutation::GrantWithoutItsPromise)
    }

    fn earns_next(&self, asked: Ballot, promised: Option<Ballot>) -> bool {
        Binding.earns_next(asked, promised) || self.is(Mutation::GrantWithoutItsPromise)
    }

    fn never_was(
        &self,
        electorate: &Electorate,
        denied: &BTreeSet<NodeId>,
        untouched: &BTreeSet<NodeId>,
    ) -> bool {
        match self.is(Mutation::BlindAgainAfterMajority) {
            true => electorate.is_majority(denied),
            false => Binding.never_was(electorate, denied, untouched),
        }
    }

    fn may_try_again(&self, kind: Kind) -> bool {
        Binding.may_try_again(kind) || self.is(Mutation::ChangeTriedAgain)
    }

    fn judge(&self, traces: Traces) -> Verdict {
        match self.mutation {
            Some(Mutation::FullAgainRegardless) => Verdict::NotApplied,
            Some(Mutation::ChangeTriedAgain) => Verdict::NotApplied,
            Some(Mutation::FullAgainUnlessInHighest) if !traces.in_highest => Verdict::NotApplied,
            Some(Mutation::AdoptionOverlooked) => {
                Binding.judge(Traces { adopted: false, ..traces })
            }
            _ => Binding.judge(traces),
        }
    }

    fn is_uncertain(&self, tries: usize) -> bool {
        Binding.is_uncertain(tries) && !self.is(Mutation::UnknownToldAsNotBegun)
    }
}
