//! Sets that are added to: whether what was added is read, and how soon (as Jepsen's `set-full`).
//!
//! An element is *known* from the moment its `add` is acknowledged or a read first shows it. It is
//! *lost* if the last read that began after then, and could tell, does not show it; *stale* if an
//! earlier one that began after it was acknowledged did not (before, that is an *inversion*, which
//! `strict` allows); *recovered* if nobody had been told that it was added, and it is there.

use std::collections::BTreeMap;

use super::call::{Call, by_key, calls, numbers};
use super::regular::Stale;
use super::{Verdict, Violation};
use crate::history::{Entry, Kind};

/// Whether no element of a set is lost: `add` of a number, `read` of all numbers.
///
/// # Errors
/// If a value is no number, or a read no array.
pub fn check(entries: &[Entry], stale: Stale) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new("set");
    let calls = calls(entries)?;
    let mut counts = Counts::default();
    for (key, calls) in by_key(&calls, &["add", "read"]) {
        Set::of(key, &calls)?.check(stale, &mut verdict, &mut counts);
    }
    if counts.acknowledged == 0 {
        verdict.doubt("no element was acknowledged");
    }
    if counts.never_read > 0 {
        verdict.doubt(format!("{} acknowledged elements were not read after", counts.never_read));
    }
    counts.tell(&mut verdict);
    Ok(verdict)
}

#[derive(Default)]
struct Counts {
    acknowledged: usize,
    stable: usize,
    lost: usize,
    stale: usize,
    inversions: usize,
    recovered: usize,
    never_read: usize,
    unexpected: usize,
    /// Nanoseconds from known to shown by every later read.
    stable_after: Vec<u64>,
    /// Nanoseconds from known to the last read that showed it.
    lost_after: Vec<u64>,
}

impl Counts {
    fn tell(mut self, verdict: &mut Verdict) {
        for (name, count) in [
            ("acknowledged", self.acknowledged),
            ("stable", self.stable),
            ("stale", self.stale),
            ("inversions", self.inversions),
            ("lost", self.lost),
            ("recovered", self.recovered),
            ("never read", self.never_read),
            ("unexpected", self.unexpected),
        ] {
            verdict.figure(name, count);
        }
        for (name, times) in [
            ("stable after, ms (median, 99 %, most)", &mut self.stable_after),
            ("lost after, ms (median, 99 %, most)", &mut self.lost_after),
        ] {
            times.sort_unstable();
            let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1));
            if !times.is_empty() {
                let shown = [50, 99, 100].map(|share| at(share).map_or(0, |time| time / 1_000_000));
                verdict.figure(name, format!("{}, {}, {}", shown[0], shown[1], shown[2]));
            }
        }
    }
}

struct Read<'a> {
    call: Call<'a>,
    /// How often it shows each element.
    shown: BTreeMap<u64, usize>,
}

struct Set<'a> {
    name: &'a str,
    adds: BTreeMap<u64, Call<'a>>,
    reads: Vec<Read<'a>>,
}

impl<'a> Set<'a> {
    fn of(name: &'a str, calls: &[Call<'a>]) -> anyhow::Result<Self> {
        let (mut adds, mut reads) = (BTreeMap::new(), Vec::new());
        for &call in calls {
            if call.f() == "add" {
                for element in numbers(&call.begin.value)? {
                    adds.insert(element, call);
                }
            } else if call.outcome() == Kind::Ok {
                let mut shown = BTreeMap::new();
                for element in numbers(call.value())? {
                    *shown.entry(element).or_default() += 1;
                }
                reads.push(Read { call, shown });
            }
        }
        Ok(Self { name, adds, reads })
    }

    fn check(&self, stale: Stale, verdict: &mut Verdict, counts: &mut Counts) {
        for read in &self.reads {
            for (element, times) in &read.shown {
                if let Some(violation) = self.check_shown(read, *element, *times) {
                    counts.unexpected += 1;
                    verdict.violate(violation);
                }
            }
        }
        for (element, add) in self.adds.iter().filter(|(_, add)| add.may_be()) {
            counts.acknowledged += usize::from(add.is_ok());
            if let Some(violation) = self.check_element(*element, add, stale, counts) {
                verdict.violate(violation);
            }
        }
    }

    fn check_shown(&self, read: &Read<'a>, element: u64, times: usize) -> Option<Violation> {
        let add = self.adds.get(&element);
        let what = match add {
            Some(add) if !add.may_be() => {
                format!("a read shows {element}, which certainly was not added")
            }
            Some(add) if add.begins() < read.call.ends() => {
                if times == 1 {
                    return None;
                }
                format!("a read shows {element} {times} times")
            }
            _ => format!("a read shows {element}, which nobody can have added by then"),
        };
        Some(Violation::of(Some(self.name), what, add.into_iter().chain([&read.call])))
    }

    fn check_element(
        &self,
        element: u64,
        add: &Call<'a>,
        stale: Stale,
        counts: &mut Counts,
    ) -> Option<Violation> {
        let shows = |read: &&Read<'_>| read.shown.contains_key(&element);
        let first = self.reads.iter().filter(shows).min_by_key(|read| read.call.ends());
        let acknowledged = add.is_ok().then_some(*add);
        let known =
            acknowledged.into_iter().chain(first.map(|read| read.call)).min_by_key(Call::ends)?;
        let present = self.reads.iter().filter(shows).max_by_key(|read| read.call.begins());
        let absent = self.reads.iter().filter(|read| !shows(read) && known.precedes(&read.call));
        let absent = absent.max_by_key(|read| read.call.begins());
        if !add.is_ok() {
            counts.recovered += 1;
        }
        let after = |read: &Read<'_>| read.call.begin.time.saturating_sub(end_time(&known));
        let Some(absent) = absent else {
            let told = present.is_some_and(|read| known.begins() < read.call.begins());
            counts.stable += usize::from(told);
            counts.never_read += usize::from(!told && present.is_none());
            counts.stable_after.extend(told.then_some(0));
            return None;
        };
        let is_lost = present.is_none_or(|present| present.call.begins() < absent.call.begins());
        if is_lost {
            counts.lost += 1;
            counts.lost_after.push(present.map_or(0, after));
            let what = format!("{element} is lost: it was known to be in the set, and is not read");
            return Some(Violation::of(Some(self.name), what, [add, &known, &absent.call]));
        }
        counts.stable += 1;
        counts.stable_after.push(after(absent));
        if !acknowledged.is_some_and(|add| add.precedes(&absent.call)) {
            // Two reads while it was being added: a regular set may show it, and then not yet.
            counts.inversions += 1;
            return None;
        }
        counts.stale += 1;
        let what =
            format!("{element} was known to be in the set, and a later read did not show it");
        (stale == Stale::Violation)
            .then(|| Violation::of(Some(self.name), what, [add, &known, &absent.call]))
    }
}

fn end_time(call: &Call<'_>) -> u64 {
    call.end.map_or(call.begin.time, |end| end.time)
}
