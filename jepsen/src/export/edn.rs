//! Jepsen's operation maps, as Knossos reads them: one map in EDN a line.
//!
//! Registers become what Knossos' models know. A deletion is a write of `:absent`, a completed
//! upload a write; each keeps its own name as `:was`. That nothing was there is `:absent` and not
//! `nil`, for a read of `nil` fits every register there: check with
//! `(knossos.model/cas-register :absent)`. Values are `[key value]`, the tuples of
//! `jepsen.independent`.

use serde_json::Value;

use super::Processes;
use crate::checker::register::FUNCTIONS;
use crate::history::{Entry, Kind};

/// The history in EDN.
#[must_use]
pub fn edn(entries: &[Entry]) -> String {
    let mut processes = Processes::of(entries);
    entries.iter().map(|entry| line(entry, processes.number(entry)) + "\n").collect()
}

fn line(entry: &Entry, process: Option<u64>) -> String {
    let process = process.map_or_else(|| ":nemesis".to_owned(), |number| number.to_string());
    let kind = match entry.kind {
        Kind::Invoke => ":invoke",
        Kind::Ok => ":ok",
        Kind::Fail => ":fail",
        Kind::Info => ":info",
    };
    let f = match entry.f.as_str() {
        "delete" | "mpu-complete" => "write",
        name => name,
    };
    let mut fields = vec![
        format!(":process {process}"),
        format!(":type {kind}"),
        format!(":f {}", name(f)),
        format!(":value {}", told(entry)),
        format!(":time {}", entry.time),
        format!(":index {}", entry.index),
    ];
    if f != entry.f {
        fields.push(format!(":was {}", name(&entry.f)));
    }
    if let Some(node) = entry.node {
        fields.push(format!(":node {}", string(&format!("n{node}"))));
    }
    for (field, text) in [(":mode", &entry.mode), (":error", &entry.error), (":ts", &entry.ts)] {
        fields.extend(text.as_ref().map(|text| format!("{field} {}", string(text))));
    }
    format!("{{{}}}", fields.join(", "))
}

fn told(entry: &Entry) -> String {
    let is_register = FUNCTIONS.contains(&entry.f.as_str());
    let is_question = entry.f == "read" && entry.kind != Kind::Ok;
    let value = match &entry.value {
        Value::Null if is_register && !is_question => ":absent".to_owned(),
        Value::Array(pair) if entry.f == "cas" => {
            let content = |value: &Value| match value {
                Value::Null => ":absent".to_owned(),
                value => form(value),
            };
            format!("[{}]", pair.iter().map(content).collect::<Vec<_>>().join(" "))
        }
        value => form(value),
    };
    match &entry.key {
        Some(key) => format!("[{} {value}]", string(key)),
        None => value,
    }
}

/// A value in EDN.
fn form(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => string(text),
        Value::Array(values) => {
            format!("[{}]", values.iter().map(form).collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => {
            let field =
                |(field, value): (&String, &Value)| format!("{} {}", name(field), form(value));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A keyword, if the text can be one.
fn name(text: &str) -> String {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphabetic());
    if begins && text.chars().all(is_letter) { format!(":{text}") } else { string(text) }
}

fn string(text: &str) -> String {
    let mut out = "\"".to_owned();
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
