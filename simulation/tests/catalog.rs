//! Levels, changes of buckets, lost writes, wrong clocks, lost folders and slow disks, on real
//! nodes over simulated seams.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use quorate::blob::EXTENT_BYTES_MAX;
use quorate::catalog::{
    BodyError, BodySource, BucketRecord, CatalogError, CreateBucket, ListObjects, LostWrite,
    NewObject, OwnerId, PutReceipt, VerifiedBody,
};
use quorate::env::metrics;
use quorate::node::Node;
use quorate::replication::{Level, Outcome};
use quorate::types::{Key, NodeId, UploadId};
use quorate_simulation::cluster::{Cluster, ClusterOptions, Started};
use quorate_simulation::entropy::Seed;
use quorate_simulation::tasks::SimTasks;
use quorate_simulation::world::{World, WorldOptions, simulate};

/// A body that is there at once.
struct Ready(Option<Bytes>);

#[async_trait]
impl BodySource for Ready {
    fn length(&self) -> Option<u64> {
        self.0.as_ref().map(|bytes| bytes.len() as u64)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        Ok(self.0.take())
    }

    fn verify(&mut self) -> Result<VerifiedBody, BodyError> {
        Ok(VerifiedBody { md5: [7; 16], checksums: Vec::new() })
    }
}

/// A cluster that is up, and what its nodes run on.
struct Rig {
    cluster: Arc<Cluster>,
    tasks: Arc<Mutex<BTreeMap<NodeId, Arc<SimTasks>>>>,
}

impl Rig {
    fn world(&self) -> &Arc<World> {
        self.cluster.world()
    }

    async fn pause(&self, seconds: u64) {
        self.world().time().sleep(Duration::from_secs(seconds)).await;
    }

    fn node(&self, number: u8) -> Arc<Node> {
        self.cluster.node(World::node_id(number)).unwrap()
    }

    fn crash(&self, number: u8) {
        self.cluster.crash(World::node_id(number));
    }

    async fn start(&self, number: u8) {
        self.cluster.start(World::node_id(number));
        while self.cluster.node(World::node_id(number)).is_none() {
            self.world().time().sleep(Duration::from_millis(50)).await;
        }
    }

    fn slow_down(&self, number: u8, by: Duration) {
        self.tasks.lock().get(&World::node_id(number)).unwrap().slow_down(by);
    }

    /// Cuts or heals all links between two groups.
    fn split(&self, some: &[u8], others: &[u8]) {
        self.links(some, others, |from, to| self.world().network().cut(from, to));
    }

    fn heal(&self, some: &[u8], others: &[u8]) {
        self.links(some, others, |from, to| self.world().network().heal(from, to));
    }

    fn links(&self, some: &[u8], others: &[u8], act: impl Fn(NodeId, NodeId)) {
        for one in some {
            for other in others {
                act(World::node_id(*one), World::node_id(*other));
                act(World::node_id(*other), World::node_id(*one));
            }
        }
    }

    async fn bucket(&self, level: Level) -> Arc<BucketRecord> {
        let (name, owner) = ("tests".parse().unwrap(), OwnerId("o".to_owned()));
        let request = CreateBucket { name, owner, level: Some(level), n: None };
        let first = self.node(1);
        for _ in 0..100 {
            if let Ok(bucket) = first.catalog.create_bucket(request.clone()).await {
                return bucket;
            }
            self.world().time().sleep(Duration::from_millis(100)).await;
        }
        panic!("the bucket cannot be created");
    }
}

async fn put(node: &Node, bucket: &BucketRecord, key: &str, bytes: usize) -> Put {
    let mut body = Ready(Some(vec![7; bytes].into()));
    let key = Key::new(key.as_bytes().to_vec()).unwrap();
    node.catalog.put_object(bucket, key, NewObject::default(), &mut body).await
}

type Put = Result<PutReceipt, CatalogError>;

