//! Prints what the models say, draws their plots, and keeps the page that shows them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use quorate_simulation::entropy::Seed;
use quorate_simulation::models::{Effort, Report, balance, durability, gossip, page};

/// Models of scale and durability: tables in Markdown, plots as SVG.
#[derive(Parser)]
#[command(name = "quorate-models", version)]
struct Arguments {
    /// What to model.
    #[arg(value_enum)]
    model: Model,
    /// The folder that the plots go to.
    #[arg(long)]
    out: Option<PathBuf>,
    /// A page whose tables are replaced.
    #[arg(long)]
    page: Option<PathBuf>,
    /// What all lots follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A fiftieth of the work: enough to see that it runs.
    #[arg(long)]
    quick: bool,
}

/// What there is to be modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Model {
    /// Layouts: balance, movement, scatter width.
    Balance,
    /// Gossip: time to spread, time to notice a death, bytes.
    Gossip,
    /// Losses of data per year.
    Durability,
    /// All of them.
    All,
}

type Run = fn(Seed, Effort) -> anyhow::Result<Report>;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
    let models: [(Model, Run); 3] = [
        (Model::Balance, balance::report),
        (Model::Gossip, gossip::report),
        (Model::Durability, durability::report),
    ];
    for (name, model) in models {
        if arguments.model == name || arguments.model == Model::All {
            let report = model(Seed(arguments.seed), effort)?;
            show(&report, &arguments)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(report: &Report, arguments: &Arguments) -> anyhow::Result<()> {
    for section in &report.sections {
        println!("## {}\n\n{}", section.name, section.text);
    }
    if let Some(folder) = &arguments.out {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (name, plot) in &report.plots {
            write(&folder.join(format!("{name}.svg")), &plot.svg())?;
        }
    }
    if let Some(path) = &arguments.page {
        let mut text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        for section in &report.sections {
            text = page::with_section(&text, section)?;
        }
        write(path, &text)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
