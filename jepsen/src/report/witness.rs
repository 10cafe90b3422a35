//! The lines that prove a breach, drawn: who asked when, in the order of the lines.

use super::chart::{WIDTH, svg};
use super::markup::{Escaped, shortened};
use crate::checker::Violation;
use crate::checker::call::{Call, calls};
use crate::history::Kind;

/// Calls that are drawn.
const CALLS_MAX: usize = 16;

/// Letters of a call.
const LETTERS_MAX: usize = 42;

const ROW: f64 = 44.0;
const LEFT: f64 = 6.0;

/// A bar for each call of a breach, from the line that begins it to the one that ends it; of
/// unknown outcome it goes on. Nothing if its lines are no calls.
#[must_use]
pub fn drawing(id: &str, violation: &Violation) -> String {
    let Ok(calls) = calls(&violation.witness) else { return String::new() };
    if calls.is_empty() {
        return String::new();
    }
    let lines: Vec<u64> = violation.witness.iter().map(|entry| entry.index).collect();
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let step = (WIDTH - 2.0 * LEFT) / number(lines.len() + 1);
    let x = |line: u64| {
        let place = lines.iter().position(|other| *other == line);
        LEFT + step * number(place.unwrap_or(lines.len() + 1))
    };
    let mut out = String::new();
    let mut y = 0.0;
    for call in calls.iter().take(CALLS_MAX) {
        let from = x(call.begins());
        let width = (x(call.ends()) - from).max(2.0);
        let words = words(call);
        let class = if call.ends() == u64::MAX { "unknown" } else { "served" };
        // Words that begin in the right half end where their bar does not.
        let (anchor, at) = if from > WIDTH / 2.0 { (" end", WIDTH - LEFT) } else { ("", from) };
        out += &format!(
            "<text class=\"label{anchor}\" x=\"{at:.1}\" y=\"{:.1}\">{}</text><rect \
             class=\"{class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"10\" \
             rx=\"3\"/>\n",
            y + 20.0,
            Escaped(&shortened(&words, LETTERS_MAX)),
            y + 27.0,
        );
        y += ROW;
    }
    let description = calls.iter().map(words).collect::<Vec<_>>().join("; ");
    svg(id, ["The calls that prove it, in the order of the history's lines", &description], &out, y)
}

fn words(call: &Call<'_>) -> String {
    let value = call.value();
    let verb = match call.outcome() {
        Kind::Ok => "",
        Kind::Fail => " failed",
        Kind::Info | Kind::Invoke => " unknown",
    };
    format!("{} {}{verb} {value}", call.begin.process, call.f())
}
