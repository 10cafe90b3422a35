//! How long most took, and the slowest.

/// Times below which a share of all lie, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of all.
    pub half: u64,
    /// 95 of 100.
    pub p95: u64,
    /// 99 of 100.
    pub p99: u64,
    /// All.
    pub most: u64,
}

impl Quantiles {
    /// Those of `times`, which are sorted by it; nothing of nothing. Each is one of the times: the
    /// least that so many are not above.
    #[must_use]
    pub fn of(times: &mut [u64]) -> Option<Self> {
        times.sort_unstable();
        let most = *times.last()?;
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.saturating_sub(1)).copied().unwrap_or(most)
        };
        Some(Self { half: at(50), p95: at(95), p99: at(99), most })
    }
}

/// A time, as short as it can be told.
#[must_use]
pub fn told(nanos: u64) -> String {
    let seconds = super::seconds(nanos);
    if seconds >= 9.95 {
        format!("{seconds:.0} s")
    } else if seconds >= 0.9995 {
        format!("{seconds:.1} s")
    } else if seconds >= 0.00995 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{:.1} ms", seconds * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::{Quantiles, told};

    #[test]
    fn a_quantile_is_the_least_time_that_so_many_are_not_above() {
        let mut times: Vec<u64> = (1..=200).rev().collect();

        let found = Quantiles::of(&mut times);

        assert_eq!(found, Some(Quantiles { half: 100, p95: 190, p99: 198, most: 200 }));
        assert_eq!(Quantiles::of(&mut [7]), Some(Quantiles { half: 7, p95: 7, p99: 7, most: 7 }));
        assert_eq!(Quantiles::of(&mut []), None);
    }

    #[test]
    fn a_time_is_told_in_the_unit_that_suits_it() {
        let shown = [40_000, 3_140_000, 99_600_000, 1_000_000_000, 12_400_000_000].map(told);

        assert_eq!(shown, ["0.0 ms", "3.1 ms", "100 ms", "1.0 s", "12 s"]);
    }
}
