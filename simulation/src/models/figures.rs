//! Small statistics: means, spreads, quantiles, and how sure a mean is.

/// A mean and half the width of its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The true mean lies within this of it, 19 times of 20.
    pub within: f64,
}

impl Estimate {
    /// The mean of independent samples; at least two of them.
    #[must_use]
    pub fn of(samples: &[f64]) -> Self {
        let within = t_95(samples.len()) * deviation(samples) / (samples.len() as f64).sqrt();
        Self { mean: mean(samples), within }
    }

    /// How far `value` lies from the mean, in standard errors.
    #[must_use]
    pub fn errors_from(self, value: f64) -> f64 {
        (self.mean - value).abs() / (self.within / 1.96).max(f64::MIN_POSITIVE)
    }
}

/// Student's t for 95 %: within 1 % of the table from four samples on.
fn t_95(samples: usize) -> f64 {
    let freedom = samples.saturating_sub(1).max(1) as f64;
    1.96 + 2.4 / freedom + 3.8 / (freedom * freedom)
}

/// The arithmetic mean; 0 of nothing.
#[must_use]
pub fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / (samples.len() as f64).max(1.0)
}

/// The standard deviation of a sample.
#[must_use]
pub fn deviation(samples: &[f64]) -> f64 {
    let mean = mean(samples);
    let squares = samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>();
    (squares / (samples.len() as f64 - 1.0).max(1.0)).sqrt()
}

/// The least sample that at least this part of all samples does not exceed.
#[must_use]
pub fn quantile(samples: &mut [f64], part: f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let rank = (part * samples.len() as f64).ceil() as usize;
    samples.get(rank.clamp(1, samples.len().max(1)) - 1).copied().unwrap_or(0.0)
}

/// How many ways there are to choose `chosen` of `count`.
#[must_use]
pub fn choose(count: usize, chosen: usize) -> f64 {
    (0..chosen).map(|step| (count - step) as f64 / (step + 1) as f64).product()
}

#[cfg(test)]
mod tests {
    use super::{Estimate, choose, deviation, mean, quantile};

    #[test]
    fn figures_of_a_small_sample_are_right() {
        let mut samples = [4.0, 1.0, 3.0, 2.0];

        assert!((mean(&samples) - 2.5).abs() < 1e-12);
        assert!((deviation(&samples) - 1.290_994).abs() < 1e-6);
        assert!((quantile(&mut samples, 0.5) - 2.0).abs() < 1e-12);
        assert!((quantile(&mut samples, 0.99) - 4.0).abs() < 1e-12);
        let estimate = Estimate::of(&samples);
        // t = 3.182 with three degrees of freedom.
        assert!((estimate.within - 3.182 * 1.290_994 / 2.0).abs() < 0.05, "{estimate:?}");
    }

    #[test]
    fn ways_to_choose_are_binomial_coefficients() {
        assert!((choose(14, 4) - 1_001.0).abs() < 1e-9);
        assert!((choose(1_000, 3) - 166_167_000.0).abs() < 1e-3);
        assert!((choose(5, 0) - 1.0).abs() < 1e-12);
    }
}
