//! What a node proves to its peers: a certificate that only the cluster secret can sign.
//!
//! Every node derives the same certificate authority from the secret and signs its own leaf
//! with it, so nothing has to be issued, copied or renewed. The leaf names its node.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SerialNumber, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::error::NetError;
use super::secret::ClusterSecret;
use crate::types::NodeId;

/// What follows a node's id in the name of its certificate.
const NAME_SUFFIX: &str = ".node.quorate";

/// The DER of an Ed25519 private key in PKCS#8 (RFC 8410), up to its 32-byte seed.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A node's certificate and key, and the authority that it asks of its peers.
#[derive(Clone)]
pub struct PeerIdentity {
    pub(super) node: NodeId,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: Arc<PrivateKeyDer<'static>>,
    pub(super) roots: Arc<RootCertStore>,
    /// Keys the stateless resets of this node, equal in every boot of it, so that peers learn
    /// of a restart at once.
    pub(super) reset_seed: [u8; 32],
}

impl PeerIdentity {
    /// The identity of `node` in the cluster that shares `secret`.
    ///
    /// # Errors
    /// [`NetError::Identity`] if the certificate library refuses the derived keys: a bug.
    pub fn derive(secret: &ClusterSecret, node: NodeId) -> Result<Self, NetError> {
        let refused = |source: rcgen::Error| NetError::Identity { reason: source.to_string() };
        let authority_key = key_pair(secret.derive("peer authority")).map_err(refused)?;
        let leaf_seed = secret.derive(&format!("peer leaf {node}"));
        let leaf_key = key_pair(leaf_seed).map_err(refused)?;
        let authority = authority_params();
        let root = authority.self_signed(&authority_key).map_err(refused)?;
        let issuer = Issuer::from_params(&authority, &authority_key);
        let leaf = leaf_params(node)
            .and_then(|params| params.signed_by(&leaf_key, &issuer))
            .map_err(refused)?;
        let mut roots = RootCertStore::empty();
        roots
            .add(root.der().clone())
            .map_err(|source| NetError::Identity { reason: source.to_string() })?;
        Ok(Self {
            node,
            chain: vec![leaf.der().clone()],
            key: Arc::new(PrivatePkcs8KeyDer::from(pkcs8(leaf_seed)).into()),
            roots: Arc::new(roots),
            reset_seed: secret.derive(&format!("stateless reset {node}")),
        })
    }

    /// The node that this identity names.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerIdentity").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The name in the certificate of `node`.
pub(super) fn name_of(node: NodeId) -> String {
    format!("{node}{NAME_SUFFIX}")
}

/// The node that a certificate names; `None` if it names none or several.
pub(super) fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_dns_names();
    let node = names.next()?.strip_suffix(NAME_SUFFIX)?.parse().ok()?;
    names.next().is_none().then_some(node)
}

fn pkcs8(seed: [u8; 32]) -> Vec<u8> {
    [&PKCS8_PREFIX[..], &seed].concat()
}

fn key_pair(seed: [u8; 32]) -> Result<KeyPair, rcgen::Error> {
    let der = PrivatePkcs8KeyDer::from(pkcs8(seed));
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)
}

/// Fixed in every field: each node must derive the same authority, in every year.
fn authority_params() -> CertificateParams {
    let mut params = base_params("quorate peer authority");
    params.serial_number = Some(SerialNumber::from_slice(&[1]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf_params(node: NodeId) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![name_of(node)])?;
    let base = base_params("quorate node");
    params.not_before = base.not_before;
    params.not_after = base.not_after;
    params.distinguished_name = base.distinguished_name;
    params.serial_number = Some(SerialNumber::from_slice(&[2]));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn base_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1975, 1, 1);
    params.not_after = date_time_ymd(4096, 1, 1);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

#[cfg(test)]
mod tests {
    use super::{PeerIdentity, node_of};
    use crate::net::ClusterSecret;
    use crate::types::NodeId;

    #[test]
    fn a_certificate_names_its_node() {
        let secret = ClusterSecret::parse("correct horse battery staple").unwrap();
        let node = NodeId::from_bytes([0xa7; 16]);

        let identity = PeerIdentity::derive(&secret, node).unwrap();

        assert_eq!(node_of(&identity.chain[0]), Some(node));
        assert_eq!(node_of(&vec![7; 90].into()), None);
    }

    #[test]
    fn all_nodes_derive_one_authority_and_another_secret_another() {
        let secret = ClusterSecret::parse("correct horse battery staple").unwrap();
        let other = ClusterSecret::parse("wrong horse battery staple").unwrap();
        let derive = |secret, byte| {
            PeerIdentity::derive(secret, NodeId::from_bytes([byte; 16])).unwrap().roots
        };

        assert_eq!(derive(&secret, 1).roots, derive(&secret, 2).roots);
        assert_ne!(derive(&secret, 1).roots, derive(&other, 1).roots);
    }
}
