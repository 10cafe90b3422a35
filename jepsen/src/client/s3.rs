//! S3's operations.

use std::net::SocketAddr;

use bytes::Bytes;
use http::StatusCode;

use super::{Broken, Call, Client, Outcome, Reply, describe, elements, judge_write};

/// The header that asks for a level of consistency.
const LEVEL: &str = "x-quorate-level";

/// Pages that one listing may have: more than any test makes.
const PAGES_MAX: usize = 1_000;

/// An object that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its ETag, without quotes.
    pub etag: Option<String>,
    /// The level at which it was served.
    pub level: Option<String>,
}

impl Client {
    /// Makes a bucket, at the cluster's own level unless another is asked for.
    pub async fn create_bucket(
        &self,
        node: SocketAddr,
        bucket: &str,
        level: Option<&str>,
    ) -> Outcome<()> {
        let path = format!("/{bucket}");
        let headers = level.map(|level| (LEVEL, level)).into_iter().collect();
        let call = Call { method: "PUT", path: &path, headers, ..Call::default() };
        judge_write(self.send(node, call).await).map(|_| ())
    }

    /// Stores an object; its ETag.
    pub async fn put(&self, node: SocketAddr, path: &str, body: Bytes) -> Outcome<Option<String>> {
        let call = Call { method: "PUT", path, body, ..Call::default() };
        judge_write(self.send(node, call).await).map(|reply| etag(&reply))
    }

    /// Removes an object.
    pub async fn delete(&self, node: SocketAddr, path: &str) -> Outcome<()> {
        let call = Call { method: "DELETE", path, ..Call::default() };
        judge_write(self.send(node, call).await).map(|_| ())
    }

    /// Reads an object; `None` if there is none. A read is never [`Outcome::Info`]: it has no
    /// effect to be unsure of.
    pub async fn get(&self, node: SocketAddr, path: &str) -> Outcome<Option<Bytes>> {
        self.get_at(node, path, None).await.map(|found| found.map(|object| object.bytes))
    }

    /// Reads an object at a level of consistency, the bucket's unless another is asked for.
    pub async fn get_at(
        &self,
        node: SocketAddr,
        path: &str,
        level: Option<&str>,
    ) -> Outcome<Option<Object>> {
        let headers = level.map(|level| (LEVEL, level)).into_iter().collect();
        let call = Call { method: "GET", path, headers, ..Call::default() };
        judge_read(self.send(node, call).await).map(|reply| {
            reply.map(|reply| Object {
                etag: etag(&reply),
                level: reply.header(LEVEL),
                bytes: reply.body,
            })
        })
    }

    /// Begins an upload in parts; its id.
    pub async fn create_upload(&self, node: SocketAddr, path: &str) -> Outcome<String> {
        let query = vec![("uploads", "")];
        let call = Call { method: "POST", path, query, ..Call::default() };
        match judge_write(self.send(node, call).await) {
            Outcome::Ok(reply) => {
                match elements(&String::from_utf8_lossy(&reply.body), "UploadId").pop() {
                    Some(id) => Outcome::Ok(id),
                    None => Outcome::Info("an upload without an id".to_owned()),
                }
            }
            Outcome::Fail(reason) => Outcome::Fail(reason),
            Outcome::Info(reason) => Outcome::Info(reason),
        }
    }

    /// Stores a part; its ETag.
    pub async fn upload_part(
        &self,
        node: SocketAddr,
        (path, upload, number): (&str, &str, usize),
        body: Bytes,
    ) -> Outcome<String> {
        let number = number.to_string();
        let query = vec![("partNumber", number.as_str()), ("uploadId", upload)];
        let call = Call { method: "PUT", path, query, body, ..Call::default() };
        judge_write(self.send(node, call).await).map(|reply| etag(&reply).unwrap_or_default())
    }

