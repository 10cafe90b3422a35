//! `mutations`: plants each bug and sees that it is found.
#![expect(clippy::disallowed_methods, reason = "it tells people how long they waited")]

use std::time::Instant;

use clap::Args;
use quorate::env::mutation::Mutation;
use quorate_simulation::mutations::{self, Finder, TABLE, Trial, Verdict};

/// Seeds that are tried when the one in the table does not find a bug any more.
const TRIED: u64 = 5;

#[derive(Args)]
pub(super) struct Arguments {
    /// Only this bug.
    #[arg(long)]
    only: Option<String>,
    /// Look among so many seeds for one that finds each bug, instead of running the table.
    #[arg(long)]
    search: Option<u64>,
    /// Where to look: the first of these seeds.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Where to look: simulated seconds of faults.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Where to look: one scenario instead of all.
    #[arg(long)]
    scenario: Option<String>,
    /// List the bugs and stop.
    #[arg(long)]
    list: bool,
    /// Print the table as it stands in the documentation and stop.
    #[arg(long)]
    table: bool,
}

/// Whether every bug was found.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    if arguments.list {
        for mutation in Mutation::ALL {
            println!("{:<22} {}", mutation.name(), mutation.about());
        }
        return Ok(true);
    }
    if arguments.table {
        print!("{}", mutations::table());
        return Ok(true);
    }
    let only = arguments.only.as_deref().map(mutations::find).transpose()?;
    let chosen = Mutation::ALL.iter().filter(|m| only.is_none_or(|only| only == **m));
    let mut all = true;
    for &mutation in chosen {
        all &= match arguments.search {
            Some(seeds) => search(mutation, seeds, arguments)?,
            None => verify(mutation)?,
        };
    }
    Ok(all)
}

/// Runs a bug with the seed that the table names; if the product has changed so that this seed
/// leads elsewhere now, with the seeds that follow.
fn verify(mutation: Mutation) -> anyhow::Result<bool> {
    let name = mutation.name();
    let Some(entry) = TABLE.iter().find(|entry| entry.mutation == mutation) else {
        println!("{name:<22} NOT IN THE TABLE");
        return Ok(false);
    };
    let trial = match entry.finder {
        Finder::Seed(trial) => trial,
        Finder::Test(test) => {
            println!("{name:<22} found by the test {test}");
            return Ok(true);
        }
    };
    let began = Instant::now();
    for seed in trial.seed..trial.seed + TRIED {
        let verdict = mutations::judge(mutation, Trial { seed, ..trial })?;
        let took = began.elapsed().as_secs_f64();
        let place = format!("{:<8} {seed:>3}", trial.scenario);
        match verdict {
            Verdict::Caught(what) => {
                println!("{name:<22} {place}  {took:>5.1} s  {what}");
                return Ok(true);
            }
            Verdict::Survived => println!("{name:<22} {place}  {took:>5.1} s  not noticed"),
            Verdict::Unclean(what) => {
                println!("{name:<22} {place}  UNCLEAN WITHOUT THE BUG  {what}");
                return Ok(false);
            }
        }
    }
    println!("{name:<22} SURVIVED");
    Ok(false)
}

/// Looks for the first seed that finds a bug.
fn search(mutation: Mutation, seeds: u64, arguments: &Arguments) -> anyhow::Result<bool> {
    let (name, seconds) = (mutation.name(), arguments.seconds);
    for scenario in super::scenarios(arguments.scenario.as_deref())? {
        if scenario.name == "register" {
            // It runs no code of the product.
            continue;
        }
        let began = Instant::now();
        let place = scenario.name;
        for seed in arguments.first..arguments.first + seeds {
            let verdict = mutations::judge(mutation, Trial { scenario: place, seed, seconds })?;
            let took = began.elapsed().as_secs_f64();
            match verdict {
                Verdict::Caught(what) => {
                    println!("{name:<22} {place:<8} seed {seed:>4} {took:>6.1} s  {what}");
                    return Ok(true);
                }
                Verdict::Unclean(what) => {
                    println!("{name:<22} {place:<8} seed {seed:>4} UNCLEAN  {what}");
                }
                Verdict::Survived => {}
            }
        }
        let took = began.elapsed().as_secs_f64();
        println!("{name:<22} {place:<8} survives {seeds} {took:>6.1} s");
    }
    Ok(false)
}
