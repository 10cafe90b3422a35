//! Last write wins, at sloppy levels: in the end every node returns one and the same write, and
//! none that a later one beats.
//!
//! Stamps order writes. Without them in the history a write certainly beats another if it began
//! later than that one had ended by more than the clocks of nodes may differ.

use std::time::Duration;

use super::call::{Call, by_key, calls, final_reads_begin};
use super::register::{FUNCTIONS, Past, Told, describe};
use super::{Verdict, Violation};
use crate::history::Entry;

/// Whether keys converge to their last write, if clocks differ by `skew` at most.
///
/// # Errors
/// If the history cannot be read as one of registers.
pub fn check(entries: &[Entry], skew: Duration) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new("last write wins");
    let calls = calls(entries)?;
    let marked = final_reads_begin(entries);
    let (mut keys, mut unread, mut late, mut lost) = (0, 0, 0, 0);
    for (key, calls) in by_key(&calls, &FUNCTIONS) {
        let past = Past::of(key, &calls)?;
        keys += 1;
        let finals = final_reads(&past, marked);
        if finals.is_empty() {
            unread += usize::from(past.writes.iter().any(|write| write.call.is_ok()));
            continue;
        }
        for read in &finals {
            if let Some(violation) = check_read(&past, read, skew) {
                verdict.violate(violation);
            }
        }
        late += check_same(&past, &finals, &mut verdict);
        lost += lost_to_concurrent(&past, &finals);
    }
    if keys == 0 {
        verdict.doubt("nothing was written or read");
    }
    if unread > 0 {
        verdict.doubt(format!("{unread} keys were written and not read at the end"));
    }
    verdict.figure("keys", keys);
    verdict.figure("keys that changed to an unknown write while they were read", late);
    verdict.figure("acknowledged writes that lost to concurrent ones", lost);
    Ok(verdict)
}

/// Reads after the mark, or else after all writes of the key.
fn final_reads<'a>(past: &Past<'a>, marked: Option<u64>) -> Vec<Told<'a>> {
    let last_line = |write: &Told<'_>| write.call.end.map_or(u64::MAX, |end| end.index);
    let settled = past.writes.iter().map(last_line).max().unwrap_or(0);
    let from = marked.unwrap_or(settled);
    past.reads.iter().filter(|read| read.call.begins() > from).copied().collect()
}

fn check_read<'a>(past: &Past<'a>, read: &Told<'a>, skew: Duration) -> Option<Violation> {
    if let Some(violation) = past.invented(read) {
        return Some(violation);
    }
    let source = past.source(read);
    let better = past.writes.iter().find(|write| {
        write.call.is_ok()
            && write.content != read.content
            && source.is_none_or(|source| beats(write, source, skew))
    })?;
    let what = format!(
        "in the end a read saw {}, though {} was acknowledged and certainly stamped later",
        describe(read.content),
        describe(better.content),
    );
    let calls: Vec<Call<'_>> =
        source.map(|source| source.call).into_iter().chain([better.call, read.call]).collect();
    Some(Violation::of(Some(past.key), what, &calls))
}

/// Whether the acknowledged `write` certainly has the greater stamp.
fn beats(write: &Told<'_>, other: &Told<'_>, skew: Duration) -> bool {
    if let (Some(one), Some(other)) = (stamp(&write.call), stamp(&other.call)) {
        return one > other;
    }
    let ended = other.call.is_ok().then_some(other.call.end).flatten().map(|end| end.time);
    let skew = u64::try_from(skew.as_nanos()).unwrap_or(u64::MAX);
    ended.is_some_and(|ended| write.call.begin.time > ended.saturating_add(skew))
}

/// A stamp as it is printed, `milliseconds.count-node`, so that it can be compared.
fn stamp<'a>(call: &Call<'a>) -> Option<(u64, u64, &'a str)> {
    let (time, node) = call.end?.ts.as_deref()?.split_once('-')?;
    let (millis, count) = time.split_once('.')?;
    Some((millis.parse().ok()?, count.parse().ok()?, node))
}

/// Final reads of one key see one content. It may change to that of a write whose outcome is not
/// known, which a read may complete; how often is returned.
fn check_same<'a>(past: &Past<'a>, finals: &[Told<'a>], verdict: &mut Verdict) -> usize {
    let mut completed = 0;
    for pair in finals.windows(2).filter(|pair| pair[0].content != pair[1].content) {
        let [before, after] = pair else { continue };
        let is_unknown = past.source(after).is_some_and(|source| source.call.ends() == u64::MAX);
        if is_unknown {
            completed += 1;
            continue;
        }
        let what = format!(
            "in the end one read saw {} and another {}",
            describe(before.content),
            describe(after.content)
        );
        verdict.violate(Violation::of(Some(past.key), what, &[before.call, after.call]));
    }
    completed
}

fn lost_to_concurrent(past: &Past<'_>, finals: &[Told<'_>]) -> usize {
    let Some(last) = finals.last() else { return 0 };
    let latest = past.writes.iter().filter(|write| write.call.is_ok());
    let latest = latest.map(|write| write.call.begins()).max().unwrap_or(0);
    let is_lost = |write: &&Told<'_>| {
        write.call.is_ok() && write.call.ends() > latest && write.content != last.content
    };
    past.writes.iter().filter(is_lost).count()
}
