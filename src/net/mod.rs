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

mod transport;

pub use transport::{
    BulkReceiver, BulkSender, BulkStream, Handler, HandlerError, LinkFacts, Message, PeerError,
    RequestContext, ServiceId, Transport,
};
