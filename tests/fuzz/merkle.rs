//! Leaves, as owners send them.

use super::{Leaf, LeafSet, LeafSums};
use crate::fuzz::Target;

#[test]
fn leaves() {
    let (mut some, mut set) = (LeafSums::default(), LeafSet::default());
    for number in [0, 7, 1_023] {
        let leaf = Leaf::new(number).unwrap();
        some.add(leaf, 77);
        set.insert(leaf);
    }
    Target::binary("leaves", [some.encode(), set.encode()]).run(|input| {
        let leaves = LeafSums::decode(input).map(|leaves| {
            assert_eq!(LeafSums::decode(&leaves.encode()).unwrap().root(), leaves.root());
            leaves.differing(&some).len().min(3)
        });
        let set = LeafSet::decode(input).map(|set| {
            assert_eq!(set.iter().count(), set.len());
            assert_eq!(LeafSet::decode(&set.encode()).as_ref(), Some(&set));
        });
        format!("{:?} {:?}", leaves.map(|many| "x".repeat(many)), set.is_some())
    });
}
