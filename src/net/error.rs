//! Why the transport cannot start.

use std::io;
use std::net::SocketAddr;

/// Why the transport cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The address cannot be listened on.
    #[error("cannot listen for peers on udp {address}: {source} (is another node running there?)")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The node's certificate cannot be made or used.
    #[error("cannot make this node's peer certificate: {reason}")]
    Identity {
        /// What the library said.
        reason: String,
    },
    /// A limit that the protocol cannot take.
    #[error("peer transport limit {limit} is out of range: {reason}")]
    Limit {
        /// Which limit.
        limit: &'static str,
        /// Why.
        reason: String,
    },
}
