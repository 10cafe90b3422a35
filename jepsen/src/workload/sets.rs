//! A set in a bucket: to add an element is to store an object under a key of its own, to read
//! the set is to list the bucket.

use serde_json::json;

use super::BUCKET;
use super::hand::{Hand, Where};
use crate::client::Outcome;
use crate::content::Sizes;
use crate::history::Kind;

/// Elements are spread over so many sets: a whole list would be the longer the later.
const SETS: u64 = 8;

impl Hand {
    pub(super) async fn step_of_set(&mut self, node: usize) {
        let set = format!("set{}", self.draw(SETS));
        let at = Where { node, bucket: BUCKET, key: &set };
        if self.draw(100) < 30 {
            self.read_one_set(at).await;
        } else {
            self.add(at).await;
        }
    }

    pub(super) async fn read_set(&mut self, node: usize) {
        for number in 0..SETS {
            let set = format!("set{number}");
            self.read_one_set(Where { node, bucket: BUCKET, key: &set }).await;
        }
    }

    async fn add(&mut self, at: Where<'_>) {
        let number = self.ground().next_write();
        let written = Sizes::Small.of(number);
        let mut told = self.operation("add", at);
        told.value = number.into();
        self.invoke(&told);
        let (s3, client) = (self.ground().places[at.node - 1].s3, self.ground().client.clone());
        let path = format!("/{}/{}/{number}", at.bucket, at.key);
        let outcome = client.put(s3, &path, written.bytes()).await;
        self.end(told, outcome, |told, etag| told.etag.clone_from(etag));
    }

    async fn read_one_set(&mut self, at: Where<'_>) {
        let mut told = self.operation("read", at);
        self.invoke(&told);
        let (s3, client) = (self.ground().places[at.node - 1].s3, self.ground().client.clone());
        let prefix = format!("{}/", at.key);
        match client.list(s3, at.bucket, &prefix).await {
            Outcome::Ok(keys) => {
                let numbers = keys.iter().map(|key| {
                    let number = key.strip_prefix(&prefix).and_then(|text| text.parse().ok());
                    number.unwrap_or(u64::MAX)
                });
                told.value = json!(numbers.collect::<Vec<u64>>());
                self.tell(&told, Kind::Ok, None);
            }
            Outcome::Fail(reason) | Outcome::Info(reason) => {
                self.tell(&told, Kind::Fail, Some(reason));
            }
        }
    }
}
