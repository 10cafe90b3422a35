//! Doing what a schedule says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use quorate::env::{Clock, OsClock};

use super::damage::{Damage, flip_bits, measure, truncate};
use super::effect::Effect;
use super::fault::Fault;
use super::schedule::Schedule;
use crate::arena::{Arena, Figures, between};
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

/// A reading of a clock is a proof from here on: those of true clocks stay below.
const OFF_MS: u64 = 100;

/// A fault that has begun.
struct Begun {
    effect: Effect,
    /// What had become of packets on its links.
    packets: Figures,
}

/// What came of a schedule.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// What each fault did.
    pub effects: Vec<Effect>,
    /// The nodes that ended without being asked to, and how.
    pub fallen: Vec<String>,
}

/// What does the faults of a schedule.
pub struct Nemesis<'a> {
    arena: &'a mut Arena,
    history: &'a History,
    clock: Arc<OsClock>,
    held: BTreeMap<usize, Held>,
    begun: BTreeMap<usize, Begun>,
    done: Done,
}

impl<'a> Nemesis<'a> {
    /// A nemesis of this arena.
    #[must_use]
    pub fn new(arena: &'a mut Arena, history: &'a History, clock: Arc<OsClock>) -> Self {
        let (held, begun) = (BTreeMap::new(), BTreeMap::new());
        Self { arena, history, clock, held, begun, done: Done::default() }
    }

    /// Does all faults at their times.
    ///
    /// # Errors
    /// If a fault cannot be done or undone.
    pub async fn run(mut self, schedule: &Schedule) -> anyhow::Result<Done> {
        let began = self.clock.monotonic();
        for (at, event, step) in steps(schedule) {
            self.clock.sleep_until(began + at).await;
            let fault = &schedule.events[event].fault;
            let taken = self.take(event, fault, step).await;
            taken.with_context(|| format!("the fault {fault} failed"))?;
            self.raise_fallen()?;
        }
        Ok(self.done)
    }

