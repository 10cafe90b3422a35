//! Which sections and keys there are, asked of the structs themselves.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::sections::{
    Admin, Cluster, Config, Hints, Kv, Limits, Log, Node, Peer, Repair, S3, Store,
};

/// The names of the sections.
pub(super) fn sections() -> &'static [&'static str] {
    fields_of::<Config>()
}

/// The keys of a section; `None` if there is no such section.
pub(super) fn keys_of(section: &str) -> Option<&'static [&'static str]> {
    Some(match section {
        "node" => fields_of::<Node>(),
        "cluster" => fields_of::<Cluster>(),
        "peer" => fields_of::<Peer>(),
        "s3" => fields_of::<S3>(),
        "kv" => fields_of::<Kv>(),
        "admin" => fields_of::<Admin>(),
        "store" => fields_of::<Store>(),
        "hints" => fields_of::<Hints>(),
        "repair" => fields_of::<Repair>(),
        "limits" => fields_of::<Limits>(),
        "log" => fields_of::<Log>(),
        _ => return None,
    })
}

/// The known name that `unknown` was probably meant to be; `None` if none is near.
pub(super) fn nearest(unknown: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), *name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A deserializer that gives nothing and notes which fields a struct asked for.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("only the names were wanted"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The error is how the deserializer ends; the names are there by then.
    drop(T::deserialize(FieldNames(&mut fields)));
    fields
}

#[cfg(test)]
mod tests {
    use super::{keys_of, nearest, sections};

    #[test]
    fn every_section_has_keys() {
        assert_eq!(sections().len(), 11);
        for section in sections() {
            assert!(!keys_of(section).unwrap().is_empty(), "{section}");
        }
    }

    #[test]
    fn a_typing_error_finds_its_key() {
        assert_eq!(nearest("listn", keys_of("s3").unwrap()), Some("listen"));
        assert_eq!(nearest("secretfile", keys_of("cluster").unwrap()), Some("secret_file"));
        assert_eq!(nearest("zzz", sections()), None);
    }
}
