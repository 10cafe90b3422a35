//! What `strict` and `all` promise today: reads see acknowledged writes.
//!
//! Lamport's *regular* register ("On Interprocess Communication", 1986) for several writers: a
//! read returns a write that no acknowledged write certainly came after and ended before the
//! read began, or one that was under way, or one of unknown outcome. It is less than
//! linearizable: while a write is under way one read may see it and a later one not yet, because
//! a read answers before it has brought what it found to a majority. Such inversions are counted,
//! and no violation.

use super::call::by_key;
use super::register::{FUNCTIONS, Past, Told, describe};
use super::{Verdict, Violation};
use crate::history::Entry;

/// What stale reads are held to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// A breach, as at `strict` and `all`.
    Violation,
    /// A figure, as at sloppy levels. Content that nobody wrote is a breach at every level.
    Counted,
}

/// Whether reads see acknowledged writes, and nothing that was not written.
///
/// # Errors
/// If the history cannot be read as one of registers.
pub fn check(entries: &[Entry], stale: Stale) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new("regular register");
    let calls = super::call::calls(entries)?;
    let mut counts = Counts::default();
    let keys = by_key(&calls, &FUNCTIONS);
    for (key, calls) in &keys {
        Key(Past::of(key, calls)?).check(stale, &mut verdict, &mut counts);
    }
    if counts.reads == 0 {
        verdict.doubt("no read was answered");
    }
    verdict.figure("keys", keys.len());
    verdict.figure("reads", counts.reads);
    verdict.figure("stale reads", counts.stale);
    verdict.figure("inversions of reads", counts.inversions);
    verdict.figure("acknowledged writes that no later read would have missed", counts.unread);
    Ok(verdict)
}

#[derive(Default)]
struct Counts {
    reads: usize,
    stale: usize,
    inversions: usize,
    unread: usize,
}

struct Key<'a>(Past<'a>);

impl<'a> Key<'a> {
    fn check(&self, stale: Stale, verdict: &mut Verdict, counts: &mut Counts) {
        let acknowledged = Ended::of(self.0.writes.iter().filter(|write| write.call.is_ok()));
        let seen = self.0.reads.iter().filter_map(|read| {
            let source = self.0.source(read)?;
            Some((read.call.ends(), source.call.begins(), source))
        });
        let seen = Ended::new(seen.collect());
        for read in &self.0.reads {
            counts.reads += 1;
            if let Some(violation) = self.0.invented(read) {
                verdict.violate(violation);
                continue;
            }
            let source = self.0.source(read);
            let ends = source.map(|source| source.call.ends());
            if let Some(newer) = acknowledged.begun_after(ends, read.call.begins()) {
                counts.stale += 1;
                if stale == Stale::Violation {
                    verdict.violate(self.stale(read, source, newer));
                }
            } else if seen.begun_after(ends, read.call.begins()).is_some() {
                counts.inversions += 1;
            }
        }
        let last = self.0.reads.iter().map(|read| read.call.begins()).max().unwrap_or(0);
        let unread = |write: &&Told<'_>| write.call.is_ok() && write.call.ends() > last;
        counts.unread += self.0.writes.iter().filter(unread).count();
    }

    fn stale(&self, read: &Told<'a>, source: Option<&Told<'a>>, newer: &Told<'a>) -> Violation {
        let what = format!(
            "a read saw {}, though {} was written after that and acknowledged before the read began",
            describe(read.content),
            describe(newer.content),
        );
        let calls = source.map(|source| source.call).into_iter().chain([newer.call, read.call]);
        Violation::of(Some(self.0.key), what, &calls.collect::<Vec<_>>())
    }
}

/// Writes that were known of at some line: which of them began last?
struct Ended<'w, 'a> {
    /// (known from, the greatest beginning of those known by then, whose), in that order.
    known: Vec<(u64, u64, &'w Told<'a>)>,
}

impl<'w, 'a> Ended<'w, 'a> {
    fn of(writes: impl Iterator<Item = &'w Told<'a>>) -> Self {
        Self::new(writes.map(|write| (write.call.ends(), write.call.begins(), write)).collect())
    }

    fn new(mut known: Vec<(u64, u64, &'w Told<'a>)>) -> Self {
        known.sort_by_key(|(ends, begins, _)| (*ends, *begins));
        let mut greatest: Option<(u64, &'w Told<'a>)> = None;
        for (_, begins, write) in &mut known {
            match greatest {
                Some((most, whose)) if most >= *begins => (*begins, *write) = (most, whose),
                _ => greatest = Some((*begins, *write)),
            }
        }
        Self { known }
    }

    /// A write known before line `line` that began after line `ends`, or at all.
    fn begun_after(&self, ends: Option<u64>, line: u64) -> Option<&'w Told<'a>> {
        let before = self.known.partition_point(|(known, _, _)| *known < line);
        let (_, begins, write) = self.known.get(before.checked_sub(1)?)?;
        ends.is_none_or(|ends| *begins > ends).then_some(*write)
    }
}
