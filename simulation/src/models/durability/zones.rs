//! Failures that come together: a zone goes down, and some of its nodes do not come back.

use std::collections::BTreeMap;

use super::markov::Chain;
use super::scheme::{Hazard, Scheme, YEAR_HOURS};
use crate::entropy::Seed;
use crate::models::draws::Draws;
use crate::models::figures::{Estimate, choose};

/// How zones fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shocks {
    /// How often a zone goes down, per year.
    pub per_year: f64,
    /// The part of its nodes that do not come back.
    pub lost: f64,
}

/// How many fragments lie in each of three zones: what placement gives where zones are alike.
#[must_use]
pub(super) fn in_three_zones(scheme: Scheme) -> [usize; 3] {
    [0, 1, 2].map(|zone| (scheme.fragments + 2 - zone) / 3)
}

/// Losses of a stripe per year, exactly, where nodes fail alone and zones together. What a zone's
/// outage took is rebuilt as fast as anything else.
#[must_use]
pub(super) fn losses_per_year(scheme: Scheme, hazard: Hazard, shocks: Shocks) -> f64 {
    let held = in_three_zones(scheme);
    let states = states(held, scheme.tolerated);
    let place = |missing: [usize; 3]| states.get(&missing).copied().unwrap_or(states.len());
    let mut chain = Chain::new(states.len());
    for (missing, from) in &states {
        for zone in 0..3 {
            let whole = held[zone] - missing[zone];
            let with = |change: &dyn Fn(usize) -> usize| {
                let mut after = *missing;
                after[zone] = change(after[zone]);
                place(after)
            };
            chain.add(*from, with(&|m| m + 1), whole as f64 * hazard.failures_per_hour());
            if missing[zone] > 0 {
                let rate = missing[zone] as f64 / hazard.repair_hours;
                chain.add(*from, with(&|m| m - 1), rate);
            }
            for lost in 1..=whole {
                let probability = choose(whole, lost)
                    * shocks.lost.powi(lost as i32)
                    * (1.0 - shocks.lost).powi((whole - lost) as i32);
                let rate = shocks.per_year / YEAR_HOURS * probability;
                chain.add(*from, with(&|m| m + lost), rate);
            }
        }
    }
    YEAR_HOURS / chain.mean_time_to_loss()
}

/// How many fragments each zone misses, for all that may be missing; nothing is missing in the
/// first.
fn states(held: [usize; 3], tolerated: usize) -> BTreeMap<[usize; 3], usize> {
    let mut states = BTreeMap::new();
    for a in 0..=held[0] {
        for b in 0..=held[1] {
            for c in 0..=held[2] {
                if a + b + c <= tolerated {
                    let place = states.len();
                    states.insert([a, b, c], place);
                }
            }
        }
    }
    states
}

/// The same, drawn.
#[must_use]
pub(super) fn drawn(
    scheme: Scheme,
    hazard: Hazard,
    shocks: Shocks,
    years: u32,
    seed: Seed,
) -> Estimate {
    let span = f64::from(years.div_ceil(20));
    let batch = |number: u64| {
        let mut draws = Draws::new(seed.with(number));
        f64::from(drawn_losses(scheme, hazard, shocks, span * YEAR_HOURS, &mut draws)) / span
    };
    Estimate::of(&(0..20).map(batch).collect::<Vec<f64>>())
}

fn drawn_losses(
    scheme: Scheme,
    hazard: Hazard,
    shocks: Shocks,
    hours: f64,
    draws: &mut Draws,
) -> u32 {
    let held = in_three_zones(scheme);
    let mut missing = [0_usize; 3];
    let (mut time, mut losses) = (0.0, 0);
    loop {
        let gone: usize = missing.iter().sum();
        let failing = (scheme.fragments - gone) as f64 * hazard.failures_per_hour();
        let repairing = gone as f64 / hazard.repair_hours;
        let shaking = 3.0 * shocks.per_year / YEAR_HOURS;
        let any = failing + repairing + shaking;
        time += draws.wait(any);
        if time > hours {
            return losses;
        }
        let what = draws.unit() * any;
        if what < failing {
            missing[pick(draws, [0, 1, 2].map(|zone| held[zone] - missing[zone]))] += 1;
        } else if what < failing + repairing {
            missing[pick(draws, missing)] -= 1;
        } else {
            let zone = draws.below(3);
            let lost = (missing[zone]..held[zone]).filter(|_| draws.happens(shocks.lost)).count();
            missing[zone] += lost;
        }
        if missing.iter().sum::<usize>() > scheme.tolerated {
            losses += 1;
            missing = [0; 3];
        }
    }
}

/// A zone, as probable as its number says.
fn pick(draws: &mut Draws, counts: [usize; 3]) -> usize {
    let at = draws.below(counts.iter().sum::<usize>().max(1));
    if at < counts[0] {
        0
    } else if at < counts[0] + counts[1] {
        1
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::{Shocks, drawn, in_three_zones, losses_per_year};
    use crate::entropy::Seed;
    use crate::models::durability::{Hazard, SCHEMES};

    const HAZARD: Hazard = Hazard { afr: 0.02, repair_hours: 24.0 };

    #[test]
    fn without_shocks_zones_make_no_difference() {
        for scheme in SCHEMES {
            let quiet = Shocks { per_year: 0.1, lost: 0.0 };

            let ratio = losses_per_year(scheme, HAZARD, quiet) / scheme.losses_per_year(HAZARD);

            assert!((ratio - 1.0).abs() < 1e-9, "{}: {ratio}", scheme.name);
        }
    }

    #[test]
    fn a_drawn_stripe_is_lost_as_often_as_the_chain_says() {
        let hazard = Hazard { afr: 0.9, repair_hours: 200.0 };
        let quiet = Shocks { per_year: 0.0, lost: 0.0 };
        for scheme in SCHEMES {
            let drawn = drawn(scheme, hazard, quiet, 40_000, Seed(1).of(scheme.name));
            let exact = scheme.losses_per_year(hazard);

            assert!(drawn.errors_from(exact) < 4.0, "{}: {drawn:?} and {exact}", scheme.name);
            assert!(drawn.within < 0.15 * exact, "{}: {drawn:?} says nothing", scheme.name);
        }
    }

    #[test]
    fn drawn_shocks_lose_as_often_as_the_chain_says() {
        let hazard = Hazard { afr: 0.8, repair_hours: 150.0 };
        let shocks = Shocks { per_year: 1.0, lost: 0.3 };
        for scheme in SCHEMES {
            let drawn = drawn(scheme, hazard, shocks, 20_000, Seed(2).of(scheme.name));
            let exact = losses_per_year(scheme, hazard, shocks);

            assert!(drawn.errors_from(exact) < 4.0, "{}: {drawn:?} and {exact}", scheme.name);
        }
    }

    #[test]
    fn ten_and_four_does_not_outlive_one_of_three_zones() {
        assert_eq!(in_three_zones(SCHEMES[3]), [5, 5, 4]);
        let gone = Shocks { per_year: 0.1, lost: 1.0 };

        // Two of three zones hold five fragments, one more than may be lost.
        let losses = losses_per_year(SCHEMES[3], HAZARD, gone);

        assert!((losses - 0.2).abs() < 0.02, "{losses}");
        assert!(losses_per_year(SCHEMES[2], HAZARD, gone) < 0.01);
    }
}
