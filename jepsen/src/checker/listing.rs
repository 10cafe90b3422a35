//! Lists show what was acknowledged before they began, once, in order, and nothing else.

use std::collections::BTreeMap;

use super::call::{Call, by_key, calls};
use super::regular::Stale;
use super::{Verdict, Violation};
use crate::history::Entry;

const WRITES: [&str; 5] = ["write", "cas", "mpu-complete", "add", "delete"];

/// Whether every `list` (key: the prefix, value: the keys that were shown) is right.
///
/// `stale` says whether a list may lag behind, as at sloppy levels: what was never written must
/// not show, nor a key twice, at any level.
///
/// # Errors
/// If a list's value is no array of keys.
pub fn check(entries: &[Entry], stale: Stale) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new("list after put");
    let calls = calls(entries)?;
    let keys: BTreeMap<&str, Key<'_>> = by_key(&calls, &WRITES)
        .into_iter()
        .map(|(name, calls)| (name, Key::of(name, calls)))
        .collect();
    let (mut lists, mut shown_keys, mut late) = (0, 0, 0);
    for list in calls.iter().filter(|call| call.f() == "list" && call.is_ok()) {
        let shown = names(list)?;
        lists += 1;
        shown_keys += shown.len();
        check_order(list, &shown, &mut verdict);
        for name in &shown {
            let violation = match keys.get(name) {
                Some(key) => key.must_not_show(list),
                None => Some(invented(name, list, &[])),
            };
            tell(violation, stale, &mut verdict, &mut late);
        }
        let prefix = list.key().unwrap_or_default();
        let sorted: std::collections::BTreeSet<&str> = shown.iter().copied().collect();
        let expected = keys.range(prefix..).take_while(|(name, _)| name.starts_with(prefix));
        for (_, key) in expected.filter(|(name, _)| !sorted.contains(*name)) {
            tell(key.must_show(list), stale, &mut verdict, &mut late);
        }
    }
    if lists == 0 {
        verdict.doubt("nothing was listed");
    }
    verdict.figure("lists", lists);
    verdict.figure("keys shown", shown_keys);
    verdict.figure("late", late);
    Ok(verdict)
}

/// What a list shows or leaves out wrongly.
struct Wrong {
    violation: Violation,
    /// Whether a list that merely lags behind could be so.
    is_late: bool,
}

fn tell(wrong: Option<Wrong>, stale: Stale, verdict: &mut Verdict, late: &mut usize) {
    let Some(wrong) = wrong else { return };
    *late += usize::from(wrong.is_late);
    if stale == Stale::Violation || !wrong.is_late {
        verdict.violate(wrong.violation);
    }
}

fn names<'a>(list: &Call<'a>) -> anyhow::Result<Vec<&'a str>> {
    let wrong = || anyhow::anyhow!("line {}: a list's value is no array of keys", list.begins());
    let shown = list.value().as_array().ok_or_else(wrong)?;
    shown.iter().map(|name| name.as_str().ok_or_else(wrong)).collect()
}

fn check_order(list: &Call<'_>, shown: &[&str], verdict: &mut Verdict) {
    let prefix = list.key().unwrap_or_default();
    for pair in shown.windows(2).filter(|pair| pair[0] >= pair[1]) {
        let what = if pair[0] == pair[1] {
            format!("a list shows {} twice", pair[0])
        } else {
            format!("a list shows {} before {}", pair[0], pair[1])
        };
        verdict.violate(Violation::of(Some(pair[1]), what, [list]));
    }
    for name in shown.iter().filter(|name| !name.starts_with(prefix)) {
        let what = format!("a list of {prefix} shows {name}");
        verdict.violate(Violation::of(Some(name), what, [list]));
    }
}

fn invented(name: &str, list: &Call<'_>, calls: &[Call<'_>]) -> Wrong {
    let what = format!("a list shows {name}, which nobody can have written by then");
    let violation = Violation::of(Some(name), what, calls.iter().chain([list]));
    Wrong { violation, is_late: false }
}

/// What happened to one key.
struct Key<'a> {
    name: &'a str,
    puts: Vec<Call<'a>>,
    deletes: Vec<Call<'a>>,
    denied: Vec<Call<'a>>,
}

impl<'a> Key<'a> {
    fn of(name: &'a str, calls: Vec<Call<'a>>) -> Self {
        let (done, denied): (Vec<_>, Vec<_>) = calls.into_iter().partition(Call::may_be);
        let (deletes, puts) = done.into_iter().partition(|call| call.f() == "delete");
        Self { name, puts, deletes, denied }
    }

    /// Why `list` had to show this key, if it had to.
    fn must_show(&self, list: &Call<'a>) -> Option<Wrong> {
        let acknowledged = self.puts.iter().filter(|put| put.is_ok() && put.precedes(list));
        let put = acknowledged.max_by_key(|put| put.begins())?;
        let may_undo = |delete: &Call<'_>| delete.begins() < list.ends() && !delete.precedes(put);
        if self.deletes.iter().any(may_undo) {
            return None;
        }
        let name = self.name;
        let what = format!(
            "a list leaves {name} out, which was put and acknowledged before the list began, and \
             not deleted since"
        );
        Some(Wrong { violation: Violation::of(Some(name), what, [put, list]), is_late: true })
    }

    /// Why `list` must not show this key, if it must not.
    fn must_not_show(&self, list: &Call<'a>) -> Option<Wrong> {
        let by_then = || self.puts.iter().filter(|put| put.begins() < list.ends());
        if by_then().next().is_none() {
            return Some(invented(self.name, list, &self.denied));
        }
        let acknowledged =
            self.deletes.iter().filter(|delete| delete.is_ok() && delete.precedes(list));
        let delete = acknowledged.max_by_key(|delete| delete.begins())?;
        let last = by_then().max_by_key(|put| put.ends())?;
        if !last.precedes(delete) {
            return None;
        }
        let name = self.name;
        let what = format!(
            "a list shows {name}, whose delete was acknowledged before the list began, and which \
             was not put since"
        );
        let violation = Violation::of(Some(name), what, [last, delete, list]);
        Some(Wrong { violation, is_late: true })
    }
}
