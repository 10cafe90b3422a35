//! Owners that compare their copies agree soon, at the cost of what differs, and what was purged
//! never comes back.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quorate::catalog::{
    BodyError, BodySource, BucketName, BucketRecord, CatalogError, CreateBucket, NewObject,
    OwnerId, VerifiedBody,
};
use quorate::causality::HybridTime;
use quorate::node::Node;
use quorate::replication::{
    Command, Inventory, Level, Purpose, RedundancySummary, RepairSettings, ReplicationError,
    RowKey, RowWrite, TableId,
};
use quorate::ring::Partition;
use quorate::store::Family;
use quorate::types::{Key, NodeId};
use quorate_simulation::cluster::{Cluster, ClusterOptions};
use quorate_simulation::entropy::Seed;
use quorate_simulation::faults::{self, Fault, Kind, Machines};
use quorate_simulation::world::{World, WorldOptions, simulate};

const BUCKET: &str = "repaired";
const PARTITIONS: u32 = 16;

type Rows = BTreeMap<(Family, Bytes), Bytes>;

/// A body of a few bytes.
struct Body(Option<Bytes>);

#[async_trait]
impl BodySource for Body {
    fn length(&self) -> Option<u64> {
        self.0.as_ref().map(|bytes| bytes.len() as u64)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        Ok(self.0.take())
    }

    fn verify(&mut self) -> Result<VerifiedBody, BodyError> {
        Ok(VerifiedBody { md5: [0; 16], checksums: Vec::new() })
    }
}

/// A cluster with one bucket.
struct Lab {
    cluster: Arc<Cluster>,
}

fn quick() -> RepairSettings {
    RepairSettings { interval: Duration::from_secs(10), purge_lag: Duration::from_secs(60) }
}

impl Lab {
    async fn with(seed: u64, nodes: u8, level: Level, repair: RepairSettings) -> Self {
        let world = World::new(Seed(seed), WorldOptions::default());
        let options =
            ClusterOptions { nodes, partitions: PARTITIONS, repair, ..ClusterOptions::default() };
        let cluster = Cluster::new(&world, options, Box::new(|_, _| {})).unwrap();
        world.nodes().into_iter().for_each(|node| cluster.start(node));
        cluster.init().await.unwrap();
        let lab = Self { cluster };
        let name: BucketName = BUCKET.parse().unwrap();
        let request =
            CreateBucket { name, owner: OwnerId("o".to_owned()), level: Some(level), n: None };
        while lab.node(1).catalog.create_bucket(request.clone()).await.is_err() {
            lab.sleep(1).await;
        }
        lab
    }

    async fn sleep(&self, seconds: u64) {
        self.cluster.world().time().sleep(Duration::from_secs(seconds)).await;
    }

    fn id(number: u8) -> NodeId {
        World::node_id(number)
    }

    fn node(&self, number: u8) -> Arc<Node> {
        self.cluster.node(Self::id(number)).unwrap()
    }

    fn bucket(&self, number: u8) -> Arc<BucketRecord> {
        self.node(number).catalog.bucket(BUCKET).unwrap()
    }

    async fn put(&self, via: u8, number: u32) {
        self.put_bytes(via, number, Bytes::from(format!("body of {number}"))).await;
    }

    async fn put_bytes(&self, via: u8, number: u32, bytes: Bytes) {
        let key = key(number);
        let (catalog, bucket) = (self.node(via).catalog.clone(), self.bucket(via));
        let object = || NewObject { headers: Vec::new(), checksum: None };
        let mut body = Body(Some(bytes.clone()));
        while catalog.put_object(&bucket, key.clone(), object(), &mut body).await.is_err() {
            self.sleep(1).await;
            body = Body(Some(bytes.clone()));
        }
    }

    async fn delete(&self, via: u8, number: u32) {
        let (catalog, bucket) = (self.node(via).catalog.clone(), self.bucket(via));
        while catalog.delete_object(&bucket, &key(number)).await.is_err() {
            self.sleep(1).await;
        }
    }

