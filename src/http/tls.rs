//! Certificates for listeners: the operator's PEM files, or one that the node signs itself.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot {action} '{}': {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no PEM of the kind that is needed.
    #[error("'{}' holds no {wanted} in PEM form: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// Certificate and key do not fit, or cannot be used for a server.
    #[error("the certificate in '{}' cannot be used with its key: {source}", path.display())]
    Unfit {
        /// The certificate's file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// No certificate could be made.
    #[error("no certificate could be signed: {0}")]
    Signing(#[from] rcgen::Error),
}

/// A server's certificate and key, ready for handshakes.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Uses the certificate chain and key in two PEM files.
    ///
    /// # Errors
    /// [`TlsError`] naming the file that is missing or unusable.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| no_pem(certificate, "certificate", &error.to_string()))?;
        if chain.is_empty() {
            return Err(no_pem(certificate, "certificate", "no such section"));
        }
        let private = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|error| no_pem(key, "private key", &error.to_string()))?;
        let unfit = |source| TlsError::Unfit { path: certificate.to_owned(), source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(unfit)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Uses `cert.pem` and `key.pem` in `folder`. If there are none, signs a certificate for
    /// `localhost`, `127.0.0.1`, `::1` and `names`, and keeps it there, so that clients can
    /// be given `cert.pem` to trust.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be written or used.
    pub fn self_signed(folder: &Path, names: &[String]) -> Result<Self, TlsError> {
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        if !certificate.exists() || !key.exists() {
            let mut covered: Vec<String> =
                ["localhost", "127.0.0.1", "::1"].iter().map(|name| (*name).to_owned()).collect();
            for name in names {
                // Buckets are reached as `bucket.name`.
                covered.extend([name.clone(), format!("*.{name}")]);
            }
            let made = rcgen::generate_simple_self_signed(covered)?;
            fs::create_dir_all(folder).map_err(|source| file("create", folder, source))?;
            write(&key, 0o600, &made.signing_key.serialize_pem())?;
            write(&certificate, 0o644, &made.cert.pem())?;
        }
        Self::from_files(&certificate, &key)
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

fn file(action: &'static str, path: &Path, source: io::Error) -> TlsError {
    TlsError::File { action, path: path.to_owned(), source }
}

fn no_pem(path: &Path, wanted: &'static str, reason: &str) -> TlsError {
    TlsError::Pem { path: path.to_owned(), wanted, reason: reason.to_owned() }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| file("read", path, source))
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), TlsError> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .map_err(|source| file("write", path, source))
}

#[cfg(test)]
mod tests {
    use super::{Tls, TlsError};

    #[test]
    fn a_self_signed_certificate_is_kept() {
        let folder = tempfile::tempdir().unwrap();

        Tls::self_signed(folder.path(), &["s3.test".to_owned()]).unwrap();
        let first = std::fs::read(folder.path().join("cert.pem")).unwrap();
        Tls::self_signed(folder.path(), &[]).unwrap();

        assert_eq!(std::fs::read(folder.path().join("cert.pem")).unwrap(), first);
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        std::fs::write(&path, "no certificate").unwrap();

        let error = Tls::from_files(&path, &path).err().unwrap();

        assert!(matches!(&error, TlsError::Pem { wanted: "certificate", .. }), "{error}");
        assert!(error.to_string().contains("cert.pem"));
    }
}