/// Runs `test` with a cluster of `nodes` that has its layout.
fn with_cluster<F: Future<Output = ()>>(nodes: u8, seed: u64, test: impl FnOnce(Arc<Rig>) -> F) {
    let run = async move {
        let world = World::new(Seed(seed), WorldOptions::default());
        let tasks: Arc<Mutex<BTreeMap<NodeId, Arc<SimTasks>>>> = Arc::default();
        let known = Arc::clone(&tasks);
        let started: Started =
            Box::new(move |_, sim| drop(known.lock().insert(sim.node, Arc::clone(&sim.tasks))));
        let options = ClusterOptions { nodes, ..ClusterOptions::default() };
        let cluster = Cluster::new(&world, options, started).unwrap();
        world.nodes().into_iter().for_each(|node| cluster.start(node));
        cluster.init().await.unwrap();
        let rig = Arc::new(Rig { cluster: Arc::clone(&cluster), tasks });
        rig.pause(3).await;
        test(rig).await;
        world.shut_down();
        assert_eq!(world.panics(), Vec::<String>::new());
        assert_eq!(cluster.failures(), Vec::<String>::new());
        cluster.clear();
    };
    simulate(Box::pin(run)).unwrap();
}

const SIZES: [usize; 3] = [100, 2_000, 30_000];

async fn puts(rig: &Rig, bucket: &BucketRecord, word: &str) {
    for number in 0..12 {
        let key = format!("{word}-{number}");
        put(&rig.node(1), bucket, &key, SIZES[number % 3]).await.unwrap();
    }
}

/// Reads every byte of what [`puts`] wrote.
async fn gets(node: &Node, bucket: &BucketRecord, word: &str) {
    for number in 0..12 {
        let key = Key::new(format!("{word}-{number}").into_bytes()).unwrap();
        gets_all(node, bucket, &key, SIZES[number % 3]).await;
    }
}

async fn gets_all(node: &Node, bucket: &BucketRecord, key: &Key, size: usize) {
    let reader = node.catalog.get_object(bucket, key).await.unwrap();
    let bytes: Vec<_> = reader.read(0..reader.head.size).collect().await;
    let bytes: usize = bytes.into_iter().map(|piece| piece.unwrap().len()).sum();
    assert_eq!(bytes, size, "{key:?}");
}

#[test]
fn an_emptied_member_takes_writes_and_counts_for_none_until_it_is_rebuilt() {
    with_cluster(3, 1, |rig| async move {
        let bucket = rig.bucket(Level::Quorum).await;
        puts(&rig, &bucket, "before").await;
        let was = rig.node(3).membership.identity();

        rig.crash(2);
        rig.cluster.wipe(World::node_id(3)).unwrap();
        rig.start(3).await;
        rig.pause(30).await;

        let emptied = rig.node(3);
        let now = emptied.membership.identity();
        assert_eq!((now.node, now.cluster), (was.node, was.cluster));
        assert!(now.disk != was.disk && now.boot > was.boot + 1_000 && now.rebuilding);
        assert!(emptied.catalog.bucket("tests").is_some(), "its full copies are back");
        // Two of three owners took it, one of which lost all that it ever acknowledged.
        let refused = put(&rig.node(1), &bucket, "meanwhile", 100).await;
        assert!(matches!(refused, Err(CatalogError::Unavailable { .. })), "{refused:?}");

        rig.start(2).await;
        puts(&rig, &bucket, "after").await;
        rig.pause(120).await;
        assert!(!emptied.membership.identity().rebuilding, "it is rebuilt");

        rig.crash(3);
        rig.start(3).await;
        assert!(!rig.node(3).membership.identity().rebuilding, "that it is whole is durable");
        assert_eq!(*rig.node(3).membership.verdict().borrow(), None);
        rig.crash(1);
        rig.crash(2);
        rig.pause(6).await;
        let alone = bucket.at_level(Some(Level::Eventual)).unwrap();
        gets(&rig.node(3), &alone, "before").await;
        gets(&rig.node(3), &alone, "after").await;
    });
}

#[test]
fn a_node_with_a_wrong_clock_stamps_no_sloppy_write() {
    with_cluster(3, 2, |rig| async move {
        let bucket = rig.bucket(Level::Eventual).await;
        rig.world().wall(World::node_id(1)).unwrap().jump(20_000);
        rig.pause(8).await;

        let honest = rig.node(2).seams.clock.wall().0;
        let stamped = put(&rig.node(1), &bucket, "k", 100).await.unwrap().head.modified.0;
        assert!(stamped.abs_diff(honest) < 5_000, "{stamped} is not near {honest}");

        rig.crash(2);
        rig.crash(3);
        rig.pause(6).await;
        let alone = put(&rig.node(1), &bucket, "k", 100).await.unwrap_err().to_string();
        assert!(alone.contains("CLOCK_SKEW"), "{alone}");

        rig.start(2).await;
        rig.start(3).await;
        rig.world().wall(World::node_id(1)).unwrap().set_right();
        rig.pause(8).await;
        put(&rig.node(1), &bucket, "k", 100).await.unwrap();
    });
}

