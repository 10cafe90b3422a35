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
use quorate::admin::WriteInfo;
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

/// How long all copies of what was written take to arrive.
const SPREADING: Duration = Duration::from_secs(2);

/// What one side wrote under one key of one API.
#[derive(Clone, Debug, Default)]
struct Line {
    /// All writes that were acknowledged, one after the other.
    written: Vec<u64>,
    /// The last of them.
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
                self.written.push(number);
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

    /// Whether this side wrote it, and later another one in its place.
    fn replaced(&self, number: u64) -> bool {
        self.acknowledged != Some(number) && self.written.contains(&number)
    }
}

/// Which lost writes of a key that both sides wrote may be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflicts {
    /// One: the last write of the side that lost.
    Exact,
    /// Beside it any that their own side had replaced: copies that were away may bring them to
    /// light when it is known no more who replaced them.
    Lenient,
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
pub async fn split_sides(options: &Options, conflicts: Conflicts) -> anyhow::Result<Verdict> {
    let clock = Arc::new(OsClock::new());
    let plan = Plan {
        binary: options.binary.clone(),
        nodes: 5,
        seed: options.seed,
        tuning: Tuning::Hasty,
        clocks: Clocks::True,
    };
    let arena = Arena::build(&plan, Arc::clone(&clock)).await?;
    let outcome = split_and_heal(&arena, options, conflicts, Arc::clone(&clock)).await;
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
    conflicts: Conflicts,
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
    // The last copies of the last of them are still on their way.
    clock.sleep(SPREADING).await;

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
    check_objects(arena, &mut reader, &diaries, conflicts).await?;
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

/// What is listed of all objects.
#[derive(Default)]
struct Lists {
    /// Lost writes that are listed.
    listed: usize,
    /// Keys that both sides wrote.
    both: usize,
    /// Lost writes that are listed beside the last one of a side.
    replaced: usize,
}

/// The greatest stamp stands on every replica, and the other side's last write is listed and
/// counted as lost.
async fn check_objects(
    arena: &Arena,
    reader: &mut Hand,
    diaries: &[Diary],
    conflicts: Conflicts,
) -> anyhow::Result<()> {
    let ground = Arc::clone(reader.ground());
    let mut lists = Lists::default();
    for key in (0..KEYS).map(key) {
        let history = arena.object_history(OBJECTS, &key).await?;
        if !history.unheard.is_empty() {
            ground.violation(format!("{key}: {:?} did not answer", history.unheard));
        }
        let Some(current) = &history.current else {
            ground.violation(format!("{key} is not there"));
            continue;
        };
        read_everywhere(reader, &key, current).await;
        check_lists(&ground, diaries, &key, (current, &history.lost), conflicts, &mut lists);
    }
    let counted = arena.metric("quorate_lww_conflicts_total").await?;
    let sum: f64 = counted.iter().sum();
    let Lists { listed, both, replaced } = lists;
    println!(
        "objects: {both} of {KEYS} keys were written on both sides; {listed} writes are listed \
         as lost, {replaced} of them replaced by their own side before, {sum} are counted, by \
         node: {counted:?}"
    );
    if (sum - listed as f64).abs() > 0.5 {
        ground.violation(format!("{listed} lost writes are listed, {sum} are counted"));
    }
    Ok(())
}

/// Reads one object through every node, at one replica and at all.
async fn read_everywhere(reader: &mut Hand, key: &str, current: &WriteInfo) {
    let ground = Arc::clone(reader.ground());
    for node in ground.nodes() {
        let at = Where { node, bucket: OBJECTS, key };
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
}

fn check_lists(
    ground: &Ground,
    diaries: &[Diary],
    key: &str,
    (current, listed): (&WriteInfo, &[WriteInfo]),
    conflicts: Conflicts,
    lists: &mut Lists,
) {
    for lost in listed {
        if lost.stamp >= current.stamp || lost.lost_to.as_ref() > Some(&current.stamp) {
            ground.violation(format!("{key}: {lost:?} was later than {current:?}"));
        }
    }
    let lines: Vec<&Line> = diaries.iter().filter_map(|diary| diary.objects.get(key)).collect();
    let number = |write: &WriteInfo| {
        let etag = write.etag.as_ref()?;
        diaries.iter().find_map(|diary| diary.etags.get(etag)).copied()
    };
    let lost: Vec<Option<u64>> = listed.iter().map(number).collect();
    if let Some(what) = judge_object(&lines, number(current), &lost, conflicts) {
        ground.violation(format!("{key}: {what}"));
    }
    let replaced = |number: &u64| lines.iter().any(|line| line.replaced(*number));
    lists.replaced += lost.iter().flatten().filter(|number| replaced(number)).count();
    lists.listed += listed.len();
    lists.both += lines.iter().filter(|line| line.acknowledged.is_some()).count() / 2;
}

/// What is wrong with an object of which `stands` is the write and `lost` the lost ones, as far as
/// their ETags were told.
fn judge_object(
    lines: &[&Line],
    stands: Option<u64>,
    lost: &[Option<u64>],
    conflicts: Conflicts,
) -> Option<String> {
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
    let mut others: Vec<Option<u64>> = lost.to_vec();
    let Some(place) = others.iter().position(|lost| *lost == Some(loser)) else {
        return Some(format!("{loser} lost to {stands} and is not listed"));
    };
    others.remove(place);
    if conflicts == Conflicts::Exact && !others.is_empty() {
        return Some(format!("beside {loser}, which lost to {stands}, {others:?} are listed"));
    }
    let replaced =
        |lost: &Option<u64>| lost.is_some_and(|lost| one.replaced(lost) || other.replaced(lost));
    let strange = others.iter().find(|lost| !replaced(lost))?;
    Some(format!("{strange:?} is listed, which no side wrote and then replaced"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Conflicts, Line, judge_object};

    fn line(number: u64, from: u64, to: u64) -> Line {
        let span = (Duration::from_secs(from), Duration::from_secs(to));
        let written = vec![number - 1, number];
        Line { written, acknowledged: Some(number), span, ..Line::default() }
    }

    #[test]
    fn the_later_of_two_sides_stands_and_the_other_is_listed() {
        let (one, other) = (line(7, 1, 2), line(9, 3, 4));
        let judge = |stands, numbers: &[u64]| {
            let lost: Vec<Option<u64>> = numbers.iter().copied().map(Some).collect();
            judge_object(&[&one, &other], stands, &lost, Conflicts::Exact)
        };

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
            let lost = [Some(lost)];
            let judge = judge_object(&[&one, &other], Some(stands), &lost, Conflicts::Exact);
            assert_eq!(judge, None);
        }
    }

    #[test]
    fn what_is_listed_beside_the_loser_was_replaced_by_its_own_side() {
        let (one, other) = (line(7, 1, 2), line(19, 3, 4));
        let judge = |lost: &[Option<u64>], conflicts| {
            judge_object(&[&one, &other], Some(19), lost, conflicts)
        };

        assert_eq!(judge(&[Some(7), Some(6)], Conflicts::Lenient), None);
        assert!(judge(&[Some(7), Some(6)], Conflicts::Exact).unwrap().contains("beside 7"));
        // Listed twice, written by nobody, and of unknown ETag.
        for strange in [Some(7), Some(3), None] {
            let what = judge(&[Some(7), strange], Conflicts::Lenient).unwrap();
            assert!(what.contains("no side wrote"), "{what}");
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
