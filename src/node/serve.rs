//! A node on the real seams, from its configuration to its orderly stop.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::admin::{AdminToken, routes};
use crate::blob::UpkeepSettings;
use crate::catalog::{CatalogLimits, CollectionSettings};
use crate::env::{Clock, OsClock, OsEntropy, Tasks, TokioTasks, blocking};
use crate::http::{Environment, Limits, Listener, Server, Tls, router};
use crate::kv::{KvConfig, KvFront};
use crate::membership::{ChitchatGossip, Gossip, GossipConfig};
use crate::net::{ClusterSecret, PeerIdentity, QuicConfig, QuicLimits, QuicTransport, Transport};
use crate::replication::{HintLimits, Patience, RepairSettings};
use crate::ring::PartitionCount;
use crate::s3::{S3Config, S3Front};
use crate::store::{Disk, FolderDisk, MetaOptions, MetaStore, RocksMeta};
use crate::types::Zone;

use super::config::{Config, HostPort};
use super::control::Control;
use super::start::{Foundation, Node, NodeSettings, Seams};

/// What an upload holds in memory at most, near enough: queued chunks and read buffers.
const BYTES_PER_BODY: u64 = 2 << 20;
/// How long requests under way may take after a stop was asked for.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Runs a node until it is told to stop (SIGTERM or SIGINT).
///
/// # Errors
/// If it cannot start, or had to stop for a fault; the message says what to do.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    config.check()?;
    let clock: Arc<dyn Clock> = Arc::new(OsClock::new());
    let tasks: Arc<dyn Tasks> = Arc::new(TokioTasks::current());
    let seams = open_seams(&config, clock, tasks).await?;
    let secret = config.cluster.secret.as_ref().context("cluster.secret is missing")?;
    let secret = ClusterSecret::parse(secret.reveal())?;

    super::rejoin::recall(&config, &secret, &seams).await?;
    let foundation = Foundation::lay(seams.clone()).await.context("the node cannot start")?;
    let (transport, gossip) = join(&config, &secret, &foundation).await?;
    let settings = settings(&config, &secret);
    let node = Node::start(
        settings,
        foundation,
        Arc::clone(&transport) as Arc<dyn Transport>,
        gossip as Arc<dyn Gossip>,
    )
    .await
    .context("the node cannot start")?;
    let servers = listen(&config, &node).await?;
    let site = node.coordinator.site();
    tracing::info!(node = %site.node, boot = site.boot, "the node serves");

    let told = until_told(node.membership.verdict()).await;
    tracing::info!("stopping: requests under way may finish");
    let stops = servers.into_iter().map(|server| server.stop(STOP_GRACE));
    futures_util::future::join_all(stops).await;
    node.stop().await;
    transport.close(Duration::from_secs(1)).await;
    tracing::info!("stopped");
    told
}

async fn open_seams(
    config: &Config,
    clock: Arc<dyn Clock>,
    tasks: Arc<dyn Tasks>,
) -> anyhow::Result<Seams> {
    let folder = config.node.data_dir.clone();
    let options = MetaOptions {
        block_cache: config.store.block_cache,
        write_buffers: config.store.write_buffers,
    };
    let opened = blocking(&tasks, move || -> anyhow::Result<_> {
        let disk = FolderDisk::open(&folder)?;
        let segments = FolderDisk::open(&folder.join("segments"))?;
        let meta = RocksMeta::open(&folder.join("meta"), options)?;
        Ok((disk, segments, meta))
    });
    let (disk, segments, meta) = opened.await.context("the node is stopping")??;
    Ok(Seams {
        clock,
        entropy: Arc::new(OsEntropy::new()),
        tasks,
        disk: Arc::new(disk) as Arc<dyn Disk>,
        segments: Arc::new(segments) as Arc<dyn Disk>,
        meta: Arc::new(meta) as Arc<dyn MetaStore>,
    })
}

/// Binds the peer port and starts gossip on it.
async fn join(
    config: &Config,
    secret: &ClusterSecret,
    foundation: &Foundation,
) -> anyhow::Result<(Arc<QuicTransport>, Arc<ChitchatGossip>)> {
    let seams = &foundation.seams;
    let identity = PeerIdentity::derive(secret, foundation.identity.node)?;
    let transport = QuicTransport::bind(
        QuicConfig { listen: config.peer.listen, identity, limits: QuicLimits::default() },
        Arc::clone(&seams.clock),
        Arc::clone(&seams.entropy),
        Arc::clone(&seams.tasks),
        Arc::clone(&foundation.site) as Arc<dyn crate::net::LinkFacts>,
    )?;
    let advertise = match &config.peer.advertise {
        Some(host) => resolve(host).await?,
        None => transport.local_address()?,
    };
    let mut seeds = Vec::new();
    for peer in &config.cluster.peers {
        match resolve(peer).await {
            Ok(address) => seeds.push(address),
            // A peer that is not in the DNS yet must not keep the others from starting.
            Err(error) => tracing::warn!(%peer, %error, "a configured peer cannot be resolved"),
        }
    }
    // Members that were met before are found even if the configured peers are away.
    seeds.extend(foundation.memory.book.all().iter().map(|known| known.address));
    seeds.sort_unstable();
    seeds.dedup();
    let gossip = ChitchatGossip::start(
        Arc::clone(&transport),
        GossipConfig {
            cluster_id: hex::encode(&secret.derive("gossip")[..8]),
            node: foundation.identity.node,
            boot: foundation.identity.boot,
            advertise,
            seeds,
            interval: GossipConfig::INTERVAL,
        },
        Arc::clone(&seams.clock),
        Arc::clone(&seams.tasks),
    )
    .await?;
    Ok((transport, gossip))
}

