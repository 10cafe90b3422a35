//! Each decision on which the protocol's safety rests, as a function of its own, so that the model
//! check can put a wrong one in its place and see that it is found (`tests/consensus_model/`).
//!
//! Numbers are those of the strong mode's rules: 1 to 14 those of the design, R1 to R9 those of
//! blind writes, which bind where they differ. Base: Rystsov, "CASPaxos: Replicated State
//! Machines without logs" (2018); Lamport, "Paxos Made Simple" (2001).

use std::collections::BTreeSet;

use crate::causality::HybridTime;
use crate::types::NodeId;

use super::acceptor::{Ground, Memory};
use super::ballot::Ballot;
use super::electorate::{Electorate, ElectorateNumber};
use super::trail::Recollection;

/// How many operations a value remembers.
pub const LINEAGE_BOUND: usize = 8;
/// How many past acceptances an acceptor remembers.
pub const TRAIL_BOUND: usize = 8;
/// How long it remembers them, in milliseconds: longer than any request lives.
pub const TRAIL_MILLIS: u64 = 60_000;

/// What an acceptor stands on when a round comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The latest round that it promised.
    pub promised: Ballot,
    /// The latest that it accepted, [`Ballot::NONE`] if none.
    pub accepted: Ballot,
}

/// What is known of a write's earlier tries when a majority promised its next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The greatest value of the promises contains its effect.
    pub in_highest: bool,
    /// For each earlier try a majority never accepted it.
    pub denied: bool,
    /// Some promise shows, or cannot rule out, its effect in another operation's round.
    pub adopted: bool,
}

/// What became of a write's earlier tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took effect, or will with the value it is part of.
    Applied,
    /// It did not and never will: it may be written anew.
    NotApplied,
    /// Nobody can tell.
    Unclear,
}

/// What an operation does, as far as its retries are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes nothing.
    Read,
    /// Writes whatever is there.
    Write,
    /// Writes what depends on what is there.
    Change,
}

/// The rules. What is defined here is what the product does; the model check replaces one.
pub trait Rules {
    /// Rule 3: a promise exceeds every promise and every acceptance.
    fn may_promise(&self, ballot: Ballot, position: Position) -> bool {
        ballot > position.promised && ballot > position.accepted
    }

    /// Rules 3 and 10: an acceptance, also one that anti-entropy brings, breaks no promise and
    /// replaces nothing later.
    fn may_accept(&self, ballot: Ballot, position: Position) -> bool {
        ballot >= position.promised && ballot >= position.accepted
    }

    /// R5: what is accepted is acknowledged again, also below the promise.
    fn acknowledges_again(&self, ballot: Ballot, accepted: Option<Ballot>) -> bool {
        accepted == Some(ballot)
    }

    /// Rule 11 and R9: nothing of the closed past is let in, for any key, with or without a
    /// record.
    fn is_fenced(&self, ballot: Ballot, ground: &Ground) -> bool {
        ballot.time <= ground.fence.max(ground.purged)
    }

    /// Rule 12: an acceptor votes in one electorate only.
    fn serves(&self, own: ElectorateNumber, asked: ElectorateNumber) -> bool {
        own == asked
    }

    /// Rule 9: who may have forgotten votes has none.
    fn votes(&self, memory: Memory) -> bool {
        memory == Memory::Whole
    }

    /// Rule 9: what comes to a node without a vote passes its fence. A fence is about votes; what
    /// the others decided below it has to come here again.
    fn fences_without_vote(&self) -> bool {
        false
    }

    /// R3: an acceptor says "never" only of what it would remember.
    fn denies(&self, recollection: Recollection) -> bool {
        let Recollection { present, past, dropped } = recollection;
        !present && !past && !dropped
    }

    /// Rule 8: a grant is worth nothing in another electorate than the one that gave it.
    fn holds_grant(&self, own: ElectorateNumber, grant: ElectorateNumber) -> bool {
        own == grant
    }

