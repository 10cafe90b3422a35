//! What a consistency level promises, in words.

use crate::replication::Level;

/// The promise of `level` for rows with `owners` owners, of the `n` that there should be.
pub(super) fn label(level: Level, owners: usize, n: u8) -> String {
    let (r, w) = (level.reads(owners), level.writes(owners));
    let promise = match (level.overlaps(owners), level.is_sloppy()) {
        (false, _) => "reads may miss acknowledged writes",
        (true, true) => {
            "reads see acknowledged writes while the owners can be reached; others stand in for them"
        }
        (true, false) => "reads see acknowledged writes; nobody stands in for an owner",
    };
    match owners == usize::from(n) {
        true => format!("r={r},w={w} of n={n}: {promise}"),
        false => format!("r={r},w={w} of n={n} ({owners} for want of nodes): {promise}"),
    }
}

#[cfg(test)]
mod tests {
    use super::label;
    use crate::replication::Level;

    #[test]
    fn a_level_is_labelled_for_what_it_is() {
        let eventual = label(Level::Eventual, 3, 3);

        assert_eq!(eventual, "r=1,w=1 of n=3: reads may miss acknowledged writes");
        assert!(label(Level::Numbers { r: 1, w: 2 }, 3, 3).contains("may miss"));
        assert!(label(Level::Numbers { r: 2, w: 2 }, 3, 3).contains("while the owners"));
        assert!(label(Level::Strict, 3, 3).contains("nobody stands in"));
        assert!(label(Level::Quorum, 1, 3).starts_with("r=1,w=1 of n=3 (1 for want of nodes)"));
    }
}
