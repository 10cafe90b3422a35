//! What faults did, as far as it can be proven: a fault of which nothing was seen proves nothing
//! of who survived it (pure).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fault::Fault;

/// What one fault did.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Its name in histories.
    pub name: String,
    /// The fault, for people.
    pub fault: String,
    /// What is counted.
    pub what: &'static str,
    /// How much of it; nothing if the fault did nothing.
    pub count: u64,
    /// What else is known.
    pub about: Map<String, Value>,
}

impl Effect {
    /// Nothing yet.
    #[must_use]
    pub fn of(fault: &Fault) -> Self {
        Self {
            name: fault.name(),
            fault: fault.to_string(),
            what: counted(fault),
            count: 0,
            about: Map::new(),
        }
    }

    /// Notes what else is known.
    pub fn note(&mut self, what: &str, value: impl Into<Value>) {
        self.about.insert(what.to_owned(), value.into());
    }

    /// Whether the fault did anything.
    #[must_use]
    pub const fn took(&self) -> bool {
        self.count > 0
    }

    /// As it stands in the history, in the line that ends the fault.
    #[must_use]
    pub fn detail(&self) -> Value {
        let mut effect = self.about.clone();
        effect.insert(self.what.to_owned(), self.count.into());
        json!({ "took_effect": self.took(), "effect": effect })
    }
}

/// What shows that a fault took effect.
const fn counted(fault: &Fault) -> &'static str {
    match fault {
        Fault::Cut { .. } | Fault::Flap { .. } => "packets dropped",
        Fault::Links { .. } => "packets lost, doubled, held or damaged",
        Fault::Kill { .. } => "processes killed",
        Fault::Pause { .. } => "processes stopped",
        Fault::Power { .. } => "disks that lost what was not synced",
        Fault::Clock { .. } => "milliseconds off, as other nodes see it",
        Fault::BitFlips { .. } => "bits flipped",
        Fault::Truncate { .. } => "bytes cut",
        Fault::FullDisk { .. } => "writes refused for want of room",
        Fault::Wipe { .. } => "bytes removed",
    }
}

/// What there is to say of all faults of a run: a line for each kind, and one for each fault that
/// did nothing.
#[must_use]
pub fn tell(effects: &[Effect]) -> Vec<String> {
    let mut kinds: BTreeMap<&str, (&str, usize, usize, u64)> = BTreeMap::new();
    for effect in effects {
        let kind = kinds.entry(&effect.name).or_insert((effect.what, 0, 0, 0));
        kind.1 += usize::from(effect.took());
        kind.2 += 1;
        kind.3 += effect.count;
    }
    let kinds = kinds.into_iter().map(|(name, (what, took, all, count))| {
        format!("fault {name}: {took} of {all} took effect, {count} {what}")
    });
    let idle = effects.iter().filter(|effect| !effect.took());
    kinds.chain(idle.map(|effect| format!("fault that did NOTHING: {}", effect.fault))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Effect, Fault, tell};

    #[test]
    fn a_fault_that_did_nothing_is_named() {
        let mut one = Effect::of(&Fault::Wipe { node: 2 });
        one.count = 40;
        one.note("files", 3);
        let other = Effect::of(&Fault::Wipe { node: 3 });

        let lines = tell(&[one.clone(), other.clone()]);

        assert_eq!(
            lines,
            ["fault wipe: 1 of 2 took effect, 40 bytes removed", "fault that did NOTHING: wipe n3"]
        );
        assert!(one.took() && !other.took());
        assert_eq!(one.detail()["effect"]["bytes removed"], 40);
        assert_eq!(one.detail()["effect"]["files"], 3);
        assert_eq!(other.detail()["took_effect"], false);
    }
}
