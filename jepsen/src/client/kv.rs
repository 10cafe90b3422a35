//! The key-value API's operations.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use super::{Broken, Call, Client, Outcome, Reply, describe, judge_write};

/// The header that carries a causal context, in and out.
const CONTEXT: &str = "x-quorate-context";

/// A key as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// What stands side by side; nothing if the key is not there.
    pub values: Vec<Bytes>,
    /// What the reader has seen now.
    pub context: Option<String>,
}

/// What a write is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What the writer has seen now; none if other values stand beside its own.
    pub context: Option<String>,
    /// The store's stamp, where it says it.
    pub stamp: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    context: Option<String>,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    value: String,
}

impl Client {
    /// Reads a key at a level, the usual one unless another is asked for.
    pub async fn kv_get(
        &self,
        node: SocketAddr,
        (bucket, key): (&str, &str),
        level: Option<&str>,
    ) -> Outcome<Values> {
        let path = format!("/kv/v1/{bucket}/{key}");
        let query = level.map(|level| ("level", level)).into_iter().collect();
        let headers = vec![("accept", "application/json")];
        let call = Call { method: "GET", path: &path, query, headers, ..Call::default() };
        judge_read(self.send(node, call).await)
    }

    /// Writes a key; with a context it replaces what that covers.
    pub async fn kv_put(
        &self,
        node: SocketAddr,
        (bucket, key): (&str, &str),
        body: Bytes,
        context: Option<&str>,
    ) -> Outcome<Told> {
        let path = format!("/kv/v1/{bucket}/{key}");
        let headers = context.map(|context| (CONTEXT, context)).into_iter().collect();
        let call = Call { method: "PUT", path: &path, headers, body, ..Call::default() };
        judge_write(self.send(node, call).await).map(|reply| told(&reply))
    }

    /// Deletes what a context covers of a key.
    pub async fn kv_delete(
        &self,
        node: SocketAddr,
        (bucket, key): (&str, &str),
        context: &str,
    ) -> Outcome<Told> {
        let path = format!("/kv/v1/{bucket}/{key}");
        let headers = vec![(CONTEXT, context)];
        let call = Call { method: "DELETE", path: &path, headers, ..Call::default() };
        judge_write(self.send(node, call).await).map(|reply| told(&reply))
    }
}

fn told(reply: &Reply) -> Told {
    Told { context: reply.header(CONTEXT), stamp: reply.header("x-quorate-stamp") }
}

fn judge_read(reply: Result<Reply, Broken>) -> Outcome<Values> {
    let reply = match reply {
        Ok(reply) => reply,
        Err(Broken::Unsent(reason) | Broken::Unknown(reason)) => return Outcome::Fail(reason),
    };
    match reply.status {
        StatusCode::OK | StatusCode::MULTIPLE_CHOICES => match values(&reply) {
            Some(values) => Outcome::Ok(values),
            None => Outcome::Fail("a document that is none of siblings".to_owned()),
        },
        StatusCode::NOT_FOUND if describe(&reply).contains("no_such_key") => {
            Outcome::Ok(Values { values: Vec::new(), context: reply.header(CONTEXT) })
        }
        _ => Outcome::Fail(describe(&reply)),
    }
}

fn values(reply: &Reply) -> Option<Values> {
    let document: Document = serde_json::from_slice(&reply.body).ok()?;
    let values = document.siblings.iter().map(|sibling| STANDARD.decode(&sibling.value));
    let values = values.map(|value| value.map(Bytes::from)).collect::<Result<_, _>>().ok()?;
    Some(Values { values, context: document.context })
}

#[cfg(test)]
mod tests {
    use super::super::tests::reply;
    use super::{Outcome, Values, judge_read};

    #[test]
    fn siblings_are_read_with_their_context() {
        let two = r#"{"context":"c","siblings":[{"value":"Ymx1ZQ=="},{"value":"Z3JlZW4="}]}"#;

        let values = vec!["blue".into(), "green".into()];
        let read = Values { values, context: Some("c".to_owned()) };
        assert_eq!(judge_read(reply(300, None, two)), Outcome::Ok(read));
    }

    #[test]
    fn only_a_missing_key_is_absence() {
        let absent = reply(404, None, r#"{"code":"no_such_key"}"#);
        let bucket = reply(404, None, r#"{"code":"no_such_bucket"}"#);

        assert_eq!(judge_read(absent), Outcome::Ok(Values::default()));
        assert!(matches!(judge_read(bucket), Outcome::Fail(_)));
        assert!(matches!(judge_read(reply(200, None, "{")), Outcome::Fail(_)));
    }
}
