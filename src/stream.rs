//! An open connection, whatever it runs over: what clients and upstreams have in common.
//!
//! TCP is read and written by system calls of our own. The C library brackets each of a program
//! with several threads by two locked instructions, so that a thread could be cancelled within.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::writev;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Where so little is wanted, it is read to the stack first.
const SMALL_READ: usize = 8 * 1024;

/// An open connection, with or without TLS of the kind `T`.
#[derive(Debug)]
pub enum Stream<T> {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<T>),
    /// A Unix socket.
    Unix(UnixStream),
}

impl<T: AsyncRead + Unpin> Stream<T> {
    /// Reads at most 8 KiB, so that the rest of `buffer` is not touched.
    ///
    /// # Errors
    /// As with any reading.
    pub fn poll_read_little(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Self::Tcp(stream) = self {
            return poll_recv(stream, cx, buffer);
        }
        let mut scratch = [const { MaybeUninit::uninit() }; SMALL_READ];
        let room = buffer.remaining().min(SMALL_READ);
        let mut little = ReadBuf::uninit(&mut scratch[..room]);
        let outcome = Pin::new(self).poll_read(cx, &mut little);
        buffer.put_slice(little.filled());
        outcome
    }
}

/// Reads what has come, [`SMALL_READ`] bytes at most.
fn poll_recv(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let mut scratch = [const { MaybeUninit::uninit() }; SMALL_READ];
    let room = buffer.remaining().min(SMALL_READ);
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let mut emptied = false;
        let outcome = stream.try_io(Interest::READABLE, || {
            let ((read, _), _) = recv(stream, &mut scratch[..room], RecvFlags::empty())?;
            buffer.put_slice(read);
            emptied = !read.is_empty() && read.len() < room;
            unless(emptied)
        });
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !emptied => {}
            Err(error) if !emptied => return Poll::Ready(Err(error)),
            _ => return Poll::Ready(Ok(())),
        }
    }
}

/// Says to the runtime that the socket has no more to give or to take, as it would find out by
/// itself with another call.
fn unless(exhausted: bool) -> io::Result<()> {
    if exhausted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
}

/// Writes what the socket takes by `call`, which is given `length` bytes.
fn poll_send(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    length: usize,
    call: impl Fn() -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        let mut sent = 0;
        let outcome = stream.try_io(Interest::WRITABLE, || {
            sent = call()?;
            unless(sent < length)
        });
        match outcome {
            Err(error) if sent == 0 && error.kind() == io::ErrorKind::WouldBlock => {
                ready!(stream.poll_write_ready(cx))?;
            }
            Err(error) if sent == 0 => return Poll::Ready(Err(error)),
            _ => return Poll::Ready(Ok(sent)),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // To copy a little costs less than the brackets.
            Self::Tcp(stream) if buffer.remaining() <= SMALL_READ => poll_recv(stream, cx, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => {
                poll_send(stream, cx, bytes.len(), || send(&*stream, bytes, SendFlags::NOSIGNAL))
            }
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A plain send costs the kernel less than a vectored one.
        if let [only] = slices {
            return self.poll_write(cx, only);
        }
        match self.get_mut() {
            Self::Tcp(stream) => {
                let length = slices.iter().map(|slice| slice.len()).sum();
                poll_send(stream, cx, length, || writev(&*stream, slices))
            }
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as StdTcp};
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    type Plain = Stream<tokio::io::Empty>;

    fn pair() -> (Plain, StdTcp) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = StdTcp::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        (Stream::Tcp(TcpStream::from_std(near).unwrap()), listener.accept().unwrap().0)
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for_and_no_byte_is_lost() {
        let (mut near, mut far) = pair();
        let sent: Vec<u8> = (0..8_000_000_u32).map(|number| number as u8).collect();
        let expected = sent.clone();
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            far.read_to_end(&mut received).unwrap();
            received
        });
        let (head, tail) = sent.split_at(5_000_000);
        near.write_all(head).await.unwrap();
        let mut slices = [io::IoSlice::new(&tail[..1]), io::IoSlice::new(&tail[1..])];
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let count = near.write_vectored(rest).await.unwrap();
            io::IoSlice::advance_slices(&mut rest, count);
        }
        near.shutdown().await.unwrap();
        assert!(reader.join().unwrap() == expected);
    }

    #[tokio::test]
    async fn what_comes_is_read_in_pieces_of_any_size_to_its_end() {
        for size in [1, 100, SMALL_READ - 1, SMALL_READ, SMALL_READ + 1, 100_000] {
            let (mut near, mut far) = pair();
            let writer = std::thread::spawn(move || {
                for piece in 0..40_u8 {
                    far.write_all(&[piece; 999]).unwrap();
                }
            });
            let mut received = Vec::new();
            let mut buffer = vec![0; size];
            loop {
                match near.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => received.extend_from_slice(&buffer[..count]),
                }
            }
            writer.join().unwrap();
            let expected: Vec<u8> = (0..40_u8).flat_map(|piece| [piece; 999]).collect();
            assert!(received == expected, "by {size}");
        }
    }

    #[tokio::test]
    async fn little_is_read_whatever_room_there_is() {
        let (mut near, mut far) = pair();
        far.write_all(&[1; 3 * SMALL_READ]).unwrap();
        let mut room = vec![0; 3 * SMALL_READ];
        let mut buffer = ReadBuf::new(&mut room);
        std::future::poll_fn(|cx| near.poll_read_little(cx, &mut buffer)).await.unwrap();
        assert!((1..=SMALL_READ).contains(&buffer.filled().len()));
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error_and_not_a_signal() {
        let (mut near, far) = pair();
        drop(far);
        let mut outcome = Ok(());
        for _ in 0..1000 {
            outcome = near.write_all(&[0; 1000]).await;
            if outcome.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(outcome.is_err());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(!matches!(Pin::new(&mut near).poll_write(&mut cx, b"x"), Poll::Ready(Ok(_))));
    }
}
