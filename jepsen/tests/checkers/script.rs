//! Histories as short text: `PROCESS WORD [KEY] [VALUE] [name=text ...]`, one line each.
//!
//! A word that is no way to end begins a call. The key of a call need not be repeated where it
//! ends. A line is a millisecond after the one before, or as much as `+MILLISECONDS` says.

use std::collections::BTreeMap;

use quorate_jepsen::history::{Entry, Kind, NEMESIS, Operation};
use serde_json::Value;

pub(crate) fn history(text: &str) -> Vec<Entry> {
    let mut open: BTreeMap<String, Operation> = BTreeMap::new();
    let mut time = 0;
    let mut entries = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        time += 1_000_000;
        if let Some(pause) = words[0].strip_prefix('+') {
            time += pause.parse::<u64>().unwrap() * 1_000_000;
            words.remove(0);
            if words.is_empty() {
                continue;
            }
        }
        let entry = entry(&words, &mut open, entries.len() as u64, time);
        entries.push(entry);
    }
    entries
}

fn entry(words: &[&str], open: &mut BTreeMap<String, Operation>, index: u64, time: u64) -> Entry {
    let kind = match words[1] {
        "ok" => Kind::Ok,
        "fail" => Kind::Fail,
        "info" => Kind::Info,
        _ if words[0] == NEMESIS => Kind::Info,
        _ => Kind::Invoke,
    };
    let mut error = None;
    let ends = kind != Kind::Invoke && words[0] != NEMESIS;
    let mut operation = if ends {
        open.remove(words[0]).unwrap()
    } else {
        Operation { process: words[0].into(), f: words[1].into(), ..Operation::default() }
    };
    if ends {
        operation.context = None;
    }
    for word in &words[2..] {
        let field = word.split_once('=');
        match field {
            Some(("node", text)) => operation.node = Some(text.parse().unwrap()),
            Some(("mode", text)) => operation.mode = Some(text.into()),
            Some(("context", text)) => operation.context = Some(text.into()),
            Some(("ts", text)) => operation.ts = Some(text.into()),
            Some(("sha", text)) => operation.sha = Some(text.into()),
            Some(("bytes", text)) => operation.bytes = Some(text.parse().unwrap()),
            Some(("error", text)) => error = Some(text.into()),
            Some((name, _)) => panic!("no field {name}"),
            None => match serde_json::from_str::<Value>(word) {
                Ok(value) => operation.value = value,
                Err(_) => operation.key = Some((*word).into()),
            },
        }
    }
    if kind == Kind::Invoke {
        open.insert(words[0].into(), operation.clone());
    }
    operation.entry(index, time, kind, error)
}
