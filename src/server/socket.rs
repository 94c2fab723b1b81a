//! The client's socket, with an eye on progress.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::watch::{Verdict, Watch};

/// Most bytes that are read and dropped after the last answer.
const MOST_LINGERING: usize = 1024 * 1024;

/// Sent where a request's head took too long; hyper has no words for it.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
    content-length: 0\r\ncache-control: no-store\r\n\
    content-security-policy: default-src 'none'\r\n\r\n";

/// A [`TcpStream`] that notes what happens in a [`Watch`].
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    watch: Arc<Watch>,
    closing: Closing,
}

#[derive(Debug, Clone, Copy)]
enum Closing {
    No,
    /// The end is sent; so many bytes were read since.
    Lingering(usize),
}

impl Socket {
    pub(super) fn new(tcp: TcpStream, watch: Arc<Watch>) -> Self {
        Self { tcp, watch, closing: Closing::No }
    }

    fn note_read(&self, outcome: &Poll<io::Result<()>>, count: usize) {
        match outcome {
            Poll::Ready(Ok(())) if count > 0 => self.watch.received(),
            Poll::Ready(_) => {}
            Poll::Pending => self.watch.starved(),
        }
    }

    fn note_write(&self, outcome: &Poll<io::Result<usize>>) {
        if outcome.is_pending() {
            self.watch.blocked();
        } else {
            self.watch.sent();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.verdict() == Verdict::HeadTooSlow {
            if self.watch.may_speak() {
                drop(self.tcp.try_write(TOO_SLOW));
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        self.note_read(&outcome, buffer.filled().len() - before);
        outcome
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.note_write(&outcome);
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    /// Ends our half, then reads on for a while where the client may still be sending: a close
    /// with unread bytes would reset the connection under the answer (RFC 9112 section 9.6).
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Closing::No = self.closing {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
            if !self.watch.closing() {
                return Poll::Ready(Ok(()));
            }
            self.closing = Closing::Lingering(0);
        }
        while let Closing::Lingering(dropped) = self.closing {
            let mut scratch = [0_u8; 4096];
            let mut buffer = ReadBuf::new(&mut scratch);
            let outcome = ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut buffer));
            let count = buffer.filled().len();
            if outcome.is_err() || count == 0 || dropped + count > MOST_LINGERING {
                break;
            }
            self.closing = Closing::Lingering(dropped + count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.note_write(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.watch.is_reset() {
            drop(SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)));
        }
    }
}
