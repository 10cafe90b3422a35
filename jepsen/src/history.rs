//! What was asked and what was answered, as JSON lines in the form of Jepsen's operation maps.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use quorate::env::{Clock, OsClock};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// How the error of a `fail` begins if a condition was not met: the store did answer, and what
/// it found was not what was expected.
pub const CONDITION: &str = "condition";

/// How far an operation is, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It begins.
    Invoke,
    /// It certainly happened.
    Ok,
    /// It certainly did not happen.
    Fail,
    /// Nobody knows; it may still happen.
    Info,
}

/// What the runner itself does, faults above all, is told under this name.
pub const NEMESIS: &str = "nemesis";

/// What the nemesis says when final reads begin; it is no fault.
pub const FINAL_READS: &str = "final-reads";

/// One line of a history.
///
/// What an operation asks for is in its `invoke`, what came back in the line that ends it: the
/// same field means what was sent in the one and what was received in the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The line's number, from 0.
    pub index: u64,
    /// Nanoseconds on the runner's monotonic clock.
    pub time: u64,
    /// Who: a client's number, another client's name, or [`NEMESIS`].
    #[serde(serialize_with = "write_process", deserialize_with = "read_process")]
    pub process: String,
    /// How far, or how it ended.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// `read`, `write`, `cas`, `delete`, `add`, `list`, `mpu-complete`, ...; or the fault's name.
    pub f: String,
    /// The key, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The number of the write whose bytes were written or read, null for "nothing there";
    /// `[old, new]` of a cas; an array of numbers for siblings and sets, of keys for a list;
    /// for the nemesis `{"phase": "begin"}`, or `"end"`, and what else describes the fault.
    #[serde(default)]
    pub value: Value,
    /// Which node was asked, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
    /// The level that was asked for, or at which it was served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The object's ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The store's own stamp of the write, as it prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<String>,
    /// How many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// SHA-256 of the bytes, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// The causal context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// What of an entry its author says; number and time are the history's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Operation {
    /// Who.
    pub process: String,
    /// What.
    pub f: String,
    /// On which key.
    pub key: Option<String>,
    /// Which write; see [`Entry::value`].
    pub value: Value,
    /// Through which node, from 1.
    pub node: Option<usize>,
    /// At which level.
    pub mode: Option<String>,
    /// The object's ETag.
    pub etag: Option<String>,
    /// The store's stamp.
    pub ts: Option<String>,
    /// How many bytes.
    pub bytes: Option<usize>,
    /// SHA-256 of the bytes.
    pub sha: Option<String>,
    /// The causal context.
    pub context: Option<String>,
}

impl Operation {
    /// This operation as line `index` of a history.
    #[must_use]
    pub fn entry(&self, index: u64, time: u64, kind: Kind, error: Option<String>) -> Entry {
        let told = self.clone();
        Entry {
            index,
            time,
            process: told.process,
            kind,
            f: told.f,
            key: told.key,
            value: told.value,
            node: told.node,
            mode: told.mode,
            error,
            etag: told.etag,
            ts: told.ts,
            bytes: told.bytes,
            sha: told.sha,
            context: told.context,
        }
    }
}

/// Which end of a fault the nemesis tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From now on.
    Begin,
    /// Until now.
    End,
}

impl Phase {
    /// As it stands in histories.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
        }
    }
}

// Jepsen's processes are numbers, but for the nemesis.
fn write_process<S: Serializer>(process: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match process.parse::<u64>() {
        Ok(number) => serializer.serialize_u64(number),
        Err(_) => serializer.serialize_str(process),
    }
}

fn read_process<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Number(number) => Ok(number.to_string()),
        Value::String(name) => Ok(name),
        other => Err(D::Error::custom(format!("{other} is no process"))),
    }
}

struct State {
    next: u64,
    out: Box<dyn Write + Send>,
    failure: Option<std::io::Error>,
}

/// An append-only history.
pub struct History {
    clock: Arc<OsClock>,
    state: Mutex<State>,
}

impl History {
    /// A history that is written to `out`, timed by `clock`.
    #[must_use]
    pub fn new(clock: Arc<OsClock>, out: Box<dyn Write + Send>) -> Self {
        Self { clock, state: Mutex::new(State { next: 0, out, failure: None }) }
    }