#[test]
fn a_node_with_a_slow_clock_passes_writes_on() {
    with_cluster(3, 5, |rig| async move {
        let eventual = rig.bucket(Level::Eventual).await;
        let strict = eventual.at_level(Some(Level::Strict)).unwrap();
        rig.world().wall(World::node_id(1)).unwrap().jump(-60_000);
        rig.pause(8).await;

        let honest = rig.node(2).seams.clock.wall().0;
        for bucket in [&strict, &eventual] {
            for key in ["a", "b", "c"] {
                let put = put(&rig.node(1), bucket, key, 100).await.unwrap();
                assert!(put.head.modified.0.abs_diff(honest) < 5_000, "{key}");
            }
        }
    });
}

#[test]
fn keys_that_a_wrong_clock_stamped_can_be_written_when_it_is_right_again() {
    with_cluster(3, 3, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        for number in 1..=3 {
            rig.world().wall(World::node_id(number)).unwrap().jump(3_600_000);
        }
        let early = put(&rig.node(1), &bucket, "k", 100).await.unwrap().head.modified;
        for number in 1..=3 {
            rig.world().wall(World::node_id(number)).unwrap().set_right();
        }
        rig.pause(8).await;

        let later = put(&rig.node(2), &bucket, "k", 200).await.unwrap().head.modified;

        assert!(later >= early, "{later:?} must not lie before {early:?}");
    });
}

#[test]
fn a_clock_that_was_ahead_and_was_set_right_keeps_nobody_from_writing() {
    with_cluster(3, 4, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        for jumped in [vec![1], vec![1, 2, 3]] {
            for number in &jumped {
                rig.world().wall(World::node_id(*number)).unwrap().jump(600_000);
            }
            // Whether it is taken or not, its coordinator has stamped it.
            drop(put(&rig.node(1), &bucket, "stamped", 100).await);
            for number in &jumped {
                rig.world().wall(World::node_id(*number)).unwrap().set_right();
            }
            rig.pause(8).await;

            for number in 1..=3 {
                for key in ["a", "b", "c"] {
                    let key = format!("{key} of {number} after {}", jumped.len());
                    put(&rig.node(number), &bucket, &key, 100).await.unwrap();
                }
            }
        }
    });
}

#[test]
fn nodes_that_stamped_nothing_since_they_began_stamp_above_what_they_replace() {
    with_cluster(3, 24, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        let wrong = |millis| {
            let wall = |number| rig.world().wall(World::node_id(number)).unwrap();
            (1..=3).for_each(|number| wall(number).jump(millis));
        };
        wrong(3_600_000);
        let early = put(&rig.node(1), &bucket, "k", 100).await.unwrap().head.modified;
        (1..=3).for_each(|number| rig.crash(number));
        wrong(-3_600_000);
        for number in 1..=3 {
            rig.start(number).await;
        }
        rig.pause(8).await;

        let later = put(&rig.node(2), &bucket, "k", 200).await.unwrap().head.modified;

        assert!(later >= early, "{later:?} must not lie before {early:?}");
        let key = Key::new(b"k".to_vec()).unwrap();
        assert_eq!(rig.node(3).catalog.head_object(&bucket, &key).await.unwrap().0.size, 200);
    });
}

#[test]
fn a_write_begun_before_its_bucket_was_changed_is_begun_again_as_the_bucket_is_now() {
    with_cluster(3, 4, |rig| async move {
        let old = rig.bucket(Level::Eventual).await;
        put(&rig.node(2), &old, "k", 100).await.unwrap();

        let new = rig.node(3).catalog.set_bucket(&old.name, Level::Strict).await.unwrap();
        let receipt = put(&rig.node(2), &old, "k", 200).await.unwrap();

        assert_eq!((new.epoch, new.level), (old.epoch + 1, Level::Strict));
        assert_eq!(receipt.served.level, Level::Strict);
        // A request that insists on what the bucket does not allow any more is refused.
        let insists = old.at_level(Some(Level::Eventual)).unwrap();
        let refused = put(&rig.node(2), &insists, "k", 300).await.unwrap_err();
        assert!(matches!(refused, CatalogError::Refused { .. }), "{refused}");
        assert!(new.at_level(Some(Level::Quorum)).is_err());
        assert!(new.at_level(Some(Level::All)).is_ok());
    });
}

