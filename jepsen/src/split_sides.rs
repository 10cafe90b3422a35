//! Five nodes, split 2|3 for a minute, writers on both sides, healed.
//!
//! Afterwards every key of the key-value API holds both sides' last values side by side, and
//! every object of a bucket where the last writer wins is the one with the greatest stamp, on
//! every replica; the other side's is listed as lost and counted, once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use quorate::env::{Clock, OsClock, Tasks, TokioTasks};
use serde_json::json;
use tokio::sync::oneshot;

use crate::arena::{Arena, Clocks, Plan, between};
use crate::client::Outcome;
use crate::content::Sizes;
use crate::history::{History, Phase};
use crate::place::Tuning;
use crate::scenario::{Options, Verdict};
use crate::workload::{Ended, Ground, Hand, Where};

/// The nodes of each side.
const SIDES: [&[usize]; 2] = [&[1, 2], &[3, 4, 5]];

/// Where the last writer wins, and where values stand side by side.
const OBJECTS: &str = "objects";
const VALUES: &str = "values";

/// Keys of each API.
const KEYS: usize = 24;

/// Clients of each side; each writes its own share of the keys.
const CLIENTS: usize = 4;

/// Lost writes are counted when it is sure that they were not repeated.
const COUNTING: Duration = Duration::from_secs(30);

/// What one side wrote under one key of one API.
#[derive(Clone, Debug, Default)]
struct Line {
    /// The last write that was acknowledged.
    acknowledged: Option<u64>,
    /// Writes in doubt: they may stand as well, or in its place.
    doubtful: BTreeSet<u64>,
    /// When the last one began and ended.
    span: (Duration, Duration),
}

impl Line {
    fn note<T>(&mut self, number: u64, ended: &Ended<T>) {
        match ended {
            Ended::Ok(_) => {
                self.acknowledged = Some(number);
            }
            Ended::Info => {
                self.doubtful.insert(number);
            }
            Ended::Fail => {}
        }
    }

    /// Whether what stands is what this side may have left.
    fn is_among(&self, found: &BTreeSet<u64>) -> bool {
        self.acknowledged.is_none_or(|last| found.contains(&last))
            || self.doubtful.iter().any(|number| found.contains(number))
    }

    fn may_be(&self, number: u64) -> bool {
        self.acknowledged == Some(number) || self.doubtful.contains(&number)
    }
}

/// What one side did.
#[derive(Default)]
struct Diary {
    objects: BTreeMap<String, Line>,
    values: BTreeMap<String, Line>,
    etags: BTreeMap<String, u64>,
    writes: u64,
}

impl Diary {
    fn absorb(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.values.extend(other.values);
        self.etags.extend(other.etags);
        self.writes += other.writes;
    }
}

/// Runs the scenario; `options.span` is how long the split lasts.
///
/// # Errors
/// If the cluster cannot be built or handled. Violations are in the verdict.
pub async fn split_sides(options: &Options) -> anyhow::Result<Verdict> {
    let clock = Arc::new(OsClock::new());
    let plan = Plan {
        binary: options.binary.clone(),
        nodes: 5,
        seed: options.seed,
        tuning: Tuning::Hasty,
        clocks: Clocks::True,
    };
    let arena = Arena::build(&plan, Arc::clone(&clock)).await?;
    let outcome = split_and_heal(&arena, options, Arc::clone(&clock)).await;
    let (ground, writes) = outcome.inspect_err(|_| arena.folder().keep())?;
    ground.history().finish()?;
    let violations = ground.violations();
    let folder = (!violations.is_empty()).then(|| {
        arena.folder().keep();
        arena.folder().path().to_owned()
    });
    Ok(Verdict { operations: writes, keys: 2 * KEYS, violations, folder })
}

