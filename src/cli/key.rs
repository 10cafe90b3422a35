//! `quorate key`: create, list, show and delete S3 credentials.

use clap::Subcommand;

use crate::admin::{CreateKeyRequest, KeyCreated, KeyInfo};

use super::Output;
use super::client::{AdminClient, encoded};
use super::report::Report;
use super::table::{Table, moment};

#[derive(Subcommand, Debug)]
pub(super) enum KeyCommand {
    /// Create a credential; its secret is shown this once
    Create {
        /// The operator's name for it
        name: String,
        /// Use this access key id instead of a new one
        #[arg(long, value_name = "ID", requires = "secret_access_key")]
        access_key_id: Option<String>,
        /// Use this secret instead of a new one
        #[arg(long, value_name = "SECRET", requires = "access_key_id")]
        secret_access_key: Option<String>,
    },
    /// List all credentials
    List,
    /// Show a credential and its buckets
    Info {
        /// Its access key id
        access_key_id: String,
    },
    /// Delete a credential; its buckets stay
    Delete {
        /// Its access key id
        access_key_id: String,
    },
}

/// Runs `quorate key`.
pub(super) async fn run(
    admin: &AdminClient,
    command: KeyCommand,
    output: Output,
) -> anyhow::Result<Report> {
    match command {
        KeyCommand::Create { name, access_key_id, secret_access_key } => {
            let request = CreateKeyRequest { name, access_key_id, secret_access_key };
            let key: KeyCreated = admin.post("/v1/keys", &request).await?;
            Report::of(output, &key, created)
        }
        KeyCommand::List => {
            let keys: Vec<KeyInfo> = admin.get("/v1/keys").await?;
            Report::of(output, &keys, |keys| render_all(keys))
        }
        KeyCommand::Info { access_key_id } => {
            let key: KeyInfo = admin.get(&path(&access_key_id)).await?;
            Report::of(output, &key, |key| render_all(std::slice::from_ref(key)))
        }
        KeyCommand::Delete { access_key_id } => {
            admin.delete(&path(&access_key_id)).await?;
            Report::of(output, &serde_json::json!({ "deleted": access_key_id }), |_| {
                format!("Credential {access_key_id} is deleted.\n")
            })
        }
    }
}

fn path(access_key_id: &str) -> String {
    format!("/v1/keys/{}", encoded(access_key_id))
}

fn created(key: &KeyCreated) -> String {
    format!(
        "Credential '{}' of owner {}. The secret is shown this once:\n\
         export AWS_ACCESS_KEY_ID={}\n\
         export AWS_SECRET_ACCESS_KEY={}\n\
         Next: aws --endpoint-url http://NODE:9000 s3 mb s3://my-bucket\n",
        key.name, key.owner_id, key.access_key_id, key.secret_access_key
    )
}

fn render_all(keys: &[KeyInfo]) -> String {
    if keys.is_empty() {
        return "There are no credentials.\nNext: quorate key create NAME\n".to_owned();
    }
    let mut table = Table::new(&["Access key id", "Name", "Created", "Buckets", "Owner"]);
    for key in keys {
        table.row([
            key.access_key_id.clone(),
            key.name.clone(),
            moment(key.created_unix_ms),
            key.buckets.join(", "),
            key.owner_id.chars().take(16).collect(),
        ]);
    }
    table.render()
}
