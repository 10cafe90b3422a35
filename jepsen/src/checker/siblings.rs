//! What the key-value API promises at every level: no acknowledged value is dropped but by a
//! write whose context covered it, and none that was replaced comes back.
//!
//! A context covers the values of the read that returned it, and the value of the write that
//! did. A delete without a context may cover whatever was begun before it ended, for it reads
//! first; it covers nothing for certain.

use std::collections::{BTreeMap, BTreeSet};

use super::call::{Call, by_key, calls, final_reads_begin, numbers};
use super::{Verdict, Violation};
use crate::history::{Entry, Kind};

/// Whether values are kept and replaced as contexts say; a read may show up to `shown_max`.
///
/// Reads and writes at `strict` and `all` are also held to see one another at once.
///
/// # Errors
/// If a value is no write's number or array of such.
pub fn check(entries: &[Entry], shown_max: usize) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new("siblings");
    let calls = calls(entries)?;
    let marked = final_reads_begin(entries);
    let mut counts = Counts::default();
    for (key, calls) in by_key(&calls, &["read", "write", "delete"]) {
        let key = Key::of(key, &calls)?;
        let from = marked.unwrap_or_else(|| key.settled());
        for read in &key.reads {
            let demand = Demand::of(&read.call, from);
            key.check_read(read, demand, shown_max, &mut verdict);
            counts.widest = counts.widest.max(read.values.len());
        }
        key.check_end(from, &mut verdict, &mut counts);
    }
    if counts.values == 0 {
        verdict.doubt("no value was acknowledged");
    }
    if counts.unread > 0 {
        let unread = counts.unread;
        verdict.doubt(format!("{unread} keys were written and not read at the end"));
    }
    verdict.figure("acknowledged values", counts.values);
    verdict.figure("most siblings in a read", counts.widest);
    verdict.figure("siblings in the end", counts.standing);
    Ok(verdict)
}

#[derive(Default)]
struct Counts {
    values: usize,
    widest: usize,
    standing: usize,
    unread: usize,
}

/// Which acknowledged writes a read must know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// All: it is a final one.
    All,
    /// Those that were strict, as it is itself.
    Strict,
    /// None in particular.
    None,
}

impl Demand {
    fn of(read: &Call<'_>, finals_from: u64) -> Self {
        if read.begins() > finals_from {
            Self::All
        } else if is_strict(read) {
            Self::Strict
        } else {
            Self::None
        }
    }

    fn includes(self, write: &Call<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Strict => is_strict(write),
            Self::None => false,
        }
    }
}

fn is_strict(call: &Call<'_>) -> bool {
    matches!(call.level(), Some("strict" | "all"))
}

/// What each context that was handed out certainly covers.
fn contexts<'a>(calls: &[Call<'a>]) -> anyhow::Result<BTreeMap<&'a str, BTreeSet<u64>>> {
    let mut contexts: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.is_ok()) {
        if let Some(context) = call.end.and_then(|end| end.context.as_deref()) {
            let values = if call.f() == "read" { call.value() } else { &call.begin.value };
            contexts.entry(context).or_default().extend(numbers(values)?);
        }
    }
    Ok(contexts)
}

/// A write or delete that may have happened.
struct Change<'a> {
    call: Call<'a>,
    /// The value; nothing for a delete.
    value: Option<u64>,
    covers: Covers,
}

enum Covers {
    /// These values.
    Values(BTreeSet<u64>),
    /// Whatever it found.
    WhatItFound,
}

struct Read<'a> {
    call: Call<'a>,
    values: BTreeSet<u64>,
}

struct Key<'a> {
    name: &'a str,
    changes: Vec<Change<'a>>,
    reads: Vec<Read<'a>>,
    /// Where each value's write stands in `changes`.
    written: BTreeMap<u64, usize>,
    /// The writes, by place, whose contexts certainly cover a value.
    covered: BTreeMap<u64, Vec<usize>>,
    denied: BTreeMap<u64, Call<'a>>,
}

