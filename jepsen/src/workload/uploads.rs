//! Objects of few keys that are uploaded in parts, completed by one client or by two at once,
//! given up, or written as a whole.

use super::BUCKET;
use super::hand::{Ended, Hand, Where};
use crate::content::{PART_BYTES, Sizes};
use crate::history::Operation;

const KEYS: u64 = 6;

fn key(number: u64) -> String {
    format!("m{number}")
}

impl Hand {
    pub(super) async fn step_of_uploads(&mut self, node: usize) {
        let key = key(self.draw(KEYS));
        let at = Where { node, bucket: BUCKET, key: &key };
        match self.draw(100) {
            0..50 => {
                self.get(at, Sizes::Parts, None).await;
            }
            50..60 => {
                self.put(at, Sizes::Parts).await;
            }
            _ => self.upload(at).await,
        }
    }

    pub(super) async fn read_uploads(&mut self, node: usize) {
        for number in 0..KEYS {
            let key = key(number);
            let at = Where { node, bucket: BUCKET, key: &key };
            self.get(at, Sizes::Parts, None).await;
            self.get(at, Sizes::Parts, Some("all")).await;
        }
    }

    /// Each request goes through a node of its own.
    fn elsewhere<'a>(&mut self, at: Where<'a>) -> Where<'a> {
        let nodes = self.ground().nodes();
        Where { node: self.pick(&nodes).unwrap_or(at.node), ..at }
    }

    async fn upload(&mut self, at: Where<'_>) {
        let client = self.ground().client.clone();
        let path = at.path();
        let told = self.operation("mpu-create", at);
        self.invoke(&told);
        let s3 = self.ground().places[at.node - 1].s3;
        let outcome = client.create_upload(s3, &path).await;
        let Ended::Ok(upload) = self.end(told, outcome, |_, _| ()) else { return };
        let number = self.ground().next_write();
        let body = Sizes::Parts.of(number).bytes();
        let mut etags = Vec::new();
        let mut from = 0;
        while from < body.len() {
            let part = body.slice(from..body.len().min(from + PART_BYTES));
            from += part.len();
            let at = self.elsewhere(at);
            let told = self.operation("mpu-part", at);
            self.invoke(&told);
            let s3 = self.ground().places[at.node - 1].s3;
            let place = (path.as_str(), upload.as_str(), etags.len() + 1);
            let outcome = client.upload_part(s3, place, part).await;
            let Ended::Ok(etag) = self.end(told, outcome, |_, _| ()) else { return };
            etags.push(etag);
        }
        if self.draw(10) == 0 {
            self.give_up(at, &upload).await;
            return;
        }
        let mut told = self.operation("mpu-complete", at);
        told.value = number.into();
        told.bytes = Some(body.len());
        let ended = self.complete(told, at, (&upload, &etags)).await;
        // As a client does that had no answer, or did not believe it. It must change nothing.
        if !matches!(ended, Ended::Fail) && self.draw(4) == 0 {
            let told = self.operation("mpu-complete-again", at);
            let again = self.complete(told, at, (&upload, &etags)).await;
            if let (Ended::Ok(one), Ended::Ok(other)) = (&ended, &again)
                && one != other
            {
                let ground = self.ground();
                ground.violation(format!("{upload} was completed as {one:?} and as {other:?}"));
            }
        }
    }

    async fn complete(
        &mut self,
        mut told: Operation,
        at: Where<'_>,
        (upload, etags): (&str, &[String]),
    ) -> Ended<Option<String>> {
        let at = self.elsewhere(at);
        told.node = Some(at.node);
        told.process = self.process();
        self.invoke(&told);
        let (s3, client) = (self.ground().places[at.node - 1].s3, self.ground().client.clone());
        let outcome = client.complete_upload(s3, (&at.path(), upload), etags).await;
        self.end(told, outcome, |told, etag| told.etag.clone_from(etag))
    }

    async fn give_up(&mut self, at: Where<'_>, upload: &str) {
        let at = self.elsewhere(at);
        let told = self.operation("mpu-abort", at);
        self.invoke(&told);
        let (s3, client) = (self.ground().places[at.node - 1].s3, self.ground().client.clone());
        let outcome = client.abort_upload(s3, (&at.path(), upload)).await;
        self.end(told, outcome, |_, ()| ());
    }
}
