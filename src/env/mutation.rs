//! Bugs that are planted on purpose, so that the simulation proves that it would find them.
//!
//! Each breaks one rule of the design in one line: `if is_planted(Mutation::X)`. Without the
//! feature `mutations`, which no shipped binary has, that is the constant `false`. With it, the
//! simulation plants one in a thread, and `QUORATE_PLANT` names one for a whole test binary.

macro_rules! mutations {
    ($($(#[doc = $about:literal])+ $variant:ident = $name:literal,)+) => {
        /// One bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutation {
            $($(#[doc = $about])+ $variant,)+
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name on command lines and in tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it does wrong, in one line.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($about),+).trim(),)+
                }
            }
        }
    };
}

mutations! {
    /// Rows are acknowledged before their batch is synced.
    SkipRowSync = "skip-row-sync",
    /// Extents are acknowledged before their segment is synced.
    SkipSegmentSync = "skip-segment-sync",
    /// Seals behind the position that the tables know are not replayed after a crash.
    SkipReplay = "skip-replay",
    /// A segment is unlinked before the rows that replace it are durable.
    UnlinkUnsettled = "unlink-unsettled",
    /// A read is answered by one replica, whatever its level.
    ReadOne = "read-one",
    /// A write is acknowledged by one replica, whatever its level.
    WriteOne = "write-one",
    /// A read that too few owners answer says that there is nothing.
    AbsentForUnknown = "absent-for-unknown",
    /// A write that may have happened is answered as not done.
    UncertainIsFailed = "uncertain-is-failed",
    /// Others may stand in for owners at strict levels.
    FallbackInQuorum = "fallback-in-quorum",
    /// Others may stand in for owners in a proof.
    FallbackInProof = "fallback-in-proof",
    /// A replica that is being rebuilt counts.
    CountRebuilding = "count-rebuilding",
    /// A stand-in keeps the row and no hint.
    DropHints = "drop-hints",
    /// A hint is struck off before its owner has acknowledged the row.
    HintStruckEarly = "hint-struck-early",
    /// A guest's row goes when one of the owners that it is kept for has it.
    GuestForOneOnly = "guest-for-one-only",
    /// Tombstones are purged when they are old, proven or not.
    PurgeByAge = "purge-by-age",
    /// Floors are not read when a node starts.
    ForgetFloors = "forget-floors",
    /// What was purged comes back when somebody brings it.
    IgnoreFloors = "ignore-floors",
    /// Clients' writes from below the fence are taken.
    IgnoreFence = "ignore-fence",
    /// A merge keeps the contents of the older write.
    OlderWins = "older-wins",
    /// A merge keeps one of concurrent values.
    DropSiblings = "drop-siblings",
    /// A node mints with one actor for ever, whether or not it has the key's record.
    ReuseActors = "reuse-actors",
    /// A write is stamped by the clock alone, below what it replaces if the clock says so.
    StampBelowSeen = "stamp-below-seen",
    /// A write that met a newer one is acknowledged, and loses.
    NotMintedAgain = "not-minted-again",
    /// The leaf is not updated in the write's batch.
    LeafLeftBehind = "leaf-left-behind",
    /// Inline bytes are served without their checksum.
    InlineUnchecked = "inline-unchecked",
    /// Chunks are served without their checksum.
    ChunksUnchecked = "chunks-unchecked",
    /// A damaged row is answered as no row.
    DamageIsAbsence = "damage-is-absence",
    /// Bytes are freed without asking whether anything names them.
    FreeUnasked = "free-unasked",
    /// Orphans are looked for among writes that may be under way.
    OrphansEarly = "orphans-early",
    /// A completion that was done already is done again.
    CompleteAgain = "complete-again",
    /// A bucket that is being deleted takes writes in.
    IgnoreEpochs = "ignore-epochs",
}

#[cfg(not(feature = "mutations"))]
/// Whether a bug is planted: never.
#[inline]
#[must_use]
pub const fn is_planted(_mutation: Mutation) -> bool {
    false
}

#[cfg(feature = "mutations")]
mod planted {
    use std::cell::Cell;

    use super::Mutation;

    std::thread_local! {
        /// A simulated world runs on one thread, and so does its bug.
        static PLANTED: Cell<Option<Mutation>> = Cell::new(named());
    }

    /// The bug that the environment names: so every test of the product can run with one.
    fn named() -> Option<Mutation> {
        let name = std::env::var("QUORATE_PLANT").ok()?;
        Mutation::ALL.iter().copied().find(|mutation| mutation.name() == name)
    }

    /// Whether a bug is planted in what this thread runs.
    #[must_use]
    pub fn is_planted(mutation: Mutation) -> bool {
        PLANTED.get() == Some(mutation)
    }

    /// Plants this bug, and no other, in what this thread runs from now on.
    pub fn plant(mutation: Option<Mutation>) {
        PLANTED.set(mutation);
    }
}

#[cfg(feature = "mutations")]
pub use planted::{is_planted, plant};
