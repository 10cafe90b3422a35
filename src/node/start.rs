//! Builds a node from its settings and its seams. The simulation calls the same functions.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::blob::{Blobs, UpkeepSettings};
use crate::catalog::{Catalog, CatalogLimits, CollectionSettings, PurgeFloors, SecretBox};
use crate::causality::HybridTime;
use crate::env::{Clock, Entropy, Monotonic, TaskHandle, Tasks, blocking};
use crate::membership::{
    Gossip, Identity, LayoutHolder, Membership, MembershipSeams, Memory, Rebuilding, own_facts,
};
use crate::net::Transport;
use crate::replication::{
    Coordinator, CopiesInUse, Floors, Guard, HYBRID_TIME_KEY, HintLimits, Hints, OwnStanding,
    Patience, PeerView, Repair, RepairSettings, Replica, ReplicaStanding, ReplicationError, Site,
    TableId,
};
use crate::ring::{Capacity, Partition};
use crate::store::{
    CommitLimits, Disk, Family, MetaStore, Rows, SegmentLog, SegmentOptions, StoreError,
};
use crate::types::{ByteCount, Zone};

use super::handler::Switchboard;
use super::peers::KnownPeers;

/// How often the segments' derived rows are made durable, which bounds recovery.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// Copies of the rows of a bucket that says nothing else.
pub(super) const COPIES: usize = 3;

/// How often facts about this node are published.
const FACTS_EVERY: Duration = Duration::from_secs(10);

/// What a node is told.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The operator's name for it.
    pub name: String,
    /// Its failure domain.
    pub zone: Zone,
    /// What it may hold.
    pub capacity: ByteCount,
    /// From which keys for stored secrets are derived.
    pub secret: [u8; 32],
    /// Sizes and bounds of the catalogue.
    pub limits: CatalogLimits,
    /// How long coordinators wait.
    pub patience: Patience,
    /// The size of a segment file.
    pub segment_size: ByteCount,
    /// How much it keeps for owners that are away.
    pub hints: HintLimits,
    /// How its copies are compared with others.
    pub repair: RepairSettings,
    /// How thoroughly it looks after its bytes.
    pub upkeep: UpkeepSettings,
    /// When it frees bytes that lost their name.
    pub collection: CollectionSettings,
}

/// The seams that a node needs before it has an identity.
#[derive(Clone)]
pub struct Seams {
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Tasks.
    pub tasks: Arc<dyn Tasks>,
    /// Its folder.
    pub disk: Arc<dyn Disk>,
    /// Its folder of segments.
    pub segments: Arc<dyn Disk>,
    /// Its tables.
    pub meta: Arc<dyn MetaStore>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its stored records.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// Its keys.
    #[error("keys cannot be derived from the cluster secret")]
    Secrets,
}

/// Who a node is and what it has on disk, before it talks to anybody.
pub struct Foundation {
    /// Its seams.
    pub seams: Seams,
    /// Its identity, this start counted.
    pub identity: Identity,
    /// Its clock and actors; also what rides in the headers of frames.
    pub site: Arc<Site>,
    /// The layout in force.
    pub holder: Arc<LayoutHolder>,
    /// What it knows from earlier.
    pub memory: Memory,
}

impl Foundation {
    /// Reads or makes the identity and counts this start durably.
    ///
    /// # Errors
    /// [`StartError::Store`] if the folder is damaged, full or read-only.
    pub async fn lay(seams: Seams) -> Result<Self, StartError> {
        let (disk, entropy) = (Arc::clone(&seams.disk), Arc::clone(&seams.entropy));
        let identity = blocking(&seams.tasks, move || Identity::start(&disk, &*entropy))
            .await
            .unwrap_or(Err(StoreError::Stopping))?;
        let holder = LayoutHolder::open(Arc::clone(&seams.meta))?;
        let highest = seams
            .meta
            .get(Family::Local, HYBRID_TIME_KEY)?
            .and_then(|bytes| Some(HybridTime(u64::from_le_bytes(bytes[..].try_into().ok()?))));
        // A stamp that was minted and not stored may be minted again: its dot tells them apart.
        let floor = highest.unwrap_or_default();
        let site = Site::new(
            identity.node,
            identity.boot,
            floor,
            (Arc::clone(&seams.clock), Arc::clone(&seams.entropy), Arc::clone(&seams.tasks)),
        );
        let memory =
            Memory::open(&seams.meta, &identity, &*seams.entropy, Arc::clone(&site.clocks))?;
        Ok(Self { seams, identity, site, holder, memory })
    }
}

impl OwnStanding for Rebuilding {
    fn of(&self, partition: Partition) -> ReplicaStanding {
        match self.counts(partition) {
            true => ReplicaStanding::Counted,
            false => ReplicaStanding::Rebuilding,
        }
    }
}

