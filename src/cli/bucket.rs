//! `quorate bucket`: create, list, show and delete buckets.

use clap::Subcommand;

use crate::admin::{BucketInfo, CreateBucketRequest, SetBucketRequest};
use crate::replication::Level;

use super::Output;
use super::client::{AdminClient, encoded};
use super::report::Report;
use super::table::{Table, moment};

#[derive(Subcommand, Debug)]
pub(super) enum BucketCommand {
    /// Create a bucket
    Create {
        /// Its name
        name: String,
        /// Its consistency level: eventual, quorum, strict, all, or numbers as r=1,w=2 (the
        /// configured default if not given)
        #[arg(long)]
        level: Option<Level>,
        /// Copies of each record, for ever [default: 3]
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
        n: Option<u8>,
        /// The access key id whose owner it shall belong to
        #[arg(long, value_name = "KEYID")]
        owner: Option<String>,
    },
    /// List all buckets
    List,
    /// Show a bucket
    Info {
        /// Its name
        name: String,
    },
    /// Change a bucket's consistency level
    Set {
        /// Its name
        name: String,
        /// Its new level: eventual, quorum, strict, all, or numbers as r=1,w=2
        #[arg(long)]
        level: Level,
    },
    /// Delete an empty bucket
    Delete {
        /// Its name
        name: String,
    },
}

/// Runs `quorate bucket`.
pub(super) async fn run(
    admin: &AdminClient,
    command: BucketCommand,
    output: Output,
) -> anyhow::Result<Report> {
    match command {
        BucketCommand::Create { name, level, n, owner } => {
            let request = CreateBucketRequest { name, level, n, owner };
            let bucket: BucketInfo = admin.post("/v1/buckets", &request).await?;
            Report::of(output, &bucket, render_one)
        }
        BucketCommand::List => {
            let buckets: Vec<BucketInfo> = admin.get("/v1/buckets").await?;
            Report::of(output, &buckets, |buckets| render_all(buckets))
        }
        BucketCommand::Info { name } => {
            let bucket: BucketInfo = admin.get(&path(&name)).await?;
            Report::of(output, &bucket, render_one)
        }
        BucketCommand::Set { name, level } => {
            let request = SetBucketRequest { level };
            let bucket: BucketInfo = admin.patch(&path(&name), &request).await?;
            Report::of(output, &bucket, render_set)
        }
        BucketCommand::Delete { name } => {
            admin.delete(&path(&name)).await?;
            Report::of(output, &serde_json::json!({ "deleted": name }), |_| {
                format!("Bucket {name} is deleted.\n")
            })
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/buckets/{}", encoded(name))
}

fn render_all(buckets: &[BucketInfo]) -> String {
    if buckets.is_empty() {
        return "There are no buckets.\nNext: quorate bucket create NAME\n".to_owned();
    }
    let mut table = Table::new(&["Name", "Level", ">N", ">R", ">W", ">Shards", "Created", "Owner"]);
    for bucket in buckets {
        table.row([
            bucket.name.clone(),
            bucket.level.to_string(),
            bucket.n.to_string(),
            bucket.r.to_string(),
            bucket.w.to_string(),
            bucket.index_shards.to_string(),
            moment(bucket.created_unix_ms),
            bucket.owner_id.chars().take(16).collect(),
        ]);
    }
    table.render()
}

/// A bucket in full.
pub(super) fn render_one(bucket: &BucketInfo) -> String {
    let lines = [
        ("Level", bucket.level.to_string()),
        ("Promises", bucket.label.clone()),
        (
            "Survives",
            format!(
                "the loss of {} node(s) at once before repair: {} have a write on stable storage \
                 before the client hears 200",
                bucket.survives, bucket.w
            ),
        ),
        ("Epoch", bucket.epoch.to_string()),
        ("Index shards", bucket.index_shards.to_string()),
        ("Created", moment(bucket.created_unix_ms)),
        ("Owner", bucket.owner_id.clone()),
        ("Id", bucket.id.to_string()),
    ];
    let lines = lines.map(|(name, value)| format!("  {name:<13} {value}\n"));
    format!("Bucket {}\n{}", bucket.name, lines.concat())
}

/// A bucket after its level was changed.
fn render_set(bucket: &BucketInfo) -> String {
    let mut text = render_one(bucket);
    text.push_str(
        "All owners refuse writes that were begun at the old level. What was acknowledged before \
         stands where it was written\nuntil hints are delivered and the copies are proven equal.\n\
         Next: quorate hints, and quorate repair status\n",
    );
    text
}
