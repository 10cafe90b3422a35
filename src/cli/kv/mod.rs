//! `quorate kv`: read, write, delete and list keys of the key-value API.

mod client;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde::{Deserialize, Serialize};

use crate::replication::Level;

use super::Output;
use super::report::{Exit, Report};
use super::table::{Table, moment};

use client::{Answer, Asked, ClientArgs, KvClient, Refusal};

/// Entries of a page; more are fetched page by page.
const PAGE: usize = 1_000;
/// So many characters of a value are shown beside others.
const PREVIEW_CHARS: usize = 48;

#[derive(Subcommand, Debug)]
pub(super) enum KvCommand {
    /// Print a key's value; concurrent values are shown side by side (exit code 3)
    Get {
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        reads: ReadArgs,
    },
    /// Write a value
    Put {
        #[command(flatten)]
        key: KeyArgs,
        /// The value; read from the standard input if it is - or not given
        #[arg(conflicts_with = "file")]
        value: Option<String>,
        /// Read the value from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        writes: WriteArgs,
    },
    /// Delete a key: what the context covers, or without one what is there now
    Delete {
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        writes: WriteArgs,
        /// How many replicas must answer the read before
        #[arg(long, conflicts_with = "level")]
        r: Option<u8>,
    },
    /// List keys in order
    List(ListArgs),
}

#[derive(Args, Debug)]
pub(super) struct KeyArgs {
    /// The bucket
    bucket: String,
    /// The key
    key: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct ReadArgs {
    /// The consistency level: eventual, quorum, strict, all, or r=1,w=2
    #[arg(long)]
    level: Option<Level>,
    /// How many replicas must answer
    #[arg(long, conflicts_with = "level")]
    r: Option<u8>,
}

#[derive(Args, Debug)]
pub(super) struct WriteArgs {
    /// What the writer has seen: the context of a read or of an earlier write
    #[arg(long)]
    context: Option<String>,
    /// The consistency level: eventual, quorum, strict, all, or r=1,w=2
    #[arg(long)]
    level: Option<Level>,
    /// How many replicas must have the write on stable storage
    #[arg(long, conflicts_with = "level")]
    w: Option<u8>,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// The bucket
    bucket: String,
    /// Only keys that begin so
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Groups keys that share what comes before this after the prefix
    #[arg(long)]
    delimiter: Option<String>,
    /// Only keys after this one
    #[arg(long)]
    after: Option<String>,
    /// At most so many entries
    #[arg(long, default_value_t = 10_000)]
    limit: usize,
    #[command(flatten)]
    reads: ReadArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// A key's values, as the API sends and `-o json` prints them.
#[derive(Serialize, Deserialize)]
struct Values {
    context: Option<String>,
    siblings: Vec<Value>,
    deletions: usize,
}

#[derive(Serialize, Deserialize)]
struct Value {
    value: String,
    bytes: u64,
    crc32c: String,
    dot: String,
    stamp: String,
}

/// What a write left.
#[derive(Serialize)]
struct Written {
    siblings: u64,
    context: Option<String>,
    level: Option<String>,
    degraded: bool,
}

/// One page of keys.
#[derive(Serialize, Deserialize)]
struct Page {
    bucket: String,
    entries: Vec<Entry>,
    next: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Key { key: String, siblings: u64, bytes: u64, stamp: String },
    Prefix { prefix: String },
}

/// Runs `quorate kv`.
pub(super) async fn run(command: KvCommand, output: Output) -> anyhow::Result<Report> {
    match command {
        KvCommand::Get { key, reads } => get(&key, &reads, output).await,
        KvCommand::Put { key, value, file, writes } => {
            let value = value_of(value, file)?;
            let query = level_query(writes.level, None, writes.w);
            write(&key, (Method::PUT, query), writes.context.as_deref(), value, output).await
        }
        KvCommand::Delete { key, writes, r } => {
            let query = level_query(writes.level, r, writes.w);
            let context = writes.context.as_deref();
            write(&key, (Method::DELETE, query), context, Bytes::new(), output).await
        }
        KvCommand::List(args) => list(&args, output).await,
    }
}

fn level_query(level: Option<Level>, r: Option<u8>, w: Option<u8>) -> Vec<(&'static str, String)> {
    let level = level.map(|level| ("level", level.to_string()));
    let r = r.map(|r| ("r", r.to_string()));
    let w = w.map(|w| ("w", w.to_string()));
    [level, r, w].into_iter().flatten().collect()
}

fn value_of(value: Option<String>, file: Option<PathBuf>) -> anyhow::Result<Bytes> {
    if let Some(file) = file {
        let read = std::fs::read(&file);
        return Ok(read.with_context(|| format!("cannot read '{}'", file.display()))?.into());
    }
    match value {
        Some(value) if value != "-" => Ok(value.into_bytes().into()),
        _ => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().read_to_end(&mut bytes);
            read.context("the standard input cannot be read")?;
            Ok(bytes.into())
        }
    }
}

async fn get(key: &KeyArgs, reads: &ReadArgs, output: Output) -> anyhow::Result<Report> {
    let client = KvClient::new(&key.client)?;
    let asked = Asked {
        method: Method::GET,
        bucket: &key.bucket,
        key: &key.key,
        query: level_query(reads.level, reads.r, None),
        context: None,
        value: Bytes::new(),
    };
    let answer = match client.ask(asked).await {
        Ok(answer) => answer,
        Err(error) => return absent(error, output),
    };
    let values: Values = serde_json::from_slice(&answer.body)
        .context("the answer is not what this release expects")?;
    let exit = if values.siblings.len() > 1 { Exit::Warn } else { Exit::Ok };
    match (output, values.siblings.as_slice()) {
        (Output::Table, [one]) => {
            // Raw bytes, which need not be text.
            let bytes = STANDARD.decode(&one.value).context("the value is not what was sent")?;
            std::io::stdout().write_all(&bytes).context("stdout is closed")?;
            Ok(Report::text(""))
        }
        _ => Ok(Report::of(output, &values, |values| side_by_side(key, values))?.exit(exit)),
    }
}

/// A key that is not there; for programs with the context of its deletion.
fn absent(error: anyhow::Error, output: Output) -> anyhow::Result<Report> {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) if refusal.code == "no_such_key" && output == Output::Json => {
            let context = refusal.context.clone();
            let values = Values { context, siblings: Vec::new(), deletions: 0 };
            Ok(Report::of(output, &values, |_| String::new())?.exit(Exit::Failed))
        }
        _ => Err(error),
    }
}

