//! One key: read, write, delete.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;

use crate::catalog::{BucketRecord, Catalog, KvRead, KvValueRead, KvWritten, kv_context_scope};
use crate::causality::CausalContext;
use crate::replication::Level;
use crate::types::Key;

use super::error::{Kind, KvError};
use super::reply::{self, CONTEXT, Reply, SIBLINGS};

/// The key of a request, and how it is to be served.
pub(super) struct Target<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) bucket: &'a BucketRecord,
    pub(super) key: Key,
    pub(super) level: Level,
}

impl Target<'_> {
    /// A context as text; none if the key's vector is too long for a header. Then a deletion
    /// without a context still supersedes all that it finds.
    fn text(&self, context: Option<&CausalContext>) -> Option<String> {
        let encoded = context?.encode(&kv_context_scope(self.bucket, &self.key));
        encoded
            .inspect_err(|error| tracing::warn!(bucket = %self.bucket.name, %error, "no context"))
            .ok()
    }
}

/// How the values of a key are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One value as it is; several as JSON.
    Plain,
    /// JSON, also for one value.
    Json,
    /// One value as it is; several as multipart/mixed.
    Multipart,
}

fn form(headers: &HeaderMap) -> Form {
    let accepted = headers.get_all(header::ACCEPT);
    let accepts = |kind: &str| {
        let mut values = accepted.iter().filter_map(|value| value.to_str().ok());
        values.any(|value| {
            value.split(',').any(|range| {
                range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind)
            })
        })
    };
    if accepts("multipart/mixed") {
        Form::Multipart
    } else if accepts("application/json") {
        Form::Json
    } else {
        Form::Plain
    }
}

/// A key's values in JSON.
#[derive(Serialize)]
struct ValuesDocument<'a> {
    context: Option<&'a str>,
    siblings: Vec<SiblingDocument>,
    deletions: usize,
}

/// One value in JSON.
#[derive(Serialize)]
pub(super) struct SiblingDocument {
    value: String,
    bytes: usize,
    crc32c: String,
    dot: String,
    stamp: String,
}

impl SiblingDocument {
    pub(super) fn of(value: &KvValueRead) -> Self {
        Self {
            value: reply::base64(&value.value),
            bytes: value.value.len(),
            crc32c: format!("{:08x}", value.crc.0),
            dot: reply::dot_text(value.dot),
            stamp: reply::stamp_text(value.stamp),
        }
    }
}

/// Reads a key.
///
/// # Errors
/// 404 with the context of the deletions that stand there, if any do.
pub(super) async fn get(target: &Target<'_>, headers: &HeaderMap) -> Result<Reply, KvError> {
    let read = target.catalog.kv_get(target.bucket, &target.key, target.level).await?;
    let context = target.text(read.context.as_ref());
    if read.values.is_empty() {
        let absent = KvError::new(Kind::NoSuchKey, "there is no such key");
        return Err(KvError { context, ..absent });
    }
    let mut reply = match (read.values.as_slice(), form(headers)) {
        ([one], Form::Plain | Form::Multipart) => raw(one),
        ([_], Form::Json) => document(StatusCode::OK, &read, context.as_deref()),
        (_, Form::Multipart) => multipart(&read),
        _ => document(StatusCode::MULTIPLE_CHOICES, &read, context.as_deref()),
    };
    let siblings = read.values.len() + read.deletions;
    with_context(&mut reply, siblings, context.as_deref());
    reply::served(&mut reply, read.served);
    reply::set(&mut reply, "vary", "accept");
    Ok(reply)
}

fn raw(value: &KvValueRead) -> Reply {
    let kind = "application/octet-stream";
    let mut reply = reply::typed(StatusCode::OK, kind, value.value.clone());
    reply::set(&mut reply, "x-quorate-stamp", &reply::stamp_text(value.stamp));
    reply::set(&mut reply, "x-quorate-crc32c", &format!("{:08x}", value.crc.0));
    reply
}

fn document(status: StatusCode, read: &KvRead, context: Option<&str>) -> Reply {
    let siblings = read.values.iter().map(SiblingDocument::of).collect();
    let document = ValuesDocument { context, siblings, deletions: read.deletions };
    reply::json(status, &document)
}