/// A running node.
pub struct Node {
    /// Membership and the layout.
    pub membership: Arc<Membership>,
    /// Buckets, credentials, objects.
    pub catalog: Catalog,
    /// Extents.
    pub blobs: Blobs,
    /// Quorum requests.
    pub coordinator: Coordinator,
    /// What it keeps for owners that are away.
    pub hints: Arc<Hints>,
    /// What compares its copies with others.
    pub repair: Arc<Repair>,
    /// Its seams.
    pub seams: Seams,
    /// What it was told.
    pub settings: NodeSettings,
    /// When it started.
    pub started: Monotonic,
    /// What looks after its bytes.
    _workers: Vec<TaskHandle>,
}

impl Node {
    /// Recovers what is on disk, wires the parts, and serves peers from then on.
    ///
    /// # Errors
    /// [`StartError`] if the disk cannot be recovered.
    pub async fn start(
        settings: NodeSettings,
        foundation: Foundation,
        transport: Arc<dyn Transport>,
        gossip: Arc<dyn Gossip>,
    ) -> Result<Arc<Self>, StartError> {
        let Foundation { seams, identity, site, holder, memory } = foundation;
        let rows =
            Rows::start(Arc::clone(&seams.meta), Arc::clone(&seams.tasks), CommitLimits::default());
        let segments = open_segments(&settings, &seams, &identity).await?;
        let tables = Catalog::tables();
        let replica = Replica::new(rows, tables.clone(), Arc::clone(&site));
        let peers = KnownPeers::follow(
            Arc::clone(&gossip),
            Arc::clone(&transport),
            Arc::clone(&seams.clock),
            &seams.tasks,
        );
        let coordinator = Coordinator::new(
            Arc::clone(&site),
            replica,
            tables,
            Arc::clone(&holder),
            Arc::clone(&transport),
            peers as Arc<dyn PeerView>,
        )
        .with_patience(settings.patience)
        .with_hint_limits(settings.hints)
        .with_standing(Arc::clone(&memory.rebuilding) as Arc<dyn OwnStanding>);
        let blobs = Blobs::new(coordinator.clone(), segments)?;
        let secrets = SecretBox::new(&settings.secret).map_err(|_| StartError::Secrets)?;
        let catalog = Catalog::start(coordinator.clone(), blobs.clone(), secrets, settings.limits)?;
        let (hints, repair) = open_repair(&coordinator, &catalog, settings.repair)?;
        hints.set_pusher(Arc::new(blobs.clone()));
        let workers = look_after_bytes(&settings, &catalog, &blobs);
        let membership = Membership::new(
            MembershipSeams {
                clock: Arc::clone(&seams.clock),
                entropy: Arc::clone(&seams.entropy),
                tasks: Arc::clone(&seams.tasks),
                transport: Arc::clone(&transport),
                gossip,
                disk: Arc::clone(&seams.disk),
            },
            identity,
            Arc::clone(&holder),
            memory,
        );
        transport.serve(Arc::new(Switchboard {
            membership: Arc::clone(&membership),
            coordinator: coordinator.clone(),
            blobs: blobs.clone(),
            catalog: catalog.clone(),
            repair: Arc::clone(&repair),
        }));
        hints.start();
        repair.start();
        let started = seams.clock.monotonic();
        let node = Arc::new(Self {
            membership,
            catalog,
            blobs,
            coordinator,
            hints,
            repair,
            seams,
            settings,
            started,
            _workers: workers,
        });
        node.begin_to_speak();
        Ok(node)
    }

    /// Publishes who this node is, and starts what runs beside requests.
    fn begin_to_speak(self: &Arc<Self>) {
        let gossip = self.membership.gossip();
        let gib = u32::try_from(self.settings.capacity.0.div_ceil(1 << 30)).unwrap_or(u32::MAX);
        if let Some(layout) = self.membership.holder().current() {
            self.membership.publish(&layout);
        }
        let cluster = self.membership.identity().cluster;
        gossip.publish(
            crate::membership::facts::CLUSTER,
            cluster.map(|cluster| cluster.to_string()).unwrap_or_default(),
        );
        if self.membership.memory().rebuilding.is_active() {
            // At once: until it is known how much there is, that it has nothing yet.
            gossip.publish(crate::membership::facts::REBUILDING, "0/0".to_owned());
        }
        let started = self.seams.clock.wall().0.to_string();
        gossip.publish("started", started);
        for (fact, value) in own_facts(&self.settings.name, &self.settings.zone, Capacity(gib)) {
            let is_layout = fact == crate::membership::facts::LAYOUT;
            if !is_layout || self.membership.holder().current().is_none() {
                gossip.publish(fact, value);
            }
        }
        let tasks = &self.seams.tasks;
        let membership = Arc::clone(&self.membership);
        tasks.spawn("follow layout", membership.follow_layout().boxed()).detach();
        tasks.spawn("layout version", Arc::clone(self).follow_version().boxed()).detach();
        tasks.spawn("checkpoint", Arc::clone(self).checkpoint_for_ever().boxed()).detach();
        let rounds = Membership::rounds_for_ever(Arc::downgrade(&self.membership));
        tasks.spawn("membership rounds", rounds.boxed()).detach();
        let rebuild = Self::rebuild(Arc::downgrade(self));
        tasks.spawn("rebuilding", rebuild.boxed()).detach();
        tasks.spawn("facts", Arc::clone(self).publish_for_ever().boxed()).detach();
    }

