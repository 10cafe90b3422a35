//! What a request says besides its path: levels, contexts, and what is not served (pure).

use crate::auth::Head;
use crate::catalog::{BucketRecord, kv_context_scope};
use crate::causality::CausalContext;
use crate::replication::Level;
use crate::types::Key;

use super::error::{Kind, KvError};
use super::reply::CONTEXT;
use super::route::Operation;

/// Headers that ask for something that is not served.
const NOT_SERVED: [&str; 8] = [
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "range",
    "content-range",
    "content-md5",
];

/// Refuses parameters and headers that `operation` does not take.
///
/// # Errors
/// Naming the first of them.
pub(super) fn check(operation: Operation, head: &Head) -> Result<(), KvError> {
    let known = operation.parameters();
    for (name, _) in &head.query.pairs {
        if !known.contains(&name.as_str()) && !name.starts_with("X-Amz-") {
            let message = format!(
                "{} does not take the parameter '{name}'; it takes {}",
                operation.name(),
                known.join(", ")
            );
            return Err(KvError::new(Kind::InvalidRequest, message));
        }
        if head.query.pairs.iter().filter(|(other, _)| other == name).count() > 1 {
            let message = format!("the parameter '{name}' is given twice");
            return Err(KvError::new(Kind::InvalidRequest, message));
        }
    }
    let encoded = head.header("content-encoding").is_some_and(|coding| coding != "identity");
    let unserved = NOT_SERVED.iter().find(|name| head.headers.contains_key(**name));
    if let Some(name) = unserved.copied().or(encoded.then_some("content-encoding")) {
        let message = format!("the header {name} asks for something that is not served here");
        return Err(KvError::new(Kind::NotImplemented, message));
    }
    if head.headers.contains_key(CONTEXT)
        && !matches!(operation, Operation::Put | Operation::Delete)
    {
        let message = format!("{} takes no {CONTEXT}", operation.name());
        return Err(KvError::new(Kind::InvalidRequest, message));
    }
    Ok(())
}

/// The key that the path names.
///
/// # Errors
/// A key that no bucket may hold.
pub(super) fn key(text: &str) -> Result<Key, KvError> {
    Key::new(text.to_owned()).map_err(|error| KvError::new(Kind::InvalidKey, error.to_string()))
}

/// The level of a request: what it asks for, else the bucket's. A bucket at S3's level `strict`
/// is read and written at `quorum` here: concurrent values are kept, so others may stand in.
///
/// # Errors
/// A level that there is not, or numbers beyond the bucket's copies.
pub(super) fn level(head: &Head, bucket: &BucketRecord) -> Result<Level, KvError> {
    let usual = match bucket.level {
        Level::Strict => Level::Quorum,
        level => level,
    };
    let number = |name: &str| copies(head, name, bucket.n);
    let (r, w) = (number("r")?, number("w")?);
    let Some(text) = head.query.get("level") else {
        let owners = usize::from(bucket.n);
        let usual = r.map_or(usual, |r| usual.with_reads(r, owners));
        return Ok(w.map_or(usual, |w| usual.with_writes(w, owners)));
    };
    if r.is_some() || w.is_some() {
        let message = "give either a level, or r and w";
        return Err(KvError::new(Kind::InvalidLevel, message));
    }
    let level: Level =
        text.parse().map_err(|error| KvError::new(Kind::InvalidLevel, format!("{error}")))?;
    match level {
        Level::Numbers { r, w } if r.max(w) > bucket.n => Err(beyond(r.max(w), bucket.n)),
        level => Ok(level),
    }
}

fn copies(head: &Head, name: &str, n: u8) -> Result<Option<u8>, KvError> {
    let Some(text) = head.query.get(name) else { return Ok(None) };
    let number = text.parse::<u8>().ok().filter(|number| *number > 0).ok_or_else(|| {
        KvError::new(Kind::InvalidLevel, format!("{name} is a number from 1 to {n}, not '{text}'"))
    })?;
    if number > n { Err(beyond(number, n)) } else { Ok(Some(number)) }
}

fn beyond(asked: u8, n: u8) -> KvError {
    let message = format!("{asked} replicas are asked for; the bucket keeps {n} copies");
    KvError::new(Kind::InvalidLevel, message)
}

