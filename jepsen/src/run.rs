//! One run: a fresh cluster, clients, faults, healing, final reads, and a verdict.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use quorate::env::{Clock, OsClock, Tasks, TokioTasks};
use tokio::sync::oneshot;

use crate::arena::{Arena, Clocks, Plan, library};
use crate::checker::suite::{self, Demands, Promise, worst};
use crate::checker::{Finding, Verdict};
use crate::client::Outcome;
use crate::history::{History, parse};
use crate::nemesis::{Effect, Kind, Mix, Nemesis, Schedule, tell};
use crate::place::Tuning;
use crate::workload::{BUCKET, Ground, Workload};

/// After healing, requests may still fail for so long.
const HEALING: Duration = Duration::from_secs(30);

/// Then, for so long, none may.
const CALM: Duration = Duration::from_secs(5);

/// Nodes whose clocks are further off than this, plus what they need to notice, do not stamp.
const SKEW: Duration = Duration::from_secs(10);

/// What is run.
#[derive(Clone, Debug)]
pub struct Order {
    /// The server's binary.
    pub binary: PathBuf,
    /// What clients do.
    pub workload: Workload,
    /// Which faults there are.
    pub mix: Mix,
    /// How many nodes.
    pub nodes: usize,
    /// How many clients.
    pub clients: usize,
    /// How long there are faults.
    pub span: Duration,
    /// What everything follows from.
    pub seed: u64,
    /// Where the history goes; beside the cluster if `None`.
    pub history: Option<PathBuf>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What the checkers say of the history.
    pub verdicts: Vec<Verdict>,
    /// What else should have held and did not.
    pub violations: Vec<String>,
    /// What there is to say of it.
    pub notes: Vec<String>,
    /// What each fault did.
    pub effects: Vec<Effect>,
    /// Where the nodes' folders and logs are, if they were kept.
    pub folder: Option<PathBuf>,
}

impl Ran {
    /// Whether everything held, and something was there for it to be held against.
    #[must_use]
    pub fn held(&self) -> bool {
        self.is_whole() && !self.is_idle()
    }

    /// Whether nothing broke.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.violations.is_empty() && worst(&self.verdicts) == Finding::Holds
    }

    /// Whether there were to be faults, and none did anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.effects.is_empty() && !self.effects.iter().any(Effect::took)
    }
}

/// Does one run.
///
/// # Errors
/// If the cluster cannot be built or handled, or the history be read. Violations are in what is
/// returned.
pub async fn run(order: &Order, clock: Arc<OsClock>) -> anyhow::Result<Ran> {
    let clocks = match library() {
        Some(library) if order.mix.has(Kind::Clock) => Clocks::Set(library),
        _ => Clocks::True,
    };
    let plan = Plan {
        binary: order.binary.clone(),
        nodes: order.nodes,
        seed: order.seed,
        tuning: Tuning::Hasty,
        clocks,
    };
    let mut arena = Arena::build(&plan, Arc::clone(&clock)).await?;
    let path = match &order.history {
        Some(path) => path.clone(),
        None => arena.folder().path().join("history.jsonl"),
    };
    let file = File::create(&path)
        .with_context(|| format!("the history {} cannot be made", path.display()))?;
    let history = History::new(Arc::clone(&clock), Box::new(BufWriter::new(file)));
    let (notes, effects) = (Vec::new(), Vec::new());
    let mut stage = Stage { order, clock, notes, effects, demands: demands(order) };
    let ended = stage.play(&mut arena, history).await;
    let ground = ended.inspect_err(|_| arena.folder().keep())?;
    ground.history().finish()?;
    for fallen in arena.cluster_mut().fallen() {
        ground.violation(fallen);
    }
    let text = std::fs::read_to_string(&path)?;
    let verdicts = suite::check(&parse(&text)?, &stage.demands)?;
    let mut ran = Ran {
        verdicts,
        violations: ground.violations(),
        notes: stage.notes,
        effects: stage.effects,
        folder: None,
    };
    if !ran.is_whole() {
        arena.folder().keep();
        ran.folder = Some(arena.folder().path().to_owned());
    }
    Ok(ran)
}

fn demands(order: &Order) -> Demands {
    let (workload, promise) = match order.workload {
        Workload::Siblings => (suite::Workload::Siblings, Promise::Converging),
        Workload::Lww => (suite::Workload::Register, Promise::Converging),
        Workload::Set => (suite::Workload::Set, Promise::Regular),
        Workload::Register | Workload::DeleteRecreate | Workload::List | Workload::Multipart => {
            (suite::Workload::Register, Promise::Regular)
        }
    };
    let mut demands = Demands::usual(workload, promise);
    if order.mix.has(Kind::Clock) {
        demands.skew = SKEW;
    }
    demands
}

