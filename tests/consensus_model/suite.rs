//! The plans that are run, and which planted fault each of them finds.

use quorate::consensus::{Acceptor, Outcome};

use crate::plan::{
    Mutation, Plan, Sight, Transfer, blind, create, delete, granted, identity, put, read, repeated,
    swap, version,
};
use crate::world::Node;

/// Every plan; without a mutation none of them may break anything.
pub(crate) fn plans() -> Vec<Plan> {
    let mut plans = simple();
    plans.extend(tried_again());
    plans.extend(granted_and_purged());
    plans.extend(layout_changes());
    plans.extend(rebuilt());
    plans.extend(versioned_and_legacy());
    for plan in &mut plans {
        plan.sometimes = sometimes(plan.name);
    }
    plans
}

/// What must be seen in a plan, or it is about nothing.
fn sometimes(name: &str) -> Vec<Sight> {
    match name {
        "blind put, create" => vec![("the create fails", |_, world| {
            matches!(world.told(1), Some((Outcome::Mismatch(_), _)))
        })],
        "blind put tried again, swap" => vec![
            ("the put takes effect with its second try", |_, world| {
                world.told(0) == Some((&Outcome::Applied, 2))
            }),
            ("nobody took the put in, and it is told so", |_, world| {
                matches!(world.told(0), Some((Outcome::NotBegun, _)))
            }),
            ("the put's first try was swapped, and it knows", |_, world| {
                world.told(0) == Some((&Outcome::Applied, 2))
                    && world.told(1) == Some((&Outcome::Applied, 1))
            }),
        ],
        "create tried again, swap" => vec![("the create lost, and it knows", |_, world| {
            world.told(0) == Some((&Outcome::NotBegun, 2))
        })],
        "two versions" => vec![("both are there", |_, world| {
            let applied = |op| world.told(op).is_some_and(|told| *told.0 == Outcome::Applied);
            applied(0) && applied(1)
        })],
        "grant, put in between, swap" => vec![("the granted swap takes effect", |_, world| {
            world.told(2) == Some((&Outcome::Applied, 1))
        })],
        "purge, put, delete" => vec![("the delete is erased", |_, world| {
            let erased = |node: &Node| node.acceptor == Acceptor::default();
            world.told(1) == Some((&Outcome::Applied, 1)) && world.nodes.iter().all(erased)
        })],
        "layout change by rounds, put" | "layout change by copies, put" => vec![
            ("the old owners take the put", |_, world| {
                world.told(0).is_some() && world.electorate_of(0) == Some(1)
            }),
            ("both take the put", |_, world| {
                world.told(0).is_some() && world.electorate_of(0) == Some(2)
            }),
            ("the new owners take the put", |_, world| {
                world.told(0).is_some() && world.electorate_of(0) == Some(3)
            }),
        ],
        _ => vec![],
    }
}

/// One try of each operation.
fn simple() -> Vec<Plan> {
    let plan = Plan::new;
    vec![
        plan("one blind put", &[blind(1)]),
        plan("two blind puts", &[blind(1).at((1, 2)), blind(2)]),
        plan("two creates", &[create(1).at((1, 2)), create(2)]),
        plan(
            "two creates on two nodes",
            &[create(1).at((2, 2)).reaching(0b011), create(2).reaching(0b011)],
        ),
        plan("blind put, read", &[blind(1), read()]),
        plan("blind put, create", &[blind(1).at((1, 2)), create(2)]),
        plan("blind put, swap", &[blind(1).at((1, 2)), swap(1, 2)]),
        plan("put, then swap", &[put(1), swap(1, 2).after(0)]),
        Plan {
            replays: 1,
            time_max: 2,
            ..plan(
                "anti-entropy, blind put, create, read",
                &[
                    blind(1).reaching(0b001),
                    create(2).at((2, 2)).reaching(0b110),
                    read().reaching(0b011),
                ],
            )
        },
    ]
}

/// Writes that are tried again (R1 to R4).
fn tried_again() -> Vec<Plan> {
    let plan = Plan::new;
    vec![
        plan("blind put tried again, swap", &[blind(1).tried_twice(), swap(1, 2)]),
        plan(
            "blind put tried again, swap, blind put",
            &[
                blind(1).tried_twice(),
                swap(1, 2).reaching(0b011),
                blind(3).at((2, 2)).after(1).reaching(0b110),
            ],
        ),
        Plan {
            trail: 0,
            ..plan(
                "blind put cut short, read, blind put, short memory",
                &[
                    blind(1).cut_short().reaching(0b011),
                    read().reaching(0b011),
                    blind(2).at((2, 2)).after(1).reaching(0b011),
                ],
            )
        },
        Plan {
            replays: 1,
            ..plan(
                "blind put cut short, anti-entropy, read, blind put",
                &[
                    blind(1).cut_short().reaching(0b101),
                    read().reaching(0b011),
                    blind(2).at((2, 2)).after(1).reaching(0b110),
                ],
            )
        },
        Plan {
            duplicates: true,
            time_max: 2,
            ..plan(
                "blind put tried again, swap, duplicates",
                &[blind(1).tried_twice(), swap(1, 2).reaching(0b011)],
            )
        },
        plan("create tried again, swap", &[create(1).tried_twice(), swap(1, 2)]),
    ]
}

