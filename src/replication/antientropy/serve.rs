//! The other side of an exchange: peers asking this node.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use crate::causality::HybridTime;
use crate::codec::{decode_message, encode_message};
use crate::merkle::LeafSet;
use crate::net::{HandlerError, Message};
use crate::replication::companion::{Purpose, RowWrite};
use crate::replication::error::ReplicationError;
use crate::replication::message::{HandedRow, ReplicaStanding, RowName, Want};
use crate::replication::table::RowKey;
use crate::ring::Partition;
use crate::types::NodeId;

use super::inventory::{Known, KnownPartition};
use super::local;
use super::message::{Ask, Command, RepairReply, RepairRequest, TreeName, TreeRoot};
use super::pair::{BATCH_BYTES, BATCH_ROWS, differing};
use super::service::{Exchanged, Paused, Repair, Scope};

/// A row that came whole.
pub(super) struct Unpacked {
    pub(super) row: RowKey,
    pub(super) n: u8,
    pub(super) record: Bytes,
    pub(super) inline: Bytes,
}

/// Takes rows and their inline bytes apart; refuses what is not of this partition.
pub(super) fn unpack(
    scope: &Scope,
    rows: Vec<HandedRow>,
    mut bytes: Bytes,
) -> Result<Vec<Unpacked>, String> {
    let unpacked = rows.into_iter().map(|handed| {
        let HandedRow { row, n, record, inline_length } = handed;
        let length = usize::try_from(inline_length).unwrap_or(usize::MAX);
        if length > bytes.len() {
            return Err("inline bytes are missing".to_owned());
        }
        let row = row.key();
        if row.table.is_full_copy() || row.partition(&scope.layout) != scope.partition {
            return Err("a row belongs elsewhere".to_owned());
        }
        Ok(Unpacked { row, n, record, inline: bytes.split_to(length) })
    });
    unpacked.collect()
}

/// Who asks, and what is known of its copy.
#[derive(Clone, Copy)]
struct Sender {
    node: NodeId,
    floor: HybridTime,
    standing: ReplicaStanding,
}

/// Whether an exchange came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Completed {
    Yes,
    No,
}

type Answer = Result<(RepairReply, Bytes), ReplicationError>;

fn plain(reply: RepairReply) -> Answer {
    Ok((reply, Bytes::new()))
}

impl Repair {
    /// Answers a peer.
    ///
    /// # Errors
    /// [`HandlerError`] for messages that cannot be read.
    pub async fn serve(
        self: &Arc<Self>,
        peer: NodeId,
        message: Message,
    ) -> Result<Message, HandlerError> {
        let Message { body, attachment } = message;
        let request = decode_message::<RepairRequest>(&body)
            .map_err(|error| HandlerError::Refused(error.to_string()))?;
        let repairs = !matches!(request.ask, Ask::Inventory | Ask::Control { .. });
        let answered = self.answer(peer, request, attachment).await;
        let (reply, attachment) = answered.unwrap_or_else(|error| {
            (RepairReply::Refused { reason: error.to_string() }, Bytes::new())
        });
        let body =
            encode_message(&reply).map_err(|error| HandlerError::Failed(error.to_string()))?;
        if repairs {
            self.count_sent(body.len() + attachment.len());
        }
        Ok(Message { body: body.into(), attachment })
    }

    async fn answer(
        self: &Arc<Self>,
        peer: NodeId,
        request: RepairRequest,
        attachment: Bytes,
    ) -> Answer {
        let scope = self.scope(request.partition)?;
        let version = scope.layout.version().0;
        if request.layout != version {
            return plain(RepairReply::StaleLayout { version });
        }
        if scope.layout.member(peer).is_none() {
            return plain(RepairReply::Refused { reason: "the sender is no member".to_owned() });
        }
        let floor = request.floor;
        let sender = Sender { node: peer, floor, standing: request.standing };
        match request.ask {
            Ask::Compare { roots } => self.compare(&scope, sender, &roots).await,
            Ask::Leaves { tree } => self.leaves(&scope, tree).await,
            Ask::Keys { tree, leaves, from } => self.keys(&scope, tree, &leaves, from).await,
            Ask::Records { tree, keys } => self.records(&scope, tree, &keys).await,
            Ask::Push { rows } => self.take(&scope, floor, rows, attachment).await,
            Ask::Outlived { tree, rows } => {
                let rows = rows.into_iter().map(|(key, digest)| (key, digest.into_array()));
                self.outlived(&scope, floor, tree, rows.collect()).await
            }
            Ask::Recount { tree } => {
                self.check(scope.partition, tree.table).await?;
                plain(RepairReply::Done)
            }
            Ask::Finish { complete } => {
                let complete = if complete { Completed::Yes } else { Completed::No };
                self.finished(&scope, sender, complete).await
            }
            Ask::Meet { peer } => {
                let report = self.exchange(&scope, peer).await?;
                plain(RepairReply::Met { report })
            }
            other => self.answer_driver(&scope, peer, other).await,
        }
    }