    async fn is_there(&self, via: u8, number: u32) -> bool {
        let (catalog, bucket) = (self.node(via).catalog.clone(), self.bucket(via));
        for _ in 0..30 {
            match catalog.head_object(&bucket, &key(number)).await {
                Ok(_) => return true,
                Err(CatalogError::NoSuchKey) => return false,
                Err(_) => self.sleep(1).await,
            }
        }
        panic!("'{}' can be neither read nor missed", key(number));
    }

    /// Heads and inline bytes of a machine.
    fn objects(&self, number: u8) -> Rows {
        let mut rows = self.cluster.rows(Self::id(number));
        rows.retain(|(family, _), _| matches!(family, Family::Objects | Family::Inline));
        rows
    }

    fn tombstones(&self, number: u8) -> usize {
        let rows = self.objects(number);
        rows.iter()
            .filter(|((family, _), value)| *family == Family::Objects && value[0] & 1 != 0)
            .count()
    }

    async fn inventory(&self, command: Command) -> Inventory {
        self.node(1).repair.inventory(command).await.unwrap()
    }

    async fn summary(&self) -> RedundancySummary {
        let node = self.node(1);
        let now = node.seams.clock.wall().0;
        self.inventory(Command::Tell).await.summary(now, node.repair.settings().fresh())
    }

    /// Waits until it is so, for as many simulated seconds at most.
    async fn until(&self, seconds: u64, what: &str, so: impl Fn() -> bool) {
        for _ in 0..seconds {
            if so() {
                return;
            }
            self.sleep(1).await;
        }
        panic!("after {seconds} s it is not so that {what}");
    }

    async fn until_proven(&self, seconds: u64) {
        for _ in 0..seconds {
            if self.summary().await.proven == PARTITIONS {
                return;
            }
            self.sleep(1).await;
        }
        panic!("after {seconds} s: {:?}", self.summary().await);
    }

    /// Proves everything anew; how many seconds it took.
    async fn prove_again(&self) -> u64 {
        let now = self.node(1).coordinator.site().now();
        self.inventory(Command::Start { partition: None, since: now }).await;
        for second in 0..120 {
            let inventory = self.inventory(Command::Tell).await;
            if inventory.partitions.iter().all(|p| p.fully_proven_at.is_some_and(|at| at > now)) {
                return second;
            }
            self.sleep(1).await;
        }
        panic!("{:?}", self.inventory(Command::Tell).await);
    }

    async fn bytes_sent(&self) -> u64 {
        self.inventory(Command::Tell).await.nodes.values().map(|node| node.bytes_sent).sum()
    }

    /// Puts twenty objects, deletes the first ten, and waits until those are purged.
    async fn purged(&self) {
        for number in 0..20 {
            self.put(1, number).await;
        }
        for number in 0..10 {
            self.delete(1, number).await;
        }
        self.until(240, "tombstones were purged", || {
            (1..=3).all(|node| self.objects(node).len() == 20)
        })
        .await;
    }

    async fn nothing_came_back(&self) {
        for via in 1..=3 {
            for number in 0..20 {
                assert_eq!(self.is_there(via, number).await, number >= 10, "{number} via {via}");
            }
        }
        for node in 1..=3 {
            assert_eq!(self.objects(node).len(), 20, "rows on {node}");
        }
    }

    fn end(self) {
        let world = Arc::clone(self.cluster.world());
        world.shut_down();
        assert_eq!(world.panics(), Vec::<String>::new());
        assert_eq!(self.cluster.failures(), Vec::<String>::new());
        self.cluster.clear();
    }
}

fn key(number: u32) -> Key {
    Key::new(format!("key/{number:05}")).unwrap()
}

#[test]
fn a_new_cluster_is_proven_within_seconds() {
    simulate(async {
        let lab = Lab::with(1, 3, Level::Strict, RepairSettings::default()).await;

        lab.until_proven(10).await;

        lab.end();
    })
    .unwrap();
}

