//! Doing what a schedule says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use quorate::env::{Clock, OsClock};

use super::damage::{flip_bits, truncate};
use super::fault::Fault;
use super::schedule::Schedule;
use crate::arena::{Arena, between};
use crate::history::{History, Phase};

/// How many faults hold a node down, and how many hold it still.
#[derive(Clone, Copy, Default)]
struct Held {
    down: u32,
    still: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Begin,
    /// A flapping node is cut off, or heard again.
    Toggle {
        cut: u8,
    },
    End,
}

/// What does the faults of a schedule.
pub struct Nemesis<'a> {
    arena: &'a mut Arena,
    history: &'a History,
    clock: Arc<OsClock>,
    held: BTreeMap<usize, Held>,
    fallen: Vec<String>,
}

impl<'a> Nemesis<'a> {
    /// A nemesis of this arena.
    #[must_use]
    pub fn new(arena: &'a mut Arena, history: &'a History, clock: Arc<OsClock>) -> Self {
        Self { arena, history, clock, held: BTreeMap::new(), fallen: Vec::new() }
    }

    /// Does all faults at their times. Returns the nodes that ended without being asked to.
    ///
    /// # Errors
    /// If a fault cannot be done or undone.
    pub async fn run(mut self, schedule: &Schedule) -> anyhow::Result<Vec<String>> {
        let began = self.clock.monotonic();
        for (at, event, step) in steps(schedule) {
            self.clock.sleep_until(began + at).await;
            let fault = &schedule.events[event].fault;
            self.take(fault, step).with_context(|| format!("the fault {fault} failed"))?;
            self.raise_fallen()?;
        }
        Ok(self.fallen)
    }

    fn take(&mut self, fault: &Fault, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Begin => {
                let (name, node, about) = (fault.name(), fault.node(), fault.detail());
                self.history.fault(&name, Phase::Begin, node, about);
                self.begin(fault)
            }
            Step::Toggle { cut } => {
                let Fault::Flap { node, .. } = fault else { return Ok(()) };
                let links = between(&[*node], &self.nodes());
                match cut {
                    0 => self.arena.switch().mend(&links),
                    _ => self.arena.switch().cut(&links),
                }
                Ok(())
            }
            Step::End => {
                self.end(fault)?;
                let (name, node) = (fault.name(), fault.node());
                self.history.fault(&name, Phase::End, node, serde_json::Value::Null);
                Ok(())
            }
        }
    }

    fn begin(&mut self, fault: &Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Cut { links, .. } => self.arena.switch().cut(links),
            Fault::Links { links, quality, .. } => self.arena.switch().set_quality(links, *quality),
            // Its toggles do it.
            Fault::Flap { .. } => {}
            Fault::Kill { nodes } => self.kill(nodes)?,
            Fault::Pause { nodes } => nodes.iter().try_for_each(|node| self.hold_still(*node))?,
            Fault::Power { nodes } => {
                // All stop at one moment; what was not synced then is lost.
                for node in nodes {
                    self.arena.cluster_mut().pause(*node)?;
                }
                for node in nodes {
                    self.disk(*node)?.power_off()?;
                }
                self.kill(nodes)?;
            }
            Fault::Clock { node, offset_ms, rate_percent } => {
                self.arena.set_clock(*node, *offset_ms, *rate_percent)?;
            }
            Fault::BitFlips { node, flips, seed } => {
                self.kill(&[*node])?;
                flip_bits(&self.arena.segments(*node)?, *flips, *seed)?;
                self.start(*node)?;
            }
            Fault::Truncate { node, seed } => {
                self.kill(&[*node])?;
                truncate(&self.arena.segments(*node)?, *seed)?;
                self.start(*node)?;
            }
            Fault::FullDisk { node } => self.disk(*node)?.fill()?,
            Fault::Wipe { node } => {
                self.kill(&[*node])?;
                self.arena.wipe(*node)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, fault: &Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Cut { links, .. } => self.arena.switch().mend(links),
            Fault::Links { links, .. } => self.arena.switch().clear_quality(links),
            Fault::Flap { .. } | Fault::BitFlips { .. } | Fault::Truncate { .. } => {}
            Fault::Kill { nodes } => nodes.iter().try_for_each(|node| self.start(*node))?,
            Fault::Pause { nodes } => nodes.iter().try_for_each(|node| self.let_go(*node))?,
            Fault::Power { nodes } => {
                for node in nodes {
                    self.disk(*node)?.power_on()?;
                    self.start(*node)?;
                }
            }
            Fault::Clock { node, .. } => self.arena.set_clock(*node, 0, 100)?,
            Fault::FullDisk { node } => self.disk(*node)?.empty_ballast()?,
            Fault::Wipe { node } => self.start(*node)?,
        }
        Ok(())
    }

    fn nodes(&self) -> Vec<usize> {
        (1..=self.arena.cluster().places().len()).collect()
    }

    fn held(&self, node: usize) -> Held {
        self.held.get(&node).copied().unwrap_or_default()
    }

    fn disk(&self, node: usize) -> anyhow::Result<&crate::arena::Disk> {
        self.arena.disk(node).with_context(|| format!("node {node} has no disk of its own"))
    }

    /// Kills nodes, with nothing but the system calls between the first and the last.
    fn kill(&mut self, nodes: &[usize]) -> anyhow::Result<()> {
        for node in nodes {
            self.held.entry(*node).or_default().down += 1;
        }
        self.arena.cluster_mut().kill_several(nodes)
    }

    /// Starts a node unless another fault holds it down.
    fn start(&mut self, node: usize) -> anyhow::Result<()> {
        let held = self.held.entry(node).or_default();
        held.down = held.down.saturating_sub(1);
        if held.down == 0 { self.arena.cluster_mut().start_node(node) } else { Ok(()) }
    }

    fn hold_still(&mut self, node: usize) -> anyhow::Result<()> {
        self.held.entry(node).or_default().still += 1;
        if self.held(node).down == 0 { self.arena.cluster_mut().pause(node) } else { Ok(()) }
    }

    fn let_go(&mut self, node: usize) -> anyhow::Result<()> {
        let held = self.held.entry(node).or_default();
        held.still = held.still.saturating_sub(1);
        let free = held.still == 0 && held.down == 0;
        if free { self.arena.cluster_mut().resume(node) } else { Ok(()) }
    }

    /// Starts nodes again that ended by themselves, and remembers that they did.
    fn raise_fallen(&mut self) -> anyhow::Result<()> {
        let fallen = self.arena.cluster_mut().take_fallen();
        for (node, how) in fallen {
            self.fallen.push(how);
            self.arena.cluster_mut().start_node(node)?;
        }
        Ok(())
    }
}

