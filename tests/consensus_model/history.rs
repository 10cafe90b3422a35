//! Whether what clients were told of one register can have happened one after the other.
//!
//! A search in the manner of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993),
//! small enough to run in every state of the model.

/// What an operation does to the register; 0 is a key without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Does {
    Read,
    Write(u8),
    Swap { from: u8, to: u8 },
}

/// What is known of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    /// It took effect.
    Applied,
    /// It saw this: a read, or a condition that failed.
    Saw(u8),
    /// It may take effect now, later or never.
    Open,
    /// It takes no effect.
    Nothing,
}

/// One operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    pub(crate) does: Does,
    pub(crate) told: Told,
    /// The operations, by their place, that were over before this one began.
    pub(crate) after: u16,
}

/// Whether some order explains everything that was told.
pub(crate) fn is_linearizable(history: &[Event]) -> bool {
    let must = |event: &Event| matches!(event.told, Told::Applied | Told::Saw(_));
    let goal = history.iter().enumerate().filter(|(_, event)| must(event));
    let goal = goal.fold(0, |mask, (place, _)| mask | 1 << place);
    explain(history, goal, 0, 0)
}

fn explain(history: &[Event], goal: u16, done: u16, register: u8) -> bool {
    if done & goal == goal {
        return true;
    }
    for (place, event) in history.iter().enumerate() {
        let free = done & (1 << place) == 0 && event.after & goal & !done == 0;
        let next = if free { step(*event, register) } else { None };
        if next.is_some_and(|next| explain(history, goal, done | 1 << place, next)) {
            return true;
        }
    }
    false
}

/// The register after the event, if the event can happen now.
fn step(event: Event, register: u8) -> Option<u8> {
    match (event.told, event.does) {
        (Told::Nothing, _) | (Told::Open, Does::Read) => None,
        (Told::Saw(_), Does::Swap { from, .. }) if register == from => None,
        (Told::Saw(saw), _) => (saw == register).then_some(register),
        (Told::Applied | Told::Open, Does::Write(to)) => Some(to),
        (Told::Applied | Told::Open, Does::Swap { from, to }) => (register == from).then_some(to),
        (Told::Applied, Does::Read) => None,
    }
}

#[cfg(test)]
mod tests {
    use stateright::semantics::register::{Register, RegisterOp, RegisterRet};
    use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

    use super::{Does, Event, Told, is_linearizable};

    const fn event(does: Does, told: Told, after: u16) -> Event {
        Event { does, told, after }
    }

    #[test]
    fn a_value_that_comes_back_after_a_swap_is_found() {
        let put = event(Does::Write(1), Told::Open, 0);
        let swap = event(Does::Swap { from: 1, to: 2 }, Told::Applied, 0);
        let read = |saw| event(Does::Read, Told::Saw(saw), 0b10);

        assert!(is_linearizable(&[put, swap, read(2)]));
        assert!(!is_linearizable(&[put, swap, read(1)]), "the put took effect twice");
    }

    #[test]
    fn what_was_told_as_nothing_must_not_be_seen() {
        let put = event(Does::Write(1), Told::Nothing, 0);

        assert!(!is_linearizable(&[put, event(Does::Read, Told::Saw(1), 1)]));
        assert!(is_linearizable(&[put, event(Does::Read, Told::Saw(0), 1)]));
    }

    /// Every history of two clients with two operations each, in every interleaving, judged by
    /// stateright's own tester too.
    #[test]
    fn another_checker_agrees_on_every_small_history() {
        let mut judged = [0_u32; 2];
        let schedules = (0_u8..=255).filter(|schedule| schedule.count_ones() == 4);
        for (schedule, kinds) in schedules.flat_map(|s| (0..256).map(move |kinds| (s, kinds))) {
            let mut history = Vec::new();
            let mut tester = LinearizabilityTester::new(Register(0_u8));
            let (mut over, mut steps) = (0, [0_usize; 2]);
            for turn in 0..8 {
                let client = usize::from(schedule >> turn & 1);
                let place = client * 2 + steps[client] / 2;
                let (op, ret, does, told) = match kinds >> (place * 2) & 3 {
                    0 => write(1),
                    1 => write(2),
                    2 => saw(0),
                    _ => saw(1),
                };
                if steps[client].is_multiple_of(2) {
                    history.push((place, event(does, told, over)));
                    tester.on_invoke(client, op).unwrap();
                } else {
                    over |= 1 << place;
                    // After its first contradiction the tester only says that there was one.
                    drop(tester.on_return(client, ret));
                }
                steps[client] += 1;
            }
            history.sort_by_key(|(place, _)| *place);
            let history: Vec<_> = history.into_iter().map(|(_, event)| event).collect();

            let own = is_linearizable(&history);

            assert_eq!(own, tester.is_consistent(), "{history:?}");
            judged[usize::from(own)] += 1;
        }
        assert!(judged.iter().all(|count| *count > 1_000), "{judged:?}");
    }

    type Kind = (RegisterOp<u8>, RegisterRet<u8>, Does, Told);

    fn write(to: u8) -> Kind {
        (RegisterOp::Write(to), RegisterRet::WriteOk, Does::Write(to), Told::Applied)
    }

    fn saw(value: u8) -> Kind {
        (RegisterOp::Read, RegisterRet::ReadOk(value), Does::Read, Told::Saw(value))
    }
}