#[test]
fn a_cluster_of_one_node_is_proven_too() {
    simulate(async {
        let lab = Lab::with(2, 1, Level::Strict, RepairSettings::default()).await;
        lab.put(1, 0).await;

        lab.until_proven(10).await;

        lab.end();
    })
    .unwrap();
}

#[test]
fn copies_in_sync_cost_a_few_hundred_bytes_for_each_pair_of_owners() {
    simulate(async {
        let lab = Lab::with(3, 3, Level::Strict, RepairSettings::default()).await;
        for number in 0..400 {
            lab.put(1, number).await;
        }
        lab.prove_again().await;
        let before = lab.bytes_sent().await;

        lab.prove_again().await;

        let sent = lab.bytes_sent().await - before;
        // The inventories that were asked for meanwhile count too.
        let each = sent / u64::from(3 * PARTITIONS);
        assert!(each < 1_500, "{each} bytes for each pair and partition");
        lab.end();
    })
    .unwrap();
}

#[test]
fn an_owner_that_missed_writes_gets_them_soon_and_little_else() {
    simulate(async {
        let lab = Lab::with(4, 3, Level::Strict, RepairSettings::default()).await;
        for number in 0..300 {
            lab.put(1, number).await;
        }
        lab.prove_again().await;
        lab.cluster.crash(Lab::id(3));
        for number in 290..330 {
            lab.put(1, number).await;
        }
        for number in 0..10 {
            lab.delete(2, number).await;
        }
        lab.cluster.start(Lab::id(3));

        lab.until(30, "all hold the same", || {
            lab.cluster.node(Lab::id(3)).is_some()
                && lab.objects(1) == lab.objects(2)
                && lab.objects(1) == lab.objects(3)
        })
        .await;

        let nodes = lab.inventory(Command::Tell).await.nodes;
        let moved = nodes[&Lab::id(3)].rows_pulled;
        assert!((50..=75).contains(&moved), "{moved} rows came for 50 that were missed");
        lab.until_proven(30).await;
        lab.end();
    })
    .unwrap();
}

#[test]
fn an_owner_that_was_there_and_missed_bytes_gets_them_soon() {
    simulate(async {
        let lab = Lab::with(14, 3, Level::Strict, RepairSettings::default()).await;
        lab.until_proven(60).await;
        let full = Fault::at(Kind::DiskFull, Lab::id(3));
        lab.cluster.strike(full);
        for number in 0..5 {
            lab.put_bytes(1, number, Bytes::from(vec![number as u8; 300_000])).await;
        }
        let held = async |number| {
            let held = lab.node(number).blobs.segments().held(None, 100).await.unwrap();
            held.into_iter().map(|held| held.extent).collect::<Vec<_>>()
        };
        assert_eq!(held(1).await.len(), 5);
        assert_eq!(held(3).await, []);
        lab.cluster.relieve(full);

        // The routine round would come after ten minutes.
        for _ in 0..60 {
            if held(3).await == held(1).await && lab.objects(3) == lab.objects(1) {
                return lab.end();
            }
            lab.sleep(1).await;
        }
        panic!("{:?} of {:?}", held(3).await, held(1).await);
    })
    .unwrap();
}

