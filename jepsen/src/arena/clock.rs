//! Clocks that can be set: each node's own file says how far off its clock is, and a library
//! that is loaded before all others reads it.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Where Debian's package `libfaketime` has its library for programs of several threads.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// How far off a clock is, by file name.
const FILE: &str = "clock";

/// Who sets the nodes' clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clocks {
    /// Nobody: they are the machine's.
    True,
    /// The nemesis, with this library.
    Set(PathBuf),
}

/// The library that sets clocks, if this machine has it.
#[must_use]
pub fn library() -> Option<PathBuf> {
    LIBRARIES.into_iter().map(PathBuf::from).find(|path| path.is_file())
}

impl Clocks {
    /// The variables that a node is started with, whose folder is `home`.
    pub(super) fn variables(&self, home: &Path) -> anyhow::Result<Vec<(String, String)>> {
        let Self::Set(library) = self else { return Ok(Vec::new()) };
        set(home, 0, 100)?;
        let file = home.join(FILE);
        // Deadlines are of the monotonic clock, which no operator sets: it stays true. The file
        // is read each time, so that a jump is seen at once.
        let variables = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
        ];
        Ok(variables.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }
}

/// Writes how far off the clock of the node is whose folder is `home`.
pub(super) fn set(home: &Path, offset_ms: i64, percent: u32) -> anyhow::Result<()> {
    let file = home.join(FILE);
    // A file that is replaced as a whole is never read half written.
    let new = home.join("clock.new");
    std::fs::write(&new, line(offset_ms, percent))
        .and_then(|()| std::fs::rename(&new, &file))
        .with_context(|| format!("{} cannot be written", file.display()))
}

fn line(offset_ms: i64, percent: u32) -> String {
    let sign = if offset_ms < 0 { '-' } else { '+' };
    let millis = offset_ms.unsigned_abs();
    // The library keeps a rate that it was told until it is told another.
    let rate = format!("x{}.{:02}", percent / 100, percent % 100);
    format!("{sign}{}.{:03} {rate}\n", millis / 1_000, millis % 1_000)
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn offsets_and_rates_are_written_as_the_library_reads_them() {
        assert_eq!(line(0, 100), "+0.000 x1.00\n");
        assert_eq!(line(-1_250, 100), "-1.250 x1.00\n");
        assert_eq!(line(60_000, 105), "+60.000 x1.05\n");
    }
}
