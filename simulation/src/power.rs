//! The power of one simulated machine: it can be cut at any step that its storage takes.

use std::sync::Arc;

use parking_lot::Mutex;

/// A machine's power. Clones are one machine.
#[derive(Clone, Default)]
pub struct Power {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    steps_left: Option<u64>,
    cut_at: Option<&'static str>,
    /// The process died, and power stayed.
    killed: bool,
    steps: u64,
}

/// What a step finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is done.
    Done,
    /// Power goes out in the middle of it: what it does may or may not survive.
    Interrupted,
    /// Power is out: it does nothing.
    Off,
}

impl Power {
    /// Power that stays.
    #[must_use]
    pub fn steady() -> Self {
        Self::default()
    }

    /// Power that goes out in the middle of step `steps` (from 0).
    #[must_use]
    pub fn cut_after(steps: u64) -> Self {
        let power = Self::default();
        power.state.lock().steps_left = Some(steps);
        power
    }

    /// If it is on, it stays on from now.
    pub fn hold(&self) {
        self.state.lock().steps_left = None;
    }

    /// The machine takes the step `name`.
    #[must_use]
    pub fn step(&self, name: &'static str) -> Step {
        let mut state = self.state.lock();
        if state.cut_at.is_some() {
            return Step::Off;
        }
        state.steps += 1;
        match &mut state.steps_left {
            None => Step::Done,
            Some(0) => {
                state.cut_at = Some(name);
                Step::Interrupted
            }
            Some(left) => {
                *left -= 1;
                Step::Done
            }
        }
    }

    /// Power goes out now.
    pub fn cut(&self, at: &'static str) {
        self.state.lock().cut_at.get_or_insert(at);
    }

    /// The process dies now: nothing that it does from here on reaches the disk.
    pub fn kill(&self, at: &'static str) {
        let mut state = self.state.lock();
        if state.cut_at.is_none() {
            state.cut_at = Some(at);
            state.killed = true;
        }
    }

    /// Whether power went out by itself, so that what was not synced is lost.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        let state = self.state.lock();
        state.cut_at.is_some() && !state.killed
    }

    /// Whether it is out.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state.lock().cut_at.is_some()
    }

    /// The step at which it went out.
    #[must_use]
    pub fn cut_at(&self) -> Option<&'static str> {
        self.state.lock().cut_at
    }
}
