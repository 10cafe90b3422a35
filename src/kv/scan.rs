//! Scans: keys in the order of their bytes, a page at a time, with their values if asked for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::StatusCode;
use serde::Serialize;

use crate::auth::Head;
use crate::catalog::{
    BucketRecord, Catalog, KvEntry, KvPage, KvRead, KvScan, kv_after_prefix, kv_context_scope,
};
use crate::replication::Level;
use crate::types::{KEY_BYTES_MAX, Key};

use super::error::{Kind, KvError};
use super::reply::{self, Reply, stamp_text};
use super::value::SiblingDocument;

/// Entries of a page, unless fewer are asked for.
const LIMIT_DEFAULT: usize = 100;
/// Entries of a page at most.
const LIMIT_MAX: usize = 1_000;
/// A page with values ends when they have so many bytes.
pub(super) const PAGE_BYTES_MAX: usize = 4 << 20;
/// Keys of a page with values that are read at once.
const READS_MAX: usize = 4;
/// Paging tokens begin so.
const TOKEN_FORMAT: u8 = 1;

/// What a scan asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    prefix: Bytes,
    pub(super) delimiter: Option<Bytes>,
    from: Bytes,
    limit: usize,
    values: Values,
}

/// Whether values come with their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    Wanted,
    LeftOut,
}

impl Asked {
    pub(super) fn parse(head: &Head) -> Result<Self, KvError> {
        let given = |name: &str| head.query.get(name).filter(|text| !text.is_empty());
        let text = |name: &str| {
            given(name).map(|text| Bytes::copy_from_slice(text.as_bytes())).unwrap_or_default()
        };
        let invalid = |message: String| KvError::new(Kind::InvalidRequest, message);
        let limit = match given("limit") {
            None => LIMIT_DEFAULT,
            Some(limit) => limit
                .parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| invalid(format!("limit is a number from 1 to {LIMIT_MAX}")))?,
        };
        let values = match given("values") {
            None | Some("false") => Values::LeftOut,
            Some("true") => Values::Wanted,
            Some(other) => return Err(invalid(format!("values is true or false, not '{other}'"))),
        };
        let prefix = text("prefix");
        let delimiter = given("delimiter").map(|text| Bytes::copy_from_slice(text.as_bytes()));
        let starts = ["from", "after", "token"].iter().filter(|name| given(name).is_some());
        if starts.count() > 1 {
            return Err(invalid("give one of from, after and token".into()));
        }
        let from = match (given("after"), given("token")) {
            (Some(after), _) => after_key(after, &prefix, delimiter.as_deref())?,
            (None, Some(token)) => read_token(token)?,
            (None, None) => text("from"),
        };
        Ok(Self { prefix, delimiter, from, limit, values })
    }
}

/// The first key after `after`, or after all that it stands for if it is a prefix as a page of
/// this scan shows them.
fn after_key(after: &str, prefix: &[u8], delimiter: Option<&[u8]>) -> Result<Bytes, KvError> {
    let shown_as_prefix = delimiter.is_some_and(|delimiter| {
        let rest = after.as_bytes().strip_prefix(prefix).unwrap_or_default();
        let first = rest.windows(delimiter.len()).position(|window| window == delimiter);
        first.is_some_and(|at| at + delimiter.len() == rest.len())
    });
    if shown_as_prefix {
        return kv_after_prefix(after.as_bytes()).ok_or_else(|| {
            KvError::new(Kind::InvalidRequest, "nothing can come after that prefix")
        });
    }
    Ok([after.as_bytes(), &[0]].concat().into())
}

pub(super) fn token(next: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([&[TOKEN_FORMAT], next].concat())
}

pub(super) fn read_token(text: &str) -> Result<Bytes, KvError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    match bytes.split_first() {
        Some((&TOKEN_FORMAT, next)) if next.len() <= KEY_BYTES_MAX + 1 => {
            Ok(Bytes::copy_from_slice(next))
        }
        _ => Err(KvError::new(Kind::InvalidRequest, "the token is none that a page returned")),
    }
}

/// A page in JSON.
#[derive(Serialize)]
struct PageDocument<'a> {
    bucket: &'a str,
    entries: Vec<EntryDocument>,
    next: Option<String>,
}

/// One line of a page.
#[derive(Serialize)]
#[serde(untagged)]
enum EntryDocument {
    Key(KeyDocument),
    Prefix { prefix: String },
}

/// A key of a page.
#[derive(Serialize)]
struct KeyDocument {
    key: String,
    siblings: usize,
    bytes: u64,
    stamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<SiblingDocument>>,
}