    /// Appends a line. A failure to write shows at [`History::finish`].
    pub fn append(&self, operation: &Operation, kind: Kind, error: Option<String>) {
        let mut state = self.state.lock();
        let time = u64::try_from(self.clock.monotonic().0.as_nanos()).unwrap_or(u64::MAX);
        let entry = operation.entry(state.next, time, kind, error);
        state.next += 1;
        let line = serde_json::to_string(&entry).map_err(std::io::Error::from);
        if let Err(error) = line.and_then(|line| writeln!(state.out, "{line}")) {
            state.failure.get_or_insert(error);
        }
    }

    /// Appends what the nemesis did to `node`, or to all, at one moment.
    pub fn nemesis(&self, f: &str, node: Option<usize>) {
        self.append(&nemesis(f, node, Value::Null), Kind::Info, None);
    }

    /// Appends that a fault begins or ends. `about` says more of it and is an object or null.
    /// Two ends belong together if their names and nodes are the same.
    pub fn fault(&self, f: &str, phase: Phase, node: Option<usize>, about: Value) {
        let mut value = match about {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            other => Map::from_iter([("about".to_owned(), other)]),
        };
        value.insert("phase".to_owned(), phase.name().into());
        self.append(&nemesis(f, node, value.into()), Kind::Info, None);
    }

    /// Appends that faults are over and replicas had their time to converge: reads from here
    /// on are final ones.
    pub fn begin_final_reads(&self) {
        self.fault(FINAL_READS, Phase::Begin, None, Value::Null);
    }

    /// How many lines there are.
    ///
    /// # Errors
    /// If a line could not be written.
    pub fn finish(&self) -> anyhow::Result<u64> {
        let mut state = self.state.lock();
        if let Some(error) = state.failure.take() {
            return Err(error).context("the history is incomplete");
        }
        state.out.flush().context("the history could not be written")?;
        Ok(state.next)
    }
}

fn nemesis(f: &str, node: Option<usize>, value: Value) -> Operation {
    Operation { process: NEMESIS.to_owned(), f: f.to_owned(), value, node, ..Operation::default() }
}

/// Reads a history back, for checkers.
///
/// # Errors
/// Names the line that is no entry.
pub fn parse(text: &str) -> anyhow::Result<Vec<Entry>> {
    text.lines()
        .enumerate()
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| format!("line {} is no entry", number + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use quorate::env::OsClock;

    use serde_json::json;

    use super::{History, Kind, Operation, Phase, parse};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_history_reads_back_as_it_was_told() {
        let out = Shared::default();
        let history = History::new(Arc::new(OsClock::new()), Box::new(out.clone()));
        let write = Operation {
            process: "3".to_owned(),
            f: "write".to_owned(),
            key: Some("c3/k1".to_owned()),
            value: 17.into(),
            node: Some(2),
            bytes: Some(100),
            ..Operation::default()
        };

        history.append(&write, Kind::Invoke, None);
        history.append(&write, Kind::Info, Some("timed out".to_owned()));
        history.fault("kill", Phase::Begin, Some(1), json!({"signal": 9}));
        let text = String::from_utf8(out.0.lock().clone()).unwrap();
        let entries = parse(&text).unwrap();

        assert_eq!(history.finish().unwrap(), 3);
        assert_eq!(entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(text.contains(r#""type":"info""#));
        assert_eq!(entries[1].error.as_deref(), Some("timed out"));
        assert_eq!(entries[2].process, "nemesis");
        assert_eq!(entries[2].value, json!({"signal": 9, "phase": "begin"}));
        assert!(entries[0].time <= entries[1].time);
    }

    #[test]
    fn clients_are_numbers_and_others_names() {
        let line = |process: &str| {
            let operation = Operation { process: process.to_owned(), ..Operation::default() };
            serde_json::to_string(&operation.entry(0, 0, Kind::Invoke, None)).unwrap()
        };

        assert!(line("12").contains(r#""process":12"#));
        assert!(line("audit").contains(r#""process":"audit""#));
        let both = parse(&format!("{}\n{}\n", line("12"), line("audit"))).unwrap();
        assert_eq!([both[0].process.as_str(), both[1].process.as_str()], ["12", "audit"]);
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        let error = parse("{}\n").unwrap_err();

        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
