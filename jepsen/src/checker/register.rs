//! A key as a register: what its calls wrote and saw.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::Value;

use super::Violation;
use super::call::Call;
use crate::history::Kind;

/// What a key holds: a write's number, or nothing.
pub type Content = Option<u64>;

/// What calls of a register are called.
pub const FUNCTIONS: [&str; 5] = ["read", "write", "cas", "delete", "mpu-complete"];

/// What a call did to its register, or saw of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It saw this.
    Read(Content),
    /// It put this.
    Write(Content),
    /// It saw the one and put the other.
    Swap(Content, Content),
    /// It saw something else than this.
    Unlike(Content),
}

impl Action {
    /// What the register holds afterwards, if it held `before` and this can be done then.
    #[must_use]
    pub fn apply(self, before: Content) -> Option<Content> {
        match self {
            Self::Read(seen) => (seen == before).then_some(before),
            Self::Write(new) => Some(new),
            Self::Swap(old, new) => (old == before).then_some(new),
            Self::Unlike(other) => (other != before).then_some(before),
        }
    }

    /// What it leaves behind.
    #[must_use]
    pub const fn written(self) -> Option<Content> {
        match self {
            Self::Write(new) | Self::Swap(_, new) => Some(new),
            Self::Read(_) | Self::Unlike(_) => None,
        }
    }

    /// The content whose being there, or not, it tells of.
    #[must_use]
    pub const fn asks_for(self) -> Option<Content> {
        match self {
            Self::Read(content) | Self::Swap(content, _) | Self::Unlike(content) => Some(content),
            Self::Write(_) => None,
        }
    }

    /// What it saw.
    #[must_use]
    pub const fn seen(self) -> Option<Content> {
        match self {
            Self::Read(seen) | Self::Swap(seen, _) => Some(seen),
            Self::Write(_) | Self::Unlike(_) => None,
        }
    }
}

/// What a call did, or may have done; nothing if it certainly did nothing and says nothing.
///
/// # Errors
/// If its value is not that of a register.
pub fn action(call: &Call<'_>) -> anyhow::Result<Option<Action>> {
    let action = match (call.f(), call.outcome()) {
        ("read", Kind::Ok) if call.end.is_some_and(|end| end.error.is_some()) => return Ok(None),
        ("read", Kind::Ok) => Action::Read(content(call, call.value())?),
        ("cas", Kind::Fail) if call.missed_condition() => {
            Action::Unlike(swap(call, &call.begin.value)?.0)
        }
        ("read", _) | (_, Kind::Fail) => return Ok(None),
        ("delete", _) => Action::Write(None),
        ("cas", _) => {
            let (old, new) = swap(call, &call.begin.value)?;
            Action::Swap(old, new)
        }
        _ => Action::Write(content(call, &call.begin.value)?),
    };
    Ok(Some(action))
}

fn content(call: &Call<'_>, value: &Value) -> anyhow::Result<Content> {
    match value {
        Value::Null => Ok(None),
        value => match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => bail!("line {}: {value} is no register's content", call.begins()),
        },
    }
}

fn swap(call: &Call<'_>, value: &Value) -> anyhow::Result<(Content, Content)> {
    match value.as_array().map(Vec::as_slice) {
        Some([old, new]) => Ok((content(call, old)?, content(call, new)?)),
        _ => bail!("line {}: {value} is not what a cas expects and puts", call.begins()),
    }
}

/// A call and the content that it wrote or saw.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The call.
    pub call: Call<'a>,
    /// The content.
    pub content: Content,
}

/// All that was done to one key, for checkers that ask which write a read saw.
#[derive(Debug)]
pub struct Past<'a> {
    /// The key.
    pub key: &'a str,
    /// What may have been written, in the order of the beginnings.
    pub writes: Vec<Told<'a>>,
    /// What was read, likewise.
    pub reads: Vec<Told<'a>>,
    /// Writes that were answered as certainly not done.
    pub denied: Vec<Told<'a>>,
    /// For each content the beginnings of its writes, and which of those until there ended last.
    sources: BTreeMap<Content, Vec<(u64, usize)>>,
}

impl<'a> Past<'a> {
    /// What these calls did to `key`.
    ///
    /// # Errors
    /// If a value is no register's.
    pub fn of(key: &'a str, calls: &[Call<'a>]) -> anyhow::Result<Self> {
        let (mut writes, mut reads, mut denied) = (Vec::new(), Vec::new(), Vec::new());
        for &call in calls {
            match action(&call)? {
                Some(Action::Read(content)) => reads.push(Told { call, content }),
                Some(Action::Write(content) | Action::Swap(_, content)) => {
                    writes.push(Told { call, content });
                }
                None if call.outcome() == Kind::Fail && call.begin.value.is_u64() => {
                    denied.push(Told { call, content: call.begin.value.as_u64() });
                }
                Some(Action::Unlike(_)) | None => {}
            }
        }
        let mut sources: BTreeMap<Content, Vec<(u64, usize)>> = BTreeMap::new();
        for (place, write) in writes.iter().enumerate() {
            let same = sources.entry(write.content).or_default();
            let last = same.last().map(|(_, last)| *last);
            let last = last.filter(|last| writes[*last].call.ends() >= write.call.ends());
            same.push((write.call.begins(), last.unwrap_or(place)));
        }
        Ok(Self { key, writes, reads, denied, sources })
    }

    /// The write that `read` saw: of several that it may be, the one that ended last. Nothing if
    /// nobody can have written that by then; for an absent content this means that the key was
    /// as it began.
    #[must_use]
    pub fn source(&self, read: &Told<'_>) -> Option<&Told<'a>> {
        let same = self.sources.get(&read.content)?;
        let begun = same.partition_point(|(begins, _)| *begins < read.call.ends());
        let (_, last) = same.get(begun.checked_sub(1)?)?;
        self.writes.get(*last)
    }

    /// Why nobody can have written what `read` saw, if so.
    #[must_use]
    pub fn invented(&self, read: &Told<'a>) -> Option<Violation> {
        read.content?;
        if self.source(read).is_some() {
            return None;
        }
        let same = |write: &&Told<'_>| write.content == read.content;
        let saw = describe(read.content);
        let (what, other) = if let Some(denied) = self.denied.iter().find(same) {
            (format!("a read saw {saw}, which was answered as certainly not done"), Some(denied))
        } else if let Some(later) = self.writes.iter().find(same) {
            (format!("a read saw {saw} before it was begun"), Some(later))
        } else {
            (format!("a read saw {saw}, which was never written to this key"), None)
        };
        let calls: Vec<Call<'_>> =
            other.map(|other| other.call).into_iter().chain([read.call]).collect();
        Some(Violation::of(Some(self.key), what, &calls))
    }
}

/// A content in words.
#[must_use]
pub fn describe(content: Content) -> String {
    content.map_or_else(|| "nothing".to_owned(), |number| format!("write {number}"))
}
