//! What must hold of placement, checked over random clusters.

use proptest::prelude::{ProptestConfig, Strategy, any, proptest};
use proptest::sample::Index;

use super::roster::Roster;
use super::share::Shares;
use super::{Capacity, Layout, Member, PartitionCount};
use crate::types::{ClusterId, NodeId, Zone};

/// A cluster id.
pub(super) fn cluster_id() -> ClusterId {
    ClusterId::from_bytes([7; 16])
}

/// A node of capacity 100. Ids look random, as real ones do.
pub(super) fn member(number: u32, zone: usize) -> Member {
    let token = super::Token::of(&number.to_le_bytes());
    Member {
        node: NodeId::from_bytes(token.0.to_le_bytes()),
        zone: Zone::new(format!("zone {zone}")),
        capacity: Capacity(100),
        tags: Vec::new(),
    }
}

/// That many nodes, dealt out to zones in turn.
pub(super) fn members(count: u32, zones: usize) -> Vec<Member> {
    (1..=count).map(|number| member(number, number as usize % zones)).collect()
}

fn first(partitions: u32, members: &[Member]) -> Layout {
    Layout::first(cluster_id(), PartitionCount::new(partitions).unwrap(), members.to_vec()).unwrap()
}

/// Clusters of 1 to 24 nodes in 1 to 6 zones, some nodes large, some gateways.
fn clusters() -> impl Strategy<Value = Vec<Member>> {
    let node = (0_usize..6, 0_u32..12);
    (1_usize..=6, proptest::collection::vec(node, 1..=24)).prop_map(|(zones, nodes)| {
        let mut members: Vec<Member> = (1..)
            .zip(nodes)
            .map(|(number, (zone, size))| {
                let mut member = member(number, zone % zones);
                member.capacity = Capacity([0, 1000, 400, 300, 200][size.min(4) as usize]);
                if size >= 4 {
                    member.capacity = Capacity(100);
                }
                member
            })
            .collect();
        members[0].capacity = Capacity(100);
        members
    })
}

fn partition_counts() -> impl Strategy<Value = u32> {
    (0_u32..=9).prop_map(|bits| 1 << bits)
}

fn assert_sound(layout: &Layout) {
    let roster = Roster::of(layout.members());
    for partition in layout.partitions().iter() {
        let list = layout.preference_list(partition);
        assert_eq!(list.all().len(), roster.len().min(20));
        for n in 1..=list.all().len() {
            let limit = roster.zone_limit(n);
            let mut zones = vec![0; roster.zone_count()];
            for node in list.owners(n) {
                // A gateway has no rank.
                zones[roster.zone(roster.rank_of(*node).unwrap())] += 1;
            }
            for (zone, count) in zones.iter().enumerate() {
                let size = roster.zone_size(zone);
                assert!(*count <= limit && *count >= size.min(limit - 1), "{zones:?} of {n}");
            }
        }
        let mut distinct = list.all().to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), list.all().len());
    }
}

fn assert_balanced(layout: &Layout) {
    let roster = Roster::of(layout.members());
    let shares = Shares::new(&roster, layout.partitions().get(), 3);
    let loads = layout.loads(3);
    for rank in roster.ranks() {
        let load = loads[usize::from(roster.member_index(rank))];
        assert!(load <= shares.most(rank), "{load} above {}", shares.most(rank));
        assert!(load >= shares.least(rank), "{load} below {}", shares.least(rank));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn lists_are_distinct_spread_and_without_gateways(
        members in clusters(),
        partitions in partition_counts(),
    ) {
        assert_sound(&first(partitions, &members));
    }

    #[test]
    fn every_node_is_within_five_percent_of_its_fair_share(
        members in clusters(),
        partitions in partition_counts(),
    ) {
        assert_balanced(&first(partitions, &members));
    }

    #[test]
    fn three_copies_lie_in_three_zones_where_there_are_three(members in clusters()) {
        let layout = first(64, &members);
        let zones = Roster::of(layout.members()).zone_count();

        assert_eq!(layout.copies_report(3).zone_spread, zones.min(3).min(layout.storage_nodes()));
    }

    #[test]
    fn the_order_of_members_changes_nothing(members in clusters(), at in any::<Index>()) {
        let mut other = members.clone();
        other.rotate_left(at.index(members.len()));
        other.reverse();

        assert_eq!(first(64, &members).digest(), first(64, &other).digest());
    }

    #[test]
    fn changes_one_after_another_keep_every_promise(
        from in clusters(),
        to in clusters(),
        partitions in partition_counts(),
    ) {
        let layout = first(partitions, &from);

        let next = layout.next(to).unwrap();
        let back = next.next(from).unwrap();

        for layout in [&next, &back] {
            assert_sound(layout);
            assert_balanced(layout);
        }
        for n in 1..=20 {
            let movement = layout.movement(&next, n);
            assert!(movement.minimum <= movement.moved, "{movement:?} at {n}");
        }
    }

    #[test]
    fn one_node_more_or_less_moves_near_the_minimum(
        count in 4_u32..=24,
        zones in 1_usize..=6,
        sizes in proptest::collection::vec(1_u32..=4, 25),
    ) {
        // At least three zones' worth of nodes stay, so that the zones demand no movement.
        let mut members = members(count + 1, zones.min(count as usize / 3).max(1));
        for (member, size) in members.iter_mut().zip(&sizes) {
            member.capacity = Capacity(size * 100);
        }
        let fewer = members[..count as usize].to_vec();
        let layout = first(256, &fewer);

        let grown = layout.next(members).unwrap();
        let shrunk = grown.next(fewer).unwrap();

        for movement in [layout.movement(&grown, 3), grown.movement(&shrunk, 3)] {
            let bound = movement.minimum * 3 / 2 + 8;
            assert!(movement.moved <= bound, "{movement:?}");
        }
    }
}