async fn split_and_heal(
    arena: &Arena,
    options: &Options,
    clock: Arc<OsClock>,
) -> anyhow::Result<(Arc<Ground>, u64)> {
    let places = arena.cluster().places();
    let first = places.first().context("there is no node")?.s3;
    for (bucket, level) in [(OBJECTS, Some("quorum")), (VALUES, None)] {
        if let Outcome::Fail(why) | Outcome::Info(why) =
            arena.client().create_bucket(first, bucket, level).await
        {
            bail!("the bucket {bucket} cannot be made: {why}");
        }
    }
    let path = history_path(arena, options);
    let file = File::create(&path)
        .with_context(|| format!("the history {} cannot be made", path.display()))?;
    let history = History::new(Arc::clone(&clock), Box::new(BufWriter::new(file)));
    let ground = Ground::new(arena.client().clone(), Arc::clone(&clock), places, history);
    write_firsts(&ground, options.seed).await;

    arena.switch().cut(&between(SIDES[0], SIDES[1]));
    ground.history().fault("split", Phase::Begin, None, json!({ "sides": SIDES }));
    let running: Vec<_> =
        SIDES.map(|side| write_on(&ground, side, options.seed, &clock)).into_iter().collect();
    clock.sleep(options.span).await;
    ground.stop();
    let mut diaries = Vec::new();
    for side in running {
        let mut diary = Diary::default();
        for client in side {
            diary.absorb(client.await.context("a client of the test panicked")?);
        }
        diaries.push(diary);
    }
    arena.switch().heal();
    ground.history().fault("split", Phase::End, None, json!({ "sides": SIDES }));
    let took = arena.settle().await?;
    println!(
        "split for {:?}: {} and {} writes on the two sides, {} packets cut; healed and proven in \
         {:.1} s",
        options.span,
        diaries[0].writes,
        diaries[1].writes,
        arena.switch().figures().cut,
        took.as_secs_f64()
    );
    clock.sleep(COUNTING).await;
    ground.history().begin_final_reads();
    let mut reader = ground.hand(options.seed);
    check_values(&mut reader, &diaries).await;
    check_objects(arena, &mut reader, &diaries).await?;
    let writes = diaries.iter().map(|diary| diary.writes).sum();
    Ok((ground, writes))
}

fn history_path(arena: &Arena, options: &Options) -> PathBuf {
    let own = || arena.folder().path().join("history.jsonl");
    options.history.clone().unwrap_or_else(own)
}

fn key(number: usize) -> String {
    format!("k{number:02}")
}

/// What both sides have seen before they part.
async fn write_firsts(ground: &Arc<Ground>, seed: u64) {
    let mut hand = ground.hand(seed);
    for number in 0..KEYS {
        let key = key(number);
        let node = 1 + number % ground.nodes().len();
        hand.put(Where { node, bucket: OBJECTS, key: &key }, Sizes::Mixed).await;
        hand.kv_put(Where { node, bucket: VALUES, key: &key }, None).await;
    }
}

/// Starts the clients of one side.
fn write_on(
    ground: &Arc<Ground>,
    side: &'static [usize],
    seed: u64,
    clock: &Arc<OsClock>,
) -> Vec<oneshot::Receiver<Diary>> {
    let start = |client: usize| {
        let (sender, ended) = oneshot::channel();
        let keys = (0..KEYS).filter(|number| number % CLIENTS == client).map(key).collect();
        let writer = Writer {
            hand: ground.hand(seed),
            side,
            keys,
            clock: Arc::clone(clock),
            diary: Diary::default(),
        };
        let work = async move {
            // Nobody waits for it any more if the run was given up.
            let _ = sender.send(writer.work().await);
        };
        TokioTasks::current().spawn("writer", Box::pin(work)).detach();
        ended
    };
    (0..CLIENTS).map(start).collect()
}

struct Writer {
    hand: Hand,
    side: &'static [usize],
    keys: Vec<String>,
    clock: Arc<OsClock>,
    diary: Diary,
}

impl Writer {
    async fn work(mut self) -> Diary {
        let keys = self.keys.clone();
        while !self.hand.ground().is_stopping() {
            for key in &keys {
                let node = self.hand.pick(self.side).unwrap_or(1);
                self.write_object(node, key).await;
                self.write_value(node, key).await;
            }
            self.hand.rest(Duration::from_millis(50)).await;
        }
        self.diary
    }