#[test]
fn changes_need_all_members_and_say_who_is_missing() {
    with_cluster(3, 5, |rig| async move {
        let bucket = rig.bucket(Level::Quorum).await;
        rig.crash(3);
        rig.pause(4).await;

        let refused = rig.node(1).catalog.set_bucket(&bucket.name, Level::All).await.unwrap_err();

        let CatalogError::Unavailable { outcome, reason } = refused else { panic!("{refused}") };
        assert_eq!(outcome, Outcome::None);
        assert!(reason.contains(&World::node_id(3).short()), "{reason}");
    });
}

const UPLOADED: &str = "made/of parts";

/// Begins a completion and goes away after `patience`, as a client that is cut off.
async fn cut_off(node: &Node, bucket: &BucketRecord, patience: Duration) -> UploadId {
    let key = Key::new(UPLOADED.as_bytes().to_vec()).unwrap();
    let catalog = &node.catalog;
    let started = catalog.create_upload(bucket, key.clone(), NewObject::default()).await;
    let upload = started.unwrap().0;
    let mut body = Ready(Some(vec![7; 30_000].into()));
    let part = catalog.put_part(bucket, &key, upload, 1, &mut body).await.unwrap();
    let named = vec![(1, part.head.etag, Vec::new())];
    let completing = std::pin::pin!(catalog.complete_upload(bucket, &key, upload, named, None));
    let pause = node.seams.clock.sleep(patience);
    drop(futures_util::future::select(completing, pause).await);
    upload
}

#[test]
fn a_completion_that_was_broken_off_is_done_or_was_never_begun() {
    for level in [Level::Strict, Level::Eventual] {
        let left_half_done = Arc::new(Mutex::new(0));
        let count = Arc::clone(&left_half_done);
        with_cluster(3, 17, |rig| async move {
            let bucket = rig.bucket(level).await;
            let key = Key::new(UPLOADED.as_bytes().to_vec()).unwrap();
            for millis in 0..20 {
                let node = rig.node(1);
                let upload = cut_off(&node, &bucket, Duration::from_millis(millis)).await;
                rig.pause(1).await;
                let open = node.catalog.upload(&bucket, &key, upload).await.is_ok();
                let made = node.catalog.head_object(&bucket, &key).await.is_ok();
                *count.lock() += u64::from(!open && !made);

                rig.pause(if open { 1 } else { 120 }).await;

                let made = node.catalog.head_object(&bucket, &key).await.is_ok();
                assert_eq!(made, !open, "{level} after {millis} ms");
                if open {
                    node.catalog.abort_upload(&bucket, &key, upload).await.unwrap();
                } else {
                    gets_all(&node, &bucket, &key, 30_000).await;
                    node.catalog.delete_object(&bucket, &key).await.unwrap();
                }
            }
        });
        assert!(*left_half_done.lock() > 0, "{level}: no completion was left half done");
    }
}

#[test]
fn an_abort_of_what_was_to_be_completed_completes_it() {
    let met = Arc::new(Mutex::new(0));
    let count = Arc::clone(&met);
    with_cluster(3, 18, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        let key = Key::new(UPLOADED.as_bytes().to_vec()).unwrap();
        for millis in 0..20 {
            let node = rig.node(1);
            let upload = cut_off(&node, &bucket, Duration::from_millis(millis)).await;
            rig.pause(1).await;
            let open = node.catalog.upload(&bucket, &key, upload).await.is_ok();
            let made = node.catalog.head_object(&bucket, &key).await.is_ok();
            *count.lock() += u64::from(!open && !made);

            let aborted = node.catalog.abort_upload(&bucket, &key, upload).await;

            assert_eq!(aborted.is_ok(), open, "after {millis} ms: {aborted:?}");
            assert_eq!(node.catalog.head_object(&bucket, &key).await.is_ok(), !open);
            if !open {
                node.catalog.delete_object(&bucket, &key).await.unwrap();
            }
        }
    });
    assert!(*met.lock() > 0, "no completion was left half done");
}

fn conflicts_counted() -> u64 {
    let line = metrics::exposition();
    let line = line.lines().find(|line| line.starts_with("quorate_lww_conflicts_total "));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_default()
}

#[test]
fn what_both_sides_of_a_split_wrote_is_kept_once_and_listed_once() {
    (6..14).for_each(both_sides_write);
}