/// Bytes that one machine sealed for a put that failed, and lost with its disks after it had told
/// the others that they should exist.
#[test]
fn bytes_that_nobody_has_keep_no_emptied_member_from_counting_and_are_freed() {
    simulate(async {
        let lab = Lab::with(15, 3, Level::Strict, quick()).await;
        for number in 0..20 {
            lab.put(1, number).await;
        }
        lab.until_proven(60).await;
        faults::cut_off(lab.cluster.world(), &[Lab::id(1)]);
        let (catalog, bucket) = (lab.node(1).catalog.clone(), lab.bucket(1));
        let mut body = Body(Some(Bytes::from(vec![7; 300_000])));
        let object = NewObject { headers: Vec::new(), checksum: None };
        let put = catalog.put_object(&bucket, key(99), object, &mut body).await;
        assert!(put.is_err());
        assert_eq!(lab.node(1).blobs.segments().held(None, 9).await.unwrap().len(), 1);
        drop(catalog);

        let machines: &dyn Machines = &lab.cluster;
        faults::heal(lab.cluster.world(), &lab.cluster.world().nodes(), machines);
        let wanted = |number| {
            let rows = lab.cluster.rows(Lab::id(number));
            rows.keys().filter(|(family, _)| *family == Family::Fetches).count()
        };
        for _ in 0..20_000 {
            if wanted(2) == 1 && wanted(3) == 1 {
                break;
            }
            lab.cluster.world().time().sleep(Duration::from_millis(1)).await;
        }
        lab.cluster.wipe(Lab::id(1)).unwrap();
        lab.cluster.start(Lab::id(1));
        lab.sleep(1).await;
        assert!(wanted(2) == 1 && wanted(3) == 1, "its bytes were only there");

        lab.until(60, "it counts again", || {
            let node = lab.cluster.node(Lab::id(1));
            node.is_some_and(|node| !node.membership.identity().rebuilding)
        })
        .await;
        lab.until(240, "nothing is wanted any more", || (1..=3).all(|node| wanted(node) == 0))
            .await;
        lab.until_proven(60).await;
        lab.end();
    })
    .unwrap();
}

#[test]
fn a_client_s_write_from_before_a_proof_is_refused_and_an_owner_s_is_taken() {
    simulate(async {
        let lab = Lab::with(16, 3, Level::Strict, RepairSettings::default()).await;
        lab.put(1, 0).await;
        lab.delete(1, 0).await;
        let rows = lab.objects(2);
        let (key, value) = rows.iter().find(|((family, _), _)| *family == Family::Objects).unwrap();
        let (partition, key) = key.1.split_first_chunk::<4>().unwrap();
        let row = RowKey::parse(TableId::Objects, &Bytes::copy_from_slice(key)).unwrap();
        // Behind one byte of flags stands the record.
        let (record, inline) = (value.slice(1..), Bytes::new());
        let partition = Partition(u32::from_be_bytes(*partition));
        let replica = Arc::clone(lab.node(2).coordinator.replica());
        let write = async |purpose| {
            let (row, record, inline) = (&row, &record, &inline);
            replica.write(RowWrite { row, partition, n: 3, purpose, record, inline }).await
        };
        let late = Purpose::Client { begun: HybridTime(1) };
        write(late).await.unwrap();

        lab.prove_again().await;

        let refused = write(late).await;
        assert!(matches!(refused, Err(ReplicationError::TooLate(_))), "{refused:?}");
        write(Purpose::Repair).await.unwrap();
        lab.end();
    })
    .unwrap();
}

#[test]
fn a_hint_stays_until_its_owner_has_said_that_it_has_the_row() {
    simulate(async {
        let lab = Lab::with(15, 5, Level::Eventual, RepairSettings::default()).await;
        lab.cluster.crash(Lab::id(3));
        lab.sleep(20).await;
        for number in 0..20 {
            lab.put(1, number).await;
        }
        lab.sleep(5).await;
        let hints = || -> usize {
            let of = |node: u8| lab.cluster.rows(Lab::id(node)).into_keys();
            let all = [1, 2, 4, 5].into_iter().flat_map(of);
            all.filter(|(family, _)| *family == Family::Hints).count()
        };
        let kept = hints();
        assert!(kept > 0, "nobody keeps a hint");
        // It is back and seems alive, and no request reaches it.
        lab.cluster.world().network().set_deaf(Lab::id(3), 1_000);
        lab.cluster.start(Lab::id(3));
        lab.sleep(40).await;

        assert_eq!(hints(), kept);

        lab.cluster.world().network().set_deaf(Lab::id(3), 0);
        lab.until(60, "all hints are delivered", || hints() == 0).await;
        lab.end();
    })
    .unwrap();
}

#[test]
fn tombstones_go_once_all_owners_have_them() {
    simulate(async {
        let lab = Lab::with(5, 3, Level::Strict, quick()).await;

        lab.purged().await;

        lab.nothing_came_back().await;
        lab.end();
    })
    .unwrap();
}

