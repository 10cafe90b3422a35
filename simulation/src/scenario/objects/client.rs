//! Clients of one gateway: they put, get, head, list, delete and upload in parts.
//!
//! A client lives and dies with its gateway, and what it had begun then is of unknown outcome.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use quorate::catalog::{BucketRecord, CatalogError, ListParts, NewObject, ObjectHead};
use quorate::env::{Clock, Entropy, deadline_in, timeout_at};
use quorate::node::Node;
use quorate::replication::Outcome;
use quorate::types::{Key, NodeId, UploadId};

use super::body::{End, SimBody, bytes_of, md5_of};
use super::history::{Content, Fate, Seen, Span, WriteId};
use super::{BUCKET, Stage, State, WRITE_HEADER};
use crate::trace::{Digest, Event};
use crate::world::SimNode;

/// An operation that takes longer has not made progress: requests are bounded by design.
const OPERATION_MAX: Duration = Duration::from_secs(90);

/// S3's least size of a part that is not the last.
const PART_BYTES_MIN: usize = 5 << 20;

/// One client.
pub(super) struct Client {
    pub(super) state: Arc<State>,
    pub(super) node: Arc<Node>,
    pub(super) gateway: NodeId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

/// How an operation ended, in a word for counters and the trace.
type Word = &'static str;

impl Client {
    pub(super) fn new(state: &Arc<State>, node: &Arc<Node>, sim: &SimNode) -> Self {
        Self {
            state: Arc::clone(state),
            node: Arc::clone(node),
            gateway: sim.node,
            clock: sim.clock.clone(),
            entropy: sim.entropy.fork("client"),
        }
    }

    /// Works until the faults are over.
    pub(super) async fn work(self) {
        loop {
            self.clock.sleep(Duration::from_millis(20 + self.entropy.below(180))).await;
            match self.state.stage() {
                Stage::Before => continue,
                Stage::Faults => {}
                Stage::After => return,
            }
            let Some(bucket) = self.node.catalog.bucket(BUCKET) else {
                continue;
            };
            let key = self.some_key();
            let deadline = deadline_in(&*self.clock, OPERATION_MAX);
            let operation = Box::pin(self.operate(&bucket, &key));
            if timeout_at(&*self.clock, deadline, operation).await.is_none() {
                let what = format!("I8: a request took over {OPERATION_MAX:?}");
                self.state.history.lock().violate_key(&key, &what);
            }
        }
    }

    fn some_key(&self) -> Key {
        let keys = &self.state.keys;
        let place = usize::try_from(self.entropy.below(keys.len() as u64)).unwrap_or_default();
        keys[place].clone()
    }

    async fn operate(&self, bucket: &BucketRecord, key: &Key) {
        match self.entropy.below(100) {
            0..33 => self.put(bucket, key).await,
            33..60 => drop(self.get(bucket, key).await),
            60..68 => drop(self.head(bucket, key).await),
            68..80 => drop(self.delete(bucket, key).await),
            80..91 => drop(self.list(bucket).await),
            _ => self.upload(bucket, key).await,
        }
    }

    fn now(&self) -> Duration {
        self.state.world_time.elapsed()
    }

    pub(super) fn note(&self, kind: &'static str, seen: u64, word: Word) {
        *self.state.history.lock().operations.entry(word).or_default() += 1;
        let node = self.gateway;
        let digest = Digest(seen);
        let event = Event { from: node, to: node, kind, number: 0, digest, outcome: word };
        self.state.trace.record(event);
    }

    /// A length for each way in which bodies are stored: inline, attached, extents.
    fn some_length(&self) -> usize {
        let (low, high) = match self.entropy.below(100) {
            0..4 => (0, 1),
            4..50 => (1, 512),
            50..80 => (513, 4_096),
            80..99 => (4_097, 40_000),
            _ => (200_000, 700_000),
        };
        usize::try_from(low + self.entropy.below(high - low + 1)).unwrap_or_default()
    }

