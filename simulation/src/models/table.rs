//! Tables in Markdown, and numbers in them.

use std::fmt::Write;

/// A table while it is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    text: String,
}

impl Table {
    /// An empty table with these heads of columns.
    #[must_use]
    pub fn new(heads: &[&str]) -> Self {
        Self { text: format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len())) }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[String]) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }

    /// The table, ended by a line break.
    #[must_use]
    pub fn text(self) -> String {
        self.text
    }
}

/// A number in at most `digits` significant digits: plain if it is of everyday size, else with
/// a power of ten.
#[must_use]
pub fn number(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = value.abs().log10().floor();
    if !(-3.0..7.0).contains(&exponent) {
        return format!("{value:.*e}", digits.saturating_sub(1));
    }
    let decimals = (digits as f64 - 1.0 - exponent).max(0.0) as usize;
    grouped(&format!("{value:.decimals$}"))
}

/// A whole number.
#[must_use]
pub fn count(value: usize) -> String {
    grouped(&value.to_string())
}

/// Commas between thousands.
fn grouped(plain: &str) -> String {
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut text = String::new();
    for (place, digit) in whole.chars().enumerate() {
        let left = whole.len() - place;
        let after_digit = text.ends_with(|last: char| last.is_ascii_digit());
        if after_digit && left.is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::{Table, count, number};

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(&["a", "b"]);
        table.row(&["1".to_owned(), "2".to_owned()]);

        assert_eq!(table.text(), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }

    #[test]
    fn whole_numbers_stay_whole() {
        assert_eq!([0, 999, 1_000, 65_536].map(count), ["0", "999", "1,000", "65,536"]);
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1.00"),
            (0.051_23, "0.0512"),
            (12_345.6, "12,346"),
            (999_999.0, "999,999"),
            (1.234e-9, "1.23e-9"),
            (2.5e12, "2.50e12"),
            (-1_234.0, "-1,234"),
        ] {
            assert_eq!(number(value, 3), expected);
        }
    }
}