/// Both sides of a split write the same keys several times; of each key one write is lost.
fn both_sides_write(seed: u64) {
    with_cluster(5, seed, |rig| async move {
        let bucket = rig.bucket(Level::Eventual).await;
        let (some, others) = ([1, 2], [3, 4, 5]);
        put(&rig.node(1), &bucket, "seen-by-both", 50).await.unwrap();
        rig.pause(2).await;
        rig.split(&some, &others);
        rig.pause(5).await;
        for key in ["seen-by-both", "new"] {
            for size in [99, 100, 101] {
                put(&rig.node(1), &bucket, key, size).await.unwrap();
                rig.pause(1).await;
            }
            for size in [102, 103, 104] {
                put(&rig.node(4), &bucket, key, size).await.unwrap();
            }
        }
        let before = conflicts_counted();
        rig.heal(&some, &others);
        rig.pause(90).await;

        for key in ["seen-by-both", "new"] {
            let key = Key::new(key.as_bytes().to_vec()).unwrap();
            let all = bucket.at_level(Some(Level::All)).unwrap();
            rig.node(2).catalog.get_object(&all, &key).await.unwrap();
            rig.pause(60).await;
            let history = rig.node(5).catalog.history(&bucket, &key).await.unwrap();
            let lost: Vec<Option<u64>> = history.lost.iter().map(|lost| lost.size).collect();
            assert_eq!(lost, [Some(101)], "{key:?} with seed {seed}");
            assert_eq!(history.current.unwrap().object.unwrap().0, 104);
            let LostWrite { lost_to, stamp, .. } = &history.lost[0];
            assert!(lost_to > stamp);
        }
        assert_eq!(conflicts_counted() - before, 2);
    });
}

#[test]
fn a_slow_disk_stalls_no_request_whose_quorum_does_not_need_it() {
    with_cluster(3, 7, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        let key = Key::new(b"large-0".to_vec()).unwrap();
        rig.slow_down(3, Duration::from_secs(2));
        let began = rig.world().time().elapsed();

        for number in 0..20 {
            put(&rig.node(1), &bucket, &format!("small-{number}"), 100).await.unwrap();
            put(&rig.node(2), &bucket, &format!("attached-{number}"), 2_000).await.unwrap();
            put(&rig.node(1), &bucket, &format!("large-{number}"), 30_000).await.unwrap();
            rig.node(1).catalog.get_object(&bucket, &key).await.unwrap();
        }
        let page = ListObjects { max: 1_000, ..ListObjects::default() };
        for number in 1..=2 {
            let listed = rig.node(number).catalog.list_objects(&bucket, &page).await.unwrap();
            assert_eq!(listed.entries.len(), 60);
        }

        let took = rig.world().time().elapsed() - began;
        assert!(took < Duration::from_secs(4), "80 requests took {took:?}");
    });
}

#[test]
fn writes_beyond_what_a_disk_takes_are_refused_at_once() {
    with_cluster(1, 8, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        rig.slow_down(1, Duration::from_secs(3));
        let node = rig.node(1);
        let began = rig.world().time().elapsed();
        let deletes = (0..7_000).map(|number| {
            let key = Key::new(format!("k-{number}").into_bytes()).unwrap();
            let (node, bucket, rig) = (Arc::clone(&node), Arc::clone(&bucket), Arc::clone(&rig));
            async move {
                let deleted = node.catalog.delete_object(&bucket, &key).await;
                (deleted, rig.world().time().elapsed() - began)
            }
        });

        let answers = futures_util::future::join_all(deletes).await;

        let refused: Vec<Duration> = answers
            .iter()
            .filter(|(deleted, _)| matches!(deleted, Err(CatalogError::SlowDown { .. })))
            .map(|(_, at)| *at)
            .collect();
        assert!(refused.len() > 500, "{} were refused", refused.len());
        assert!(refused.iter().all(|at| *at < Duration::from_millis(100)), "refused late");
        assert!(answers.iter().filter(|(deleted, _)| deleted.is_ok()).count() > 5_000);
    });
}

#[test]
fn too_few_owners_cannot_say_that_there_is_nothing() {
    with_cluster(3, 19, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        rig.crash(1);
        put(&rig.node(2), &bucket, "written", 100).await.unwrap();
        rig.start(1).await;
        rig.crash(2);
        rig.crash(3);
        rig.pause(6).await;

        for key in ["written", "never written"] {
            let key = Key::new(key.as_bytes().to_vec()).unwrap();
            let read = rig.node(1).catalog.head_object(&bucket, &key).await.map(drop);
            assert!(matches!(read, Err(CatalogError::Unavailable { .. })), "{key:?}: {read:?}");
        }
    });
}

