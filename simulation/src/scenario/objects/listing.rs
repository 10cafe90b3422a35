//! Listings: each page is a read of all keys that it passes over.

use bytes::Bytes;
use quorate::catalog::{BucketRecord, CatalogError, ListEntry, ListObjects, ListPage};
use quorate::types::Key;

use super::client::Client;
use super::history::{Seen, Span};

/// Pages of one listing; there are far fewer keys.
const PAGES_MAX: usize = 400;

impl Client {
    /// Lists some part of the bucket page by page, and checks each page.
    pub(super) async fn list(&self, bucket: &BucketRecord) -> Result<(), CatalogError> {
        let prefix: &[u8] = match self.entropy.below(6) {
            0 => b"a/",
            1 => b"b/",
            2 => b"nothing",
            _ => b"",
        };
        let delimiter = (self.entropy.below(2) == 0).then(|| Bytes::from_static(b"/"));
        let max = usize::try_from(1 + self.entropy.below(8)).unwrap_or(1);
        let request =
            ListObjects { prefix: Bytes::from_static(prefix), delimiter, after: Bytes::new(), max };
        self.list_all(bucket, request).await
    }

    /// Lists everything that `request` covers.
    pub(super) async fn list_all(
        &self,
        bucket: &BucketRecord,
        mut request: ListObjects,
    ) -> Result<(), CatalogError> {
        for _ in 0..PAGES_MAX {
            let from = self.state.history.lock().moment();
            let page = match self.node.catalog.list_objects(bucket, &request).await {
                Ok(page) => page,
                Err(error) => {
                    self.note("list", 0, "read failed");
                    return Err(error);
                }
            };
            let span = Span { from, to: self.state.history.lock().moment() };
            self.check_page(&request, &page, span);
            self.note("list", page.entries.len() as u64, "read done");
            match page.next {
                Some(next) => request.after = next,
                None => return Ok(()),
            }
        }
        self.state.history.lock().violations.push("a listing does not end".to_owned());
        Ok(())
    }

    fn check_page(&self, request: &ListObjects, page: &ListPage, span: Span) {
        let positions: Vec<Bytes> = page.entries.iter().map(position).collect();
        let ordered = positions.windows(2).all(|pair| pair[0] < pair[1]);
        let after = positions.first().is_none_or(|first| *first > request.after);
        if !ordered || !after || positions.len() > request.max {
            let what = format!("a page of {request:?} is out of order or too long: {positions:?}");
            self.state.history.lock().violations.push(what);
        }
        for entry in &page.entries {
            if let ListEntry::Object(head) = entry {
                self.saw(&head.key, head, span, "list");
            }
        }
        self.check_groups(request, page, span);
        self.check_missing(request, page, &positions, span);
    }

    /// A common prefix stands for at least one live key.
    fn check_groups(&self, request: &ListObjects, page: &ListPage, span: Span) {
        let mut history = self.state.history.lock();
        let keys = history.keys();
        for entry in &page.entries {
            let ListEntry::CommonPrefix(group) = entry else {
                continue;
            };
            let mut members =
                keys.iter().filter(|key| position_of(request, key) == Some(group.clone()));
            if !members.any(|key| history.may_be_live(key, span)) {
                let what = format!("I4: common prefix {group:?} is listed and has no live key");
                history.violations.push(what);
            }
        }
    }

    /// What a page passes over and does not show may be absent.
    fn check_missing(&self, request: &ListObjects, page: &ListPage, shown: &[Bytes], span: Span) {
        let how = format!("list via {} at {:.3} s", self.gateway.short(), self.state.seconds());
        let mut history = self.state.history.lock();
        for key in history.keys() {
            let Some(position) = position_of(request, &key) else {
                continue;
            };
            let passed =
                position > request.after && page.next.as_ref().is_none_or(|next| position <= *next);
            if passed && !shown.contains(&position) {
                history.check(&key, Seen::Absent, span, &how);
            }
        }
    }
}

fn position(entry: &ListEntry) -> Bytes {
    match entry {
        ListEntry::Object(head) => head.key.to_bytes(),
        ListEntry::CommonPrefix(prefix) => prefix.clone(),
    }
}

/// Where a key stands in a listing: by itself, or as a part of its common prefix.
fn position_of(request: &ListObjects, key: &Key) -> Option<Bytes> {
    let rest = key.as_bytes().strip_prefix(&request.prefix[..])?;
    let delimiter = request.delimiter.as_ref().and_then(|delimiter| delimiter.first());
    let cut = delimiter.and_then(|delimiter| rest.iter().position(|byte| byte == delimiter));
    let length = cut.map_or(rest.len(), |at| at + 1);
    Some(key.to_bytes().slice(..request.prefix.len() + length))
}
