//! Calls: the line that begins an operation, and the one that ends it.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::Value;

use crate::history::{CONDITION, Entry, Kind, NEMESIS};

/// One operation of a client.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its `invoke`.
    pub begin: &'a Entry,
    /// What ended it; nothing if the history breaks off before.
    pub end: Option<&'a Entry>,
}

impl<'a> Call<'a> {
    /// What was done.
    #[must_use]
    pub fn f(&self) -> &'a str {
        &self.begin.f
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Option<&'a str> {
        self.begin.key.as_deref()
    }

    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> Kind {
        self.end.map_or(Kind::Info, |end| end.kind)
    }

    /// Whether it certainly happened.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.outcome() == Kind::Ok
    }

    /// Whether it may have happened, or may still.
    #[must_use]
    pub fn may_be(&self) -> bool {
        self.outcome() != Kind::Fail
    }

    /// Whether the store gave the answer that was due: success, or that a condition was not met.
    #[must_use]
    pub fn was_served(&self) -> bool {
        self.is_ok() || self.missed_condition()
    }

    /// Whether it certainly did not happen because its condition was not met.
    #[must_use]
    pub fn missed_condition(&self) -> bool {
        let error = self.end.and_then(|end| end.error.as_deref());
        self.outcome() == Kind::Fail && error.is_some_and(|error| error.starts_with(CONDITION))
    }

    /// What came back if it happened, else what was asked.
    #[must_use]
    pub fn value(&self) -> &'a Value {
        match self.end {
            Some(end) if end.kind == Kind::Ok => &end.value,
            _ => &self.begin.value,
        }
    }

    /// Where it begins among the lines.
    #[must_use]
    pub fn begins(&self) -> u64 {
        self.begin.index
    }

    /// The line after which it takes effect no more: never, if its outcome is unknown.
    #[must_use]
    pub fn ends(&self) -> u64 {
        match self.end {
            Some(end) if end.kind != Kind::Info => end.index,
            _ => u64::MAX,
        }
    }

    /// Whether it certainly took effect before `other` began.
    #[must_use]
    pub fn precedes(&self, other: &Self) -> bool {
        self.ends() < other.begins()
    }

    /// The level that it was served at, or that was asked for.
    #[must_use]
    pub fn level(&self) -> Option<&'a str> {
        self.end.and_then(|end| end.mode.as_deref()).or(self.begin.mode.as_deref())
    }

    /// Its lines.
    #[must_use]
    pub fn lines(&self) -> Vec<Entry> {
        [Some(self.begin), self.end].into_iter().flatten().cloned().collect()
    }
}

/// All calls of a history, in the order of their beginnings.
///
/// # Errors
/// Names the line that ends nothing, or begins before its process had ended something else: such
/// a history proves nothing.
pub fn calls(entries: &[Entry]) -> anyhow::Result<Vec<Call<'_>>> {
    let mut found: Vec<Call<'_>> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.process != NEMESIS) {
        let (process, line) = (entry.process.as_str(), entry.index);
        if entry.kind == Kind::Invoke {
            if let Some(place) = open.insert(process, found.len()) {
                let begun = found[place].begin.index;
                bail!("line {line}: process {process} begins again before line {begun} has ended");
            }
            found.push(Call { begin: entry, end: None });
            continue;
        }
        let Some(place) = open.remove(process) else {
            bail!("line {line}: process {process} ends what it has not begun");
        };
        let call = &mut found[place];
        if call.begin.f != entry.f || call.begin.key != entry.key {
            bail!("line {line}: process {process} ends another call than it began");
        }
        call.end = Some(entry);
    }
    Ok(found)
}

/// The calls of each key that do one of `functions`, in the order of their beginnings.
#[must_use]
pub fn by_key<'a>(calls: &[Call<'a>], functions: &[&str]) -> BTreeMap<&'a str, Vec<Call<'a>>> {
    let mut keys: BTreeMap<&str, Vec<Call<'_>>> = BTreeMap::new();
    for call in calls.iter().filter(|call| functions.contains(&call.f())) {
        if let Some(key) = call.key() {
            keys.entry(key).or_default().push(*call);
        }
    }
    keys
}

/// The line at which final reads begin, if the history says so.
#[must_use]
pub fn final_reads_begin(entries: &[Entry]) -> Option<u64> {
    let says = |entry: &&Entry| entry.process == NEMESIS && entry.f == crate::history::FINAL_READS;
    entries.iter().find(says).map(|entry| entry.index)
}

/// Numbers in a value: of one write, of several, or of none.
///
/// # Errors
/// If it is something else.
pub fn numbers(value: &Value) -> anyhow::Result<Vec<u64>> {
    let number = |value: &Value| match value.as_u64() {
        Some(number) => Ok(number),
        None => bail!("{value} is no write's number"),
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => values.iter().map(number).collect(),
        value => Ok(vec![number(value)?]),
    }
}
