//! `mutations`: plants each bug and sees that it is found.
#![expect(clippy::disallowed_methods, reason = "it tells people how long they waited")]

use std::time::Instant;

use clap::Args;
use quorate::env::mutation::Mutation;
use quorate_simulation::entropy::Seed;
use quorate_simulation::mutations::{self, Entry, Finder, TABLE, Verdict};

#[derive(Args)]
pub(super) struct Arguments {
    /// Only this bug.
    #[arg(long)]
    only: Option<String>,
    /// Look for the first seed up to this one that finds each bug, instead of running the table.
    #[arg(long)]
    search: Option<u64>,
    /// Where to look: one scenario instead of all.
    #[arg(long)]
    scenario: Option<String>,
    /// List the bugs and stop.
    #[arg(long)]
    list: bool,
}

/// Whether every bug was found.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    if arguments.list {
        for mutation in Mutation::ALL {
            println!("{:<22} {}", mutation.name(), mutation.about());
        }
        return Ok(true);
    }
    let only = arguments.only.as_deref().map(mutations::find).transpose()?;
    let chosen = Mutation::ALL.iter().filter(|m| only.is_none_or(|only| only == **m));
    let mut all = true;
    for &mutation in chosen {
        all &= match arguments.search {
            Some(seeds) => search(mutation, seeds, arguments.scenario.as_deref())?,
            None => verify(mutation)?,
        };
    }
    Ok(all)
}

/// Runs a bug with the seed that the table names.
fn verify(mutation: Mutation) -> anyhow::Result<bool> {
    let Some(entry) = TABLE.iter().find(|entry| entry.mutation == mutation) else {
        println!("{:<22} NOT IN THE TABLE", mutation.name());
        return Ok(false);
    };
    let Entry { invariant, finder: Finder::Seed { scenario, seed }, .. } = *entry else {
        println!("{:<22} NOT FOUND BY ANYTHING", mutation.name());
        return Ok(false);
    };
    let began = Instant::now();
    let verdict = mutations::judge(mutation, mutations::scenario_of(scenario)?, Seed(seed))?;
    let took = began.elapsed().as_secs_f64();
    let (found, what) = match verdict {
        Verdict::Caught(what) => (true, what),
        Verdict::Survived => (false, "SURVIVED".to_owned()),
    };
    println!("{:<22} {invariant}  {scenario} {seed:<4} {took:>5.1} s  {what}", mutation.name());
    Ok(found)
}

/// Looks for the first seed that finds a bug.
fn search(mutation: Mutation, seeds: u64, scenario: Option<&str>) -> anyhow::Result<bool> {
    let mut found = false;
    for scenario in super::scenarios(scenario)? {
        if found || scenario.name == "register" {
            // It runs no code of the product.
            continue;
        }
        let began = Instant::now();
        let mut verdict = Verdict::Survived;
        let mut seed = 0;
        while matches!(verdict, Verdict::Survived) && seed < seeds {
            seed += 1;
            verdict = mutations::judge(mutation, scenario, Seed(seed))?;
        }
        let took = began.elapsed().as_secs_f64();
        let (name, place) = (mutation.name(), scenario.name);
        match verdict {
            Verdict::Survived => println!("{name:<22} {place:<8} survives {seeds} {took:>6.1} s"),
            Verdict::Caught(what) => {
                found = true;
                println!("{name:<22} {place:<8} seed {seed:>4} {took:>6.1} s  {what}");
            }
        }
    }
    Ok(found)
}
