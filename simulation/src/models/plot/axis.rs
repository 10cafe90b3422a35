//! Where values lie on an axis, and which of them get a label.

use crate::models::table::number;

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    Linear,
    /// Equal ratios are equally far apart; all values are above 0.
    Logarithmic,
}

/// One axis of a plot.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is measured, and its unit.
    pub label: String,
    scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis that shows the values from `from` to `to`.
    #[must_use]
    pub fn new(label: &str, scale: Scale, from: f64, to: f64) -> Self {
        Self { label: label.to_owned(), scale, from, to }
    }

    /// Where a value lies: 0 at the start of the axis, 1 at its end, what is beyond at the edge.
    pub(super) fn part(&self, value: f64) -> f64 {
        let (value, from, to) = (self.scaled(value), self.scaled(self.from), self.scaled(self.to));
        ((value - from) / (to - from)).clamp(0.0, 1.0)
    }

    fn scaled(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    /// The values with a grid line, and their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => self.round_values(),
            Scale::Logarithmic => self.powers(),
        }
    }

    fn round_values(&self) -> Vec<(f64, String)> {
        let rough = (self.to - self.from) / 6.0;
        let power = 10.0_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) = ((self.from / step).ceil() as i64, (self.to / step + 1e-9) as i64);
        let tick = |count: i64| {
            let value = count as f64 * step;
            (value, format!("{value:.decimals$}"))
        };
        (first..=last).map(tick).collect()
    }

    /// One, two and five of each power.
    fn powers_and_between(&self, first: i32, last: i32) -> Vec<(f64, String)> {
        let values = (first..=last)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10.0_f64.powi(power)));
        let shown = values.filter(|value| (self.from * 0.999..=self.to * 1.001).contains(value));
        shown.map(|value| (value, number(value, 1))).collect()
    }

    fn powers(&self) -> Vec<(f64, String)> {
        let first = (self.from.log10() - 1e-9).ceil() as i32;
        let last = (self.to.log10() + 1e-9).floor() as i32;
        if last - first < 3 {
            return self.powers_and_between(first - 1, last);
        }
        // Eight labels at most, or they touch.
        let step = (last - first) / 8 + 1;
        let tick = |power: i32| {
            let plain = (-2..=4).contains(&power);
            let label = if plain { plain_power(power) } else { format!("1e{power}") };
            (10.0_f64.powi(power), label)
        };
        (first..=last).filter(|power| (power - last) % step == 0).map(tick).collect()
    }
}

fn plain_power(power: i32) -> String {
    number(10.0_f64.powi(power), 1)
}

#[cfg(test)]
mod tests {
    use super::{Axis, Scale};

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn linear_axes_have_round_values() {
        assert_eq!(
            labels(&Axis::new("", Scale::Linear, 0.0, 3.0)),
            ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]
        );
        assert_eq!(labels(&Axis::new("", Scale::Linear, 0.0, 60.0)).len(), 7);
    }

    #[test]
    fn logarithmic_axes_have_powers_of_ten() {
        assert_eq!(
            labels(&Axis::new("", Scale::Logarithmic, 1.0, 1e3)),
            ["1", "10", "100", "1,000"]
        );
        assert_eq!(labels(&Axis::new("", Scale::Logarithmic, 3.0, 50.0)), ["5", "10", "20", "50"]);
        let many = labels(&Axis::new("", Scale::Logarithmic, 1e-20, 1e-2));
        assert!(many.len() <= 8 && many.contains(&"0.01".to_owned()), "{many:?}");
    }

    #[test]
    fn what_lies_beyond_an_axis_is_drawn_at_its_edge() {
        let axis = Axis::new("", Scale::Logarithmic, 1.0, 100.0);

        for (value, part) in [(0.0, 0.0), (1.0, 0.0), (10.0, 0.5), (1e9, 1.0)] {
            assert!((axis.part(value) - part).abs() < 1e-9);
        }
    }
}
