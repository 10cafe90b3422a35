//! Cuts connections whose client does not read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::env::Clock;

/// A stream whose writes fail once the other end took nothing for a while.
///
/// Reads are left alone: a client may wait for its answer as long as the server lets it, and
/// how slowly a body may arrive is for the service to say.
pub(super) struct StallGuard<S> {
    stream: S,
    clock: Arc<dyn Clock>,
    stall_max: Duration,
    /// Runs while a write waits.
    waiting: Option<BoxFuture<'static, ()>>,
}

impl<S> StallGuard<S> {
    /// Guards `stream`: a write that waits longer than `stall_max` fails.
    pub(super) fn new(stream: S, clock: Arc<dyn Clock>, stall_max: Duration) -> Self {
        Self { stream, clock, stall_max, waiting: None }
    }

    fn judge<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let waiting = self.waiting.get_or_insert_with(|| self.clock.sleep(self.stall_max));
        ready!(waiting.as_mut().poll(context));
        let reason = "the client read nothing for too long";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(outcome, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.judge(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::StallGuard;
    use crate::env::OsClock;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_off() {
        let (near, _far) = tokio::io::duplex(16);
        let clock = Arc::new(OsClock::new());
        let mut guarded = StallGuard::new(near, clock, Duration::from_secs(60));

        let error = guarded.write_all(&[7; 64]).await.unwrap_err();

        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let clock = Arc::new(OsClock::new());
        let mut guarded = StallGuard::new(near, clock, Duration::from_secs(60));

        let reader = async {
            let mut piece = [0; 16];
            for _ in 0..4 {
                tokio::time::advance(Duration::from_secs(40)).await;
                far.read_exact(&mut piece).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(guarded.write_all(&[7; 64]), reader);

        written.unwrap();
    }
}