    fn new_object(write: WriteId) -> NewObject {
        let headers = vec![(WRITE_HEADER.to_owned(), write.0.to_string())];
        NewObject { headers, checksum: None }
    }

    fn body(&self, bytes: Bytes, md5: [u8; 16], end: End) -> SimBody {
        SimBody::new(bytes, md5, end, Arc::clone(&self.clock), self.entropy.fork("body"))
    }

    async fn put(&self, bucket: &BucketRecord, key: &Key) {
        let end = match self.entropy.below(30) {
            0 => End::Broken,
            1 => End::Refused,
            _ => End::Whole,
        };
        let length = self.some_length();
        if self.put_of(bucket, key, length, end).await.is_ok() && end == End::Refused {
            let what = "I2: a put whose digest does not match was acknowledged";
            self.state.history.lock().violate_key(key, what);
        }
    }

    /// Puts an object of this length.
    pub(super) async fn put_of(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        length: usize,
        end: End,
    ) -> Result<WriteId, CatalogError> {
        let content = Content::Object(length);
        let write = self.state.history.lock().begin(key, content, self.gateway, self.now());
        let mut body = self.body(bytes_of(write, length), md5_of(write, 0), end);
        let object = Self::new_object(write);
        let result = self.node.catalog.put_object(bucket, key.clone(), object, &mut body).await;
        self.ended("put", write, &result);
        result.map(|_| write)
    }

    fn ended<T>(&self, kind: &'static str, write: WriteId, result: &Result<T, CatalogError>) {
        let (fate, detail) = match result {
            Ok(_) => (Fate::Acknowledged, String::new()),
            Err(error) => (fate_of(error), error.to_string()),
        };
        self.complain("write", result);
        self.state.history.lock().end(write, fate, self.now(), detail);
        let word = match fate {
            Fate::Acknowledged => "write done",
            Fate::Never => "write not done",
            Fate::Unknown => "write unknown",
        };
        self.note(kind, write.0, word);
    }

    /// Some errors no fault excuses.
    fn complain<T>(&self, what: &str, result: &Result<T, CatalogError>) {
        if let Err(error) = result
            && self.is_inexcusable(error)
        {
            let via = self.gateway.short();
            let at = self.now().as_secs_f64();
            let text = format!("I9: {what} via {via} at {at:.3} s: {error}");
            self.state.history.lock().violations.push(text);
        }
    }

    fn is_inexcusable(&self, error: &CatalogError) -> bool {
        match error {
            CatalogError::Internal { .. } => true,
            CatalogError::Full { .. } => !self.state.may_be_full,
            CatalogError::BytesUnavailable { reason } => {
                reason.contains("inline bytes") || self.state.stage() == Stage::After
            }
            _ => false,
        }
    }

    /// Deletes a key.
    pub(super) async fn delete(
        &self,
        bucket: &BucketRecord,
        key: &Key,
    ) -> Result<WriteId, CatalogError> {
        let write = self.state.history.lock().begin(key, Content::Gone, self.gateway, self.now());
        let result = self.node.catalog.delete_object(bucket, key).await;
        self.ended("delete", write, &result);
        result.map(|_| write)
    }

