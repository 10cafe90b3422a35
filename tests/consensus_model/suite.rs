//! The plans that are run, and which planted fault each of them finds.

use crate::plan::{
    Mutation, Plan, Transfer, blind, create, delete, granted, identity, put, read, swap,
};

/// Every plan; without a mutation none of them may break anything.
pub fn plans() -> Vec<Plan> {
    let plan = Plan::new;
    vec![
        plan("one blind put", &[blind(1)]),
        plan("two blind puts", &[blind(1).at((1, 2)), blind(2)]),
        plan("two creates", &[create(1).at((1, 2)), create(2)]),
        plan("two creates on two nodes", &[
            create(1).at((2, 2)).reaching(0b011),
            create(2).reaching(0b011),
        ]),
        plan("blind put, read", &[blind(1), read()]),
        plan("blind put, create", &[blind(1).at((1, 2)), create(2)]),
        plan("blind put, swap", &[blind(1).at((1, 2)), swap(1, 2)]),
        plan("put, then swap", &[put(1), swap(1, 2).after(0)]),
        plan("blind put tried again, swap", &[blind(1).tried_twice(), swap(1, 2)]),
        plan("blind put cut short, swap, blind put", &[
            blind(1).cut_short(),
            swap(1, 2).reaching(0b011),
            blind(3).at((2, 2)).after(1).reaching(0b110),
        ]),
        Plan {
            trail: 0,
            ..plan("blind put cut short, read, blind put, short memory", &[
                blind(1).cut_short().reaching(0b011),
                read().reaching(0b011),
                blind(2).at((2, 2)).after(1).reaching(0b011),
            ])
        },
        Plan {
            replays: 1,
            ..plan("blind put cut short, anti-entropy, read, blind put", &[
                blind(1).cut_short().reaching(0b101),
                read().reaching(0b011),
                blind(2).at((2, 2)).after(1).reaching(0b110),
            ])
        },
        plan("create tried again, swap", &[create(1).tried_twice(), swap(1, 2)]),
        Plan {
            replays: 1,
            time_max: 2,
            ..plan("anti-entropy, blind put, create, read", &[
                blind(1).reaching(0b001),
                create(2).at((2, 2)).reaching(0b110),
                read().reaching(0b011),
            ])
        },
        Plan {
            grants: Some(2),
            ..plan("grant, put in between, swap", &[
                put(1),
                put(2).at((2, 2)),
                granted(swap(1, 3), 0),
            ])
        },
        Plan {
            grants: Some(0),
            ..plan("grant, put later, swap that fails", &[
                put(1),
                put(2).at((2, 2)),
                granted(swap(7, 3), 0),
            ])
        },
        Plan { floor: Some(2), ..plan("purge, put, delete", &[blind(1), delete().at((2, 2))]) },
        Plan {
            change: Some(Transfer::Round(1)),
            ..plan("layout change by rounds, put", &[blind(1).at((2, 2)), identity()])
        },
        Plan {
            change: Some(Transfer::Copy),
            ..plan("layout change by copies, put", &[blind(1)])
        },
        Plan {
            change: Some(Transfer::Round(0)),
            ..plan("layout change by rounds, put, read of old owners", &[
                identity(),
                blind(1).at((2, 2)).after(0).reaching(0b1100),
                read().after(1).reaching(0b0011),
            ])
        },
        Plan {
            change: Some(Transfer::Copy),
            grants: Some(2),
            ..plan("layout change by copies, grant, put, swap", &[
                put(1).reaching(0b0011),
                put(2).at((2, 2)).after(0).reaching(0b1100),
                granted(swap(1, 3), 0).after(1).reaching(0b0110),
            ])
        },
    ]
}

/// Each planted fault, and the plan that finds it.
pub const MUTATIONS: &[(Mutation, &str)] = &[
    (Mutation::BallotComesTwice, "two blind puts"),
    (Mutation::AcceptIgnoresPromise, "two creates"),
    (Mutation::PromiseNotStored, "two creates on two nodes"),
    (Mutation::AcceptNotStored, "one blind put"),
    (Mutation::ReadShowsWhatIsNotStored, "blind put, read"),
    (Mutation::BuildsOnLeast, "put, then swap"),
    (Mutation::FastReadOfTheGreatest, "blind put, read"),
    (Mutation::OneIsEnough, "one blind put"),
    (Mutation::MismatchFromMinority, "blind put, create"),
    (Mutation::UnknownToldAsNotBegun, "blind put, swap"),
    (Mutation::GrantWithoutItsPromise, "grant, put in between, swap"),
    (Mutation::GrantMismatchUnconfirmed, "grant, put later, swap that fails"),
    (Mutation::ReplayIgnoresPromise, "anti-entropy, blind put, create, read"),
    (Mutation::BlindAgainAfterMajority, "blind put tried again, swap"),
    (Mutation::FullAgainRegardless, "blind put tried again, swap"),
    (Mutation::FullAgainUnlessInHighest, "blind put cut short, swap, blind put"),
    (Mutation::AdoptionOverlooked, "blind put cut short, swap, blind put"),
    (Mutation::DroppedTrailDenied, "blind put cut short, read, blind put, short memory"),
    (Mutation::PresentDenied, "blind put cut short, anti-entropy, read, blind put"),
    (Mutation::ChangeTriedAgain, "create tried again, swap"),
    (Mutation::FloorRaisedAlone, "purge, put, delete"),
    (Mutation::ProofBeforeFence, "purge, put, delete"),
    (Mutation::PurgeWithoutProof, "purge, put, delete"),
    (Mutation::FenceForgotten, "purge, put, delete"),
    (Mutation::OldElectorateServed, "layout change by rounds, put"),
    (Mutation::NewOwnersAloneDecide, "layout change by rounds, put"),
    (Mutation::OldOwnersAloneDecide, "layout change by rounds, put"),
    (Mutation::ChangeBeforeTransfer, "layout change by rounds, put"),
    (Mutation::CopyBeforeFence, "layout change by copies, put"),
    (Mutation::FastReadOfOldOwners, "layout change by rounds, put, read of old owners"),
    (Mutation::GrantOutlivesElectorate, "layout change by copies, grant, put, swap"),
];