    async fn write_object(&mut self, node: usize, key: &str) {
        let began = self.clock.monotonic().0;
        let at = Where { node, bucket: OBJECTS, key };
        let (number, ended) = self.hand.put(at, Sizes::Mixed).await;
        if let Ended::Ok(Some(etag)) = &ended {
            self.diary.etags.insert(etag.clone(), number);
        }
        let line = self.diary.objects.entry(key.to_owned()).or_default();
        line.note(number, &ended);
        line.span = (began, self.clock.monotonic().0);
        self.diary.writes += 1;
    }

    /// Reads, and replaces what was read. Where no owner of the key is on this side there is
    /// nothing to be read before the first write, which is then blind.
    async fn write_value(&mut self, node: usize, key: &str) {
        let at = Where { node, bucket: VALUES, key };
        let read = self.hand.kv_get(at, None).await;
        let line = self.diary.values.entry(key.to_owned()).or_default();
        if read.is_none() && line.acknowledged.is_some() {
            return;
        }
        let context = read.and_then(|read| read.context);
        let (number, ended) = self.hand.kv_put(at, context.as_deref()).await;
        line.note(number, &ended);
        self.diary.writes += 1;
    }
}

/// Both sides' last values stand side by side, the same through every node.
async fn check_values(reader: &mut Hand, diaries: &[Diary]) {
    let ground = Arc::clone(reader.ground());
    let mut pairs = 0;
    for key in (0..KEYS).map(key) {
        let lines: Vec<Line> =
            diaries.iter().filter_map(|diary| diary.values.get(&key).cloned()).collect();
        for node in ground.nodes() {
            let at = Where { node, bucket: VALUES, key: &key };
            for level in ["eventual", "all"] {
                let Some(read) = reader.kv_get(at, Some(level)).await else {
                    ground.violation(format!("{key} cannot be read at {level} through n{node}"));
                    continue;
                };
                let found: BTreeSet<u64> = read.numbers.iter().copied().collect();
                if !lines.iter().all(|line| line.is_among(&found)) {
                    ground.violation(format!("{key} through n{node}: {found:?} of {lines:?}"));
                }
                let foreign = |number: &&u64| !lines.iter().any(|line| line.may_be(**number));
                if let Some(other) = found.iter().find(foreign) {
                    ground.violation(format!("{key} through n{node}: {other} was replaced"));
                }
            }
        }
        pairs += usize::from(lines.iter().filter(|line| line.acknowledged.is_some()).count() == 2);
    }
    println!("key-value: {pairs} of {KEYS} keys were written on both sides and hold both values");
    if pairs < KEYS / 2 {
        ground.violation(format!("only {pairs} keys were written on both sides"));
    }
}

/// The greatest stamp stands on every replica, and the other side's last write is listed and
/// counted as lost.
async fn check_objects(arena: &Arena, reader: &mut Hand, diaries: &[Diary]) -> anyhow::Result<()> {
    let ground = Arc::clone(reader.ground());
    let (mut listed, mut expected, mut superseded) = (0, 0, 0);
    for key in (0..KEYS).map(key) {
        let history = arena.object_history(OBJECTS, &key).await?;
        let Some(current) = history.current else {
            ground.violation(format!("{key} is not there"));
            continue;
        };
        if !history.unheard.is_empty() {
            ground.violation(format!("{key}: {:?} did not answer", history.unheard));
        }
        for lost in &history.lost {
            if lost.stamp >= current.stamp || lost.lost_to.as_ref() > Some(&current.stamp) {
                ground.violation(format!("{key}: {lost:?} was later than {current:?}"));
            }
        }
        for node in ground.nodes() {
            let at = Where { node, bucket: OBJECTS, key: &key };
            for level in ["eventual", "all"] {
                let read = reader.get(at, Sizes::Mixed, Some(level)).await;
                if !matches!(&read, Some((Some(_), etag)) if *etag == current.etag) {
                    let stands = &current.etag;
                    ground.violation(format!(
                        "{key} at {level} through n{node}: {read:?}, but {stands:?} stands"
                    ));
                }
            }
        }
        let lines: Vec<&Line> =
            diaries.iter().filter_map(|diary| diary.objects.get(&key)).collect();
        let number = |etag: &Option<String>| {
            let etag = etag.as_ref()?;
            diaries.iter().find_map(|diary| diary.etags.get(etag)).copied()
        };
        let lost: BTreeSet<u64> =
            history.lost.iter().filter_map(|lost| number(&lost.etag)).collect();
        if let Some(what) = judge_object(&lines, number(&current.etag), &lost) {
            ground.violation(format!("{key}: {what}"));
        }
        // Such a write met the other side's late, when its own side had replaced it already.
        superseded += history.lost.len() - history.lost.len().min(1);
        listed += history.lost.len();
        expected += lines.iter().filter(|line| line.acknowledged.is_some()).count() / 2;
    }
    let counted = arena.metric("quorate_lww_conflicts_total").await?;
    let sum: f64 = counted.iter().sum();
    println!(
        "objects: {expected} of {KEYS} keys were written on both sides; {listed} writes are \
         listed as lost, {superseded} of them replaced by their own side before, {sum} are \
         counted, by node: {counted:?}"
    );
    if (sum - listed as f64).abs() > 0.5 || listed - superseded != expected {
        ground.violation(format!(
            "{expected} writes must have lost, {listed} are listed, {sum} are counted"
        ));
    }
    Ok(())
}