#[test]
fn a_replica_that_was_dead_since_before_the_delete_brings_nothing_back() {
    simulate(async {
        let lab = Lab::with(6, 3, Level::Strict, quick()).await;
        for number in 0..20 {
            lab.put(1, number).await;
        }
        lab.prove_again().await;
        lab.cluster.crash(Lab::id(3));
        for number in 0..10 {
            lab.delete(1, number).await;
        }
        lab.sleep(300).await;
        assert_eq!((lab.tombstones(1), lab.tombstones(2)), (10, 10), "the dead owner blocks");
        let blocked = lab.inventory(Command::Tell).await.nodes;
        assert!(blocked.values().any(|node| node.purge_blocked.is_some()), "{blocked:?}");

        lab.cluster.start(Lab::id(3));

        lab.until(240, "tombstones were purged", || {
            (1..=3).all(|node| lab.tombstones(node) == 0 && lab.objects(node).len() == 20)
        })
        .await;
        lab.nothing_came_back().await;
        lab.end();
    })
    .unwrap();
}

#[test]
fn an_old_disk_that_is_put_back_brings_nothing_back() {
    simulate(async {
        let lab = Lab::with(7, 3, Level::Strict, quick()).await;
        for number in 0..20 {
            lab.put(1, number).await;
        }
        let old = lab.cluster.rows(Lab::id(3));
        lab.purged().await;

        lab.cluster.put_back(Lab::id(3), old);
        assert_eq!(lab.objects(3).len(), 40, "the old disk has them still");
        lab.cluster.start(Lab::id(3));

        lab.until(120, "the old disk is like the others", || {
            lab.cluster.node(Lab::id(3)).is_some() && lab.objects(3) == lab.objects(1)
        })
        .await;
        lab.nothing_came_back().await;
        lab.until_proven(60).await;
        lab.end();
    })
    .unwrap();
}

#[test]
fn an_old_hint_brings_nothing_back() {
    simulate(async {
        let lab = Lab::with(8, 5, Level::Eventual, quick()).await;
        let mut old = BTreeMap::new();
        lab.cluster.crash(Lab::id(3));
        lab.sleep(20).await;
        for number in 0..20 {
            lab.put(1, number).await;
        }
        for number in [1, 2, 4, 5] {
            let rows = lab.cluster.rows(Lab::id(number));
            let hints = rows.keys().filter(|(family, _)| *family == Family::Hints).count();
            if hints > 0 {
                old.insert(number, rows);
            }
        }
        assert!(!old.is_empty(), "nobody keeps a hint");
        lab.cluster.start(Lab::id(3));
        for number in 0..20 {
            lab.delete(2, number).await;
        }
        let gone = || (1..=5).all(|node| lab.objects(node).is_empty());
        lab.until(400, "all was purged", gone).await;

        let (&keeper, rows) = old.iter().next().unwrap();
        lab.cluster.put_back(Lab::id(keeper), rows.clone());
        lab.cluster.start(Lab::id(keeper));

        lab.until(240, "the old hints were delivered in vain", || {
            lab.cluster.node(Lab::id(keeper)).is_some() && gone()
        })
        .await;
        for via in 1..=5 {
            for number in 0..20 {
                assert!(!lab.is_there(via, number).await, "{number} via {via}");
            }
        }
        lab.end();
    })
    .unwrap();
}

/// Rots all inline bytes of a machine, which is down meanwhile.
fn rot(lab: &Lab, number: u8) {
    let mut rows = lab.cluster.rows(Lab::id(number));
    for ((family, _), value) in &mut rows {
        if *family == Family::Inline {
            *value = value.iter().map(|byte| byte ^ 1).collect();
        }
    }
    lab.cluster.put_back(Lab::id(number), rows);
}

