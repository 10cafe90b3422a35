//! Listeners for the HTTP faces: HTTP/1.1 and HTTP/2 on one port, TLS, limits, orderly stop.
//!
//! # Invariants
//! 1. What one connection and all connections together may hold is bounded: their number and
//!    that of requests under way, the bytes and count of headers, read buffers, streams, and the time that headers, a TLS
//!    handshake or an unread answer may take.
//! 2. Whatever bytes arrive at a port, the worst that happens is that their connection ends.
//! 3. A stop lets requests under way finish until its grace is over; nothing runs after it.
//!
//! This folder is a real seam, as `env` is: sockets and certificate files are touched here
//! and nowhere above. It does not know what a request means.

mod connection;
mod limits;
mod listener;
mod requests;
mod stall;
mod tls;

#[cfg(test)]
mod tests;

pub use connection::Caller;
pub use limits::Limits;
pub use listener::{Environment, ListenError, Listener, Server, router};
pub use tls::{Tls, TlsError};
