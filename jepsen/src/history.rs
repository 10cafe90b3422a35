//! What was asked and what was answered, as JSON lines in the form of Jepsen's operation maps.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use quorate::env::{Clock, OsClock};
use serde::{Deserialize, Serialize};

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

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The line's number, from 0.
    pub index: u64,
    /// Nanoseconds on the runner's monotonic clock.
    pub time: u64,
    /// Who: a client's number, or `nemesis`.
    pub process: String,
    /// How far, or how it ended.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// `write`, `read`, `delete`, `list`; or what the nemesis does.
    pub f: String,
    /// The key, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The number of the write whose bytes were written or read; absent for "no object".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// Which node was asked, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
}

/// What of an entry its author says; number and time are the history's.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// Who.
    pub process: String,
    /// What.
    pub f: String,
    /// On which key.
    pub key: Option<String>,
    /// Which write.
    pub value: Option<u64>,
    /// Through which node, from 1.
    pub node: Option<usize>,
    /// How many bytes.
    pub bytes: Option<usize>,
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
        let entry = Entry {
            index: state.next,
            time,
            process: operation.process.clone(),
            kind,
            f: operation.f.clone(),
            key: operation.key.clone(),
            value: operation.value,
            node: operation.node,
            error,
            bytes: operation.bytes,
        };
        state.next += 1;
        let line = serde_json::to_string(&entry).map_err(std::io::Error::from);
        if let Err(error) = line.and_then(|line| writeln!(state.out, "{line}")) {
            state.failure.get_or_insert(error);
        }
    }

    /// Appends what the nemesis did.
    pub fn nemesis(&self, f: &str, node: Option<usize>) {
        let operation = Operation {
            process: "nemesis".to_owned(),
            f: f.to_owned(),
            node,
            ..Operation::default()
        };
        self.append(&operation, Kind::Info, None);
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

    use super::{History, Kind, Operation, parse};

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
            value: Some(17),
            node: Some(2),
            bytes: Some(100),
        };

        history.append(&write, Kind::Invoke, None);
        history.append(&write, Kind::Info, Some("timed out".to_owned()));
        history.nemesis("kill", Some(1));
        let text = String::from_utf8(out.0.lock().clone()).unwrap();
        let entries = parse(&text).unwrap();

        assert_eq!(history.finish().unwrap(), 3);
        assert_eq!(entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(text.contains(r#""type":"info""#));
        assert_eq!(entries[1].error.as_deref(), Some("timed out"));
        assert_eq!(entries[2].process, "nemesis");
        assert!(entries[0].time <= entries[1].time);
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        let error = parse("{}\n").unwrap_err();

        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