/// Promises that come with acceptances (rule 8, R6), and purges (rule 11, R9).
fn granted_and_purged() -> Vec<Plan> {
    let plan = Plan::new;
    vec![
        Plan {
            grants: Some(2),
            ..plan(
                "grant, put in between, swap",
                &[put(1), put(2).at((2, 2)), granted(swap(1, 3), 0)],
            )
        },
        Plan {
            grants: Some(0),
            ..plan(
                "grant, put later, swap that fails",
                &[put(1), put(2).at((2, 2)), granted(swap(7, 3), 0)],
            )
        },
        Plan { floor: Some(2), ..plan("purge, put, delete", &[blind(1), delete().at((2, 2))]) },
    ]
}

/// From nodes 1, 2, 3 to nodes 2, 3, 4 (rule 12).
fn layout_changes() -> Vec<Plan> {
    let plan = Plan::new;
    vec![
        Plan {
            change: Some(Transfer::Round(1)),
            ..plan("layout change by rounds, put", &[blind(1).at((2, 2)), identity()])
        },
        Plan { change: Some(Transfer::Copy), ..plan("layout change by copies, put", &[blind(1)]) },
        Plan {
            change: Some(Transfer::Round(0)),
            ..plan(
                "layout change by rounds, put, read of old owners",
                &[
                    identity(),
                    blind(1).at((2, 2)).after(0).reaching(0b1100),
                    read().after(1).reaching(0b0011),
                ],
            )
        },
        Plan {
            change: Some(Transfer::Round(1)),
            grants: Some(2),
            time_max: 4,
            ..plan(
                "layout change by rounds, grant, put, swap",
                &[
                    put(1).reaching(0b0011),
                    identity().at((2, 4)).after(0),
                    put(2).at((2, 2)).after(1).reaching(0b1100).tried_twice(),
                    granted(swap(1, 3), 0).after(2).reaching(0b0110),
                ],
            )
        },
        Plan {
            change: Some(Transfer::Copy),
            grants: Some(2),
            ..plan(
                "layout change by copies, grant, put, swap",
                &[
                    put(1).reaching(0b0011),
                    put(2).at((2, 2)).after(0).reaching(0b1100),
                    granted(swap(1, 3), 0).after(1).reaching(0b0110),
                ],
            )
        },
    ]
}

/// A node loses its disk (rule 9), and operations that somebody else finishes (rule 7).
fn rebuilt() -> Vec<Plan> {
    let plan = Plan::new;
    vec![
        Plan {
            wiped: true,
            ..plan(
                "a wiped node, blind put, read",
                &[blind(1).reaching(0b011), read().reaching(0b101)],
            )
        },
        Plan {
            wiped: true,
            ..plan(
                "a wiped node, put, blind put",
                &[put(1).at((3, 3)).reaching(0b101), blind(2).at((2, 2)).reaching(0b011)],
            )
        },
        Plan {
            wiped: true,
            wiped_after: Some(2),
            floor: Some(2),
            ..plan(
                "put, read, delete, purge, a wiped node",
                &[blind(1), read().after(0).reaching(0b110), delete().at((2, 2)).after(1)],
            )
        },
        plan(
            "a put that another finishes, swap",
            &[
                put(1).reaching(0b011),
                repeated(put(1)).at((2, 2)).reaching(0b110),
                swap(1, 2).at((3, 3)).reaching(0b101),
            ],
        ),
        plan(
            "a create that another finishes, swap",
            &[
                create(1).reaching(0b011),
                repeated(create(1)).at((2, 2)).reaching(0b110),
                swap(1, 2).at((3, 3)).reaching(0b101),
            ],
        ),
        plan(
            "read, blind put, a put that another finishes",
            &[
                blind(1).reaching(0b011),
                repeated(put(1)).at((3, 3)).after(3),
                read().reaching(0b011),
                blind(3).at((2, 2)).after(2).reaching(0b110),
            ],
        ),
        Plan {
            wiped: true,
            wiped_after: Some(3),
            ..plan(
                "read, blind put, a wiped node, a put that another finishes",
                &[
                    blind(1).reaching(0b011),
                    repeated(put(1)).at((3, 3)).after(3).reaching(0b101),
                    read().reaching(0b011),
                    blind(3).at((2, 2)).after(2).reaching(0b110),
                ],
            )
        },
    ]
}

