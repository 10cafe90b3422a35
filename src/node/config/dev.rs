//! A configuration without a file: one node on loopback, for trying things out.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::env::Entropy;
use crate::types::ByteCount;

use super::sections::{Admin, Cluster, Config, Kv, Node, Peer, S3};
use super::values::Secret;

/// Where `--dev` keeps its data, under the home folder.
pub const DEV_DATA_FOLDER: &str = ".local/share/quorate-dev";

/// The credential of a development node.
#[derive(Clone, PartialEq, Eq)]
pub struct DevCredential {
    /// The public half.
    pub access_key_id: String,
    /// The secret half; shown to the developer on purpose.
    pub secret_access_key: String,
}

/// Why a development node's secrets cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The file cannot be read or written.
    #[error("cannot {action} '{}': {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was changed by hand.
    #[error("'{}' is damaged: {reason}; remove the folder to start anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
}

/// What `dev.toml` holds.
#[derive(Serialize, Deserialize)]
struct Secrets {
    cluster_secret: String,
    admin_token: String,
    access_key_id: String,
    secret_access_key: String,
}

impl Config {
    /// One node with all listeners on loopback and its data in `data_dir`. Its secrets are
    /// drawn once and kept there in `dev.toml`.
    ///
    /// # Errors
    /// [`DevError`] if the folder cannot be used.
    pub fn dev(data_dir: &Path, entropy: &dyn Entropy) -> Result<(Self, DevCredential), DevError> {
        let secrets = kept_secrets(data_dir, entropy)?;
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = Self {
            node: Node {
                name: "dev".to_owned(),
                capacity: ByteCount::gib(10),
                data_dir: data_dir.to_owned(),
                ..Node::default()
            },
            cluster: Cluster {
                secret: Some(Secret::new(secrets.cluster_secret)),
                ..Cluster::default()
            },
            peer: Peer { listen: loopback(9002), advertise: None },
            s3: S3 { listen: loopback(9000), tls_listen: Some(loopback(9003)), ..S3::default() },
            kv: Kv { listen: loopback(9004), tls_listen: None },
            admin: Admin {
                listen: loopback(9001),
                token: Some(Secret::new(secrets.admin_token)),
                token_file: None,
            },
            ..Self::default()
        };
        let credential = DevCredential {
            access_key_id: secrets.access_key_id,
            secret_access_key: secrets.secret_access_key,
        };
        Ok((config, credential))
    }
}

fn kept_secrets(data_dir: &Path, entropy: &dyn Entropy) -> Result<Secrets, DevError> {
    let path = data_dir.join("dev.toml");
    let failed = |action| {
        let path = path.clone();
        move |source| DevError::File { action, path, source }
    };
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|error| DevError::Damaged {
            path: path.clone(),
            reason: error.message().to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secrets = draw(entropy);
            let text = toml::to_string(&secrets).map_err(|error| DevError::Damaged {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            fs::create_dir_all(data_dir).map_err(failed("create the folder of"))?;
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
                .map_err(failed("write"))?;
            Ok(secrets)
        }
        Err(error) => Err(failed("read")(error)),
    }
}

fn draw(entropy: &dyn Entropy) -> Secrets {
    let word = || hex::encode(entropy.next_id());
    Secrets {
        cluster_secret: word() + &word(),
        admin_token: word(),
        access_key_id: format!("QK{}", word().get(..18).unwrap_or_default().to_ascii_uppercase()),
        secret_access_key: word() + &word(),
    }
}