    /// Rule 8: the round that an acceptance promises besides, if any.
    fn promises_next(&self, next: Ballot, ballot: Ballot, promised: Ballot) -> bool {
        next > ballot && next >= promised
    }

    /// How many operations a value remembers.
    fn lineage_bound(&self) -> usize {
        LINEAGE_BOUND
    }

    /// How many past acceptances an acceptor remembers, and up to when none, given the latest.
    fn trail_bounds(&self, latest: Ballot) -> (usize, HybridTime) {
        let horizon = latest.time.millis().saturating_sub(TRAIL_MILLIS);
        (TRAIL_BOUND, HybridTime::from_millis(horizon))
    }

    /// Rules 5 and 12: who is enough for a promise, an acceptance, a fast read.
    fn are_enough(&self, electorate: &Electorate, nodes: &BTreeSet<NodeId>) -> bool {
        electorate.is_majority(nodes)
    }

    /// Rule 5: a read may answer with what these nodes hold, who all accepted the same round.
    /// What they promised does not matter, nor what others hold.
    fn may_read(&self, electorate: &Electorate, same: &BTreeSet<NodeId>) -> bool {
        electorate.is_majority(same)
    }

    /// Rule 3: of two values that were promised upon, whether the first must be built on.
    fn outranks(&self, one: Option<Ballot>, other: Option<Ballot>) -> bool {
        one > other
    }

    /// Rule 6: a failed condition is a read. It may be answered from promises only if those who
    /// hold the greatest value are a majority; else that value is first written to one.
    fn may_tell_mismatch(&self, electorate: &Electorate, same: &BTreeSet<NodeId>) -> bool {
        electorate.is_majority(same)
    }

    /// R7: what keeps what it replaces, as a head keeps the version before, is built on a value
    /// only if those who hold it are a majority; else that value is first written to one.
    fn may_keep(&self, electorate: &Electorate, same: &BTreeSet<NodeId>) -> bool {
        electorate.is_majority(same)
    }

    /// Rule 7: operations' evidence counts in the electorate only that it was gathered in.
    fn holds_evidence(&self, own: ElectorateNumber, then: ElectorateNumber) -> bool {
        own == then
    }

    /// R6: a failed condition found by a promise that came with an earlier acceptance is not
    /// answered before its value was written again.
    fn may_tell_mismatch_unasked(&self) -> bool {
        false
    }

    /// Rule 8 and R6: whose acceptances earn the next round: those that promised that very round.
    fn earns_next(&self, asked: Ballot, promised: Option<Ballot>) -> bool {
        promised == Some(asked)
    }

    /// R2: a try that nobody took in, and nobody ever will, never was. `denied` never accepted
    /// it and never will; `untouched` did not take in the only copy that was sent to them.
    fn never_was(
        &self,
        electorate: &Electorate,
        denied: &BTreeSet<NodeId>,
        untouched: &BTreeSet<NodeId>,
    ) -> bool {
        electorate.is_everybody(&denied.union(untouched).copied().collect())
    }

    /// R4: what is tried again after its value was sent, besides reads, once it is proven that it
    /// did not take effect: only what does not depend on what it replaces. A change is told as not
    /// begun.
    fn may_try_again(&self, kind: Kind) -> bool {
        kind != Kind::Change
    }

    /// A change that is proven not to have taken effect may still be held by a minority, on which
    /// a later round can build: it is told so when a majority holds what it would have replaced.
    fn may_deny_unburied(&self) -> bool {
        false
    }

    /// R3: whether an earlier try took effect.
    fn judge(&self, traces: Traces) -> Verdict {
        match traces {
            Traces { in_highest: true, .. } => Verdict::Applied,
            Traces { denied: true, adopted: false, .. } => Verdict::NotApplied,
            _ => Verdict::Unclear,
        }
    }

    /// Rule 7: what was sent and not acknowledged is unknown, never failed.
    fn is_uncertain(&self, tries: usize) -> bool {
        tries > 0
    }
}

/// The product's rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Binding;

impl Rules for Binding {}
