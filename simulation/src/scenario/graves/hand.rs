//! The one who writes a key: one operation after another, each until it is acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate::catalog::{BucketRecord, CatalogError, NewObject};
use quorate::env::Entropy;
use quorate::node::Node;
use quorate::replication::{Level, Outcome};
use quorate::types::Key;

use super::{BUCKET, State, WRITE_HEADER};
use crate::cluster::Cluster;
use crate::entropy::{Seed, SimEntropy};
use crate::faults::pick;
use crate::scenario::Plan;
use crate::scenario::objects::body::{End, SimBody, bytes_of, md5_of};
use crate::scenario::objects::history::WriteId;
use crate::scenario::stage::Stage;

/// After a write of unknown outcome nothing is done until it has taken effect, or never does:
/// longer than any machine pauses, and than a request may be under way.
const UNDER_WAY_MAX: Duration = Duration::from_secs(30);

/// What an operation leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing was ever done.
    Untouched,
    /// An object by one of these attempts.
    Object(BTreeSet<u64>),
    /// Nothing.
    Gone,
    /// The last operation was never acknowledged: its effect or that of the one before.
    Either(Box<Standing>, Box<Standing>),
}

impl Standing {
    fn allows(&self, seen: &[u64]) -> bool {
        match self {
            Self::Untouched | Self::Gone => seen.is_empty(),
            Self::Object(attempts) => {
                !seen.is_empty() && seen.iter().all(|write| attempts.contains(write))
            }
            Self::Either(one, other) => one.allows(seen) || other.allows(seen),
        }
    }
}

/// A key after its hand has stopped.
pub(super) struct Outcomes {
    /// The key.
    pub(super) key: Key,
    /// Through which interface it is read.
    pub(super) face: Face,
    standing: Standing,
    /// Values of unknown outcome: one that a minority took stands beside what came later, until
    /// a write supersedes it whose writer was shown it.
    stray: BTreeSet<u64>,
    /// What was done, for people.
    log: Vec<String>,
}

impl Outcomes {
    /// What is wrong about a reader seeing these writes.
    pub(super) fn fault(&self, seen: &[u64]) -> Option<String> {
        let strays = if self.face == Face::Kv { self.stray.clone() } else { BTreeSet::new() };
        let certain: Vec<u64> =
            seen.iter().copied().filter(|write| !strays.contains(write)).collect();
        if self.standing.allows(&certain) || self.standing.allows(seen) {
            return None;
        }
        let invariant = if seen.is_empty() { "I2" } else { "I4" };
        let (key, standing) = (&self.key, &self.standing);
        let log = self.log[self.log.len().saturating_sub(12)..].join("\n      ");
        Some(format!("{invariant}: {seen:?} under '{key}', not {standing:?}\n      {log}"))
    }
}

/// Through which interface a key is written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// Objects.
    S3,
    /// Keys and values, with siblings; at the strict level, so that what was read is known.
    Kv,
}

impl Face {
    /// The writes that are seen under a key.
    pub(super) async fn look(
        self,
        node: &Node,
        bucket: &BucketRecord,
        key: &Key,
    ) -> Result<Vec<u64>, CatalogError> {
        if self == Self::Kv {
            let read = node.catalog.kv_get(bucket, key, Level::Strict).await?;
            let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse().ok();
            return Ok(read.values.iter().map(|v| number(&v.value).unwrap_or(0)).collect());
        }
        let reader = match node.catalog.get_object(bucket, key).await {
            Ok(reader) => reader,
            Err(CatalogError::NoSuchKey) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let header = reader.head.headers.iter().find(|(name, _)| name == WRITE_HEADER);
        Ok(vec![header.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)])
    }
}

/// One key's writer. It is no part of any node.
pub(super) struct Hand<'a> {
    cluster: &'a Arc<Cluster>,
    state: &'a State,
    answer: Duration,
    key: Key,
    face: Face,
    seed: Seed,
    entropy: Arc<SimEntropy>,
    standing: Standing,
    stray: BTreeSet<u64>,
    log: Vec<String>,
    attempts: u64,
}

impl<'a> Hand<'a> {
    pub(super) fn new(
        cluster: &'a Arc<Cluster>,
        state: &'a State,
        seed: Seed,
        plan: &Plan,
        key: Key,
    ) -> Self {
        let seed = seed.of(&format!("hand {key}"));
        Self {
            cluster,
            state,
            answer: plan.answer(),
            key,
            face: if seed.of("face").happens(350) { Face::Kv } else { Face::S3 },
            seed,
            entropy: Arc::new(SimEntropy::new(seed)),
            standing: Standing::Untouched,
            stray: BTreeSet::new(),
            log: Vec::new(),
            attempts: 0,
        }
    }

    /// The key, and what must stand there.
    pub(super) fn outcomes(self) -> Outcomes {
        let Self { key, face, standing, stray, log, .. } = self;
        Outcomes { key, face, standing, stray, log }
    }

    fn note(&mut self, what: &str, outcome: Result<(), Outcome>) {
        let at = self.cluster.world().time().elapsed().as_secs_f64();
        self.log.push(format!("{at:.3} s {what}: {outcome:?}"));
    }

