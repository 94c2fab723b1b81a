//! A connection whose other side follows a script.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::io::Listen;

/// How an upstream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It closes.
    Closed,
    /// It says no more.
    Open,
}

/// The other side: it hears the first byte of a request, then says its pieces, one for each read.
#[derive(Debug)]
pub(super) struct Script {
    pieces: VecDeque<Bytes>,
    end: End,
    /// So many bytes are taken at a time, and after so many nothing more.
    pub(super) takes: usize,
    pub(super) breaks_after: usize,
    pub(super) heard: Arc<Mutex<Vec<u8>>>,
}

impl Script {
    pub(super) fn new(pieces: impl IntoIterator<Item = Bytes>, end: End) -> Self {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { pieces, end, takes: usize::MAX, breaks_after: usize::MAX, heard: Arc::default() }
    }

    fn heard(&self) -> usize {
        self.heard.lock().unwrap().len()
    }
}

impl Listen for Script {}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.heard() == 0 && self.breaks_after > 0 {
            return Poll::Pending;
        }
        let end = self.end;
        match self.pieces.front_mut() {
            Some(piece) => {
                let now = piece.split_to(piece.len().min(buffer.remaining()));
                if piece.is_empty() {
                    self.pieces.pop_front();
                }
                buffer.put_slice(&now);
                Poll::Ready(Ok(()))
            }
            None if end == End::Closed => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.takes).min(self.breaks_after - self.heard());
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.heard.lock().unwrap().extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