/// What is wrong with an object of which `stands` is the write and `lost` the lost ones.
fn judge_object(lines: &[&Line], stands: Option<u64>, lost: &BTreeSet<u64>) -> Option<String> {
    let [one, other] = lines else { return None };
    let (Some(a), Some(b)) = (one.acknowledged, other.acknowledged) else { return None };
    // A write in doubt has no ETag that was told; it makes everything possible.
    if !one.doubtful.is_empty() || !other.doubtful.is_empty() {
        return None;
    }
    let stands = stands.filter(|stands| *stands == a || *stands == b);
    let Some(stands) = stands else {
        return Some(format!("neither {a} nor {b} stands, the last of the two sides"));
    };
    let (winner, loser) = if stands == a { (one, other) } else { (other, one) };
    if loser.span.0 > winner.span.1 {
        return Some(format!("{stands} stands, though the other of {a} and {b} began later"));
    }
    let loser = if stands == a { b } else { a };
    (!lost.contains(&loser)).then(|| format!("{loser} lost to {stands} and is not listed"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{Line, judge_object};

    fn line(number: u64, from: u64, to: u64) -> Line {
        let span = (Duration::from_secs(from), Duration::from_secs(to));
        Line { acknowledged: Some(number), span, ..Line::default() }
    }

    #[test]
    fn the_later_of_two_sides_stands_and_the_other_is_listed() {
        let (one, other) = (line(7, 1, 2), line(9, 3, 4));
        let lost = |numbers: &[u64]| numbers.iter().copied().collect::<BTreeSet<u64>>();
        let judge = |stands, numbers: &[u64]| judge_object(&[&one, &other], stands, &lost(numbers));

        assert_eq!(judge(Some(9), &[7]), None);
        assert!(judge(Some(9), &[]).unwrap().contains("not listed"));
        assert!(judge(Some(7), &[9]).unwrap().contains("began later"));
        assert!(judge(Some(8), &[7]).unwrap().contains("neither"));
        assert!(judge(None, &[7]).unwrap().contains("neither"));
    }

    #[test]
    fn writes_at_the_same_time_may_stand_either_way() {
        let (one, other) = (line(7, 1, 4), line(9, 2, 3));

        for (stands, lost) in [(7, 9), (9, 7)] {
            assert_eq!(judge_object(&[&one, &other], Some(stands), &[lost].into()), None);
        }
    }

    #[test]
    fn a_side_is_among_the_values_by_its_last_write() {
        let mut side = line(7, 1, 2);

        assert!(side.is_among(&[3, 7].into()));
        assert!(!side.is_among(&[3].into()));
        side.doubtful.insert(8);
        assert!(side.is_among(&[3, 8].into()));
        assert!(side.may_be(8) && !side.may_be(3));
    }
}