    /// Makes an object of the parts with these ETags; its own ETag.
    pub async fn complete_upload(
        &self,
        node: SocketAddr,
        (path, upload): (&str, &str),
        etags: &[String],
    ) -> Outcome<Option<String>> {
        let parts = (1..).zip(etags).map(|(number, etag): (usize, _)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        });
        let body = format!(
            "<CompleteMultipartUpload>{}</CompleteMultipartUpload>",
            parts.collect::<String>()
        );
        let query = vec![("uploadId", upload)];
        let call = Call { method: "POST", path, query, body: body.into(), ..Call::default() };
        match judge_write(self.send(node, call).await) {
            // The status is sent before it is known how a long completion ends.
            Outcome::Ok(reply) => {
                let text = String::from_utf8_lossy(&reply.body);
                match elements(&text, "ETag").pop() {
                    Some(etag) => Outcome::Ok(Some(etag.replace("&quot;", "").replace('"', ""))),
                    None => Outcome::Info(describe(&reply)),
                }
            }
            Outcome::Fail(reason) => Outcome::Fail(reason),
            Outcome::Info(reason) => Outcome::Info(reason),
        }
    }

    /// Gives an upload up.
    pub async fn abort_upload(
        &self,
        node: SocketAddr,
        (path, upload): (&str, &str),
    ) -> Outcome<()> {
        let query = vec![("uploadId", upload)];
        let call = Call { method: "DELETE", path, query, ..Call::default() };
        judge_write(self.send(node, call).await).map(|_| ())
    }

    /// All keys of a bucket that begin with `prefix`, page by page.
    pub async fn list(&self, node: SocketAddr, bucket: &str, prefix: &str) -> Outcome<Vec<String>> {
        let path = format!("/{bucket}");
        let mut keys = Vec::new();
        let mut token = String::new();
        for _ in 0..PAGES_MAX {
            let mut query = vec![("list-type", "2"), ("prefix", prefix)];
            if !token.is_empty() {
                query.push(("continuation-token", &token));
            }
            let call = Call { method: "GET", path: &path, query, ..Call::default() };
            let page = match judge_read(self.send(node, call).await) {
                Outcome::Ok(Some(page)) => String::from_utf8_lossy(&page.body).into_owned(),
                Outcome::Ok(None) => return Outcome::Fail("the bucket is gone".to_owned()),
                Outcome::Fail(reason) | Outcome::Info(reason) => return Outcome::Fail(reason),
            };
            keys.extend(elements(&page, "Key"));
            match elements(&page, "NextContinuationToken").pop() {
                Some(next) => token = next,
                None => return Outcome::Ok(keys),
            }
        }
        Outcome::Fail(format!("more than {PAGES_MAX} pages"))
    }
}

fn etag(reply: &Reply) -> Option<String> {
    reply.header("etag").map(|etag| etag.trim_matches('"').to_owned())
}

fn judge_read(reply: Result<Reply, Broken>) -> Outcome<Option<Reply>> {
    match reply {
        Ok(reply) if reply.status.is_success() => Outcome::Ok(Some(reply)),
        Ok(reply) if is_absence(&reply) => Outcome::Ok(None),
        Ok(reply) => Outcome::Fail(describe(&reply)),
        Err(Broken::Unsent(reason) | Broken::Unknown(reason)) => Outcome::Fail(reason),
    }
}

/// A missing bucket is no missing object: all tests' buckets exist.
fn is_absence(reply: &Reply) -> bool {
    let code = elements(&String::from_utf8_lossy(&reply.body), "Code").pop();
    reply.status == StatusCode::NOT_FOUND && code.as_deref() == Some("NoSuchKey")
}

#[cfg(test)]
mod tests {
    use super::super::tests::reply;
    use super::{Outcome, judge_read};

    #[test]
    fn only_a_missing_key_is_absence() {
        let absent = reply(404, None, "<Error><Code>NoSuchKey</Code></Error>");
        let bucket = reply(404, None, "<Error><Code>NoSuchBucket</Code></Error>");

        assert!(matches!(judge_read(absent), Outcome::Ok(None)));
        assert!(matches!(judge_read(bucket), Outcome::Fail(_)));
        assert!(matches!(judge_read(reply(503, None, "")), Outcome::Fail(_)));
    }
}
