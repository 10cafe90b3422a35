//! A fault as a report shows it: whom it struck, whether it took effect, and who was served
//! meanwhile.

use std::collections::BTreeSet;

use serde_json::Value;

use super::series::Counts;
use crate::checker::call::Call;
use crate::checker::progress::Fault;

/// Whether a fault did anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// It was seen to.
    Effect,
    /// It was seen not to: who survived it is no wiser.
    Nothing,
    /// The history does not tell.
    NotTold,
}

/// Nodes that heard one another while a fault lasted, and how calls through them fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The nodes.
    pub nodes: Vec<usize>,
    /// The calls that began meanwhile.
    pub counts: Counts,
}

/// A fault.
#[derive(Clone, Debug)]
pub struct Strike {
    /// Its number in the report, from 1.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Whom it strikes; all if none are named.
    pub nodes: Vec<usize>,
    /// When it begins, on the history's clock.
    pub begins: u64,
    /// When it ends; nothing if that is not told.
    pub ends: Option<u64>,
    /// What else was said of it.
    pub about: String,
    /// Whether it did anything.
    pub took: Took,
    /// What it did.
    pub effect: String,
    /// Who could hear whom, if not all could hear all.
    pub sides: Vec<Side>,
}

impl Strike {
    /// A fault among these calls.
    #[must_use]
    pub fn of(number: usize, fault: &Fault, calls: &[Call<'_>]) -> Self {
        let named = nodes_in(fault.about.get("nodes"));
        let nodes = if named.is_empty() { fault.node.into_iter().collect() } else { named };
        let until = fault.ends.unwrap_or(u64::MAX);
        let meanwhile = |call: &&Call<'_>| (fault.begins..=until).contains(&call.begin.time);
        let calls: Vec<&Call<'_>> = calls.iter().filter(meanwhile).collect();
        let known: BTreeSet<usize> = calls.iter().filter_map(|call| call.begin.node).collect();
        let sides = sides(&fault.about, &known).into_iter().map(|nodes| {
            let mut counts = Counts::default();
            for call in &calls {
                if call.begin.node.is_some_and(|node| nodes.contains(&node)) {
                    counts.count(call);
                }
            }
            Side { nodes, counts }
        });
        let took = match fault.came.get("took_effect").and_then(Value::as_bool) {
            Some(true) => Took::Effect,
            Some(false) => Took::Nothing,
            None => Took::NotTold,
        };
        Self {
            number,
            name: fault.name.clone(),
            nodes,
            begins: fault.begins,
            ends: fault.ends,
            about: described(&fault.about),
            took,
            effect: fault.came.get("effect").map(described).unwrap_or_default(),
            sides: sides.collect(),
        }
    }

    /// Whether it strikes this node.
    #[must_use]
    pub fn strikes(&self, node: usize) -> bool {
        self.nodes.is_empty() || self.nodes.contains(&node)
    }

    /// Whether it took effect, in words.
    #[must_use]
    pub const fn took_told(&self) -> &'static str {
        match self.took {
            Took::Effect => "took effect",
            Took::Nothing => "did NOTHING",
            Took::NotTold => "not told",
        }
    }

    /// What it struck, in words.
    #[must_use]
    pub fn struck(&self) -> String {
        if self.nodes.is_empty() { "all".to_owned() } else { listed(&self.nodes) }
    }
}

/// Nodes in words.
#[must_use]
pub fn listed(nodes: &[usize]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| super::series::name(*node)).collect();
    names.join(" ")
}

/// What a nemesis said, without what is told elsewhere.
fn described(about: &Value) -> String {
    let Value::Object(fields) = about else { return String::new() };
    let shown = fields.iter().filter_map(|(name, value)| match (name.as_str(), value) {
        ("phase" | "nodes" | "sides" | "took_effect" | "effect", _) | (_, Value::Null) => None,
        ("links", Value::Array(links)) => Some(format!("{} links", links.len())),
        (name, Value::String(text)) => Some(format!("{name} {text}")),
        (name, value) => Some(format!("{name} {value}")),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn node_in(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

fn nodes_in(value: Option<&Value>) -> Vec<usize> {
    let values = value.and_then(Value::as_array);
    values.into_iter().flatten().filter_map(node_in).collect()
}

/// The sides of a split: as they were named, or else as the links that were cut leave them. Two
/// nodes are on one side if each can reach the other, be it through others. Nothing if all are
/// on one.
fn sides(about: &Value, known: &BTreeSet<usize>) -> Vec<Vec<usize>> {
    if let Some(sides) = about.get("sides").and_then(Value::as_array) {
        return sides.iter().map(|side| nodes_in(Some(side))).collect();
    }
    // Bad links carry something, other than cut ones.
    let is_cut = about.get("loss_thousandths").is_none();
    let Some(links) = about.get("links").and_then(Value::as_array).filter(|_| is_cut) else {
        return Vec::new();
    };
    let cut: BTreeSet<(usize, usize)> = links
        .iter()
        .filter_map(|link| match link.as_array().map(Vec::as_slice) {
            Some([from, to]) => Some((node_in(from)?, node_in(to)?)),
            _ => None,
        })
        .collect();
    let nodes: BTreeSet<usize> =
        known.iter().copied().chain(cut.iter().flat_map(|(from, to)| [*from, *to])).collect();
    let mut sides: Vec<Vec<usize>> = Vec::new();
    for node in &nodes {
        let ours = sides.iter_mut().find(|side| {
            side.iter().any(|other| {
                reaches(*node, *other, &nodes, &cut) && reaches(*other, *node, &nodes, &cut)
            })
        });
        match ours {
            Some(side) => side.push(*node),
            None => sides.push(vec![*node]),
        }
    }
    if sides.len() > 1 { sides } else { Vec::new() }
}

fn reaches(
    from: usize,
    to: usize,
    nodes: &BTreeSet<usize>,
    cut: &BTreeSet<(usize, usize)>,
) -> bool {
    let mut reached = BTreeSet::from([from]);
    let mut next = vec![from];
    while let Some(here) = next.pop() {
        for there in nodes.iter().filter(|there| !cut.contains(&(here, **there))) {
            if reached.insert(*there) {
                next.push(*there);
            }
        }
    }
    reached.contains(&to)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::sides;

    #[test]
    fn sides_follow_from_the_links_that_were_cut() {
        let known = BTreeSet::from([1, 2, 3, 4]);
        let halves =
            json!({"links": [[1, 3], [3, 1], [1, 4], [4, 1], [2, 3], [3, 2], [2, 4], [4, 2]]});
        let bridge = json!({"links": [[1, 3], [3, 1], [1, 4], [4, 1]]});
        let deaf = json!({"links": [[2, 1], [3, 1], [4, 1]]});
        let bad = json!({"links": [[1, 2], [2, 1]], "loss_thousandths": 300});

        assert_eq!(sides(&halves, &known), [vec![1, 2], vec![3, 4]]);
        assert!(sides(&bridge, &known).is_empty());
        assert_eq!(sides(&deaf, &known), [vec![1], vec![2, 3, 4]]);
        assert!(sides(&bad, &BTreeSet::from([1, 2])).is_empty());
        assert_eq!(sides(&json!({"sides": [[1], [2, 3]]}), &known), [vec![1], vec![2, 3]]);
    }
}