/// Values as parts, between boundaries that occur in none of them.
fn multipart(read: &KvRead) -> Reply {
    let mut boundary = String::from("quorate");
    let mut number = 0_u64;
    while read.values.iter().any(|value| contains(&value.value, boundary.as_bytes())) {
        number += 1;
        boundary = format!("quorate-{number}");
    }
    let mut body = Vec::new();
    for value in &read.values {
        let head = format!(
            "--{boundary}\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\
             x-quorate-dot: {}\r\nx-quorate-stamp: {}\r\nx-quorate-crc32c: {:08x}\r\n\r\n",
            value.value.len(),
            reply::dot_text(value.dot),
            reply::stamp_text(value.stamp),
            value.crc.0
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&value.value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let mut reply = reply::typed(StatusCode::MULTIPLE_CHOICES, "multipart/mixed", body);
    reply::set(&mut reply, "content-type", &format!("multipart/mixed; boundary={boundary}"));
    reply
}

fn contains(value: &[u8], boundary: &[u8]) -> bool {
    value.windows(boundary.len()).any(|window| window == boundary)
}

fn with_context(reply: &mut Reply, siblings: usize, context: Option<&str>) {
    reply::set(reply, SIBLINGS, &siblings.to_string());
    if let Some(context) = context {
        reply::set(reply, CONTEXT, context);
    }
}

/// Writes a value.
///
/// # Errors
/// 409 if the key would have too many concurrent values.
pub(super) async fn put(
    target: &Target<'_>,
    context: Option<CausalContext>,
    value: Bytes,
) -> Result<Reply, KvError> {
    let asked = (target.level, context);
    let written = target.catalog.kv_put(target.bucket, &target.key, asked, value).await?;
    Ok(done(target, &written))
}

/// Deletes a key.
///
/// # Errors
/// As [`put`].
pub(super) async fn delete(
    target: &Target<'_>,
    context: Option<CausalContext>,
) -> Result<Reply, KvError> {
    let asked = (target.level, context);
    let written = target.catalog.kv_delete(target.bucket, &target.key, asked).await?;
    Ok(done(target, &written))
}

fn done(target: &Target<'_>, written: &KvWritten) -> Reply {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    let context = target.text(written.context.as_ref());
    with_context(&mut reply, written.siblings, context.as_deref());
    reply::served(&mut reply, written.served);
    reply
}

#[cfg(test)]
mod tests {
    use super::{Form, form, multipart};
    use crate::catalog::{KvRead, KvValueRead};
    use crate::causality::{Actor, Dot, HybridTime, Stamp};
    use crate::codec::Crc32c;
    use crate::replication::{Level, Served};
    use crate::types::NodeId;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    fn accepting(value: &'static str) -> Form {
        form(&HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static(value))]))
    }

    #[test]
    fn a_client_says_in_which_form_it_wants_siblings() {
        assert_eq!(form(&HeaderMap::new()), Form::Plain);
        assert_eq!(accepting("*/*"), Form::Plain);
        assert_eq!(accepting("Application/JSON;q=1"), Form::Json);
        assert_eq!(accepting("multipart/mixed, application/json"), Form::Multipart);
    }

    #[tokio::test]
    async fn a_boundary_occurs_in_no_value() {
        let node = NodeId::from_bytes([1; 16]);
        let value = |text: &'static str| KvValueRead {
            dot: Dot { actor: Actor { node, boot: 1, stint: 0 }, counter: 1 },
            stamp: Stamp { time: HybridTime(1), node },
            crc: Crc32c::of(text.as_bytes()),
            value: Bytes::from_static(text.as_bytes()),
        };
        let read = KvRead {
            values: vec![value("--quorate--"), value("--quorate-1")],
            deletions: 0,
            context: None,
            served: Served { level: Level::Quorum, degraded: false },
        };

        let reply = multipart(&read);

        let kind = reply.headers()["content-type"].to_str().unwrap().to_owned();
        let boundary = kind.split_once("boundary=").unwrap().1.to_owned();
        let body = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(body.matches(&format!("--{boundary}\r\n")).count(), 2);
        assert!(body.ends_with(&format!("--{boundary}--\r\n")));
        assert!(body.contains("\r\n\r\n--quorate--\r\n"));
    }
}