/// Answers a page.
///
/// # Errors
/// Parameters that make no sense; too few replicas.
pub(super) async fn scan(
    (catalog, bucket): (&Catalog, &BucketRecord),
    head: &Head,
    level: Level,
) -> Result<Reply, KvError> {
    let asked = Asked::parse(head)?;
    let scan = KvScan {
        prefix: asked.prefix,
        delimiter: asked.delimiter,
        from: asked.from,
        max: asked.limit,
    };
    let page = catalog.kv_scan(bucket, level, &scan).await?;
    let mut served = page.served;
    let (entries, next) = match asked.values {
        Values::LeftOut => (page.entries.iter().map(line).collect(), page.next),
        Values::Wanted => {
            let (entries, next, degraded) = with_values((catalog, bucket), level, page).await?;
            served.degraded |= degraded;
            (entries, next)
        }
    };
    let next = next.map(|next| token(&next));
    let document = PageDocument { bucket: bucket.name.as_str(), entries, next };
    let mut reply = reply::json(StatusCode::OK, &document);
    reply::served(&mut reply, served);
    Ok(reply)
}

fn line(entry: &KvEntry) -> EntryDocument {
    match entry {
        KvEntry::Prefix(prefix) => prefix_line(prefix),
        KvEntry::Key { key, siblings, bytes, stamp } => EntryDocument::Key(KeyDocument {
            key: key.as_str().to_owned(),
            siblings: *siblings,
            bytes: *bytes,
            stamp: stamp_text(*stamp),
            context: None,
            values: None,
        }),
    }
}

fn prefix_line(prefix: &Bytes) -> EntryDocument {
    // A delimiter that was given as text cuts text, so this loses nothing.
    EntryDocument::Prefix { prefix: String::from_utf8_lossy(prefix).into_owned() }
}

type Lines = (Vec<EntryDocument>, Option<Bytes>, bool);

/// Reads each key of a page at the scan's level, a few at a time, until there are enough bytes.
async fn with_values(
    (catalog, bucket): (&Catalog, &BucketRecord),
    level: Level,
    page: KvPage,
) -> Result<Lines, KvError> {
    let KvPage { entries, next, .. } = page;
    let mut reads = stream::iter(entries)
        .map(|entry| async move {
            let read = match &entry {
                KvEntry::Key { key, .. } => Some(catalog.kv_get(bucket, key, level).await?),
                KvEntry::Prefix(_) => None,
            };
            Ok::<_, KvError>((entry, read))
        })
        .buffered(READS_MAX);
    let (mut lines, mut bytes, mut degraded) = (Vec::new(), 0, false);
    while let Some(read) = reads.next().await {
        match read? {
            (KvEntry::Prefix(prefix), _) => lines.push(prefix_line(&prefix)),
            (KvEntry::Key { key, .. }, Some(read)) => {
                let size: usize = read.values.iter().map(|value| value.value.len()).sum();
                if bytes + size > PAGE_BYTES_MAX && !lines.is_empty() {
                    return Ok((lines, Some(key.to_bytes()), degraded));
                }
                bytes += size;
                degraded |= read.served.degraded;
                lines.extend(full_line(bucket, &key, &read));
            }
            (KvEntry::Key { .. }, None) => {}
        }
    }
    Ok((lines, next, degraded))
}

/// A key with its values; none if it was deleted since the page was made.
fn full_line(bucket: &BucketRecord, key: &Key, read: &KvRead) -> Option<EntryDocument> {
    let newest = read.values.iter().map(|value| value.stamp).max()?;
    let context = read.context.as_ref();
    let scope = kv_context_scope(bucket, key);
    Some(EntryDocument::Key(KeyDocument {
        key: key.as_str().to_owned(),
        siblings: read.values.len(),
        bytes: read.values.iter().map(|value| value.value.len() as u64).sum(),
        stamp: stamp_text(newest),
        context: context.and_then(|context| context.encode(&scope).ok()),
        values: Some(read.values.iter().map(SiblingDocument::of).collect()),
    }))
}

#[cfg(test)]
mod tests {
    use super::{Asked, Values, read_token, token};
    use crate::auth::Head;
    use proptest::prelude::*;

    fn asked(query: &str) -> Option<Asked> {
        let request = http::Request::get(format!("/kv/v1/b?{query}")).body(()).unwrap();
        Asked::parse(&Head::parse(request.into_parts().0, |_| None).unwrap()).ok()
    }

    #[test]
    fn a_page_starts_at_a_key_after_one_or_where_the_last_one_ended() {
        assert_eq!(asked("from=b").unwrap().from, "b");
        assert_eq!(asked("after=b").unwrap().from, "b\0");
        assert_eq!(asked("after=a/&delimiter=/").unwrap().from, "a0");
        assert_eq!(asked("after=a/b&delimiter=/").unwrap().from, "a/b\0");
        assert_eq!(asked(&format!("token={}", token(b"k\0"))).unwrap().from, "k\0");
        assert_eq!(asked("").unwrap().values, Values::LeftOut);
        assert_eq!(asked("values=true&limit=7").unwrap().limit, 7);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for query in
            ["limit=0", "limit=1001", "limit=x", "values=yes", "token=%21", "from=a&after=b"]
        {
            assert_eq!(asked(query), None, "{query}");
        }
    }

    proptest! {
        #[test]
        fn tokens_survive_the_way_to_the_client(next in prop::collection::vec(any::<u8>(), 0..1025)) {
            prop_assert_eq!(read_token(&token(&next)).unwrap(), next);
        }

        #[test]
        fn foreign_tokens_are_refused_without_a_panic(text: String) {
            drop(read_token(&text));
        }
    }
}
