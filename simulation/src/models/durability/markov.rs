//! Chains of states with constant rates, and how long they take until all is lost.

/// A continuous-time Markov chain that starts in state 0 and ends in a last state, loss.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// `rates[from][to]`; one column more than rows, for loss.
    rates: Vec<Vec<f64>>,
}

impl Chain {
    /// A chain of so many states beside loss, between which nothing happens yet.
    #[must_use]
    pub(super) fn new(states: usize) -> Self {
        Self { rates: vec![vec![0.0; states + 1]; states] }
    }

    /// Adds a way from a state to another, or to loss if there is no such state.
    pub(super) fn add(&mut self, from: usize, to: usize, rate: f64) {
        let loss = self.rates.len();
        if from != to {
            self.rates[from][to.min(loss)] += rate;
        }
    }

    /// The mean time from state 0 to loss, in the unit of the rates; loss must be reachable.
    ///
    /// States are taken out one after another, the ways through them added to those around them
    /// (Grassmann, Taksar and Heyman, 1985). Nothing is ever subtracted, so the result is good to
    /// nearly all digits even where it is 10^30 times the shortest time in the chain.
    #[must_use]
    pub(super) fn mean_time_to_loss(&self) -> f64 {
        let mut rates = self.rates.clone();
        // How much time passes in each unit of time in a state, visits to removed ones included.
        let mut passes = vec![1.0; rates.len()];
        while rates.len() > 1 {
            let Some(mut removed) = rates.pop() else { break };
            let place = rates.len();
            removed.remove(place);
            let out: f64 = removed.iter().sum();
            for (from, row) in rates.iter_mut().enumerate() {
                let share = row.remove(place) / out;
                passes[from] += share * passes[place];
                row.iter_mut().zip(&removed).for_each(|(rate, more)| *rate += share * more);
                // What returns to its start has passed the time and gone nowhere.
                row[from] = 0.0;
            }
        }
        let leaving: f64 = rates.first().map_or(0.0, |row| row.iter().skip(1).sum());
        passes.first().map_or(0.0, |passed| passed / leaving)
    }
}

#[cfg(test)]
mod tests {
    use super::Chain;

    #[test]
    fn one_step_takes_the_inverse_of_its_rate() {
        let mut chain = Chain::new(1);
        chain.add(0, 1, 0.25);

        assert!((chain.mean_time_to_loss() - 4.0).abs() < 1e-12);
    }

    #[test]
    fn a_mirrored_pair_lasts_as_long_as_the_textbook_says() {
        let (failure, repair) = (1e-5, 0.1);
        let mut chain = Chain::new(2);
        chain.add(0, 1, 2.0 * failure);
        chain.add(1, 0, repair);
        chain.add(1, 2, failure);

        // Patterson, Gibson and Katz, 1988: (3 lambda + mu) / (2 lambda^2).
        let expected = (3.0 * failure + repair) / (2.0 * failure * failure);
        assert!((chain.mean_time_to_loss() / expected - 1.0).abs() < 1e-12);
    }

    #[test]
    fn states_that_are_visited_and_left_count_the_time_in_them() {
        // 0 to 1 and 2 alike, each back to 0 or on to loss alike: a visit of 0 and of another
        // twice on average.
        let mut chain = Chain::new(3);
        for (from, to, rate) in
            [(0, 1, 1.0), (0, 2, 1.0), (1, 0, 2.0), (1, 3, 2.0), (2, 0, 0.5), (2, 3, 0.5)]
        {
            chain.add(from, to, rate);
        }

        // Per cycle: 0.5 in state 0, then 0.25 or 1.
        let cycle = 0.5 + f64::midpoint(0.25, 1.0);
        assert!((chain.mean_time_to_loss() - 2.0 * cycle).abs() < 1e-12);
    }
}
