//! Every byte that was read is one that was written (I5).

use std::collections::BTreeMap;

use super::call::{Call, calls};
use super::{Verdict, Violation};
use crate::history::Entry;

/// Whether reads returned whole bodies of the writes that they name.
///
/// # Errors
/// If the history is none.
pub fn check(entries: &[Entry]) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new("content");
    let calls = calls(entries)?;
    let writes: BTreeMap<u64, &Call<'_>> = calls
        .iter()
        .filter(|call| !matches!(call.f(), "read" | "list"))
        .filter_map(|call| Some((call.begin.value.as_u64()?, call)))
        .collect();
    let mut compared = 0;
    for call in calls.iter().filter(|call| call.is_ok()) {
        let Some(end) = call.end else { continue };
        if let Some(error) = &end.error {
            let what = format!("an answer is not what anybody wrote: {error}");
            verdict.violate(Violation::of(call.key(), what, [call]));
            continue;
        }
        let Some(write) = end.value.as_u64().and_then(|number| writes.get(&number)) else {
            continue;
        };
        if call.f() == "read" {
            compared += 1;
            if differs(write.begin.bytes.as_ref(), end.bytes.as_ref())
                || differs(write.begin.sha.as_ref(), end.sha.as_ref())
            {
                let what = "a read returned other bytes than the write that it names";
                verdict.violate(Violation::of(call.key(), what, [*write, call]));
            }
        }
    }
    verdict.figure("bodies compared", compared);
    Ok(verdict)
}

fn differs<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}
