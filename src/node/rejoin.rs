//! A node with an empty data folder asks, before anything else, whether its name and address are
//! those of a member: then it re-enters as that member, rebuilding.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::join_all;

use crate::env::{blocking, deadline_in};
use crate::membership::{FormerMember, Identity, Past, Recollection, past_of, who_was};
use crate::net::{
    ClusterSecret, LinkFacts, PeerIdentity, QuicConfig, QuicLimits, QuicTransport, Transport,
};
use crate::types::{DiskId, NodeId};

use super::config::Config;
use super::serve::resolve;
use super::start::Seams;

/// How long one peer is waited for. At the first start of a cluster nobody answers.
const ANSWER_MAX: Duration = Duration::from_millis(1_000);
/// How long peers may go on holding the emptied node for alive.
const FALLEN_WAIT: Duration = Duration::from_secs(20);
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A node that is nobody yet knows nothing worth telling.
struct NoFacts;

impl LinkFacts for NoFacts {
    fn outgoing(&self) -> (u64, u64) {
        (0, 0)
    }

    fn incoming(&self, _peer: NodeId, _layout_version: u64, _hybrid_time: u64) {}
}

/// Gives an empty folder the identity of the member that it belongs to, if there is one.
///
/// # Errors
/// If peers say that this member is alive, or disagree about it: a person must look.
pub(super) async fn recall(
    config: &Config,
    secret: &ClusterSecret,
    seams: &Seams,
) -> anyhow::Result<()> {
    let disk = Arc::clone(&seams.disk);
    let found = blocking(&seams.tasks, move || Identity::peek(&disk));
    let found = found.await.context("the node is stopping")??;
    if found.is_some_and(|identity| identity.cluster.is_some()) || config.cluster.peers.is_empty() {
        return Ok(());
    }
    let address = match &config.peer.advertise {
        Some(host) => resolve(host).await?,
        None => config.peer.listen,
    };
    let mut seeds = Vec::new();
    for peer in &config.cluster.peers {
        seeds.extend(resolve(peer).await.ok().filter(|seed| *seed != address));
    }
    let transport = provisional(config, secret, seams)?;
    let asked = ask_until_clear(&*transport, seams, &seeds, (&config.node.name, address)).await;
    transport.close(Duration::from_millis(100)).await;
    match asked? {
        Some(member) => re_enter(seams, &config.node.name, member).await,
        None => Ok(()),
    }
}

/// A transport under an id that nobody will ever see again, on a port of its own.
fn provisional(
    config: &Config,
    secret: &ClusterSecret,
    seams: &Seams,
) -> anyhow::Result<Arc<QuicTransport>> {
    let nobody = NodeId::from_bytes(seams.entropy.next_id());
    Ok(QuicTransport::bind(
        QuicConfig {
            listen: SocketAddr::new(config.peer.listen.ip(), 0),
            identity: PeerIdentity::derive(secret, nobody)?,
            limits: QuicLimits { dial_timeout: ANSWER_MAX, ..QuicLimits::default() },
        },
        Arc::clone(&seams.clock),
        Arc::clone(&seams.entropy),
        Arc::clone(&seams.tasks),
        Arc::new(NoFacts),
    )?)
}

/// Asks until peers agree that the member is down, or that there is none.
async fn ask_until_clear(
    transport: &dyn Transport,
    seams: &Seams,
    seeds: &[SocketAddr],
    (name, address): (&str, SocketAddr),
) -> anyhow::Result<Option<FormerMember>> {
    let deadline = deadline_in(&*seams.clock, FALLEN_WAIT);
    loop {
        let answers = ask_all(transport, seams, seeds, (name, address)).await;
        match past_of(&answers) {
            Past::New if answers.is_empty() => {
                tracing::info!("no configured peer answers: this empty folder is a new node's");
                return Ok(None);
            }
            Past::New => return Ok(None),
            Past::Member(member) => return Ok(Some(member)),
            Past::Disputed(one, other) => bail!(
                "peers disagree whether {name} at {address} is node {one} or {other}: give this \
                 node another name, or find out which data folder is right"
            ),
            Past::StillUp if seams.clock.monotonic() < deadline => {
                seams.clock.sleep(ASK_AGAIN).await;
            }
            Past::StillUp => bail!(
                "this data folder is empty, and the member {name} at {address} seems to be up: \
                 stop that one, or give this node another name and address"
            ),
        }
    }
}

/// The answers of the seeds, and of the members that they name.
async fn ask_all(
    transport: &dyn Transport,
    seams: &Seams,
    seeds: &[SocketAddr],
    who: (&str, SocketAddr),
) -> Vec<Recollection> {
    let ask = |address: SocketAddr| async move {
        let deadline = deadline_in(&*seams.clock, ANSWER_MAX);
        let node = transport.identify(address, deadline).await.ok()?;
        who_was(transport, node, who, deadline).await.ok()
    };
    let mut asked: BTreeSet<SocketAddr> = seeds.iter().copied().collect();
    let mut answers: Vec<Recollection> =
        join_all(asked.iter().map(|seed| ask(*seed))).await.into_iter().flatten().collect();
    let named = answers.iter().flat_map(|answer| answer.others.clone());
    let others: BTreeSet<SocketAddr> = named.filter(|other| asked.insert(*other)).collect();
    answers.extend(join_all(others.into_iter().map(ask)).await.into_iter().flatten());
    answers
}

async fn re_enter(seams: &Seams, name: &str, member: FormerMember) -> anyhow::Result<()> {
    tracing::warn!(
        name, node = %member.node, boot = member.boot,
        "this data folder is empty: re-entering as a member that lost its disk, to be rebuilt"
    );
    let identity = Identity::re_entering(&member, DiskId::from_bytes(seams.entropy.next_id()));
    let disk = Arc::clone(&seams.disk);
    let saved = blocking(&seams.tasks, move || identity.save(&disk));
    Ok(saved.await.context("the node is stopping")??)
}
