//! A counter that is added to by loops of read and conditional write: each value that is read
//! lies between what was certainly added before and what may have been added by then.

use super::call::{Call, by_key};
use super::{Verdict, Violation};
use crate::history::Entry;

/// Whether every read of a counter lies within its bounds: `add` with a number, `read`.
///
/// # Errors
/// If a value is no number.
pub fn check(entries: &[Entry]) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new("counter");
    let calls = super::call::calls(entries)?;
    let mut reads = 0;
    for (key, calls) in by_key(&calls, &["add", "read"]) {
        for read in calls.iter().filter(|call| call.f() == "read" && call.is_ok()) {
            reads += 1;
            let seen = if read.value().is_null() { 0 } else { amount(read, read.value())? };
            let (least, most) = bounds(&calls, read)?;
            if !(least..=most).contains(&seen) {
                let what = format!(
                    "a read saw {seen}; what was added by then gives {least} at least and {most} \
                     at most"
                );
                verdict.violate(Violation::of(Some(key), what, [read]));
            }
        }
    }
    if reads == 0 {
        verdict.doubt("no counter was read");
    }
    verdict.figure("reads", reads);
    Ok(verdict)
}

fn bounds(calls: &[Call<'_>], read: &Call<'_>) -> anyhow::Result<(i64, i64)> {
    let (mut least, mut most) = (0, 0);
    for add in calls.iter().filter(|call| call.f() == "add" && call.may_be()) {
        let added = amount(add, &add.begin.value)?;
        if add.is_ok() && add.precedes(read) {
            least += added;
            most += added;
        } else if add.begins() < read.ends() {
            least += added.min(0);
            most += added.max(0);
        }
    }
    Ok((least, most))
}

fn amount(call: &Call<'_>, value: &serde_json::Value) -> anyhow::Result<i64> {
    let amount = value.as_i64();
    amount.ok_or_else(|| anyhow::anyhow!("line {}: {value} is no number", call.begins()))
}