impl<'a> Key<'a> {
    fn of(name: &'a str, calls: &[Call<'a>]) -> anyhow::Result<Self> {
        let contexts = contexts(calls)?;
        let mut key = Self {
            name,
            changes: Vec::new(),
            reads: Vec::new(),
            written: BTreeMap::new(),
            covered: BTreeMap::new(),
            denied: BTreeMap::new(),
        };
        for &call in calls {
            match (call.f(), call.outcome()) {
                ("read", Kind::Ok) => {
                    let values = numbers(call.value())?.into_iter().collect();
                    key.reads.push(Read { call, values });
                }
                ("read", _) => {}
                (_, Kind::Fail) => {
                    let value = call.begin.value.as_u64();
                    key.denied.extend(value.map(|value| (value, call)));
                }
                _ => key.take_in(call, &contexts),
            }
        }
        Ok(key)
    }

    fn take_in(&mut self, call: Call<'a>, contexts: &BTreeMap<&str, BTreeSet<u64>>) {
        let place = self.changes.len();
        let covers = match &call.begin.context {
            Some(context) => {
                Covers::Values(contexts.get(context.as_str()).cloned().unwrap_or_default())
            }
            None if call.f() == "delete" => Covers::WhatItFound,
            None => Covers::Values(BTreeSet::new()),
        };
        if let Covers::Values(values) = &covers {
            for &value in values {
                self.covered.entry(value).or_default().push(place);
            }
        }
        let value = if call.f() == "delete" { None } else { call.begin.value.as_u64() };
        self.written.extend(value.map(|value| (value, place)));
        self.changes.push(Change { call, value, covers });
    }

    /// The last line of all changes.
    fn settled(&self) -> u64 {
        let line = |change: &Change<'_>| change.call.end.map_or(u64::MAX, |end| end.index);
        self.changes.iter().map(line).max().unwrap_or(0)
    }

    fn check_read(&self, read: &Read<'a>, demand: Demand, shown_max: usize, verdict: &mut Verdict) {
        if read.values.len() > shown_max {
            let what = format!("a read shows {} values side by side", read.values.len());
            verdict.violate(Violation::of(Some(self.name), what, [&read.call]));
        }
        for &value in &read.values {
            let wrong = self
                .invented(read, value)
                .or_else(|| self.beside_successor(read, value))
                .or_else(|| self.returned(read, value, demand));
            if let Some(violation) = wrong {
                verdict.violate(violation);
            }
        }
        for violation in self.missing(read, demand) {
            verdict.violate(violation);
        }
    }

    fn invented(&self, read: &Read<'a>, value: u64) -> Option<Violation> {
        let write = self.written.get(&value).map(|place| &self.changes[*place]);
        if write.is_some_and(|write| write.call.begins() < read.call.ends()) {
            return None;
        }
        let denied = self.denied.get(&value);
        let what = match denied {
            Some(_) => format!("a read shows value {value}, which certainly was not written"),
            None => format!("a read shows value {value}, which nobody can have written by then"),
        };
        Some(Violation::of(Some(self.name), what, denied.into_iter().chain([&read.call])))
    }

    /// A value and the write that replaced it never stand side by side, at any level.
    fn beside_successor(&self, read: &Read<'a>, value: u64) -> Option<Violation> {
        let successor = self.successors(value).find(|successor| {
            successor.value.is_some_and(|successor| read.values.contains(&successor))
        })?;
        let what = format!(
            "a read shows value {value} beside value {}, whose context covered it",
            successor.value.unwrap_or_default()
        );
        Some(self.violation(what, value, [&successor.call, &read.call]))
    }

    /// A value that a write which the read must know of had replaced before.
    fn returned(&self, read: &Read<'a>, value: u64, demand: Demand) -> Option<Violation> {
        let replaced = |successor: &&Change<'_>| {
            let call = &successor.call;
            call.is_ok() && call.precedes(&read.call) && demand.includes(call)
        };
        let successor = self.successors(value).find(replaced)?;
        let what = format!(
            "a read shows value {value}, which a write whose context covered it had replaced before"
        );
        Some(self.violation(what, value, [&successor.call, &read.call]))
    }

    /// Acknowledged values that the read should show and does not.
    fn missing(&self, read: &Read<'a>, demand: Demand) -> Vec<Violation> {
        let due = self.changes.iter().filter(|write| {
            write.call.is_ok() && write.call.precedes(&read.call) && demand.includes(&write.call)
        });
        due.filter_map(|write| {
            let value = write.value?;
            if read.values.contains(&value) || self.may_be_covered(write, value, read) {
                return None;
            }
            let what = format!(
                "value {value} is gone, which was acknowledged and which no write's context covered"
            );
            Some(self.violation(what, value, [&read.call]))
        })
        .collect()
    }

    fn may_be_covered(&self, write: &Change<'_>, value: u64, read: &Read<'_>) -> bool {
        let by_then = |change: &Change<'_>| change.call.begins() < read.call.ends();
        let found = |change: &&Change<'_>| {
            matches!(change.covers, Covers::WhatItFound)
                && change.call.ends() > write.call.begins()
                && by_then(change)
        };
        self.successors(value).any(by_then) || self.changes.iter().any(|change| found(&change))
    }

    fn successors(&self, value: u64) -> impl Iterator<Item = &Change<'a>> {
        let places = self.covered.get(&value).into_iter().flatten();
        places.map(|place| &self.changes[*place])
    }

    fn violation<'c>(
        &'c self,
        what: String,
        value: u64,
        calls: impl IntoIterator<Item = &'c Call<'c>>,
    ) -> Violation {
        let write = self.written.get(&value).map(|place| &self.changes[*place].call);
        Violation::of(Some(self.name), what, write.into_iter().chain(calls))
    }

    /// In the end all reads are alike, but for what unknown outcomes explain.
    fn check_end(&self, from: u64, verdict: &mut Verdict, counts: &mut Counts) {
        let acknowledged = self.changes.iter().filter(|change| change.call.is_ok());
        let acknowledged = acknowledged.filter(|change| change.value.is_some()).count();
        counts.values += acknowledged;
        let finals: Vec<&Read<'_>> =
            self.reads.iter().filter(|read| read.call.begins() > from).collect();
        let Some(last) = finals.last() else {
            counts.unread += usize::from(acknowledged > 0);
            return;
        };
        counts.standing += last.values.len();
        for pair in finals.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            let came = after.values.difference(&before.values);
            let went = before.values.difference(&after.values);
            let explained = came.clone().all(|value| self.may_come_late(*value))
                && went.clone().all(|value| self.may_go_late(*value));
            if !explained {
                let values: Vec<u64> = came.chain(went).copied().collect();
                let what = format!("in the end two reads differ in the values {values:?}");
                verdict.violate(Violation::of(Some(self.name), what, [&before.call, &after.call]));
            }
        }
    }

    fn may_come_late(&self, value: u64) -> bool {
        let write = self.written.get(&value).map(|place| &self.changes[*place]);
        write.is_some_and(|write| write.call.ends() == u64::MAX)
    }

    fn may_go_late(&self, value: u64) -> bool {
        let unknown = |change: &Change<'_>| change.call.ends() == u64::MAX;
        self.successors(value).any(unknown)
            || self
                .changes
                .iter()
                .any(|change| unknown(change) && matches!(change.covers, Covers::WhatItFound))
    }
}
