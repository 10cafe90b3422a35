//! `quorate server`: run a node.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::admin::{AdminError, CreateKeyRequest, ErrorKind, InitReport, InitRequest, KeyCreated};
use crate::env::{Clock, OsClock, OsEntropy};
use crate::node::config::{Config, DEV_DATA_FOLDER, DevCredential, Log, LogFormat};

use super::client::AdminClient;
use super::report::Report;

#[derive(Args, Debug)]
pub(super) struct ServerArgs {
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        env = "QUORATE_CONFIG",
        required_unless_present = "dev",
        conflicts_with = "dev"
    )]
    config: Option<PathBuf>,
    /// One node for trying things out: no file, loopback only, ready-made credentials
    #[arg(long)]
    dev: bool,
    /// Where --dev keeps its data [default: ~/.local/share/quorate-dev]
    #[arg(long, value_name = "DIR", requires = "dev")]
    data: Option<PathBuf>,
}

/// Runs the node until it is told to stop.
pub(super) async fn run(args: ServerArgs) -> anyhow::Result<Report> {
    match args.dev {
        true => Box::pin(develop(args.data)).await?,
        false => {
            let config = Config::load(args.config.as_deref(), std::env::vars())?;
            config.check()?;
            start_logging(&config.log)?;
            Box::pin(crate::node::serve(config)).await?;
        }
    }
    Ok(Report::text(""))
}

fn start_logging(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.filter)
        .with_context(|| format!("log.filter: '{}' is no filter", log.filter))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|error| anyhow!("logging cannot start: {error}"))
}

async fn develop(data: Option<PathBuf>) -> anyhow::Result<()> {
    let folder = match data {
        Some(folder) => folder,
        None => dev_folder()?,
    };
    let (mut config, credential) = Config::dev(&folder, &OsEntropy::new())?;
    config.log.filter = "warn".to_owned();
    start_logging(&config.log)?;
    let welcome = welcome(config.clone(), credential);
    tokio::select! {
        biased;
        ended = Box::pin(crate::node::serve(config)) => ended,
        failed = Box::pin(welcome) => failed.map(|never| match never {}),
    }
}

fn dev_folder() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set: give --data DIR")?;
    Ok(PathBuf::from(home).join(DEV_DATA_FOLDER))
}

/// Does over the admin API what an operator would type, says how to use the node, and stays.
async fn welcome(
    config: Config,
    credential: DevCredential,
) -> anyhow::Result<std::convert::Infallible> {
    let url = format!("http://{}", config.admin.listen);
    let admin = AdminClient::new(&url, config.admin.token.clone())?;
    until_up(&admin, "/v1/status").await?;
    let request = InitRequest { expect: 1, wait_seconds: 10 };
    let init: anyhow::Result<InitReport> = admin.post("/v1/cluster/init", &request).await;
    unless(init, ErrorKind::AlreadyInitialized)?;
    until_ready(&admin).await?;
    let request = CreateKeyRequest {
        name: "dev".to_owned(),
        access_key_id: Some(credential.access_key_id.clone()),
        secret_access_key: Some(credential.secret_access_key.clone()),
    };
    let key: anyhow::Result<KeyCreated> = admin.post("/v1/keys", &request).await;
    unless(key, ErrorKind::Conflict)?;
    let text = banner(&config, &credential);
    std::io::stdout().write_all(text.as_bytes()).context("stdout is closed")?;
    std::future::pending().await
}

/// Takes a refusal of this kind for success: an earlier start did it.
fn unless<T>(outcome: anyhow::Result<T>, kind: ErrorKind) -> anyhow::Result<()> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => match error.downcast_ref::<AdminError>() {
            Some(refusal) if refusal.code == kind => Ok(()),
            _ => Err(error),
        },
    }
}

const POLL: Duration = Duration::from_millis(100);
const POLLS_MAX: u32 = 600;

async fn until_up(admin: &AdminClient, path: &str) -> anyhow::Result<()> {
    let clock = OsClock::new();
    for _ in 0..POLLS_MAX {
        if admin.get::<serde_json::Value>(path).await.is_ok() {
            return Ok(());
        }
        clock.sleep(POLL).await;
    }
    bail!("the node did not come up in a minute; start it with --config to see its log")
}

async fn until_ready(admin: &AdminClient) -> anyhow::Result<()> {
    let clock = OsClock::new();
    let mut reason = String::new();
    for _ in 0..POLLS_MAX {
        match admin.probe("/health/ready").await {
            Ok(()) => return Ok(()),
            Err(error) => reason = error.to_string(),
        }
        clock.sleep(POLL).await;
    }
    bail!("the node did not become ready in a minute: {reason}")
}

fn banner(config: &Config, credential: &DevCredential) -> String {
    let token = config.admin.token.as_ref().map(|token| token.reveal()).unwrap_or_default();
    let tls = config.s3.tls_listen.map(|address| format!("https://{address}"));
    format!(
        "Quorate is ready: one node, for trying things out. Data: {data}\n\
         \n\
         S3      http://{s3}  {tls}\n\
         KV      http://{kv}\n\
         Admin   http://{admin}\n\
         \n\
         export AWS_ENDPOINT_URL=http://{s3} AWS_DEFAULT_REGION={region}\n\
         export AWS_ACCESS_KEY_ID={id}\n\
         export AWS_SECRET_ACCESS_KEY={secret}\n\
         export QUORATE_ADMIN_URL=http://{admin} QUORATE_ADMIN_TOKEN={token}\n\
         export QUORATE_KV_URL=http://{kv}\n\
         \n\
         Next: aws s3 mb s3://first && aws s3 cp README.md s3://first/ && aws s3 ls s3://first\n",
        data = config.node.data_dir.display(),
        s3 = config.s3.listen,
        tls = tls.unwrap_or_default(),
        admin = config.admin.listen,
        kv = config.kv.listen,
        region = config.s3.region,
        id = credential.access_key_id,
        secret = credential.secret_access_key,
    )
}
