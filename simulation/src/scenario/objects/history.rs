//! What clients asked for and were told, and which values of a key that permits.
//!
//! Each key is a regular register with many writers: a read may see a write that was under way
//! during it, or the newest of those that had ended, never an older one and never nothing. A
//! write whose outcome is unknown may take effect until it is too old to be still under way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use quorate::types::{Key, NodeId};

/// After this time a write of unknown outcome has taken effect, or never does.
const UNDER_WAY_MAX: Duration = Duration::from_secs(40);

/// Lines of a key's history that a violation shows.
const SHOWN_MAX: usize = 14;

/// The number of a write, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::scenario) struct WriteId(pub(in crate::scenario) u64);

/// What a write leaves under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// An object of so many bytes.
    Object(usize),
    /// Nothing.
    Gone,
}

/// What the client knows of its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was acknowledged.
    Acknowledged,
    /// It certainly had no effect.
    Never,
    /// Either.
    Unknown,
}

/// A point in the order of all that clients did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

#[derive(Clone, Debug)]
struct Write {
    id: WriteId,
    key: Key,
    content: Content,
    via: NodeId,
    invoked: Moment,
    invoked_at: Duration,
    completed: Option<Moment>,
    completed_at: Duration,
    fate: Fate,
    detail: String,
}

/// What a read saw under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    /// This write.
    Write(WriteId),
    /// No object.
    Absent,
}

/// When a read was under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Before it was asked.
    pub(super) from: Moment,
    /// After it was answered.
    pub(super) to: Moment,
}

/// Everything that clients did.
#[derive(Default)]
pub(super) struct History {
    moments: u64,
    writes: Vec<Write>,
    by_key: BTreeMap<Key, Vec<WriteId>>,
    seen: BTreeSet<WriteId>,
    /// Operations by how they ended.
    pub(super) operations: BTreeMap<&'static str, u64>,
    /// What should have held and did not.
    pub(super) violations: Vec<String>,
}

impl History {
    /// Now.
    pub(super) fn moment(&mut self) -> Moment {
        self.moments += 1;
        Moment(self.moments)
    }

    /// Notes that a write is under way: its outcome is unknown until it ends.
    pub(super) fn begin(
        &mut self,
        key: &Key,
        content: Content,
        via: NodeId,
        at: Duration,
    ) -> WriteId {
        let id = WriteId(self.writes.len() as u64 + 1);
        let invoked = self.moment();
        self.writes.push(Write {
            id,
            key: key.clone(),
            content,
            via,
            invoked,
            invoked_at: at,
            completed: None,
            completed_at: Duration::MAX,
            fate: Fate::Unknown,
            detail: String::new(),
        });
        self.by_key.entry(key.clone()).or_default().push(id);
        id
    }

    /// The write that was prepared for takes effect from now on at the earliest.
    pub(super) fn invoke(&mut self, id: WriteId, content: Content, at: Duration) {
        let invoked = self.moment();
        if let Some(write) = self.write_mut(id) {
            (write.invoked, write.invoked_at, write.content) = (invoked, at, content);
        }
    }

    /// Notes how a write ended.
    pub(super) fn end(&mut self, id: WriteId, fate: Fate, at: Duration, detail: String) {
        let completed = self.moment();
        if let Some(write) = self.write_mut(id) {
            (write.fate, write.detail) = (fate, detail);
            (write.completed, write.completed_at) = (Some(completed), at);
        }
    }

