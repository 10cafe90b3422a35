//! The log of Jepsen's `etcd` test, which Porcupine's own tests read: one register, so one file
//! for each key.
//!
//! The form knows numbers alone, and no deletion: that nothing is there is 0, which the first two
//! lines write. A deletion writes 0 too. Left out is what says nothing: reads without an answer,
//! and changes that certainly did not happen, but for a `cas` whose condition was not met. A
//! change in doubt has no second line; the reader takes it for one that may end at any time.

use std::collections::BTreeMap;

use anyhow::bail;

use super::Processes;
use crate::checker::call::{Call, by_key, calls};
use crate::checker::linearizable::operations_of;
use crate::checker::register::{Action, Content, FUNCTIONS};
use crate::history::Entry;

/// The log of each key.
///
/// # Errors
/// If the history is none of registers, or a write has the number 0.
pub fn logs(entries: &[Entry]) -> anyhow::Result<BTreeMap<String, String>> {
    let calls = calls(entries)?;
    let mut logs = BTreeMap::new();
    for (key, calls) in by_key(&calls, &FUNCTIONS) {
        logs.insert(key.to_owned(), log(entries, &calls)?);
    }
    Ok(logs)
}

fn log(entries: &[Entry], calls: &[Call<'_>]) -> anyhow::Result<String> {
    let (kept, operations) = operations_of(calls)?;
    let mut lines = Vec::new();
    for (call, operation) in kept.iter().zip(&operations) {
        let did = did(call, operation.action)?;
        let asks = if call.f() == "read" { ":read\tnil" } else { did.as_str() };
        lines.push((call.begin, format!(":invoke\t{asks}")));
        let missed = matches!(operation.action, Action::Unlike(_));
        let words = match (operation.is_certain(), missed) {
            (true, true) => format!(":fail\t{did}"),
            (true, false) => format!(":ok\t{did}"),
            // It says nothing, but that the process does not go on.
            (false, _) => String::new(),
        };
        lines.extend(call.end.map(|end| (end, words)));
    }
    lines.sort_by_key(|(entry, _)| entry.index);
    let mut processes = Processes::of(entries);
    let first = processes.fresh();
    let mut out = String::new();
    for word in [":invoke", ":ok"] {
        out += &format!("INFO  jepsen.util - {first}\t{word}\t:write\t0\n");
    }
    for (entry, words) in lines {
        let number = processes.number(entry).unwrap_or_default();
        if !words.is_empty() {
            out += &format!("INFO  jepsen.util - {number}\t{words}\n");
        }
    }
    Ok(out)
}

/// What a call did, or would have if its condition had been met.
fn did(call: &Call<'_>, action: Action) -> anyhow::Result<String> {
    Ok(match action {
        Action::Read(seen) => format!(":read\t{}", number(seen)?),
        Action::Write(new) => format!(":write\t{}", number(new)?),
        Action::Swap(old, new) => format!(":cas\t[{} {}]", number(old)?, number(new)?),
        Action::Unlike(old) => {
            let new = call.begin.value.get(1).and_then(serde_json::Value::as_u64);
            format!(":cas\t[{} {}]", number(old)?, number(new)?)
        }
    })
}

fn number(content: Content) -> anyhow::Result<u64> {
    match content {
        Some(0) => bail!("a write has the number 0, which stands for nothing"),
        Some(number) => Ok(number),
        None => Ok(0),
    }
}