/// Heads that keep the version before (R7), and keys from before their bucket was strong
/// (rule 13).
fn versioned_and_legacy() -> Vec<Plan> {
    let plan = Plan::new;
    vec![
        Plan {
            versioned: true,
            ..plan(
                "two versions",
                &[version(1).at((1, 2)).reaching(0b011), version(2).at((1, 2)).reaching(0b101)],
            )
        },
        Plan {
            versioned: true,
            ..plan(
                "three versions",
                &[
                    version(1).reaching(0b011),
                    version(2).at((2, 2)).reaching(0b101),
                    version(3).at((2, 2)).reaching(0b110),
                ],
            )
        },
        Plan {
            legacy: true,
            ..plan("a key from before, blind put, read", &[put(1), blind(2).at((2, 2)), read()])
        },
        Plan {
            legacy: true,
            ..plan("a key from before, swap, create", &[put(1), swap(1, 2).at((2, 2)), create(3)])
        },
    ]
}

/// Each planted fault, and the plan that finds it.
pub(crate) const MUTATIONS: &[(Mutation, &str)] = &[
    (Mutation::BallotComesTwice, "two blind puts"),
    (Mutation::PromiseGoesBack, "two creates"),
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
    (Mutation::FullAgainUnlessInHighest, "blind put tried again, swap, blind put"),
    (Mutation::AdoptionOverlooked, "blind put tried again, swap, blind put"),
    (Mutation::DroppedTrailDenied, "blind put cut short, read, blind put, short memory"),
    (Mutation::PresentDenied, "blind put cut short, anti-entropy, read, blind put"),
    (Mutation::PastDenied, "read, blind put, a put that another finishes"),
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
    (Mutation::PromisesNotCopied, "layout change by copies, grant, put, swap"),
    (Mutation::WipedVotes, "a wiped node, blind put, read"),
    (Mutation::RebuiltByFence, "a wiped node, put, blind put"),
    (Mutation::RebuiltTooSoon, "a wiped node, blind put, read"),
    (Mutation::RebuiltFromOne, "a wiped node, blind put, read"),
    (Mutation::RebuiltWithoutFloor, "put, read, delete, purge, a wiped node"),
    (Mutation::FenceKeepsOutMerge, "put, read, delete, purge, a wiped node"),
    (
        Mutation::EvidenceOfAnotherElectorate,
        "read, blind put, a wiped node, a put that another finishes",
    ),
    (Mutation::EarlierBallotsForgotten, "read, blind put, a put that another finishes"),
    (Mutation::VersionBuiltOnMinority, "two versions"),
    (Mutation::EraOverlooked, "a key from before, blind put, read"),
    (Mutation::SilenceTakenForUnsent, "one blind put"),
    (Mutation::DeniedUnburied, "create tried again, swap"),
    (Mutation::FastReadOfOldOwners, "layout change by rounds, put, read of old owners"),
];

/// Longer plans for whoever has the time.
pub(crate) fn larger_plans() -> Vec<Plan> {
    let plan = Plan::new;
    vec![
        plan(
            "two blind puts cut short, swap",
            &[blind(1).cut_short().at((1, 2)), blind(2).cut_short(), swap(1, 3)],
        ),
        plan(
            "blind put cut short, swap, blind put, read",
            &[blind(1).cut_short(), swap(1, 2).at((1, 2)), blind(3).at((1, 2)), read()],
        ),
        Plan {
            replays: 2,
            ..plan("blind put cut short, swap, anti-entropy", &[blind(1).cut_short(), swap(1, 2)])
        },
        Plan {
            grants: Some(0),
            ..plan(
                "granted swap, swap, blind put",
                &[put(1), granted(swap(1, 2), 0), swap(1, 3).at((1, 2)), blind(4).at((1, 2))],
            )
        },
        Plan {
            floor: Some(2),
            replays: 1,
            ..plan(
                "purge, put, delete, create, anti-entropy",
                &[blind(1), delete().at((2, 2)), create(2).at((2, 3))],
            )
        },
        Plan {
            change: Some(Transfer::Copy),
            ..plan("layout change by copies, put, swap", &[blind(1).at((1, 2)), swap(1, 2)])
        },
        Plan {
            change: Some(Transfer::Round(2)),
            ..plan(
                "layout change by rounds, put, swap",
                &[blind(1).at((1, 2)), swap(1, 2), identity().at((1, 2))],
            )
        },
    ]
}
