//! Every stored format that was ever written stays readable: one fixture of each, kept for ever.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it says")]

use std::fs;
use std::path::{Path, PathBuf};

use quorate::blob::ExtentRecord;
use quorate::catalog::Catalog;
use quorate::codec::{FormatError, decode_format, encode_format};
use quorate::replication::TableId;
use quorate::ring::Layout;

fn fixture(name: &str) -> Vec<u8> {
    fixture_of("format-1", name)
}

fn fixture_of(format: &str, name: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let path: PathBuf = fixtures.join(format).join(name);
    hex::decode(fs::read_to_string(path.with_extension("hex")).unwrap().trim()).unwrap()
}

fn table_of(name: &str) -> TableId {
    match name.split('-').next().unwrap() {
        "object" => TableId::Objects,
        "upload" => TableId::Uploads,
        "kv" => TableId::Kv,
        "bucket" => TableId::Buckets,
        "credential" => TableId::Credentials,
        other => panic!("fixture {other} is of no table"),
    }
}

const RECORDS: [&str; 11] = [
    "object-tombstone",
    "object-inline",
    "object-attached",
    "object-extents",
    "object-manifest",
    "upload-open",
    "upload-aborted",
    "upload-completed",
    "upload-part",
    "kv",
    "credential",
];

#[test]
fn records_of_format_1_are_read_and_written_again_unchanged() {
    let tables = Catalog::tables();

    for name in RECORDS {
        let stored = fixture(name);

        let upgraded = tables.upgraded(table_of(name), &stored).unwrap().unwrap();

        assert_eq!(hex::encode(upgraded), hex::encode(stored), "{name}");
    }
}

/// What was `quorum` then lets nobody stand in, and must not begin to.
#[test]
fn a_bucket_of_format_1_keeps_the_guarantees_that_it_was_made_with() {
    let tables = Catalog::tables();
    let now = fixture_of("format-2", "bucket");

    for stored in [fixture("bucket"), now.clone()] {
        let upgraded = tables.upgraded(TableId::Buckets, &stored).unwrap().unwrap();

        assert_eq!(hex::encode(upgraded), hex::encode(&now));
    }
}

#[test]
fn a_record_of_a_newer_release_is_refused_and_named() {
    let mut stored = fixture("object-inline");
    stored[0] = 0xff;

    let error = Catalog::tables().upgraded(TableId::Objects, &stored).unwrap().unwrap_err();

    assert!(matches!(error, FormatError::Unknown { .. }));
    assert!(error.to_string().contains("object head"), "{error}");
}

#[test]
fn a_cut_record_is_damage() {
    let stored = fixture("object-extents");

    for length in 0..stored.len() {
        assert!(Catalog::tables().upgraded(TableId::Objects, &stored[..length]).unwrap().is_err());
    }
}

#[test]
fn a_layout_of_format_1_is_read_and_written_again_unchanged() {
    let stored = fixture("layout");

    let layout: Layout = decode_format(&stored).unwrap();

    assert_eq!(layout.version().0, 1);
    assert_eq!(layout.members().len(), 3);
    assert_eq!(hex::encode(encode_format(&layout).unwrap()), hex::encode(stored));
}

#[test]
fn an_extent_record_of_format_1_is_read_and_written_again_unchanged() {
    let stored = fixture("extent");

    let extent: ExtentRecord = decode_format(&stored).unwrap();

    assert_eq!((extent.length, extent.n), (300_000, 3));
    assert_eq!(hex::encode(encode_format(&extent).unwrap()), hex::encode(stored));
}
