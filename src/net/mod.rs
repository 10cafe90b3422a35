//! A typed request to a peer and its answer, over QUIC.
//!
//! # Invariants
//! 1. Both ends of a connection proved that they know the cluster secret, and a peer's node id
//!    is the one in its certificate.
//! 2. Nothing is sent again in silence: a caller learns whether a request may have arrived.
//! 3. Frames, streams and bytes in flight are bounded; a frame over the bound ends its
//!    connection with a logged reason.
//!
//! This folder does not know what a message means.
//!
//! # What can go wrong
//! - *Strangers at the port.* Anyone may send bytes. QUIC drops what is no packet; a handshake
//!   without the cluster's certificate ends there, is counted, and logged once a minute.
//! - *A peer that lies about lengths.* Lengths are checked before anything is allocated; large
//!   requests are counted against 64 MiB per peer, and one too many is refused, never queued.
//! - *A slow reader of bulk.* A connection's window is shared by its streams, so a stuck
//!   transfer would stop control: the two have a connection each.
//! - *A peer that dies without a word.* Its connections end after 5 s of silence; calls until
//!   then time out. When it restarts it resets what its former boot left (the key of those
//!   resets is derived, not drawn), so callers need not wait for the silence.
//! - *Two nodes dial each other at once.* Both connections stay and both are served; each side
//!   sends on the newest it has.
//! - *A call dropped midway.* Streams end with a reset unless they were finished on purpose,
//!   because quinn would end them as if all had been sent.
//! - *A dead peer slows the living.* One dial serves all who wait; after it failed, calls fail
//!   at once until the pause (0.1 to 2 s, jittered) is over.

mod transport;

mod frame;
mod stream;

mod error;
mod identity;
mod secret;
mod verify;

mod endpoint;
mod figures;

mod bulk;
mod hub;
mod link;
mod peer;
mod quic;
mod serve;

#[cfg(test)]
mod hostile_test;

pub use bulk::PIECE_BYTES_MAX;
pub use endpoint::QuicLimits;
pub use error::NetError;
pub use hub::GossipPacket;
pub use identity::PeerIdentity;
pub use quic::{QuicConfig, QuicTransport};
pub use secret::{ClusterSecret, SECRET_BYTES_MIN, WeakSecret};
pub use transport::{
    BulkReceiver, BulkSender, BulkStream, Handler, HandlerError, LinkFacts, Message, PeerError,
    RequestContext, ServiceId, Transport,
};

#[cfg(test)]
#[path = "../../tests/fuzz/net.rs"]
mod fuzz;