    /// Reads an object with all its bytes, and checks both against the history.
    pub(super) async fn get(&self, bucket: &BucketRecord, key: &Key) -> Result<Seen, CatalogError> {
        let from = self.state.history.lock().moment();
        let result = self.node.catalog.get_object(bucket, key).await;
        self.complain("get", &result);
        let reader = match result {
            Ok(reader) => reader,
            Err(CatalogError::NoSuchKey) => return Ok(self.saw_nothing("get", key, from)),
            Err(error) => {
                self.note("get", 0, "read failed");
                return Err(error);
            }
        };
        let span = Span { from, to: self.state.history.lock().moment() };
        let seen = self.saw(key, &reader.head, span, "get");
        let mut stream = reader.read(0..u64::MAX);
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            self.complain(&format!("bytes of '{key}'"), &piece);
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(error) => {
                    self.note("get", 0, "bytes broke off");
                    return Err(error);
                }
            }
        }
        if let Seen::Write(write) = seen
            && bytes != bytes_of(write, bytes.len().max(reader.head.size as usize))
        {
            let what = format!("I5: {} bytes of write {} are others", bytes.len(), write.0);
            self.state.history.lock().violate_key(key, &what);
        }
        Ok(seen)
    }

    /// Reads an object's head and checks it against the history.
    pub(super) async fn head(
        &self,
        bucket: &BucketRecord,
        key: &Key,
    ) -> Result<Seen, CatalogError> {
        let from = self.state.history.lock().moment();
        let result = self.node.catalog.head_object(bucket, key).await;
        self.complain("head", &result);
        match result {
            Ok((head, _)) => {
                let span = Span { from, to: self.state.history.lock().moment() };
                Ok(self.saw(key, &head, span, "head"))
            }
            Err(CatalogError::NoSuchKey) => Ok(self.saw_nothing("head", key, from)),
            Err(error) => {
                self.note("head", 0, "read failed");
                Err(error)
            }
        }
    }

    fn saw_nothing(&self, kind: &'static str, key: &Key, from: super::history::Moment) -> Seen {
        let mut history = self.state.history.lock();
        let span = Span { from, to: history.moment() };
        let how =
            format!("{kind} via {} at {:.3} s", self.gateway.short(), self.now().as_secs_f64());
        history.check(key, Seen::Absent, span, &how);
        drop(history);
        self.note(kind, 0, "read done");
        Seen::Absent
    }

    /// Checks a head that was read; which write it is.
    pub(super) fn saw(&self, key: &Key, head: &ObjectHead, span: Span, kind: &'static str) -> Seen {
        let how =
            format!("{kind} via {} at {:.3} s", self.gateway.short(), self.now().as_secs_f64());
        let header = head.headers.iter().find(|(name, _)| name == WRITE_HEADER);
        let number = header.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
        let write = WriteId(number);
        let mut history = self.state.history.lock();
        history.check(key, Seen::Write(write), span, &how);
        let expected = history.content(key, write);
        if expected != usize::try_from(head.size).ok().map(Content::Object) {
            let what = format!("I5: a head of {} bytes, not {expected:?} ({how})", head.size);
            history.violate_key(key, &what);
        }
        drop(history);
        self.note(kind, number, "read done");
        Seen::Write(write)
    }

    /// Uploads in parts, and completes or aborts.
    async fn upload(&self, bucket: &BucketRecord, key: &Key) {
        let content = Content::Object(0);
        let write = self.state.history.lock().begin(key, content, self.gateway, self.now());
        let catalog = &self.node.catalog;
        let created = catalog.create_upload(bucket, key.clone(), Self::new_object(write)).await;
        self.complain("create upload", &created);
        let Ok((upload, _)) = created else {
            return self.not_even_begun(write);
        };
        let mut lengths = vec![usize::try_from(self.entropy.below(20_000)).unwrap_or_default()];
        if self.entropy.below(40) == 0 {
            lengths.insert(0, PART_BYTES_MIN);
        }
        let whole = bytes_of(write, lengths.iter().sum());
        let mut named = Vec::new();
        let mut left = whole.clone();
        for (number, length) in (1_u16..).zip(lengths) {
            let bytes = left.split_to(length);
            if !self.part(bucket, key, (upload, write, number), bytes).await {
                return self.not_even_begun(write);
            }
            named.push((number, hex_of(md5_of(write, number)), Vec::new()));
        }
        if self.entropy.below(5) == 0 {
            return self.abort(bucket, key, upload, write, named).await;
        }
        let content = Content::Object(whole.len());
        self.state.history.lock().invoke(write, content, self.now());
        self.complete(bucket, key, (upload, write), named).await;
    }

    fn not_even_begun(&self, write: WriteId) {
        let detail = "its upload was not completed".to_owned();
        self.state.history.lock().end(write, Fate::Never, self.now(), detail);
        self.note("upload", write.0, "upload not begun");
    }

    /// Puts one part, sometimes other bytes before it, and looks whether it is listed.
    async fn part(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        (upload, write, number): (UploadId, WriteId, u16),
        bytes: Bytes,
    ) -> bool {
        let catalog = &self.node.catalog;
        if self.entropy.below(4) == 0 {
            let mut other =
                self.body(bytes_of(WriteId(write.0 | 1 << 40), 700), [1; 16], End::Whole);
            let replaced = catalog.put_part(bucket, key, upload, number, &mut other).await;
            self.complain("part", &replaced);
            if replaced.is_err() {
                // It may come later than the one that is to replace it.
                return false;
            }
        }
        let mut body = self.body(bytes, md5_of(write, number), End::Whole);
        let put = catalog.put_part(bucket, key, upload, number, &mut body).await;
        self.complain("part", &put);
        if put.is_err() {
            return false;
        }
        let request = ListParts { after: number - 1, max: 1 };
        if let Ok(page) = catalog.list_parts(bucket, key, upload, request).await {
            let etag = page.parts.first().map(|part| part.etag.clone());
            if etag != Some(hex_of(md5_of(write, number))) {
                let what = format!("I2: part {number} was acknowledged and is listed as {etag:?}");
                self.state.history.lock().violate_key(key, &what);
            }
        }
        true
    }

    async fn complete(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        (upload, write): (UploadId, WriteId),
        named: Vec<(u16, String, Vec<quorate::catalog::Checksum>)>,
    ) {
        let catalog = &self.node.catalog;
        let mut fate = Fate::Never;
        let mut detail = String::new();
        for _ in 0..3 {
            let done = catalog.complete_upload(bucket, key, upload, named.clone(), None).await;
            self.complain("complete", &done);
            match done {
                Ok(_) => {
                    fate = Fate::Acknowledged;
                    break;
                }
                Err(error) => {
                    if fate_of(&error) == Fate::Unknown {
                        fate = Fate::Unknown;
                    }
                    detail = error.to_string();
                }
            }
            self.clock.sleep(Duration::from_millis(self.entropy.below(2_000))).await;
        }
        self.state.history.lock().end(write, fate, self.now(), detail);
        let word = match fate {
            Fate::Acknowledged => "upload done",
            Fate::Never => "upload not done",
            Fate::Unknown => "upload unknown",
        };
        self.note("upload", write.0, word);
        if fate == Fate::Acknowledged && self.entropy.below(3) == 0 {
            let again = catalog.complete_upload(bucket, key, upload, named, None).await;
            if matches!(again, Err(CatalogError::NoSuchUpload | CatalogError::InvalidPart { .. })) {
                let what = format!("a repeated completion of write {} is refused", write.0);
                self.state.history.lock().violate_key(key, &what);
            }
        }
    }

    async fn abort(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
        write: WriteId,
        named: Vec<(u16, String, Vec<quorate::catalog::Checksum>)>,
    ) {
        let catalog = &self.node.catalog;
        let aborted = catalog.abort_upload(bucket, key, upload).await;
        self.complain("abort", &aborted);
        self.not_even_begun(write);
        if aborted.is_ok() {
            let after = catalog.complete_upload(bucket, key, upload, named, None).await;
            if after.is_ok() {
                let what = "I2: an upload that was aborted was completed";
                self.state.history.lock().violate_key(key, what);
            }
        }
    }
}

fn hex_of(md5: [u8; 16]) -> String {
    md5.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an error says of a write.
fn fate_of(error: &CatalogError) -> Fate {
    match error {
        CatalogError::Unavailable { outcome: Outcome::Unknown, .. }
        | CatalogError::BytesUnavailable { .. }
        | CatalogError::Internal { .. } => Fate::Unknown,
        _ => Fate::Never,
    }
}