fn steps(schedule: &Schedule) -> Vec<(Duration, usize, Step)> {
    let mut steps = Vec::new();
    for (place, event) in schedule.events.iter().enumerate() {
        let end = event.at + event.lasts;
        steps.push((event.at, place, Step::Begin));
        if let Fault::Flap { period, .. } = &event.fault {
            let mut at = event.at;
            while at + *period * 2 <= end {
                steps.push((at, place, Step::Toggle { cut: 1 }));
                steps.push((at + *period, place, Step::Toggle { cut: 0 }));
                at += *period * 2;
            }
        }
        steps.push((end, place, Step::End));
    }
    // Steps of one moment stay in the order in which they were made.
    steps.sort_by_key(|(at, _, _)| *at);
    steps
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Fault, Schedule, Step, steps};
    use crate::nemesis::Event;

    #[test]
    fn a_flapping_node_is_heard_at_the_end_and_each_fault_ends_once() {
        let ms = Duration::from_millis;
        let flap = Fault::Flap { node: 2, period: ms(300) };
        let kill = Fault::Kill { nodes: vec![1] };
        let schedule = Schedule {
            events: vec![
                Event { at: ms(1_000), lasts: ms(2_000), fault: flap },
                Event { at: ms(1_100), lasts: ms(500), fault: kill },
            ],
        };

        let steps = steps(&schedule);

        assert!(steps.is_sorted_by_key(|(at, _, _)| *at));
        let mut cut = 0;
        for (_, event, step) in &steps {
            if let Step::Toggle { cut: now } = step {
                assert_ne!(*now, cut);
                assert_eq!(*event, 0);
                cut = *now;
            }
        }
        assert_eq!(cut, 0);
        let ends = steps.iter().filter(|(_, _, step)| *step == Step::End).count();
        assert_eq!(ends, 2);
        assert_eq!(steps.iter().filter(|(_, event, _)| *event == 0).count(), 8);
    }
}