#[test]
fn nobody_stands_in_for_the_owners_of_a_strict_bucket() {
    with_cluster(5, 20, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        rig.crash(4);
        rig.crash(5);
        rig.pause(6).await;
        let (mut taken, mut refused) = (0, 0);

        for number in 0..30 {
            match put(&rig.node(1), &bucket, &format!("k-{number}"), 100).await {
                Ok(_) => taken += 1,
                Err(CatalogError::Unavailable { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }

        // Of ten ways to choose three owners of five nodes, three have both that are away.
        assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
    });
}

#[test]
fn a_write_through_a_slow_clock_stands_above_those_that_were_acknowledged_before() {
    with_cluster(3, 21, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        rig.world().wall(World::node_id(1)).unwrap().jump(-3_000);
        rig.pause(8).await;
        for number in 0..20 {
            let name = format!("k-{number}");
            rig.split(&[1], &[2, 3]);
            rig.pause(1).await;
            put(&rig.node(2), &bucket, &name, 100).await.unwrap();
            rig.heal(&[1], &[2, 3]);

            put(&rig.node(1), &bucket, &name, 200).await.unwrap();

            let key = Key::new(name.into_bytes()).unwrap();
            for via in 1..=3 {
                let head = rig.node(via).catalog.head_object(&bucket, &key).await.unwrap();
                assert_eq!(head.0.size, 200, "{key:?} via {via}");
            }
        }
        let again = "a write is minted again above a newer one";
        let passed = rig.cluster.coverage().passed();
        assert!(passed.get(again).is_some_and(|times| *times > 0), "no write met a newer one");
    });
}

#[test]
fn a_completion_that_is_ended_late_does_not_undo_what_was_written_since() {
    with_cluster(3, 22, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        let key = Key::new(UPLOADED.as_bytes().to_vec()).unwrap();
        let mut overwritten = 0;
        for millis in 35..55 {
            let node = rig.node(1);
            let upload = cut_off(&node, &bucket, Duration::from_millis(millis)).await;
            let closed = node.catalog.upload(&bucket, &key, upload).await.is_err();
            if closed && node.catalog.head_object(&bucket, &key).await.is_ok() {
                overwritten += 1;
                put(&node, &bucket, UPLOADED, 50).await.unwrap();
                rig.pause(120).await;
                gets_all(&node, &bucket, &key, 50).await;
            }
            drop(node.catalog.abort_upload(&bucket, &key, upload).await);
            drop(node.catalog.delete_object(&bucket, &key).await);
        }
        assert!(overwritten > 0, "no completion was cut off after its object was made");
    });
}

/// A body of zeros whose sender pauses once, after so many bytes.
struct Slow {
    left: u64,
    pause_at: u64,
    world: Arc<World>,
    pause: Duration,
}

#[async_trait]
impl BodySource for Slow {
    fn length(&self) -> Option<u64> {
        None
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.left == self.pause_at {
            self.world.time().sleep(self.pause).await;
        }
        let piece = self.left.min(256 << 10);
        self.left -= piece;
        Ok((piece > 0).then(|| vec![0; usize::try_from(piece).unwrap()].into()))
    }

    fn verify(&mut self) -> Result<VerifiedBody, BodyError> {
        Ok(VerifiedBody { md5: [7; 16], checksums: Vec::new() })
    }
}

#[test]
fn the_bytes_of_a_body_that_comes_slowly_are_no_orphans() {
    with_cluster(3, 23, |rig| async move {
        let bucket = rig.bucket(Level::Strict).await;
        let node = rig.node(1);
        let key = Key::new(b"slow".to_vec()).unwrap();
        // Its first extent is sealed when the pause begins.
        let (left, pause_at) = (EXTENT_BYTES_MAX + (1 << 20), 1 << 19);
        let (world, pause) = (Arc::clone(rig.world()), Duration::from_secs(200));
        let mut body = Slow { left, pause_at, world, pause };

        node.catalog
            .put_object(&bucket, key.clone(), NewObject::default(), &mut body)
            .await
            .unwrap();

        rig.pause(200).await;
        gets_all(&node, &bucket, &key, usize::try_from(left).unwrap()).await;
    });
}
