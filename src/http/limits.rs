//! What clients may ask of a listener.

use std::time::Duration;

/// Bounds of one listener. At each bound the client gets a clear refusal, or its connection
/// ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once; one more is told 503 and closed.
    pub connections_max: usize,
    /// Requests under way at once, until the last byte of their answers; one more is told 503.
    pub requests_max: usize,
    /// Header fields of one request; more are answered 431.
    pub header_count_max: usize,
    /// Bytes of one request's target and headers together; more are answered 431.
    pub header_bytes_max: usize,
    /// How long a TLS handshake or one request's headers may take. An idle connection is
    /// closed after this time too.
    pub header_timeout: Duration,
    /// How long a client may leave an answer unread before its connection is cut.
    pub write_stall_max: Duration,
    /// Bytes of read buffer that one connection may hold; at least 8 KiB.
    pub buffer_bytes_max: usize,
    /// HTTP/2 requests under way on one connection.
    pub streams_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            requests_max: 512,
            header_count_max: 128,
            // Presigned targets and 2 KiB of user metadata fit several times.
            header_bytes_max: 32 << 10,
            header_timeout: Duration::from_secs(30),
            write_stall_max: Duration::from_secs(60),
            buffer_bytes_max: 192 << 10,
            streams_max: 64,
        }
    }
}