pub(super) async fn resolve(host: &HostPort) -> anyhow::Result<SocketAddr> {
    let mut found = tokio::net::lookup_host(host.to_string())
        .await
        .with_context(|| format!("'{host}' cannot be resolved"))?;
    found.next().with_context(|| format!("'{host}' has no address"))
}

fn settings(config: &Config, secret: &ClusterSecret) -> NodeSettings {
    let bodies_max = (config.limits.body_bytes.0 / BYTES_PER_BODY).max(1);
    NodeSettings {
        name: config.node.name.clone(),
        zone: Zone::new(config.node.zone.clone()),
        capacity: config.node.capacity,
        secret: secret.derive("stored secrets"),
        limits: CatalogLimits {
            inline_max: config.store.inline_max,
            attached_max: config.store.attached_max,
            bodies_max: usize::try_from(bodies_max).unwrap_or(usize::MAX),
            auth_stale_max: config.cluster.auth_stale_max,
        },
        patience: Patience { answer: config.limits.request_deadline / 3, ..Patience::default() },
        segment_size: config.store.segment_size,
        upkeep: UpkeepSettings { scrub_interval: config.store.scrub_interval },
        collection: CollectionSettings {
            read_grace: config.store.read_grace,
            read_grace_min: config.limits.request_deadline * 2,
            ..CollectionSettings::default()
        },
        hints: HintLimits { bytes_max: config.hints.bytes_max, age_max: config.hints.age_max },
        repair: RepairSettings {
            interval: config.repair.interval,
            purge_lag: config.repair.purge_lag,
        },
    }
}

/// Opens the HTTP ports and serves them.
async fn listen(config: &Config, node: &Arc<Node>) -> anyhow::Result<Vec<Server>> {
    let seams = &node.seams;
    let (clock, tasks) = (Arc::clone(&seams.clock), Arc::clone(&seams.tasks));
    let limits = Limits {
        connections_max: usize::try_from(config.limits.connections).unwrap_or(usize::MAX),
        requests_max: usize::try_from(config.limits.requests).unwrap_or(usize::MAX),
        ..Limits::default()
    };
    let environment = Environment { clock, tasks };
    let mut ports = Ports { environment, limits, servers: Vec::new() };
    open_clients_ports(&mut ports, config, node).await?;
    let control = Arc::new(Control {
        node: Arc::clone(node),
        partitions: PartitionCount::new(config.cluster.partitions)?,
        default_level: config.s3.default_level,
    });
    let token = config.admin.token.as_ref().context("admin.token is missing")?;
    let admin = router(routes(control, AdminToken::new(token.reveal())));
    ports.open("admin", config.admin.listen, None, admin).await?;
    Ok(ports.servers)
}

/// Opens the ports of the S3 and the key-value API.
async fn open_clients_ports(
    ports: &mut Ports,
    config: &Config,
    node: &Arc<Node>,
) -> anyhow::Result<()> {
    let (clock, entropy) = (&node.seams.clock, &node.seams.entropy);
    let front = S3Front::new(
        node.catalog.clone(),
        S3Config {
            region: config.s3.region.clone(),
            root_domains: config.s3.root_domains.clone(),
            default_level: config.s3.default_level,
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
        },
    );
    let s3 = move |request| {
        let front = front.clone();
        async move { front.handle(request).await }
    };
    ports.open("s3", config.s3.listen, None, s3.clone()).await?;
    if let Some(address) = config.s3.tls_listen {
        ports.open("s3.tls", address, Some(server_certificate(config)?), s3).await?;
    }
    let front = KvFront::new(
        node.catalog.clone(),
        KvConfig {
            region: config.s3.region.clone(),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
        },
    );
    let kv = move |request| {
        let front = front.clone();
        async move { front.handle(request).await }
    };
    ports.open("kv", config.kv.listen, None, kv.clone()).await?;
    if let Some(address) = config.kv.tls_listen {
        ports.open("kv.tls", address, Some(server_certificate(config)?), kv).await?;
    }
    Ok(())
}

/// The HTTP ports of a node.
struct Ports {
    environment: Environment,
    limits: Limits,
    servers: Vec<Server>,
}

impl Ports {
    /// Binds one more and serves it.
    async fn open<S, F>(
        &mut self,
        name: &'static str,
        address: SocketAddr,
        tls: Option<Tls>,
        service: S,
    ) -> anyhow::Result<()>
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let port = Listener::bind(name, address, self.limits, tls).await?;
        self.servers.push(port.serve(self.environment.clone(), service));
        Ok(())
    }
}

fn server_certificate(config: &Config) -> anyhow::Result<Tls> {
    let made = match (&config.s3.tls_cert, &config.s3.tls_key) {
        (Some(certificate), Some(key)) => Tls::from_files(certificate, key)?,
        _ => {
            let folder: &Path = &config.node.data_dir.join("tls");
            Tls::self_signed(folder, &config.s3.root_domains)?
        }
    };
    Ok(made)
}

/// Resolves when the process is told to stop, or must not go on.
async fn until_told(mut verdict: watch::Receiver<Option<String>>) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    tokio::select! {
        biased;
        _ = terminate.recv() => Ok(()),
        Ok(reason) = verdict.wait_for(Option::is_some) => {
            bail!("{}", reason.clone().unwrap_or_default())
        }
        interrupted = tokio::signal::ctrl_c() => interrupted.context("SIGINT cannot be watched"),
    }
}