    /// Answers the driver of a round, or an operator's node.
    async fn answer_driver(self: &Arc<Self>, scope: &Scope, peer: NodeId, ask: Ask) -> Answer {
        match ask {
            Ask::Proven { proof } => {
                self.proofs.note(scope.partition, proof).await?;
                plain(RepairReply::Done)
            }
            Ask::Fence { fence } => {
                if self.coordinator.is_rebuilding(scope.partition) {
                    return plain(RepairReply::Rebuilding);
                }
                let oldest = self.fence(scope.partition, fence).await?;
                plain(RepairReply::Fenced { oldest })
            }
            Ask::Purge { purge } => {
                let rows = self.purge(scope.partition, purge).await?;
                plain(RepairReply::Erased { rows })
            }
            Ask::Hurry => {
                self.hurry_one(scope.partition);
                plain(RepairReply::Done)
            }
            Ask::Returned => {
                self.hurry_with(peer);
                plain(RepairReply::Done)
            }
            Ask::Control { command } => {
                self.obey(command).await?;
                plain(RepairReply::Inventory { known: self.known().await? })
            }
            _ => plain(RepairReply::Inventory { known: self.known().await? }),
        }
    }

    async fn compare(&self, scope: &Scope, sender: Sender, roots: &[TreeRoot]) -> Answer {
        let Sender { node: peer, floor, standing } = sender;
        if !self.built.load(Ordering::Acquire) {
            let reason = "its leaves are being built".to_owned();
            return plain(RepairReply::Refused { reason });
        }
        let Some(least) = self.shared_from(scope, peer) else {
            return plain(RepairReply::Refused { reason: "they share no rows".to_owned() });
        };
        let partition = scope.partition;
        let began = self.site().now();
        let trees = self.rows().scan_with(move |meta| local::read_trees(meta, partition)).await?;
        let my_floor = self.floors.of(partition).purged;
        let differing = differing(&trees.sums, roots, least);
        if differing.is_empty() && my_floor == floor {
            let missing = trees.missing;
            self.note_exchange(partition, peer, Exchanged { began, missing, peer: standing });
        } else {
            self.begun.lock().insert((partition, peer), began);
        }
        let standing = self.standing(partition);
        let (floor, missing) = (my_floor, trees.missing);
        plain(RepairReply::Compared { floor, missing, differing, standing })
    }

    async fn leaves(&self, scope: &Scope, tree: TreeName) -> Answer {
        let partition = scope.partition;
        let trees = self.rows().scan_with(move |meta| local::read_trees(meta, partition)).await?;
        let sums = trees.sums.get(&tree).map(|sums| sums.encode().into());
        Ok((RepairReply::Leaves, sums.unwrap_or_default()))
    }

    async fn keys(&self, scope: &Scope, tree: TreeName, leaves: &[u8], from: Bytes) -> Answer {
        let Some(leaves) = LeafSet::decode(leaves) else {
            return plain(RepairReply::Refused { reason: "no set of leaves".to_owned() });
        };
        let Ok(_place) = self.scans.acquire().await else {
            return plain(RepairReply::Refused { reason: "this node is stopping".to_owned() });
        };
        let partition = scope.partition;
        let page = self
            .rows()
            .scan_with(move |meta| local::read_page(meta, partition, tree, &leaves, &from));
        let page = page.await?;
        let rows = page.encode();
        Ok((RepairReply::Keys { next: page.next }, rows))
    }

    async fn records(&self, scope: &Scope, tree: TreeName, keys: &[Bytes]) -> Answer {
        let mut rows = Vec::new();
        let mut bytes = BytesMut::new();
        let (mut looked, mut damaged, mut weight) = (0, 0, 0);
        for key in keys.iter().take(BATCH_ROWS) {
            looked += 1;
            let Some(row) = RowKey::parse(tree.table, key) else { continue };
            let replica = self.coordinator.replica();
            let held = match replica.fetch(&row, scope.partition, Want::RecordAndBytes).await {
                Ok(held) => held,
                Err(error) => {
                    tracing::error!(%error, "a row that a peer lacks is damaged here");
                    damaged += 1;
                    continue;
                }
            };
            let Some(record) = held.record else { continue };
            weight += key.len() + record.len() + held.inline.len();
            bytes.extend_from_slice(&held.inline);
            let inline_length = u32::try_from(held.inline.len()).unwrap_or(u32::MAX);
            rows.push(HandedRow { row: RowName::of(&row), n: tree.n, record, inline_length });
            if weight >= BATCH_BYTES {
                break;
            }
        }
        self.tallies.pushed.fetch_add(rows.len() as u64, Ordering::Relaxed);
        Ok((RepairReply::Records { rows, looked, damaged }, bytes.freeze()))
    }