#[test]
fn rotten_inline_bytes_are_found_and_mended_before_the_other_copies_are_needed() {
    simulate(async {
        let lab = Lab::with(12, 3, Level::Strict, RepairSettings::default()).await;
        for number in 0..50 {
            lab.put(1, number).await;
        }
        lab.prove_again().await;
        let whole = lab.objects(2);

        rot(&lab, 2);
        lab.cluster.start(Lab::id(2));

        assert_ne!(lab.objects(2), whole);
        lab.until(90, "what rotted is whole again", || lab.objects(2) == whole).await;
        assert_eq!(lab.objects(1), whole);
        lab.end();
    })
    .unwrap();
}

#[test]
fn a_write_that_rotted_where_it_was_the_only_copy_does_not_stand_above_what_can_be_read() {
    simulate(async {
        let lab = Lab::with(13, 3, Level::Strict, RepairSettings::default()).await;
        lab.put(1, 7).await;
        lab.prove_again().await;
        let before = lab.objects(1);
        lab.cluster.crash(Lab::id(2));
        lab.cluster.crash(Lab::id(3));
        let (catalog, bucket) = (lab.node(1).catalog.clone(), lab.bucket(1));
        let mut body = Body(Some(Bytes::from("never acknowledged")));
        let object = NewObject { headers: Vec::new(), checksum: None };
        let put = catalog.put_object(&bucket, key(7), object, &mut body).await;
        assert!(put.is_err());
        assert_ne!(lab.objects(1), before, "it reached one disk");

        rot(&lab, 1);
        (1..=3).for_each(|node| lab.cluster.start(Lab::id(node)));

        let others_row = || (1..=3).all(|node| lab.objects(node) == before);
        lab.until(90, "all hold what can be read", others_row).await;
        assert!(lab.is_there(1, 7).await);
        lab.end();
    })
    .unwrap();
}

#[test]
fn leaves_of_an_older_release_are_built_before_anything_is_compared() {
    simulate(async {
        let lab = Lab::with(9, 3, Level::Strict, RepairSettings::default()).await;
        for number in 0..100 {
            lab.put(1, number).await;
        }
        let mut rows = lab.cluster.rows(Lab::id(3));
        rows.retain(|(family, key), _| {
            *family != Family::Leaves && key.as_ref() != b"leaves|built"
        });

        lab.cluster.put_back(Lab::id(3), rows);
        lab.cluster.start(Lab::id(3));
        lab.sleep(5).await;

        lab.prove_again().await;
        let nodes = lab.inventory(Command::Tell).await.nodes;
        let corrected: u64 = nodes.values().map(|node| node.leaves_corrected).sum();
        assert_eq!(corrected, 0, "what was built needs no correction");
        lab.end();
    })
    .unwrap();
}

#[test]
fn wrong_leaves_are_counted_again() {
    simulate(async {
        let lab = Lab::with(10, 3, Level::Strict, RepairSettings::default()).await;
        for number in 0..100 {
            lab.put(1, number).await;
        }
        lab.prove_again().await;
        let mut rows = lab.cluster.rows(Lab::id(3));
        for ((family, _), value) in &mut rows {
            if *family == Family::Leaves {
                *value = Bytes::from(vec![7; 16]);
            }
        }

        lab.cluster.put_back(Lab::id(3), rows);
        lab.cluster.start(Lab::id(3));
        lab.sleep(5).await;

        lab.prove_again().await;
        let nodes = lab.inventory(Command::Tell).await.nodes;
        assert!(nodes[&Lab::id(3)].leaves_corrected > 0);
        lab.end();
    })
    .unwrap();
}

#[test]
fn a_paused_repair_does_nothing_until_it_is_resumed_even_across_a_start() {
    simulate(async {
        let lab = Lab::with(11, 3, Level::Strict, quick()).await;
        lab.until_proven(10).await;
        lab.inventory(Command::Pause).await;
        lab.cluster.crash(Lab::id(2));
        lab.cluster.start(Lab::id(2));
        lab.sleep(120).await;
        assert_eq!(lab.summary().await.proven, 0, "{:?}", lab.summary().await);

        lab.inventory(Command::Resume).await;

        lab.until_proven(30).await;
        lab.end();
    })
    .unwrap();
}
