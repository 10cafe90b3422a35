//! Models of what no test can wait for: a thousand nodes, and a loss in a million years.
//!
//! Each model prints Markdown tables and draws plots. They use the node's own code where there
//! is some (placement, settings of gossip) and state what they leave out where there is none.
//!
//! # Invariants
//! 1. Equal seeds give equal tables and plots, times to compute excepted
//!    (`models::tests::equal_seeds_give_equal_reports`).
//! 2. A figure from drawing lots stands beside a closed form or an exact chain wherever one
//!    holds, and a test compares the two.

pub mod balance;
pub mod draws;
pub mod durability;
pub mod figures;
pub mod gossip;
pub mod page;
pub mod plot;
pub mod table;

use self::plot::Plot;

/// How long a model may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// What the documentation shows: a minute or two.
    Full,
    /// Enough to see that it works: a second or two.
    Quick,
}

impl Effort {
    /// `full`, or a small part of it.
    #[must_use]
    pub const fn of(self, full: u32) -> u32 {
        match self {
            Self::Full => full,
            Self::Quick => full.div_ceil(50),
        }
    }
}

/// What a model says.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Markdown by the name of the place it goes to.
    pub sections: Vec<Section>,
    /// Pictures by the name of their files, without the ending.
    pub plots: Vec<(&'static str, Plot)>,
}

/// One piece of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, which a page's markers use.
    pub name: &'static str,
    /// Markdown.
    pub text: String,
}

impl Report {
    /// Adds a section.
    pub fn say(&mut self, name: &'static str, text: String) {
        self.sections.push(Section { name, text });
    }
}

#[cfg(test)]
mod tests {
    use super::{Effort, Report, durability, gossip};
    use crate::entropy::Seed;

    fn text(report: &Report) -> String {
        let sections = report.sections.iter().map(|section| section.text.clone());
        sections.chain(report.plots.iter().map(|(_, plot)| plot.svg())).collect()
    }

    #[test]
    fn equal_seeds_give_equal_reports() {
        for model in [gossip::report, durability::report] {
            let (one, other) = (model(Seed(7), Effort::Quick), model(Seed(7), Effort::Quick));

            assert_eq!(text(&one.unwrap()), text(&other.unwrap()));
        }
    }

    #[test]
    fn another_seed_draws_other_lots() {
        let (one, other) =
            (gossip::report(Seed(7), Effort::Quick), gossip::report(Seed(8), Effort::Quick));

        assert_ne!(text(&one.unwrap()), text(&other.unwrap()));
    }
}
