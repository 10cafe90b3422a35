//! One client: each request is an operation of the history, and a client whose request ended in
//! doubt goes on as another process.

use std::sync::Arc;
use std::time::Duration;

use quorate::env::Clock;
use serde_json::{Value, json};

use super::ground::Ground;
use crate::client::Outcome;
use crate::client::kv::Told;
use crate::content::{Sizes, mix};
use crate::history::{Kind, Operation};

/// What is asked: through which node, for which key of which bucket.
#[derive(Clone, Copy, Debug)]
pub struct Where<'a> {
    /// The node, from 1.
    pub node: usize,
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
}

impl Where<'_> {
    pub(super) fn path(&self) -> String {
        format!("/{}/{}", self.bucket, self.key)
    }
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// It happened.
    Ok(T),
    /// It certainly did not.
    Fail,
    /// Nobody knows.
    Info,
}

/// What a read of the key-value API found: write numbers, and the context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvRead {
    /// The numbers of the writes that stand side by side, in order.
    pub numbers: Vec<u64>,
    /// What was seen.
    pub context: Option<String>,
}

/// One client.
pub struct Hand {
    ground: Arc<Ground>,
    process: u64,
    draws: u64,
}

impl Hand {
    pub(super) fn new(ground: Arc<Ground>, process: u64, seed: u64) -> Self {
        let draws = mix(seed ^ mix(process));
        Self { ground, process, draws }
    }

    /// A number below `bound`.
    pub const fn draw(&mut self, bound: u64) -> u64 {
        self.draws = mix(self.draws);
        if bound == 0 { 0 } else { self.draws % bound }
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let place = self.draw(from.len() as u64);
        from.get(usize::try_from(place).ok()?).copied()
    }

    /// A pause of less than this.
    pub async fn rest(&mut self, below: Duration) {
        let millis = u64::try_from(below.as_millis()).unwrap_or(u64::MAX);
        let pause = Duration::from_millis(self.draw(millis));
        self.ground.clock.sleep(pause).await;
    }

    /// What all clients share.
    #[must_use]
    pub fn ground(&self) -> &Arc<Ground> {
        &self.ground
    }

    /// Stores a new object under a key; its write's number, and its ETag if it was told.
    pub async fn put(&mut self, at: Where<'_>, sizes: Sizes) -> (u64, Ended<Option<String>>) {
        let number = self.ground.next_write();
        let written = sizes.of(number);
        let mut told = self.operation("write", at);
        told.value = number.into();
        told.bytes = Some(written.length);
        self.invoke(&told);
        let s3 = self.ground.places[at.node - 1].s3;
        let outcome = self.ground.client.put(s3, &at.path(), written.bytes()).await;
        let ended = self.end(told, outcome, |told, etag| told.etag.clone_from(etag));
        (number, ended)
    }

    /// Deletes the object under a key.
    pub async fn delete(&mut self, at: Where<'_>) -> Ended<()> {
        let told = self.operation("delete", at);
        self.invoke(&told);
        let s3 = self.ground.places[at.node - 1].s3;
        let outcome = self.ground.client.delete(s3, &at.path()).await;
        self.end(told, outcome, |_, ()| ())
    }

    /// Reads the object under a key: the number of the write that it holds, if it holds one.
    /// `None` if it could not be read.
    pub async fn get(
        &mut self,
        at: Where<'_>,
        sizes: Sizes,
        level: Option<&str>,
    ) -> Option<(Option<u64>, Option<String>)> {
        let mut told = self.operation("read", at);
        told.mode = level.map(str::to_owned);
        self.invoke(&told);
        let s3 = self.ground.places[at.node - 1].s3;
        match self.ground.client.get_at(s3, &at.path(), level).await {
            Outcome::Ok(None) => {
                self.tell(&told, Kind::Ok, None);
                Some((None, None))
            }
            Outcome::Ok(Some(object)) => match sizes.recognise(&object.bytes) {
                Ok(number) => {
                    told.value = number.into();
                    told.bytes = Some(object.bytes.len());
                    told.mode = object.level;
                    told.etag.clone_from(&object.etag);
                    self.tell(&told, Kind::Ok, None);
                    Some((Some(number), object.etag))
                }
                Err(what) => {
                    self.wrong_bytes(&told, at, what);
                    None
                }
            },
            Outcome::Fail(reason) | Outcome::Info(reason) => {
                self.tell(&told, Kind::Fail, Some(reason));
                None
            }
        }
    }