    /// Works until the faults are over.
    pub(super) async fn work(&mut self) {
        loop {
            let pause = 100 + self.entropy.below(2_500);
            self.sleep(Duration::from_millis(pause)).await;
            if self.state.curtain.stage() != Stage::Faults {
                return;
            }
            let puts = self.standing == Standing::Gone || self.standing == Standing::Untouched;
            // Mostly by turns.
            let puts = puts != (self.entropy.below(6) == 0);
            let next = if puts { self.put().await } else { self.delete().await };
            self.standing = match next {
                Some(standing) => standing,
                None => return,
            };
        }
    }

    async fn sleep(&self, pause: Duration) {
        self.cluster.world().time().sleep(pause).await;
    }

    async fn put(&mut self) -> Option<Standing> {
        let before = self.standing.clone();
        let mut tried = BTreeSet::new();
        for _ in 0..200 {
            self.attempts += 1;
            let number = self.attempts;
            let Some(outcome) = self.put_once(number).await else { continue };
            self.note(&format!("put {number}"), outcome);
            match outcome {
                Ok(()) => {
                    tried.insert(number);
                    return Some(Standing::Object(tried));
                }
                Err(Outcome::Unknown) => {
                    tried.insert(number);
                    self.stray.insert(number);
                    self.sleep(UNDER_WAY_MAX).await;
                }
                Err(Outcome::None) => self.sleep(Duration::from_millis(300)).await,
            }
        }
        self.standing = Standing::Either(Box::new(before), Box::new(Standing::Object(tried)));
        None
    }

    async fn delete(&mut self) -> Option<Standing> {
        let before = self.standing.clone();
        for _ in 0..200 {
            let Some(outcome) = self.delete_once().await else { continue };
            self.note("delete", outcome);
            match outcome {
                Ok(()) => return Some(Standing::Gone),
                Err(Outcome::Unknown) => self.sleep(UNDER_WAY_MAX).await,
                Err(Outcome::None) => self.sleep(Duration::from_millis(300)).await,
            }
        }
        self.standing = Standing::Either(Box::new(before), Box::new(Standing::Gone));
        None
    }

    /// A running gateway; waits a little if it drew one that is not.
    async fn gateway(&self) -> Option<Arc<Node>> {
        let nodes = self.cluster.world().nodes();
        let place = self.seed.of("gateway").with(self.entropy.below(u64::MAX));
        let found = self.cluster.node(pick(place, &nodes));
        if found.is_none() {
            self.sleep(Duration::from_millis(200)).await;
        }
        found
    }

    async fn put_once(&self, number: u64) -> Option<Result<(), Outcome>> {
        let node = self.gateway().await?;
        let bucket = node.catalog.bucket(BUCKET)?;
        if self.face == Face::Kv {
            return Some(self.outcome(Box::pin(self.put_value(&node, &bucket, number))).await);
        }
        let write = WriteId(number);
        let length = usize::try_from(1 + self.entropy.below(600)).unwrap_or(1);
        let (clock, draws) = (Arc::clone(&node.seams.clock), self.entropy.fork("body"));
        let mut body =
            SimBody::new(bytes_of(write, length), md5_of(write, 0), End::Whole, clock, draws);
        let headers = vec![(WRITE_HEADER.to_owned(), number.to_string())];
        let object = NewObject { headers, checksum: None };
        let put = node.catalog.put_object(&bucket, self.key.clone(), object, &mut body);
        Some(self.outcome(Box::pin(put)).await)
    }

    /// Writes a value over all that is there.
    async fn put_value(
        &self,
        node: &Node,
        bucket: &BucketRecord,
        number: u64,
    ) -> Result<(), CatalogError> {
        let context = match self.standing {
            // Where nothing stands, there is nothing to be known.
            Standing::Gone | Standing::Untouched => None,
            _ => node.catalog.kv_get(bucket, &self.key, Level::Strict).await?.context,
        };
        let value = Bytes::from(number.to_string());
        let asked = (Level::Strict, context);
        node.catalog.kv_put(bucket, &self.key, asked, value).await.map(drop)
    }

    async fn delete_once(&self) -> Option<Result<(), Outcome>> {
        let node = self.gateway().await?;
        let bucket = node.catalog.bucket(BUCKET)?;
        if self.face == Face::Kv {
            let level = (Level::Strict, None);
            let deleted = node.catalog.kv_delete(&bucket, &self.key, level);
            return Some(self.outcome(Box::pin(deleted)).await);
        }
        let deleted = node.catalog.delete_object(&bucket, &self.key);
        Some(self.outcome(Box::pin(deleted)).await)
    }

    /// What is known of an operation. One whose gateway died is waited for no longer.
    async fn outcome<T>(
        &self,
        operation: impl Future<Output = Result<T, CatalogError>> + Unpin,
    ) -> Result<(), Outcome> {
        let time = self.cluster.world().time();
        let longest = time.sleep(self.answer * 6 + Duration::from_secs(15));
        let longest = std::pin::pin!(longest);
        let ended = futures_util::future::select(operation, longest).await;
        let futures_util::future::Either::Left((result, _)) = ended else {
            self.state.count("unheard of");
            return Err(Outcome::Unknown);
        };
        match result {
            Ok(_) => {
                self.state.count("done");
                Ok(())
            }
            Err(
                CatalogError::Unavailable { outcome: Outcome::Unknown, .. }
                | CatalogError::BytesUnavailable { .. }
                | CatalogError::Internal { .. },
            ) => {
                self.state.count("unknown");
                Err(Outcome::Unknown)
            }
            Err(_) => {
                self.state.count("not done");
                Err(Outcome::None)
            }
        }
    }
}