    async fn take(&mut self, event: usize, fault: &Fault, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Begin => {
                let (name, node, about) = (fault.name(), fault.node(), fault.detail());
                self.history.fault(&name, Phase::Begin, node, about);
                let packets = self.packets(fault);
                let mut effect = Effect::of(fault);
                self.begin(fault, &mut effect)?;
                self.begun.insert(event, Begun { effect, packets });
            }
            Step::Toggle { cut } => {
                let links = self.links(fault);
                match cut {
                    0 => self.arena.switch().mend(&links),
                    _ => self.arena.switch().cut(&links),
                }
            }
            Step::End => {
                let Some(begun) = self.begun.remove(&event) else { return Ok(()) };
                let mut effect = begun.effect;
                self.observe(fault, begun.packets, &mut effect).await?;
                self.end(fault, &mut effect)?;
                self.history.fault(&fault.name(), Phase::End, fault.node(), effect.detail());
                self.done.effects.push(effect);
            }
        }
        Ok(())
    }

    /// The links that a fault is about.
    fn links(&self, fault: &Fault) -> Vec<(usize, usize)> {
        match fault {
            Fault::Cut { links, .. } | Fault::Links { links, .. } => links.clone(),
            Fault::Flap { node, .. } => between(&[*node], &self.nodes()),
            _ => Vec::new(),
        }
    }

    fn packets(&self, fault: &Fault) -> Figures {
        self.arena.switch().figures_of(&self.links(fault))
    }

    fn begin(&mut self, fault: &Fault, effect: &mut Effect) -> anyhow::Result<()> {
        match fault {
            Fault::Cut { links, .. } => self.arena.switch().cut(links),
            Fault::Links { links, quality, .. } => self.arena.switch().set_quality(links, *quality),
            // Its toggles do it.
            Fault::Flap { .. } => {}
            Fault::Kill { nodes } => effect.count = self.kill(nodes)?,
            Fault::Pause { nodes } => nodes.iter().try_for_each(|node| self.hold_still(*node))?,
            Fault::Power { nodes } => self.power_off(nodes, effect)?,
            Fault::Clock { node, offset_ms, rate_percent } => {
                self.arena.set_clock(*node, *offset_ms, *rate_percent)?;
            }
            Fault::BitFlips { node, flips, seed } => {
                self.kill(&[*node])?;
                note_damage(effect, flip_bits(&self.arena.segments(*node)?, *flips, *seed)?);
                self.start(*node)?;
            }
            Fault::Truncate { node, seed } => {
                self.kill(&[*node])?;
                note_damage(effect, truncate(&self.arena.segments(*node)?, *seed)?);
                self.start(*node)?;
            }
            Fault::FullDisk { node } => {
                self.disk(*node)?.fill()?;
                effect.count += u64::from(self.disk(*node)?.is_full()?);
            }
            Fault::Wipe { node } => {
                self.kill(&[*node])?;
                let (bytes, files) = measure(&self.arena.data(*node)?)?;
                let (segments, _) = measure(&self.arena.segments(*node)?)?;
                self.arena.wipe(*node)?;
                effect.count = bytes;
                effect.note("files", files);
                effect.note("bytes of segments", segments);
            }
        }
        Ok(())
    }

    /// All stop at one moment; what was not synced then is lost.
    fn power_off(&mut self, nodes: &[usize], effect: &mut Effect) -> anyhow::Result<()> {
        for node in nodes {
            self.arena.cluster_mut().pause(*node)?;
        }
        let mut refused = 0;
        for node in nodes {
            refused += u64::from(self.disk(*node)?.power_off()?);
        }
        effect.note("disks that refuse to write", refused);
        self.kill(nodes)?;
        Ok(())
    }

    /// Looks whether a fault took effect, while it lasts.
    async fn observe(
        &mut self,
        fault: &Fault,
        before: Figures,
        effect: &mut Effect,
    ) -> anyhow::Result<()> {
        let packets = self.packets(fault).since(before);
        match fault {
            Fault::Cut { .. } | Fault::Flap { .. } => {
                effect.count = packets.cut;
                effect.note("packets", packets.packets);
            }
            Fault::Links { .. } => {
                effect.count = packets.lost + packets.doubled + packets.held + packets.damaged;
                for (what, count) in [
                    ("packets", packets.packets),
                    ("lost", packets.lost),
                    ("doubled", packets.doubled),
                    ("held", packets.held),
                    ("damaged", packets.damaged),
                ] {
                    effect.note(what, count);
                }
            }
            Fault::Pause { nodes } => {
                for node in nodes {
                    effect.count += u64::from(self.arena.cluster_mut().is_stopped(*node)?);
                }
            }
            Fault::Clock { node, offset_ms, rate_percent } => {
                let readings = self.arena.clock_readings(*node).await;
                let expected = (*rate_percent == 100).then_some(*offset_ms);
                effect.note("readings", readings.clone());
                effect.count = off_by(&readings, expected);
            }
            Fault::FullDisk { node } => {
                effect.count += u64::from(self.disk(*node)?.is_full()?);
            }
            Fault::Kill { .. }
            | Fault::Power { .. }
            | Fault::BitFlips { .. }
            | Fault::Truncate { .. }
            | Fault::Wipe { .. } => {}
        }
        Ok(())
    }

    fn end(&mut self, fault: &Fault, effect: &mut Effect) -> anyhow::Result<()> {
        match fault {
            Fault::Cut { links, .. } => self.arena.switch().mend(links),
            Fault::Links { links, .. } => self.arena.switch().clear_quality(links),
            Fault::Flap { .. } | Fault::BitFlips { .. } | Fault::Truncate { .. } => {}
            Fault::Kill { nodes } => nodes.iter().try_for_each(|node| self.start(*node))?,
            Fault::Pause { nodes } => nodes.iter().try_for_each(|node| self.let_go(*node))?,
            Fault::Power { nodes } => {
                for node in nodes {
                    effect.count += u64::from(self.disk(*node)?.power_on()?);
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

    /// Kills nodes, with nothing but the system calls between the first and the last. How many.
    fn kill(&mut self, nodes: &[usize]) -> anyhow::Result<u64> {
        for node in nodes {
            self.held.entry(*node).or_default().down += 1;
        }
        Ok(self.arena.cluster_mut().kill_several(nodes)? as u64)
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
            self.done.fallen.push(how);
            self.arena.cluster_mut().start_node(node)?;
        }
        Ok(())
    }
}

fn note_damage(effect: &mut Effect, damage: Damage) {
    effect.count = damage.count;
    effect.note("files", damage.files);
    effect.note("bytes of all files", damage.of_bytes);
}

/// How far off a clock is that others read so, if that is what it was set to; a clock that runs
/// too fast or too slow is off by anything.
fn off_by(readings: &[i64], expected_ms: Option<i64>) -> u64 {
    let is_off = |reading: &i64| match expected_ms {
        Some(expected) => reading.abs_diff(expected) <= expected.unsigned_abs() / 2,
        None => reading.unsigned_abs() >= OFF_MS,
    };
    readings.iter().copied().filter(is_off).map(i64::unsigned_abs).max().unwrap_or_default()
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

    use super::{Fault, Schedule, Step, off_by, steps};
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

    #[test]
    fn a_clock_is_off_if_somebody_reads_what_it_was_set_to() {
        assert_eq!(off_by(&[0, 3, -2], Some(-900)), 0);
        assert_eq!(off_by(&[0, -870, -2], Some(-900)), 870);
        assert_eq!(off_by(&[0, 870], Some(-900)), 0);
        assert_eq!(off_by(&[20, -30], None), 0);
        assert_eq!(off_by(&[20, -3_000], None), 3_000);
        assert_eq!(off_by(&[], None), 0);
    }
}
