//! The sections and keys of the configuration, with their defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::replication::Level;
use crate::types::ByteCount;

use super::values::{HostPort, Secret, duration};

/// The whole configuration of one node. `config/quorate.toml` explains every key.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// What all nodes of a cluster share.
    pub cluster: Cluster,
    /// How peers reach this node.
    pub peer: Peer,
    /// The S3 front.
    pub s3: S3,
    /// The key-value API.
    pub kv: Kv,
    /// The admin API.
    pub admin: Admin,
    /// What is kept on disk, and how.
    pub store: Store,
    /// What is kept for owners that are away.
    pub hints: Hints,
    /// How copies are compared.
    pub repair: Repair,
    /// Bounds on what clients may ask at once.
    pub limits: Limits,
    /// What is logged.
    pub log: Log,
}

/// Who this node is: `[node]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// The operator's name for it.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// What it may hold, which decides its share of the ring; 0 makes it a gateway.
    pub capacity: ByteCount,
    /// Its folder: the identity file, `meta/`, `segments/`.
    pub data_dir: PathBuf,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: String::new(),
            zone: "default".to_owned(),
            capacity: ByteCount::gib(100),
            data_dir: PathBuf::from("/var/lib/quorate"),
        }
    }
}

/// What all nodes of a cluster share: `[cluster]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Proves that a peer belongs here; from `secret_file` once loaded.
    pub secret: Option<Secret>,
    /// A file that holds the secret.
    pub secret_file: Option<PathBuf>,
    /// Peers to be found at first; gossip finds the rest.
    pub peers: Vec<HostPort>,
    /// Partitions of the ring, a power of two; read by `cluster init` alone.
    pub partitions: u32,
    /// How long a node that is cut off from most members serves from its own copies of buckets
    /// and credentials.
    #[serde(deserialize_with = "duration::deserialize")]
    pub auth_stale_max: Duration,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            secret: None,
            secret_file: None,
            peers: Vec::new(),
            partitions: 256,
            auth_stale_max: Duration::from_secs(24 * 3_600),
        }
    }
}

/// How peers reach this node: `[peer]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peer {
    /// Where QUIC listens (UDP).
    pub listen: SocketAddr,
    /// Where other nodes reach it.
    pub advertise: Option<HostPort>,
}

impl Default for Peer {
    fn default() -> Self {
        Self { listen: everywhere(9002), advertise: None }
    }
}

/// The S3 front: `[s3]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Where HTTPS is served, if anywhere.
    pub tls_listen: Option<SocketAddr>,
    /// The certificate chain in PEM; self-signed if absent.
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    pub tls_key: Option<PathBuf>,
    /// The region that clients must sign for.
    pub region: String,
    /// Domains under which `bucket.domain` names a bucket.
    pub root_domains: Vec<String>,
    /// The level of buckets that are created without one.
    pub default_level: Level,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            listen: everywhere(9000),
            tls_listen: None,
            tls_cert: None,
            tls_key: None,
            region: "us-east-1".to_owned(),
            root_domains: Vec::new(),
            default_level: Level::Strict,
        }
    }
}

/// The key-value API: `[kv]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kv {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Where HTTPS is served, if anywhere, with the certificate of `[s3]`.
    pub tls_listen: Option<SocketAddr>,
}

impl Default for Kv {
    fn default() -> Self {
        Self { listen: everywhere(9004), tls_listen: None }
    }
}

/// The admin API: `[admin]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Where it is served.
    pub listen: SocketAddr,
    /// The bearer token; from `token_file` once loaded.
    pub token: Option<Secret>,
    /// A file that holds the token.
    pub token_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9001));
        Self { listen, token: None, token_file: None }
    }
}

/// What is kept on disk, and how: `[store]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// RocksDB's block cache.
    pub block_cache: ByteCount,
    /// RocksDB's write buffers, all tables together.
    pub write_buffers: ByteCount,
    /// A segment file is closed at this size.
    pub segment_size: ByteCount,
    /// Bodies up to this size are kept beside their heads.
    pub inline_max: ByteCount,
    /// Bodies up to this size go to the object's owners in one message.
    pub attached_max: ByteCount,
    /// How long bytes are kept that nothing names any more.
    #[serde(deserialize_with = "duration::deserialize")]
    pub read_grace: Duration,
    /// The time in which everything held is read and checked once; zero: never.
    #[serde(deserialize_with = "duration::deserialize")]
    pub scrub_interval: Duration,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            block_cache: ByteCount::mib(64),
            write_buffers: ByteCount::mib(32),
            segment_size: ByteCount::mib(256),
            inline_max: ByteCount::kib(16),
            attached_max: ByteCount::mib(1),
            read_grace: Duration::from_secs(3600),
            scrub_interval: Duration::from_secs(14 * 24 * 3600),
        }
    }
}

/// What is kept for owners that are away: `[hints]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hints {
    /// Bytes of rows kept; more are refused.
    pub bytes_max: ByteCount,
    /// The age of an owner's oldest hint from which no new ones are kept for it.
    #[serde(deserialize_with = "duration::deserialize")]
    pub age_max: Duration,
}

impl Default for Hints {
    fn default() -> Self {
        Self { bytes_max: ByteCount::gib(1), age_max: Duration::from_secs(24 * 3600) }
    }
}

/// How copies are compared: `[repair]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Repair {
    /// How often each partition's copies are proven to agree.
    #[serde(deserialize_with = "duration::deserialize")]
    pub interval: Duration,
    /// How old a tombstone must be before it is purged.
    #[serde(deserialize_with = "duration::deserialize")]
    pub purge_lag: Duration,
}

impl Default for Repair {
    fn default() -> Self {
        Self { interval: Duration::from_secs(600), purge_lag: Duration::from_secs(3600) }
    }
}

/// Bounds on what clients may ask at once: `[limits]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests under way at each listener.
    pub requests: u32,
    /// Bytes of bodies in memory, all requests together.
    pub body_bytes: ByteCount,
    /// Connections of each listener.
    pub connections: u32,
    /// How long a request may go without progress.
    #[serde(deserialize_with = "duration::deserialize")]
    pub request_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 512,
            body_bytes: ByteCount::mib(256),
            connections: 4096,
            request_deadline: Duration::from_secs(30),
        }
    }
}

/// What is logged: `[log]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The form of log lines.
    pub format: LogFormat,
    /// Which lines: tracing's directives, for instance `info,quorate::net=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}
