//! The frozen result of placement: which node owns which partition.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::LayoutError;
use super::member::Member;
use super::placement::{self, Table, VACANT};
use super::preference::{LIST_LENGTH_MAX, PreferenceList};
use super::roster::Roster;
use super::token::{Partition, PartitionCount, Token};
use crate::types::{ClusterId, NodeId};

/// The most members of one layout, gateways included.
pub const MEMBERS_MAX: usize = 10_000;

/// Numbers the layouts of a cluster: the first is 1, each change adds one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LayoutVersion(pub u64);

impl fmt::Display for LayoutVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Who owns what, in one version. Immutable; share it in an `Arc`.
///
/// At its largest (65,536 partitions, lists of 20) it takes 2.6 MB, in memory and shipped.
#[derive(Clone, PartialEq, Eq)]
pub struct Layout {
    cluster: ClusterId,
    version: LayoutVersion,
    partitions: PartitionCount,
    members: Vec<Member>,
    // Row after row: the preference list of each partition as indexes into `members`.
    lists: Vec<u16>,
    list_length: usize,
    digest: [u8; 16],
}

impl Layout {
    /// The first layout of a cluster, version 1.
    ///
    /// # Errors
    /// [`LayoutError`] if nobody has capacity, a node is listed twice, or a limit is passed.
    pub fn first(
        cluster: ClusterId,
        partitions: PartitionCount,
        members: Vec<Member>,
    ) -> Result<Self, LayoutError> {
        let members = in_id_order(members)?;
        let roster = Roster::of(&members);
        let table = placement::place(&roster, partitions, None);
        Self::of_table(cluster, LayoutVersion(1), partitions, members, &roster, table)
    }

    /// The layout that follows this one, with other members. Placement keeps what still fits, so
    /// that little moves: see [`Layout::movement`].
    ///
    /// # Errors
    /// [`LayoutError`] if nobody has capacity, a node is listed twice, or a limit is passed.
    pub fn next(&self, members: Vec<Member>) -> Result<Self, LayoutError> {
        let version = self.version.0.checked_add(1);
        let version = version.ok_or(LayoutError::NoNextVersion(self.version.0))?;
        let members = in_id_order(members)?;
        let roster = Roster::of(&members);
        let table = placement::place(&roster, self.partitions, Some(self.table_for(&roster)));
        let version = LayoutVersion(version);
        Self::of_table(self.cluster, version, self.partitions, members, &roster, table)
    }