    /// Merges what another owner holds.
    async fn take(
        &self,
        scope: &Scope,
        floor: HybridTime,
        rows: Vec<HandedRow>,
        bytes: Bytes,
    ) -> Answer {
        let rows = match unpack(scope, rows, bytes) {
            Ok(rows) => rows,
            Err(reason) => return plain(RepairReply::Refused { reason }),
        };
        let replica = self.coordinator.replica();
        let (partition, purpose) = (scope.partition, Purpose::Exchange { floor });
        let writes = rows.iter().map(|handed| {
            let (row, record, inline, n) = (&handed.row, &handed.record, &handed.inline, handed.n);
            replica.write(RowWrite { row, partition, n, purpose, record, inline })
        });
        // All at once, so that they share a synced write.
        let written = futures_util::future::join_all(writes).await;
        let durable: Vec<bool> = written.iter().map(Result::is_ok).collect();
        let taken = durable.iter().filter(|durable| **durable).count() as u64;
        self.tallies.pulled.fetch_add(taken, Ordering::Relaxed);
        plain(RepairReply::Pushed { durable, pause_millis: replica.pause_millis() })
    }

    /// Erases rows that the sender, whose floor is `floor`, holds no more.
    async fn outlived(
        &self,
        scope: &Scope,
        floor: HybridTime,
        tree: TreeName,
        keys: Vec<(Bytes, [u8; 16])>,
    ) -> Answer {
        let (replica, partition) = (self.coordinator.replica(), scope.partition);
        let mut erased = 0;
        for (key, digest) in keys {
            let Some(row) = RowKey::parse(tree.table, &key) else { continue };
            let held = replica.fetch(&row, partition, Want::Record).await?;
            let Some(record) = held.record else { continue };
            if replica.stamp_of(tree.table, &record)?.time <= floor {
                erased += u64::from(replica.erase(&row, partition, Some(digest)).await?);
            }
        }
        plain(RepairReply::Erased { rows: erased })
    }

    /// An exchange is over; if it is complete, each side has what the other had.
    async fn finished(&self, scope: &Scope, sender: Sender, complete: Completed) -> Answer {
        let Sender { node: peer, floor, standing } = sender;
        let partition = scope.partition;
        let began = self.begun.lock().remove(&(partition, peer));
        if complete == Completed::Yes
            && floor > self.floors.of(partition).purged
            && self.shares_all(scope, self.me(), peer)
        {
            self.purge(partition, floor).await?;
        }
        let missing = self.rows().scan_with(move |meta| local::read_missing(meta, partition));
        let missing = missing.await?;
        if let (Completed::Yes, Some(began)) = (complete, began) {
            self.note_exchange(partition, peer, Exchanged { began, missing, peer: standing });
        }
        plain(RepairReply::Finished { missing })
    }

    /// What this node knows of all partitions.
    pub(super) async fn known(&self) -> Result<Known, ReplicationError> {
        let layout = self.coordinator.layout()?;
        let copies = self.most_copies();
        let owned: Vec<Partition> = layout.owned_by(self.me(), copies).collect();
        let lacking = self.rows().scan_with(move |meta| {
            let lacking = owned
                .iter()
                .map(|partition| Ok((*partition, local::read_missing(meta, *partition)?)));
            lacking.collect::<Result<std::collections::BTreeMap<_, _>, _>>()
        });
        let lacking = lacking.await?;
        let proofs = self.proofs.all();
        let short = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        let partitions = layout.partitions().iter().filter_map(|partition| {
            let missing = lacking.get(&partition).copied();
            let known = match (proofs.get(&partition), missing) {
                (Some(proven), missing) => KnownPartition(
                    partition,
                    proven.last.at,
                    proven.full,
                    (short(proven.last.copies.len()), short(proven.last.owners.len())),
                    proven.last.missing,
                    missing.unwrap_or(0),
                ),
                (None, Some(missing)) if missing > 0 => {
                    KnownPartition(partition, Default::default(), None, (0, 0), 0, missing)
                }
                (None, _) => return None,
            };
            Some(known)
        });
        Ok(Known { partitions: partitions.collect(), repair: self.progress() })
    }

    /// Does what an operator says.
    pub(super) async fn obey(&self, command: Command) -> Result<(), ReplicationError> {
        match command {
            Command::Pause => self.set_paused(Paused::Yes).await,
            Command::Resume => self.set_paused(Paused::No).await,
            Command::Start { partition, since } => {
                self.hurry(partition, since)?;
                self.set_paused(Paused::No).await
            }
            Command::Tell => Ok(()),
        }
    }
}
