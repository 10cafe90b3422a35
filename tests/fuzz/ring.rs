//! Layouts, as a member ships them.

use super::Layout;
use crate::codec::{decode_format, encode_format};
use crate::fuzz::{Target, fixture};

/// A layout that is believed is sound: each partition has owners who are members.
#[test]
fn layouts() {
    Target::binary("layouts", [fixture("format-1/layout.hex")]).run(|input| {
        let layout = match decode_format::<Layout>(input) {
            Ok(layout) => layout,
            Err(error) => return error.to_string(),
        };
        let again = encode_format(&layout).unwrap();
        assert_eq!(decode_format::<Layout>(&again).unwrap(), layout);
        for routing in [&b""[..], b"key", &[0xff; 32]] {
            let list = layout.preference_list(layout.partition_of(routing));
            let _owners = (list.owners(3).to_vec(), list.fallbacks(3).to_vec());
        }
        "understood".to_owned()
    });
}