    async fn follow_version(self: Arc<Self>) {
        let mut versions = self.membership.holder().versions();
        loop {
            let version = *versions.borrow_and_update();
            self.coordinator.site().set_layout_version(version);
            if versions.changed().await.is_err() {
                return;
            }
        }
    }

    async fn checkpoint_for_ever(self: Arc<Self>) {
        loop {
            self.seams.clock.sleep(CHECKPOINT_EVERY).await;
            if let Err(error) = self.blobs.segments().checkpoint().await {
                tracing::error!(%error, "the segments' checkpoint failed");
            }
        }
    }

    async fn publish_for_ever(self: Arc<Self>) {
        loop {
            let disk = Arc::clone(&self.seams.segments);
            if let Some(Ok(space)) = blocking(&self.seams.tasks, move || disk.space()).await {
                let gossip = self.membership.gossip();
                let (segments, meta) = (self.blobs.segments().figures(), self.seams.meta.figures());
                super::figures::show(&meta, &segments, space, &gossip.peers());
                let used = segments.bytes.saturating_add(meta.disk_bytes);
                gossip.publish("used", used.to_string());
                gossip.publish("free", space.free.to_string());
            }
            self.seams.clock.sleep(FACTS_EVERY).await;
        }
    }

    /// Makes everything durable that is derived, after the listeners were stopped.
    pub async fn stop(&self) {
        if let Err(error) = self.coordinator.replica().settle().await {
            tracing::error!(%error, "the last commits failed");
        }
        if let Err(error) = self.blobs.segments().checkpoint().await {
            tracing::error!(%error, "the last checkpoint failed");
        }
    }
}

/// Sets the guards of this node's copies, and what keeps them and the others' alike.
fn open_repair(
    coordinator: &Coordinator,
    catalog: &Catalog,
    settings: RepairSettings,
) -> Result<(Arc<Hints>, Arc<Repair>), StartError> {
    let replica = coordinator.replica();
    let floors = Floors::open(replica.rows().clone(), Arc::clone(coordinator.site()))?;
    // The ledger last: it counts what the others let in.
    replica.set_guards(vec![
        catalog.guard(),
        Arc::clone(&floors) as Arc<dyn Guard>,
        Arc::clone(coordinator.kept()) as Arc<dyn Guard>,
    ]);
    catalog.set_floors(Arc::new(PurgedFloors(Arc::clone(&floors))));
    let hints = Hints::new(coordinator.clone());
    let of_buckets = catalog.clone();
    let copies = Box::new(move || copies_in_use(&of_buckets));
    let repair = Repair::open(coordinator.clone(), Arc::clone(&hints), floors, settings, copies)?;
    Ok((hints, repair))
}

/// The floors, as whoever looks for orphans asks for them.
struct PurgedFloors(Arc<Floors>);

impl PurgeFloors for PurgedFloors {
    fn purged(&self, partition: Partition) -> HybridTime {
        self.0.of(partition).purged
    }
}

/// How many copies rows of the buckets are to have; a new bucket may have the usual number.
fn copies_in_use(catalog: &Catalog) -> CopiesInUse {
    let usual = CopiesInUse { least: COPIES, most: COPIES };
    catalog.buckets().iter().map(|bucket| usize::from(bucket.n)).fold(usual, |copies, n| {
        CopiesInUse { least: copies.least.min(n), most: copies.most.max(n) }
    })
}

/// Lets bytes follow their records: in the batch of each change, and by workers from then on.
fn look_after_bytes(settings: &NodeSettings, catalog: &Catalog, blobs: &Blobs) -> Vec<TaskHandle> {
    let mut companions = catalog.companions();
    companions.insert(TableId::Extents, blobs.companion());
    catalog.coordinator().replica().set_companions(companions);
    let mut workers = blobs.start_upkeep(settings.upkeep);
    let coordinator = catalog.coordinator();
    let tasks = &coordinator.site().tasks;
    workers.push(tasks.spawn("mending", coordinator.clone().mend_for_ever().boxed()));
    let scrubbing = coordinator.clone().scrub_rows_for_ever(settings.upkeep.scrub_interval);
    workers.push(tasks.spawn("row scrubber", scrubbing.boxed()));
    workers.push(catalog.start_collection(settings.collection));
    workers.push(catalog.start_orphanage(settings.collection.read_grace));
    workers
}

async fn open_segments(
    settings: &NodeSettings,
    seams: &Seams,
    identity: &Identity,
) -> Result<SegmentLog, StartError> {
    let options = SegmentOptions {
        segment_size: settings.segment_size,
        ..SegmentOptions::new(identity.disk)
    };
    let (segments, report) = SegmentLog::open(
        Arc::clone(&seams.segments),
        Arc::clone(&seams.meta),
        Arc::clone(&seams.tasks),
        options,
    )
    .await?;
    tracing::info!(?report, "segments recovered");
    Ok(segments)
}