struct Stage<'a> {
    order: &'a Order,
    clock: Arc<OsClock>,
    notes: Vec<String>,
    effects: Vec<Effect>,
    demands: Demands,
}

impl Stage<'_> {
    async fn play(&mut self, arena: &mut Arena, history: History) -> anyhow::Result<Arc<Ground>> {
        let places = arena.cluster().places();
        let first = places.first().context("there is no node")?.s3;
        let level = self.order.workload.level();
        if let Outcome::Fail(why) | Outcome::Info(why) =
            arena.client().create_bucket(first, BUCKET, level).await
        {
            bail!("the bucket cannot be made: {why}");
        }
        let client = arena.client().clone();
        let ground = Ground::new(client, Arc::clone(&self.clock), places, history);
        self.order.workload.prepare(&ground, self.order.seed).await;
        let clients = self.start(&ground);
        let schedule = self.schedule();
        let nemesis = Nemesis::new(arena, ground.history(), Arc::clone(&self.clock));
        let done = nemesis.run(&schedule).await?;
        for fallen in done.fallen {
            ground.violation(fallen);
        }
        self.notes.extend(tell(&done.effects));
        self.effects = done.effects;
        let healed = self.clock.monotonic();
        if let Err(error) = arena.heal().await {
            ground.violation(format!("a node did not return: {error:#}"));
        }
        self.await_calm(&ground).await;
        self.demands.progress_within = self.clock.monotonic().since(healed);
        self.clock.sleep(CALM).await;
        ground.stop();
        for client in clients {
            client.await.context("a client of the test panicked")?;
        }
        match arena.settle().await {
            Ok(took) => self.notes.push(format!("proven {:.1} s later", took.as_secs_f64())),
            Err(error) => ground.violation(format!("{error:#}")),
        }
        ground.history().begin_final_reads();
        self.order.workload.read_finally(&ground, self.order.seed).await;
        if self.order.mix.has(Kind::BitFlips) || self.order.mix.has(Kind::Truncate) {
            self.look_for_damage(arena, &ground).await?;
        }
        let figures = arena.switch().figures();
        self.notes.push(format!("packets between nodes: {figures:?}"));
        Ok(ground)
    }

    /// Lets nodes read all that they keep, twice: what the first reading finds is mended from
    /// whole copies, so the second finds nothing.
    async fn look_for_damage(&mut self, arena: &Arena, ground: &Ground) -> anyhow::Result<()> {
        let read = arena.damage_found().await?;
        let mut rounds = vec![read];
        // The first round that ends had begun before.
        for scrubs in [2, 1] {
            if !arena.await_scrubs(scrubs).await? {
                ground.violation("nodes did not read all that they keep in time".to_owned());
                return Ok(());
            }
            rounds.push(arena.damage_found().await?);
        }
        self.notes.push(format!(
            "damage found by each node since it started, after the final reads, and after each of \
             two scrubs: {rounds:?}"
        ));
        Ok(())
    }

    fn schedule(&self) -> Schedule {
        let Order { mix, nodes, span, seed, .. } = self.order;
        let schedule = Schedule::draw(mix.kinds(), *nodes, *span, *seed);
        print!("{schedule}");
        schedule
    }

    fn start(&self, ground: &Arc<Ground>) -> Vec<oneshot::Receiver<()>> {
        let start = |_| {
            let (sender, ended) = oneshot::channel();
            let hand = ground.hand(self.order.seed);
            let workload = self.order.workload;
            let work = async move {
                workload.work(hand).await;
                // Nobody waits for it any more if the run was given up.
                let _ = sender.send(());
            };
            TokioTasks::current().spawn("client", Box::pin(work)).detach();
            ended
        };
        (0..self.order.clients).map(start).collect()
    }

    /// Waits until every request of some seconds was served.
    async fn await_calm(&mut self, ground: &Ground) {
        let began = self.clock.monotonic();
        let mut calm = Duration::ZERO;
        let step = Duration::from_millis(250);
        drop(ground.take_tally());
        loop {
            self.clock.sleep(step).await;
            let tally = ground.take_tally();
            let waited = self.clock.monotonic().since(began);
            calm = if tally.refused == 0 { calm + step } else { Duration::ZERO };
            if calm >= CALM {
                let after = waited.saturating_sub(CALM).as_secs_f64();
                self.notes.push(format!("all requests were served {after:.1} s after the heal"));
                return;
            }
            if waited > HEALING {
                let example = tally.example.unwrap_or_default();
                ground.violation(format!("{HEALING:?} after the heal requests fail: {example}"));
                return;
            }
        }
    }
}