    fn write_mut(&mut self, id: WriteId) -> Option<&mut Write> {
        self.writes.get_mut(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    fn write(&self, id: WriteId) -> Option<&Write> {
        self.writes.get(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    /// What a write left, if there is such a write of that key.
    pub(super) fn content(&self, key: &Key, id: WriteId) -> Option<Content> {
        self.write(id).filter(|write| write.key == *key).map(|write| write.content)
    }

    /// Every key that was ever written, in order.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.by_key.keys().cloned().collect()
    }

    fn writes_of(&self, key: &Key) -> impl Iterator<Item = &Write> {
        let ids = self.by_key.get(key).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| self.write(*id))
    }

    /// Whether a read in `span` may have seen `seen` under `key`; if not, why not.
    pub(super) fn permits(&self, key: &Key, seen: Seen, span: Span) -> Result<(), String> {
        match seen {
            Seen::Write(id) => match self.write(id).filter(|write| write.key == *key) {
                None => Err(format!("I5: write {} was never made under this key", id.0)),
                Some(write) => self.explains(write, span),
            },
            Seen::Absent => self.explains_absence(key, span),
        }
    }

    fn explains_absence(&self, key: &Key, span: Span) -> Result<(), String> {
        let Err(newer) = self.still_stands(key, Moment(0), Duration::ZERO, span) else {
            return Ok(());
        };
        let mut last = format!("nothing was found, though {newer}");
        for write in self.writes_of(key).filter(|write| write.content == Content::Gone) {
            match self.explains(write, span) {
                Ok(()) => return Ok(()),
                Err(reason) => last = format!("nothing was found: after the last delete, {reason}"),
            }
        }
        Err(format!("I2: {last}"))
    }

    /// Whether `write` may be what a read in `span` sees.
    fn explains(&self, write: &Write, span: Span) -> Result<(), String> {
        let id = write.id.0;
        if write.fate == Fate::Never {
            return Err(format!("I9: write {id} was answered as not done and is visible"));
        }
        if write.invoked > span.to {
            return Err(format!("I9: write {id} was seen before it was made"));
        }
        let (ended, ended_at) = match (write.fate, write.completed) {
            (Fate::Acknowledged, Some(completed)) => (completed, write.completed_at),
            _ => (Moment(u64::MAX), write.invoked_at + UNDER_WAY_MAX),
        };
        self.still_stands(&write.key, ended, ended_at, span)
            .map_err(|newer| format!("I2: write {id} was found, though {newer}"))
    }

    /// Whether no acknowledged write began after `ended` and ended before the read began.
    fn still_stands(
        &self,
        key: &Key,
        ended: Moment,
        ended_at: Duration,
        span: Span,
    ) -> Result<(), String> {
        let newer = self.writes_of(key).find(|other| {
            let began_after = if ended == Moment(u64::MAX) {
                other.invoked_at > ended_at
            } else {
                other.invoked > ended
            };
            let known = other.completed.is_some_and(|completed| completed < span.from);
            other.fate == Fate::Acknowledged && known && began_after
        });
        match newer {
            None => Ok(()),
            Some(newer) => Err(format!(
                "write {} began after it and was acknowledged before the read",
                newer.id.0
            )),
        }
    }

    /// Checks what a read saw, and keeps it for the end.
    pub(super) fn check(&mut self, key: &Key, seen: Seen, span: Span, how: &str) {
        if let Seen::Write(id) = seen {
            self.seen.insert(id);
        }
        if let Err(reason) = self.permits(key, seen, span) {
            self.violate_key(
                key,
                &format!("{reason} ({how}, moments {:?})", (span.from.0, span.to.0)),
            );
        }
    }

    /// Whether any key of a group may have been live to a read in `span`.
    pub(super) fn may_be_live(&self, key: &Key, span: Span) -> bool {
        let objects = self.writes_of(key).filter(|write| write.content != Content::Gone);
        objects.into_iter().any(|write| self.explains(write, span).is_ok())
    }

    /// Notes a violation together with the history of its key.
    pub(super) fn violate_key(&mut self, key: &Key, what: &str) {
        let history = self.describe(key);
        self.violations.push(format!("key '{key}': {what}\n{history}"));
    }

    /// A write that was seen must not have been answered as not done, then or later.
    pub(super) fn check_seen(&mut self) {
        let never: Vec<(WriteId, Key)> = self
            .seen
            .iter()
            .filter_map(|id| self.write(*id))
            .filter(|write| write.fate == Fate::Never)
            .map(|write| (write.id, write.key.clone()))
            .collect();
        for (id, key) in never {
            let what = format!("I9: write {} was answered as not done and was seen", id.0);
            self.violate_key(&key, &what);
        }
    }

    /// The last writes of a key, for people.
    pub(super) fn describe(&self, key: &Key) -> String {
        let writes: Vec<&Write> = self.writes_of(key).collect();
        let skipped = writes.len().saturating_sub(SHOWN_MAX);
        let mut text = String::new();
        for write in &writes[skipped..] {
            let completed = write.completed.map_or(0, |completed| completed.0);
            let until = if write.completed.is_some() {
                format!("{:.3}", write.completed_at.as_secs_f64())
            } else {
                "never heard".to_owned()
            };
            let _infallible = writeln!(
                text,
                "      write {} {:?} via {} moments {}..{} at {:.3}..{until} s {:?} {}",
                write.id.0,
                write.content,
                write.via.short(),
                write.invoked.0,
                completed,
                write.invoked_at.as_secs_f64(),
                write.fate,
                write.detail,
            );
        }
        text
    }
}