    /// The cluster that this layout belongs to.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> LayoutVersion {
        self.version
    }

    /// How many partitions the ring is cut into; the same in all versions.
    #[must_use]
    pub const fn partitions(&self) -> PartitionCount {
        self.partitions
    }

    /// All members, gateways included, in id order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A member by its id.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        let index = self.members.binary_search_by_key(&node, |member| member.node);
        index.ok().and_then(|index| self.members.get(index))
    }

    /// How many members have capacity.
    #[must_use]
    pub fn storage_nodes(&self) -> usize {
        self.members.iter().filter(|member| member.capacity.owns()).count()
    }

    /// The partition of a routing key.
    #[must_use]
    pub fn partition_of(&self, routing_key: &[u8]) -> Partition {
        self.partitions.partition_of(Token::of(routing_key))
    }

    /// Owners and fallbacks of a partition; empty if the layout has no such partition.
    #[must_use]
    pub fn preference_list(&self, partition: Partition) -> PreferenceList {
        let row = self.row(partition);
        PreferenceList::new(row.iter().map(|index| self.members[usize::from(*index)].node))
    }

    /// The partitions of which `node` is among the first `n` owners, ascending.
    pub fn owned_by(&self, node: NodeId, n: usize) -> impl Iterator<Item = Partition> + '_ {
        let index = self.members.binary_search_by_key(&node, |member| member.node).ok();
        self.partitions.iter().filter(move |partition| {
            let owners = self.row(*partition).iter().take(n);
            index.is_some_and(|index| owners.map(|owner| usize::from(*owner)).any(|o| o == index))
        })
    }

    /// A digest over everything in this layout: equal on all nodes for equal layouts, different
    /// for different ones.
    #[must_use]
    pub const fn digest(&self) -> [u8; 16] {
        self.digest
    }

    /// How many nodes each preference list has.
    pub(super) const fn list_length(&self) -> usize {
        self.list_length
    }

    /// All preference lists, row after row, as indexes into the members.
    pub(super) fn lists(&self) -> &[u16] {
        &self.lists
    }

    /// One preference list, as indexes into the members.
    pub(super) fn row(&self, partition: Partition) -> &[u16] {
        let start = partition.0 as usize * self.list_length;
        self.lists.get(start..start + self.list_length).unwrap_or(&[])
    }

    /// How many partitions each member owns at `n` copies, in member order.
    pub(super) fn loads(&self, n: usize) -> Vec<usize> {
        let mut loads = vec![0; self.members.len()];
        for row in self.lists.chunks_exact(self.list_length) {
            for index in row.iter().take(n) {
                loads[usize::from(*index)] += 1;
            }
        }
        loads
    }

    /// Puts a layout together and checks it, whether it was placed here or read from bytes.
    pub(super) fn checked(
        cluster: ClusterId,
        version: LayoutVersion,
        partitions: PartitionCount,
        members: Vec<Member>,
        lists: Vec<u16>,
    ) -> Result<Self, LayoutError> {
        let members = in_id_order(members)?;
        let storage = members.iter().filter(|member| member.capacity.owns()).count();
        let list_length = storage.min(LIST_LENGTH_MAX);
        if version.0 == 0 {
            return Err(LayoutError::Unsound("layout versions start at 1"));
        }
        if lists.len() != list_length * partitions.get() as usize {
            return Err(LayoutError::Unsound("its lists have another length than its members say"));
        }
        let mut layout =
            Self { cluster, version, partitions, members, lists, list_length, digest: [0; 16] };
        layout.check_rows()?;
        layout.digest = layout.computed_digest();
        Ok(layout)
    }

    fn check_rows(&self) -> Result<(), LayoutError> {
        for row in self.lists.chunks_exact(self.list_length) {
            for (slot, index) in row.iter().enumerate() {
                let Some(member) = self.members.get(usize::from(*index)) else {
                    return Err(LayoutError::Unsound("a list names a node that is no member"));
                };
                if !member.capacity.owns() {
                    return Err(LayoutError::Unsound("a list names a gateway"));
                }
                if row[..slot].contains(index) {
                    return Err(LayoutError::Unsound("a list names a node twice"));
                }
            }
        }
        Ok(())
    }

    fn of_table(
        cluster: ClusterId,
        version: LayoutVersion,
        partitions: PartitionCount,
        members: Vec<Member>,
        roster: &Roster,
        table: Table,
    ) -> Result<Self, LayoutError> {
        let mut lists = table.into_cells();
        for cell in &mut lists {
            if *cell == VACANT {
                return Err(LayoutError::Unsound("placement left a slot vacant"));
            }
            *cell = roster.member_index(*cell);
        }
        Self::checked(cluster, version, partitions, members, lists)
    }

    /// The lists of this layout in the ranks of another roster; nodes that it lacks are vacant.
    fn table_for(&self, roster: &Roster) -> Table {
        let ranks: Vec<_> = self
            .members
            .iter()
            .map(|member| roster.rank_of(member.node).unwrap_or(VACANT))
            .collect();
        let mut table = Table::vacant(self.partitions.get(), self.list_length);
        for partition in self.partitions.iter() {
            for (slot, index) in self.row(partition).iter().enumerate() {
                *table.slot_mut(partition.0, slot) = ranks[usize::from(*index)];
            }
        }
        table
    }

    /// SHA-256 over the layout's own bytes rather than its encoding, so that a later format with
    /// the same content has the same digest.
    fn computed_digest(&self) -> [u8; 16] {
        let mut bytes = Vec::with_capacity(self.lists.len() * 2 + self.members.len() * 64);
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        bytes.extend_from_slice(b"quorate layout 1");
        bytes.extend_from_slice(self.cluster.as_bytes());
        bytes.extend_from_slice(&self.version.0.to_le_bytes());
        bytes.extend_from_slice(&self.partitions.get().to_le_bytes());
        bytes.extend_from_slice(&(self.members.len() as u32).to_le_bytes());
        for member in &self.members {
            bytes.extend_from_slice(member.node.as_bytes());
            text(&mut bytes, member.zone.as_str());
            bytes.extend_from_slice(&member.capacity.0.to_le_bytes());
            bytes.extend_from_slice(&(member.tags.len() as u32).to_le_bytes());
            member.tags.iter().for_each(|tag| text(&mut bytes, tag));
        }
        self.lists.iter().for_each(|index| bytes.extend_from_slice(&index.to_le_bytes()));
        let sum = ::ring::digest::digest(&::ring::digest::SHA256, &bytes);
        let mut digest = [0; 16];
        digest.copy_from_slice(&sum.as_ref()[..16]);
        digest
    }
}

