//! Availability: once faults are over every request succeeds, within a time that is stated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::call::calls;
use super::{Verdict, Violation};
use crate::history::{Entry, FINAL_READS, NEMESIS};

/// A fault, from where it begins to where it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What it is called.
    pub name: String,
    /// The node that it strikes, if it is one.
    pub node: Option<usize>,
    /// When it begins, in nanoseconds.
    pub begins: u64,
    /// When it ends; nothing if that is not told.
    pub ends: Option<u64>,
    /// What else the nemesis said of it as it began.
    pub about: serde_json::Value,
    /// What it said as the fault ended; null if nothing.
    pub came: serde_json::Value,
}

/// The faults of a history, in the order of their beginnings. What the nemesis tells without a
/// phase happened at one moment.
#[must_use]
pub fn faults(entries: &[Entry]) -> Vec<Fault> {
    let mut found: Vec<Fault> = Vec::new();
    let told = entries.iter().filter(|entry| entry.process == NEMESIS && entry.f != FINAL_READS);
    for entry in told {
        let phase = entry.value.get("phase").and_then(serde_json::Value::as_str);
        let mut fault = Fault {
            name: entry.f.clone(),
            node: entry.node,
            begins: entry.time,
            ends: None,
            about: entry.value.clone(),
            came: serde_json::Value::Null,
        };
        match phase {
            Some("begin") => {}
            Some("end") => {
                let same = |open: &&mut Fault| {
                    open.ends.is_none() && open.name == entry.f && open.node == entry.node
                };
                if let Some(open) = found.iter_mut().rev().find(same) {
                    open.ends = Some(entry.time);
                    open.came = entry.value.clone();
                    continue;
                }
                fault.ends = Some(entry.time);
                fault.came = entry.value.clone();
            }
            _ => fault.ends = Some(entry.time),
        }
        found.push(fault);
    }
    found
}

/// Whether every request that began later than `within` after the last fault was served.
///
/// # Errors
/// If the history is none.
pub fn check(entries: &[Entry], within: Duration) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new("progress");
    let faults = faults(entries);
    for fault in faults.iter().filter(|fault| fault.ends.is_none()) {
        verdict.doubt(format!("the fault {} does not end", fault.name));
    }
    let over = faults.iter().map(|fault| fault.ends.unwrap_or(u64::MAX)).max();
    let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
    let from = over.map_or(0, |over| over.saturating_add(within));
    let calls = calls(entries)?;
    let nodes: BTreeSet<usize> = calls.iter().filter_map(|call| call.begin.node).collect();
    let mut served: BTreeMap<usize, usize> = BTreeMap::new();
    let mut asked = 0;
    for call in calls.iter().filter(|call| call.begin.time >= from) {
        asked += 1;
        if call.was_served() {
            *served.entry(call.begin.node.unwrap_or(0)).or_default() += 1;
        } else {
            let error = call.end.and_then(|end| end.error.as_deref()).unwrap_or("no answer");
            let after = (call.begin.time - over.unwrap_or(0)) / 1_000_000;
            let what = format!("{after} ms after the last fault a request failed: {error}");
            verdict.violate(Violation::of(call.key(), what, [call]));
        }
    }
    let silent: Vec<String> =
        nodes.iter().filter(|node| !served.contains_key(node)).map(usize::to_string).collect();
    if asked == 0 || !silent.is_empty() {
        verdict.doubt(format!(
            "{asked} requests began later than that; none was served by nodes [{}]",
            silent.join(", ")
        ));
    }
    verdict.figure("requests after the faults", asked);
    verdict.figure("of these served", served.values().sum::<usize>());
    Ok(verdict)
}
