//! Latencies, counted in buckets that are 1.6 % wide.

use std::time::Duration;

use serde::Serialize;

/// Buckets per doubling, as a power of two.
const PRECISION_BITS: u32 = 6;
const BUCKETS: usize = 64 * 60;

/// How often each latency occurred, in microseconds. It takes 30 KiB however many there are.
#[derive(Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u64,
    max: u64,
}

/// The figures of a histogram, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Latencies {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

fn bucket_of(micros: u64) -> usize {
    let shift = (63 - (micros | 1).leading_zeros()).saturating_sub(PRECISION_BITS);
    ((u64::from(shift) << PRECISION_BITS) + (micros >> shift)) as usize
}

/// The greatest value that falls into a bucket.
fn top_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> PRECISION_BITS).saturating_sub(1);
    let base = bucket - (shift << PRECISION_BITS);
    ((base + 1) << shift) - 1
}

impl Histogram {
    /// No latencies yet.
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, sum: 0, max: 0 }
    }

    /// Counts one.
    pub(super) fn record(&mut self, latency: Duration) {
        // A day is longer than any request may take.
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(86_400_000_000);
        self.counts[bucket_of(micros)] += 1;
        self.count += 1;
        self.sum += micros;
        self.max = self.max.max(micros);
    }

    /// Adds all of another's.
    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many were counted.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The latency that `part` (0 to 1) of all did not exceed, in microseconds.
    fn quantile(&self, part: f64) -> u64 {
        let rank = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return top_of(bucket).min(self.max);
            }
        }
        self.max
    }

    /// The usual figures.
    pub(super) fn latencies(&self) -> Latencies {
        if self.count == 0 {
            return Latencies::default();
        }
        let millis = |micros: u64| micros as f64 / 1_000.0;
        Latencies {
            mean: millis(self.sum) / self.count as f64,
            p50: millis(self.quantile(0.5)),
            p90: millis(self.quantile(0.9)),
            p99: millis(self.quantile(0.99)),
            p99_9: millis(self.quantile(0.999)),
            max: millis(self.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Histogram, bucket_of, top_of};

    #[test]
    fn quantiles_of_a_thousand_even_latencies() {
        let mut histogram = Histogram::new();
        for millis in 1..=1_000 {
            histogram.record(Duration::from_millis(millis));
        }

        let found = histogram.latencies();

        for (value, wanted) in
            [(found.p50, 500.0), (found.p90, 900.0), (found.p99, 990.0), (found.p99_9, 999.0)]
        {
            assert!((value - wanted).abs() <= wanted * 0.017, "{value} is not {wanted}");
        }
        assert_eq!(found.max, 1_000.0);
        assert_eq!(found.mean, 500.5);
    }

    #[test]
    fn two_workers_count_as_one() {
        let (mut one, mut other) = (Histogram::new(), Histogram::new());
        one.record(Duration::from_micros(10));
        other.record(Duration::from_micros(30));

        one.merge(&other);

        assert_eq!((one.count(), one.quantile(0.5), one.quantile(1.0)), (2, 10, 30));
    }

    #[test]
    fn nothing_measured_is_no_division_by_zero() {
        assert_eq!(Histogram::new().latencies().mean, 0.0);
    }

    proptest! {
        #[test]
        fn a_bucket_is_narrow_and_holds_its_values(micros in 0_u64..86_400_000_001) {
            let top = top_of(bucket_of(micros));

            prop_assert!(top >= micros);
            prop_assert!(top as f64 <= micros as f64 * 1.0157 + 1.0);
            prop_assert_eq!(bucket_of(top), bucket_of(micros));
        }
    }
}