/// The context that a write brings.
///
/// # Errors
/// One that was not given out for that key.
pub(super) fn context(
    head: &Head,
    bucket: &BucketRecord,
    key: &Key,
) -> Result<Option<CausalContext>, KvError> {
    let Some(value) = head.headers.get(CONTEXT) else { return Ok(None) };
    let invalid = |reason: String| KvError::new(Kind::InvalidContext, reason);
    let text = value.to_str().map_err(|_| invalid("the context is no text".into()))?.trim();
    if head.headers.get_all(CONTEXT).iter().count() > 1 {
        return Err(invalid("the context is given twice".into()));
    }
    CausalContext::decode(text, &kv_context_scope(bucket, key))
        .map(Some)
        .map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{check, context, key, level};
    use crate::auth::Head;
    use crate::catalog::{BucketRecord, OwnerId, kv_context_scope};
    use crate::causality::{CausalContext, HybridTime};
    use crate::env::UnixMillis;
    use crate::kv::error::Kind;
    use crate::kv::route::Operation;
    use crate::replication::Level;
    use crate::types::BucketId;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Head {
        let mut request = http::Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Head::parse(request.body(()).unwrap().into_parts().0, |_| None).unwrap()
    }

    fn bucket(level: Level) -> BucketRecord {
        BucketRecord {
            asked: None,
            id: BucketId::from_bytes([1; 16]),
            name: "bucket".parse().unwrap(),
            owner: OwnerId("o".into()),
            created: UnixMillis(0),
            epoch: 1,
            n: 3,
            index_shards: 16,
            level,
        }
    }

    #[test]
    fn a_strict_bucket_is_served_at_quorum_and_others_at_their_own_level() {
        let plain = head("/kv/v1/b/k", &[]);

        assert_eq!(level(&plain, &bucket(Level::Strict)).unwrap(), Level::Quorum);
        assert_eq!(level(&plain, &bucket(Level::All)).unwrap(), Level::All);
        assert_eq!(level(&plain, &bucket(Level::Eventual)).unwrap(), Level::Eventual);
    }

    #[test]
    fn a_request_names_its_level_or_its_numbers() {
        let of = |query: &str| level(&head(&format!("/k?{query}"), &[]), &bucket(Level::Quorum));

        assert_eq!(of("level=all").unwrap(), Level::All);
        assert_eq!(of("level=r%3D1,w%3D3").unwrap(), Level::Numbers { r: 1, w: 3 });
        assert_eq!(of("r=1").unwrap(), Level::Numbers { r: 1, w: 2 });
        assert_eq!(of("r=1&w=3").unwrap(), Level::Numbers { r: 1, w: 3 });
        for wrong in ["level=most", "r=0", "r=4", "w=x", "level=all&r=1", "level=r%3D1,w%3D9"] {
            assert_eq!(of(wrong).unwrap_err().kind, Kind::InvalidLevel, "{wrong}");
        }
    }

    #[test]
    fn what_is_not_served_is_refused_and_not_ignored() {
        let of = |operation, uri: &str, headers: &[(&str, &str)]| {
            check(operation, &head(uri, headers)).err().map(|error| error.kind)
        };

        assert_eq!(of(Operation::Get, "/k?r=1", &[]), None);
        assert_eq!(of(Operation::Get, "/k?X-Amz-Date=1", &[]), None);
        assert_eq!(of(Operation::Put, "/k", &[("x-quorate-context", "c")]), None);
        let invalid = Some(Kind::InvalidRequest);
        assert_eq!(of(Operation::Get, "/k?ttl=1", &[]), invalid);
        assert_eq!(of(Operation::Get, "/k?r=1&r=2", &[]), invalid);
        assert_eq!(of(Operation::Get, "/k", &[("x-quorate-context", "c")]), invalid);
        let unserved = Some(Kind::NotImplemented);
        assert_eq!(of(Operation::Put, "/k", &[("if-match", "x")]), unserved);
        assert_eq!(of(Operation::Get, "/k", &[("range", "bytes=0-1")]), unserved);
        assert_eq!(of(Operation::Put, "/k", &[("content-encoding", "gzip")]), unserved);
    }

    #[test]
    fn a_context_of_another_key_or_bucket_is_refused() {
        let (here, name) = (bucket(Level::Quorum), key("k").unwrap());
        let given = CausalContext { time: HybridTime(7), ..CausalContext::default() };
        let text = given.encode(&kv_context_scope(&here, &name)).unwrap();
        let with = |text: &str| head("/k", &[("x-quorate-context", text)]);

        assert_eq!(context(&with(&text), &here, &name).unwrap(), Some(given));
        assert_eq!(context(&head("/k", &[]), &here, &name).unwrap(), None);
        let other = key("other").unwrap();
        for refused in [
            context(&with(&text), &here, &other),
            context(&with("nonsense"), &here, &name),
            context(&with(""), &here, &name),
        ] {
            assert_eq!(refused.unwrap_err().kind, Kind::InvalidContext);
        }
    }
}
