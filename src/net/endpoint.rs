//! The QUIC endpoint: its socket, its TLS, its windows.
//!
//! What matters for bulk, in order: segmentation offload (quinn's default), packet size, socket
//! buffers, windows. Each constant says why it has its value.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TransportConfig, VarInt,
};
use ring::hmac;
use rustls::crypto::{CryptoProvider, ring as ring_provider};
use rustls::server::WebPkiClientVerifier;
use socket2::{Domain, Protocol, Socket, Type};

use super::error::NetError;
use super::identity::PeerIdentity;
use super::verify::PeerVerifier;
use crate::env::Entropy;

/// What two nodes agree on before the first frame, and which of the two connections between a
/// pair of nodes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Small requests and gossip.
    Control,
    /// Large messages and bulk transfers. They have a connection of their own because a
    /// connection's window is shared: a slow reader of bulk would stop control.
    Bulk,
}

impl Class {
    pub(super) const ALL: [Self; 2] = [Self::Control, Self::Bulk];

    /// The TLS application protocol that names the class.
    pub(super) const fn protocol(self) -> &'static [u8] {
        match self {
            Self::Control => b"quorate-peer/1",
            Self::Bulk => b"quorate-bulk/1",
        }
    }

    /// The class that a handshake agreed on.
    pub(super) fn from_protocol(protocol: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.protocol() == protocol)
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Control => 0,
            Self::Bulk => 1,
        }
    }
}

/// Limits and patience of the peer transport.
#[derive(Clone, Copy, Debug)]
pub struct QuicLimits {
    /// How long a handshake may take before a peer counts as unreachable.
    pub dial_timeout: Duration,
    /// Silence after which a connection is given up.
    pub idle_timeout: Duration,
    /// How often a silent connection is kept alive.
    pub keep_alive: Duration,
    /// Requests of one peer that are served at once; more are refused as busy.
    pub calls_per_peer: usize,
    /// Bulk transfers of one peer that are served at once; more are refused as busy.
    pub bulk_per_peer: usize,
}

impl Default for QuicLimits {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_millis(1_500),
            idle_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(1),
            // Twice what one gateway lets in, so that a full gateway is not refused halfway.
            calls_per_peer: 1024,
            bulk_per_peer: 512,
        }
    }
}

/// Asked of the kernel, which may grant less: its defaults lose packets.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Ten segments of this size are one batch below the kernel's 65,507 bytes. Larger packets make
/// quinn's batches fail with EMSGSIZE, after which it falls back to 1,200 bytes.
const MTU_MAX: u16 = 6_500;
/// What one stream may have in flight: 2 Gbit/s at 8 ms.
const STREAM_WINDOW: u32 = 2 << 20;
const CONTROL_WINDOW: u32 = 16 << 20;
/// Thirty-two readers of bulk may stand still before the others feel it.
const BULK_WINDOW: u32 = 64 << 20;
/// Sent and not yet acknowledged, per connection.
const SEND_WINDOW: u64 = 8 << 20;
const BIDI_STREAMS_MAX: u32 = 768;
const UNI_STREAMS_MAX: u32 = 128;
const DATAGRAM_BUFFER_BYTES: usize = 1 << 20;
/// Assumed before it is measured: decides how soon a lost first packet is sent again.
const ROUND_TRIP_GUESS: Duration = Duration::from_millis(100);

/// An endpoint and how it dials, for each class.
pub(super) struct Opened {
    pub(super) endpoint: Endpoint,
    pub(super) dialing: [ClientConfig; 2],
}

/// Opens the endpoint on `listen`.
pub(super) fn open(
    listen: SocketAddr,
    identity: &PeerIdentity,
    limits: &QuicLimits,
    entropy: Arc<dyn Entropy>,
) -> Result<Opened, NetError> {
    let control = Arc::new(transport_config(limits, CONTROL_WINDOW)?);
    let bulk = Arc::new(transport_config(limits, BULK_WINDOW)?);
    // The class is not known yet when a handshake begins; the larger window is only a bound.
    let server = server_config(identity, Arc::clone(&bulk))?;
    let dialing = [
        client_config(identity, Class::Control, control)?,
        client_config(identity, Class::Bulk, bulk)?,
    ];
    let failed = |source| NetError::Listen { address: listen, source };
    let socket = bind(listen).map_err(failed)?;
    let endpoint = Endpoint::new(
        endpoint_config(identity, entropy)?,
        Some(server),
        socket,
        Arc::new(quinn::TokioRuntime),
    )
    .map_err(failed)?;
    Ok(Opened { endpoint, dialing })
}

fn bind(listen: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    // What the kernel grants is enough to go on with.
    drop(socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES));
    drop(socket.set_send_buffer_size(SOCKET_BUFFER_BYTES));
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

fn endpoint_config(
    identity: &PeerIdentity,
    entropy: Arc<dyn Entropy>,
) -> Result<EndpointConfig, NetError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &identity.reset_seed);
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(move || Box::new(PlainIds(Arc::clone(&entropy))));
    config
        .max_udp_payload_size(MTU_MAX)
        .map_err(|source| NetError::Limit { limit: "mtu", reason: source.to_string() })?;
    Ok(config)
}

/// Random connection ids that any boot of this node answers for: together with a reset key that
/// outlives the process, a restarted node resets its former connections, so that peers need not
/// wait for the idle timeout.
struct PlainIds(Arc<dyn Entropy>);

impl quinn::ConnectionIdGenerator for PlainIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        quinn::ConnectionId::new(&self.0.next_u64().to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn transport_config(limits: &QuicLimits, window: u32) -> Result<TransportConfig, NetError> {
    let idle = IdleTimeout::try_from(limits.idle_timeout)
        .map_err(|source| NetError::Limit { limit: "idle_timeout", reason: source.to_string() })?;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MTU_MAX);
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(limits.keep_alive))
        .initial_rtt(ROUND_TRIP_GUESS)
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(window))
        .send_window(SEND_WINDOW)
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES);
    Ok(config)
}

/// TLS 1.3 with AES-128-GCM first: the cheapest that is safe, on processors with AES-NI.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring_provider::default_provider();
    provider.cipher_suites = vec![
        ring_provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring_provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring_provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

fn refused(source: impl ToString) -> NetError {
    NetError::Identity { reason: source.to_string() }
}

fn server_config(
    identity: &PeerIdentity,
    transport: Arc<TransportConfig>,
) -> Result<ServerConfig, NetError> {
    let provider = provider();
    let roots = Arc::clone(&identity.roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(refused)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(refused)?;
    tls.alpn_protocols = Class::ALL.iter().map(|class| class.protocol().to_vec()).collect();
    // A resumed session would skip the certificates; a handshake costs a millisecond.
    tls.send_tls13_tickets = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(refused)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport);
    Ok(config)
}

fn client_config(
    identity: &PeerIdentity,
    class: Class,
    transport: Arc<TransportConfig>,
) -> Result<ClientConfig, NetError> {
    let provider = provider();
    let verifier = PeerVerifier::new(Arc::clone(&identity.roots), &provider);
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(refused)?;
    tls.alpn_protocols = vec![class.protocol().to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let crypto = QuicClientConfig::try_from(tls).map_err(refused)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport);
    Ok(config)
}
