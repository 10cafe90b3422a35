//! What a command leaves behind: text and an exit code.

use std::process::ExitCode;

use serde::Serialize;

use super::Output;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// All is well.
    Ok,
    /// The command failed.
    Failed,
    /// `status`: something needs a person.
    Warn,
    /// `status`: something cannot be served.
    Critical,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // 2 is clap's, for wrong usage.
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Warn => 3,
            Exit::Critical => 4,
        })
    }
}

/// A command's answer.
#[derive(Debug)]
pub(super) struct Report {
    /// For stdout.
    pub(super) text: String,
    /// How the process ends.
    pub(super) exit: Exit,
}

impl Report {
    /// A good answer in plain text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), exit: Exit::Ok }
    }

    /// `value` as JSON, or as the text that `table` makes of it.
    pub(super) fn of<T: Serialize>(
        output: Output,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<Self> {
        Ok(Self::text(match output {
            Output::Table => table(value),
            Output::Json => serde_json::to_string_pretty(value)? + "\n",
        }))
    }

    /// The same answer with another exit code.
    pub(super) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}