fn side_by_side(key: &KeyArgs, values: &Values) -> String {
    let mut table = Table::new(&["Value", ">Bytes", "Written", "Dot"]);
    for value in &values.siblings {
        table.row([
            preview(&value.value),
            value.bytes.to_string(),
            written_at(&value.stamp),
            value.dot.clone(),
        ]);
    }
    format!(
        "{} values of '{}' stand side by side:\n{}Context: {}\n\
         Next: make one of them, and write it with: quorate kv put {} {} VALUE --context CONTEXT\n",
        values.siblings.len(),
        key.key,
        table.render(),
        values.context.as_deref().unwrap_or("none: it is too long; delete the key first"),
        key.bucket,
        key.key,
    )
}

/// The beginning of a value, if it is text.
fn preview(value: &str) -> String {
    let bytes = STANDARD.decode(value).unwrap_or_default();
    let Ok(text) = std::str::from_utf8(&bytes) else { return "(no text)".into() };
    if text.chars().any(char::is_control) {
        return "(no plain text)".into();
    }
    match text.char_indices().nth(PREVIEW_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The time in a stamp: its Unix milliseconds stand first.
fn written_at(stamp: &str) -> String {
    let millis = stamp.split('.').next().and_then(|millis| millis.parse().ok());
    millis.map(moment).unwrap_or_default()
}

async fn write(
    key: &KeyArgs,
    (method, query): (Method, Vec<(&'static str, String)>),
    context: Option<&str>,
    value: Bytes,
    output: Output,
) -> anyhow::Result<Report> {
    let (bucket, name) = (key.bucket.as_str(), key.key.as_str());
    let asked = Asked { method, bucket, key: name, query, context, value };
    let answer = KvClient::new(&key.client)?.ask(asked).await?;
    let written = written(&answer);
    Report::of(output, &written, |written| {
        let others = written.siblings.saturating_sub(1);
        match others {
            0 => "Done.\n".to_owned(),
            _ => format!(
                "Done. {others} other values stand beside it.\n\
                 Next: quorate kv get {bucket} {name}\n"
            ),
        }
    })
}

fn written(answer: &Answer) -> Written {
    let siblings = answer.header("x-quorate-siblings").and_then(|text| text.parse().ok());
    Written {
        siblings: siblings.unwrap_or(1),
        context: answer.header("x-quorate-context"),
        level: answer.header("x-quorate-level"),
        degraded: answer.header("x-quorate-degraded").is_some(),
    }
}

async fn list(args: &ListArgs, output: Output) -> anyhow::Result<Report> {
    let client = KvClient::new(&args.client)?;
    let mut all = Page { bucket: args.bucket.clone(), entries: Vec::new(), next: None };
    let mut start = args.after.clone().map(|after| ("after", after));
    if args.limit == 0 {
        bail!("--limit must be 1 at least");
    }
    while all.entries.len() < args.limit {
        let left = args.limit - all.entries.len();
        let mut query = level_query(args.reads.level, args.reads.r, None);
        query.extend([("prefix", args.prefix.clone()), ("limit", left.min(PAGE).to_string())]);
        query.extend(args.delimiter.clone().map(|delimiter| ("delimiter", delimiter)));
        query.extend(start.take());
        query.retain(|(_, value)| !value.is_empty());
        let asked = Asked {
            method: Method::GET,
            bucket: &args.bucket,
            key: "",
            query,
            context: None,
            value: Bytes::new(),
        };
        let answer = client.ask(asked).await?;
        let page: Page = serde_json::from_slice(&answer.body)
            .context("the answer is not what this release expects")?;
        all.entries.extend(page.entries);
        all.next.clone_from(&page.next);
        match page.next {
            Some(next) => start = Some(("token", next)),
            None => break,
        }
    }
    Report::of(output, &all, |all| render(args, all))
}

fn render(args: &ListArgs, page: &Page) -> String {
    if page.entries.is_empty() {
        let bucket = &args.bucket;
        return format!("There are no keys.\nNext: quorate kv put {bucket} KEY VALUE\n");
    }
    let mut table = Table::new(&["Key", ">Values", ">Bytes", "Written"]);
    let mut last = "";
    for entry in &page.entries {
        match entry {
            Entry::Prefix { prefix } => {
                last = prefix;
                table.row([prefix.clone()]);
            }
            Entry::Key { key, siblings, bytes, stamp } => {
                last = key;
                let written = written_at(stamp);
                table.row([key.clone(), siblings.to_string(), bytes.to_string(), written]);
            }
        }
    }
    let more = match page.next {
        Some(_) => {
            format!("There are more. Next: quorate kv list {} --after '{last}'\n", args.bucket)
        }
        None => String::new(),
    };
    table.render() + &more
}

#[cfg(test)]
mod tests {
    use super::{KeyArgs, Value, Values, preview, side_by_side, written_at};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use clap::{Args as _, Command, FromArgMatches as _};

    fn key() -> KeyArgs {
        let command = KeyArgs::augment_args(Command::new("test"));
        let line = "test b k --access-key-id i --secret-access-key s";
        KeyArgs::from_arg_matches(&command.get_matches_from(line.split(' '))).unwrap()
    }

    #[test]
    fn siblings_are_shown_with_what_to_do_next() {
        let value = |text: &str| Value {
            value: STANDARD.encode(text),
            bytes: 4,
            crc32c: String::new(),
            dot: "n.1.0:1".into(),
            stamp: "1445412480123.0-n".into(),
        };
        let values = Values {
            context: Some("CTX".into()),
            siblings: vec![value("left"), value("right")],
            deletions: 0,
        };

        let text = side_by_side(&key(), &values);

        for part in ["2 values of 'k'", "left", "right", "2015-10-21", "CTX", "quorate kv put b k"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn values_that_are_no_plain_text_do_not_reach_the_terminal() {
        assert_eq!(preview(&STANDARD.encode([0xff, 0xfe])), "(no text)");
        assert_eq!(preview(&STANDARD.encode("\x1b[31mred")), "(no plain text)");
        assert_eq!(preview(&STANDARD.encode("x".repeat(60))).chars().count(), 49);
        assert_eq!(written_at("nonsense"), "");
    }
}