    /// Writes a new value of a key; its write's number, and what was told.
    pub async fn kv_put(&mut self, at: Where<'_>, context: Option<&str>) -> (u64, Ended<Told>) {
        let number = self.ground.next_write();
        let written = Sizes::Small.of(number);
        let mut told = self.operation("write", at);
        told.value = number.into();
        told.bytes = Some(written.length);
        told.context = context.map(str::to_owned);
        self.invoke(&told);
        let kv = self.ground.places[at.node - 1].kv;
        let place = (at.bucket, at.key);
        let outcome = self.ground.client.kv_put(kv, place, written.bytes(), context).await;
        let ended = self.end(told, outcome, |told, answer| {
            told.context.clone_from(&answer.context);
            told.ts.clone_from(&answer.stamp);
        });
        (number, ended)
    }

    /// Reads a key; `None` if it could not be read.
    pub async fn kv_get(&mut self, at: Where<'_>, level: Option<&str>) -> Option<KvRead> {
        let mut told = self.operation("read", at);
        told.mode = level.map(str::to_owned);
        self.invoke(&told);
        let kv = self.ground.places[at.node - 1].kv;
        let read = match self.ground.client.kv_get(kv, (at.bucket, at.key), level).await {
            Outcome::Ok(read) => read,
            Outcome::Fail(reason) | Outcome::Info(reason) => {
                self.tell(&told, Kind::Fail, Some(reason));
                return None;
            }
        };
        let numbers = read.values.iter().map(|value| Sizes::Small.recognise(value));
        match numbers.collect::<Result<Vec<u64>, _>>() {
            Ok(mut numbers) => {
                numbers.sort_unstable();
                told.value = json!(numbers);
                told.context.clone_from(&read.context);
                self.tell(&told, Kind::Ok, None);
                Some(KvRead { numbers, context: read.context })
            }
            Err(what) => {
                self.wrong_bytes(&told, at, what);
                None
            }
        }
    }

    /// Deletes what a context covers of a key.
    pub async fn kv_delete(&mut self, at: Where<'_>, context: &str) -> Ended<Told> {
        let mut told = self.operation("delete", at);
        told.context = Some(context.to_owned());
        self.invoke(&told);
        let kv = self.ground.places[at.node - 1].kv;
        let outcome = self.ground.client.kv_delete(kv, (at.bucket, at.key), context).await;
        self.end(told, outcome, |told, answer| told.context.clone_from(&answer.context))
    }

    /// Lists the keys of a bucket that begin with `at.key`. `None` if that did not succeed.
    pub async fn list(&mut self, at: Where<'_>) -> Option<Vec<String>> {
        let mut told = self.operation("list", at);
        self.invoke(&told);
        let s3 = self.ground.places[at.node - 1].s3;
        match self.ground.client.list(s3, at.bucket, at.key).await {
            Outcome::Ok(keys) => {
                let whole = keys.iter().map(|key| format!("{}/{key}", at.bucket));
                told.value = whole.collect::<Vec<String>>().into();
                self.tell(&told, Kind::Ok, None);
                Some(keys)
            }
            Outcome::Fail(reason) | Outcome::Info(reason) => {
                self.tell(&told, Kind::Fail, Some(reason));
                None
            }
        }
    }

    fn wrong_bytes(&self, told: &Operation, at: Where<'_>, what: String) {
        self.tell(told, Kind::Ok, Some(what.clone()));
        let Where { node, bucket, key } = at;
        self.ground.violation(format!("through node {node}, {bucket}/{key} holds {what}"));
    }

    /// What it is called in the history just now.
    pub(super) fn process(&self) -> String {
        self.process.to_string()
    }

    pub(super) fn operation(&self, f: &str, at: Where<'_>) -> Operation {
        Operation {
            process: self.process.to_string(),
            f: f.to_owned(),
            key: Some(format!("{}/{}", at.bucket, at.key)),
            value: Value::Null,
            node: Some(at.node),
            ..Operation::default()
        }
    }

    pub(super) fn invoke(&self, told: &Operation) {
        self.tell(told, Kind::Invoke, None);
    }

    pub(super) fn tell(&self, told: &Operation, kind: Kind, error: Option<String>) {
        self.ground.count(kind, error.as_deref());
        self.ground.history().append(told, kind, error);
    }

    /// Tells how a write ended. A process whose operation is in doubt does nothing more.
    pub(super) fn end<T>(
        &mut self,
        mut told: Operation,
        outcome: Outcome<T>,
        add: impl FnOnce(&mut Operation, &T),
    ) -> Ended<T> {
        told.context = None;
        match outcome {
            Outcome::Ok(answer) => {
                add(&mut told, &answer);
                self.tell(&told, Kind::Ok, None);
                Ended::Ok(answer)
            }
            Outcome::Fail(reason) => {
                self.tell(&told, Kind::Fail, Some(reason));
                Ended::Fail
            }
            Outcome::Info(reason) => {
                self.tell(&told, Kind::Info, Some(reason));
                self.process = self.ground.next_process();
                Ended::Info
            }
        }
    }
}