impl fmt::Debug for Layout {
    // Without the lists, which may be megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layout")
            .field("cluster", &self.cluster)
            .field("version", &self.version.0)
            .field("partitions", &self.partitions.get())
            .field("members", &self.members.len())
            .field("digest", &hex::encode(self.digest))
            .finish_non_exhaustive()
    }
}

/// Sorts members by id and checks them.
fn in_id_order(mut members: Vec<Member>) -> Result<Vec<Member>, LayoutError> {
    if members.len() > MEMBERS_MAX {
        return Err(LayoutError::TooManyMembers { count: members.len(), limit: MEMBERS_MAX });
    }
    members.sort_by_key(|member| member.node);
    if let Some(pair) = members.windows(2).find(|pair| pair[0].node == pair[1].node) {
        return Err(LayoutError::DuplicateNode(pair[0].node));
    }
    if let Some(member) = members.iter().find(|member| !member.text_is_bounded()) {
        return Err(LayoutError::TextTooLong { node: member.node });
    }
    if !members.iter().any(|member| member.capacity.owns()) {
        return Err(LayoutError::NoStorage);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::{Layout, LayoutVersion};
    use crate::ring::properties::{cluster_id, member, members};
    use crate::ring::{Capacity, LayoutError, Partition, PartitionCount};

    fn small() -> Layout {
        Layout::first(cluster_id(), PartitionCount::new(16).unwrap(), members(3, 3)).unwrap()
    }

    #[test]
    fn the_digest_of_a_layout_never_changes() {
        assert_eq!(hex::encode(small().digest()), "53eb766b8fc822c5767c76ea02a183d0");
    }

    #[test]
    fn one_node_is_an_ordinary_cluster() {
        let layout = Layout::first(cluster_id(), PartitionCount::DEFAULT, members(1, 1)).unwrap();

        let list = layout.preference_list(layout.partition_of(b"key"));

        assert_eq!(list.owners(3), [member(1, 1).node]);
        assert!(list.fallbacks(3).is_empty());
    }

    #[test]
    fn growing_from_one_node_to_three_keeps_the_first_copy() {
        let one = Layout::first(cluster_id(), PartitionCount::DEFAULT, members(1, 3)).unwrap();

        let three = one.next(members(3, 3)).unwrap();

        assert_eq!(three.version(), LayoutVersion(2));
        assert_eq!(one.movement(&three, 3).moved, 512);
        assert_eq!(one.movement(&three, 3).minimum, 512);
    }

    #[test]
    fn a_partition_that_does_not_exist_has_nobody() {
        assert!(small().preference_list(Partition(16)).all().is_empty());
        assert!(small().preference_list(Partition(u32::MAX)).all().is_empty());
    }

    #[test]
    fn owned_partitions_are_those_whose_lists_name_the_node_in_front() {
        let layout = small();
        let node = layout.members()[1].node;

        for n in 1..=3 {
            let owned: Vec<Partition> = layout.owned_by(node, n).collect();
            for partition in layout.partitions().iter() {
                let owner = layout.preference_list(partition).is_owner(node, n);
                assert_eq!(owned.contains(&partition), owner);
            }
        }
    }

    #[test]
    fn members_that_make_no_layout_are_refused() {
        let gateway = || {
            let mut gateway = member(1, 1);
            gateway.capacity = Capacity::GATEWAY;
            gateway
        };
        let mut tagged = member(1, 1);
        tagged.tags = vec!["t".repeat(256)];
        let first = |members| Layout::first(cluster_id(), PartitionCount::DEFAULT, members);

        assert_eq!(first(Vec::new()), Err(LayoutError::NoStorage));
        assert_eq!(first(vec![gateway()]), Err(LayoutError::NoStorage));
        let node = member(1, 1).node;
        assert_eq!(first(vec![gateway(), member(1, 2)]), Err(LayoutError::DuplicateNode(node)));
        assert_eq!(first(vec![tagged]), Err(LayoutError::TextTooLong { node }));
    }
}
