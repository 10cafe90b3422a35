//! Linearizability, key by key (Herlihy and Wing, 1990): there is an order of all calls in which
//! each saw what the one before left behind, and in which a call that ended before another began
//! comes first. What `strong` promises; `strict` does not.

use super::call::{Call, by_key};
use super::register::{self, Action, describe};
use super::search::{Found, Operation, first_without, search};
use super::witness::shorten;
use super::{Verdict, Violation};
use crate::history::Entry;

/// States that the search of one key may enter; each takes some 30 bytes.
const STATES_MAX: usize = 4_000_000;

/// States that each search for a shorter witness may enter.
const WITNESS_STATES_MAX: usize = 100_000;

/// Whether each key is a linearizable register.
///
/// # Errors
/// If the history cannot be read as one of registers.
pub fn check(entries: &[Entry]) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new("linearizable register");
    let calls = super::call::calls(entries)?;
    let keys = by_key(&calls, &register::FUNCTIONS);
    let (mut operations, mut uncertain, mut states) = (0, 0, 0);
    for (key, calls) in &keys {
        let (kept, steps) = operations_of(calls)?;
        operations += steps.len();
        uncertain += steps.iter().filter(|step| !step.is_certain()).count();
        let searched = search(&steps, STATES_MAX);
        states += searched.states;
        match searched.found {
            Found::Order => {}
            Found::Unknown => {
                verdict.doubt(format!("{key}: {} calls are too many to order", steps.len()));
            }
            Found::None => {
                let line = first_without(&steps, STATES_MAX);
                let witness = shorten(&steps, line, WITNESS_STATES_MAX);
                let shown: Vec<Call<'_>> = witness.iter().map(|(place, _)| kept[*place]).collect();
                let what = explain(&shown, line);
                verdict.violate(Violation::of(Some(key), what, &shown));
            }
        }
    }
    if operations == 0 {
        verdict.doubt("there is no call of a register");
    }
    verdict.figure("keys", keys.len());
    verdict.figure("calls", operations);
    verdict.figure("of unknown outcome", uncertain);
    verdict.figure("states", states);
    Ok(verdict)
}

/// The calls that say something, and what they say.
///
/// # Errors
/// If a value is no register's.
pub fn operations_of<'a>(calls: &[Call<'a>]) -> anyhow::Result<(Vec<Call<'a>>, Vec<Operation>)> {
    let mut kept = Vec::new();
    let mut operations = Vec::new();
    for call in calls {
        if let Some(action) = register::action(call)? {
            // A missed condition was looked at when the answer came, like a read.
            kept.push(*call);
            operations.push(Operation { begins: call.begins(), ends: call.ends(), action });
        }
    }
    Ok((kept, operations))
}

fn explain(shown: &[Call<'_>], line: u64) -> String {
    let last = shown.iter().find(|call| call.ends() == line);
    let saw = last.and_then(|call| register::action(call).ok().flatten());
    let answer = match saw {
        Some(Action::Read(seen)) => format!("a read that saw {}", describe(seen)),
        Some(Action::Swap(old, _)) => format!("a cas that replaced {}", describe(old)),
        Some(Action::Unlike(old)) => format!("a cas that did not find {}", describe(old)),
        Some(Action::Write(new)) => format!("the write of {}", describe(new)),
        None => "an answer".to_owned(),
    };
    format!(
        "no order of these {} calls explains them all; up to line {line}, {answer}, there was one",
        shown.len()
    )
}
