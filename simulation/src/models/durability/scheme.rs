//! Ways to store data with redundancy, and how often they lose it.

use super::markov::Chain;
use crate::models::figures::choose;

/// Hours in a year.
pub const YEAR_HOURS: f64 = 8_766.0;

/// A way to store a piece of data on several nodes: all fragments of it together are a *stripe*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Its name.
    pub name: &'static str,
    /// How many fragments a stripe has, each on a node of its own.
    pub fragments: usize,
    /// How many of them may be lost.
    pub tolerated: usize,
    /// How many are read to make one anew.
    pub reads: usize,
}

/// The schemes of the documentation: what buckets do by default, and erasure codes.
pub const SCHEMES: [Scheme; 4] = [
    Scheme { name: "3 copies", fragments: 3, tolerated: 2, reads: 1 },
    Scheme { name: "RS(4+2)", fragments: 6, tolerated: 2, reads: 4 },
    Scheme { name: "RS(6+3)", fragments: 9, tolerated: 3, reads: 6 },
    Scheme { name: "RS(10+4)", fragments: 14, tolerated: 4, reads: 10 },
];

/// How nodes fail, and how soon what they held is whole again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hazard {
    /// The part of nodes that lose what they hold within a year.
    pub afr: f64,
    /// Hours from a failure until a fragment is made anew, on average: to notice, to decide, to
    /// rebuild.
    pub repair_hours: f64,
}

impl Hazard {
    /// Failures of a node per hour.
    #[must_use]
    pub fn failures_per_hour(self) -> f64 {
        -(1.0 - self.afr).ln() / YEAR_HOURS
    }
}

impl Scheme {
    /// Losses of a stripe per year by the usual approximation: fragments fail alone, repairs are
    /// short against the time between failures, and all lost fragments are rebuilt at once:
    /// `8766 * n! / ((n - m - 1)! * m!) * lambda^(m+1) * R^m`.
    #[must_use]
    pub fn closed_form(&self, hazard: Hazard) -> f64 {
        let (n, m) = (self.fragments, self.tolerated);
        let failures = hazard.failures_per_hour();
        let missing = choose(n, m) * (failures * hazard.repair_hours).powi(m as i32);
        YEAR_HOURS * missing * (n - m) as f64 * failures
    }

    /// The same exactly, from the chain of how many fragments are missing.
    #[must_use]
    pub fn losses_per_year(&self, hazard: Hazard) -> f64 {
        let mut chain = Chain::new(self.tolerated + 1);
        for missing in 0..=self.tolerated {
            let whole = (self.fragments - missing) as f64;
            chain.add(missing, missing + 1, whole * hazard.failures_per_hour());
            if missing > 0 {
                chain.add(missing, missing - 1, missing as f64 / hazard.repair_hours);
            }
        }
        YEAR_HOURS / chain.mean_time_to_loss()
    }

    /// The longest mean repair time in hours at which a stripe is lost at most so often.
    #[must_use]
    pub fn repair_hours_for(&self, afr: f64, losses_per_year: f64) -> f64 {
        let (mut low, mut high) = (1e-6_f64, 1e6_f64);
        for _ in 0..200 {
            let middle = (low * high).sqrt();
            let hazard = Hazard { afr, repair_hours: middle };
            if self.losses_per_year(hazard) < losses_per_year {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// How many nines of durability a rate of losses per year leaves.
#[must_use]
pub fn nines(losses_per_year: f64) -> f64 {
    // The probability of a loss within a year; for small rates the rate itself.
    -(-(-losses_per_year).exp_m1()).log10()
}

#[cfg(test)]
mod tests {
    use super::{Hazard, SCHEMES, nines};

    #[test]
    fn the_exact_chain_agrees_with_the_closed_form_where_repairs_are_short() {
        for scheme in SCHEMES {
            let hazard = Hazard { afr: 0.02, repair_hours: 6.0 };
            let ratio = scheme.losses_per_year(hazard) / scheme.closed_form(hazard);
            assert!((ratio - 1.0).abs() < 1e-3, "{}: {ratio}", scheme.name);

            let hazard = Hazard { afr: 0.9, repair_hours: 200.0 };
            let ratio = scheme.losses_per_year(hazard) / scheme.closed_form(hazard);
            assert!(ratio < 0.95, "{}: {ratio}", scheme.name);
        }
    }

    #[test]
    fn known_values_come_out() {
        // Worked by hand from the closed form: AFR 2 %, repaired within a day on average.
        for (scheme, expected) in SCHEMES.iter().zip([1.86e-10, 3.71e-9, 1.73e-12, 1.91e-15]) {
            let losses = scheme.losses_per_year(Hazard { afr: 0.02, repair_hours: 24.0 });
            assert!((losses / expected - 1.0).abs() < 0.02, "{}: {losses:e}", scheme.name);
        }
    }

    #[test]
    fn four_and_two_is_twenty_times_weaker_than_three_copies() {
        let hazard = Hazard { afr: 0.02, repair_hours: 6.0 };

        let ratio = SCHEMES[1].losses_per_year(hazard) / SCHEMES[0].losses_per_year(hazard);

        assert!((ratio - 20.0).abs() < 0.1, "{ratio}");
    }

    #[test]
    fn repair_times_for_a_goal_reach_just_that_goal() {
        for scheme in SCHEMES {
            let repair_hours = scheme.repair_hours_for(0.02, 1e-11);
            let losses = scheme.losses_per_year(Hazard { afr: 0.02, repair_hours });
            assert!((losses / 1e-11 - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn nines_count_the_nines() {
        assert!((nines(1e-11) - 11.0).abs() < 1e-6);
        assert!(nines(100.0).abs() < 1e-9);
    }
}
