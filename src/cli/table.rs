//! Tables for terminals, and figures as people read them.

use time::OffsetDateTime;
use time::macros::format_description;

/// Columns under a header. Cells of numbers stand at the right.
pub(super) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns. A header that begins with `>` makes its column stand at the
    /// right.
    pub(super) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as lines, each ended.
    pub(super) fn render(&self) -> String {
        let names: Vec<&str> =
            self.header.iter().map(|name| name.trim_start_matches('>')).collect();
        let cell = |row: &'_ [String], column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..names.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| cell(row, column).chars().count());
                cells.chain([names[column].chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        let header: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        for row in [header].iter().chain(&self.rows) {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate() {
                let value = cell(row, column);
                line.push_str(&match self.header[column].starts_with('>') {
                    true => format!("{value:>width$}  "),
                    false => format!("{value:<width$}  "),
                });
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Seconds as `3d 4h`, `2h 5m`, `7m 1s`, `12s`.
pub(super) fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A part of one as `33.3%`.
pub(super) fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

/// Milliseconds since 1970 as `2026-11-21 10:05:00Z`.
pub(super) fn moment(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX);
    let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|moment| moment.format(form).ok())
        .unwrap_or_else(|| unix_ms.to_string())
}

/// The value's text, or a dash.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Table, age, moment};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["Name", ">Count"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        table.row(["größer".to_owned(), "10000".to_owned()]);

        assert_eq!(table.render(), "Name    Count\na           1\ngrößer  10000\n");
    }

    #[test]
    fn ages_show_two_units() {
        assert_eq!(age(12), "12s");
        assert_eq!(age(421), "7m 1s");
        assert_eq!(age(7_500), "2h 5m");
        assert_eq!(age(273_600), "3d 4h");
    }

    #[test]
    fn moments_are_in_utc() {
        assert_eq!(moment(1_795_255_500_000), "2026-11-21 10:05:00Z");
    }
}
