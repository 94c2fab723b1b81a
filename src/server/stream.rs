//! A client's connection, of whatever kind.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::socket::Protocol;

/// An open connection of a client.
pub(super) type Stream = crate::stream::Stream<TlsStream<TcpStream>>;

/// The same on its way to another thread.
#[derive(Debug)]
pub(super) enum Parcel {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    /// What the handshake of TLS has settled on (RFC 7301), if it has.
    pub(super) fn agreed(&self) -> Option<Protocol> {
        let Self::Tls(tls) = self else { return None };
        match tls.get_ref().1.alpn_protocol()? {
            b"h2" => Some(Protocol::Http2),
            _ => Some(Protocol::Http1),
        }
    }

    /// Has the end of the connection be a reset.
    pub(super) fn reset_at_close(&self) {
        let tcp = match self {
            Self::Tcp(tcp) => tcp,
            // The end of TLS is a word of its own, which a cut answer is not followed by.
            Self::Tls(tls) => tls.get_ref().0,
            Self::Unix(_) => return,
        };
        drop(SockRef::from(tcp).set_linger(Some(Duration::ZERO)));
    }

    /// Whether there is more to say at the end than that it is the end.
    pub(super) const fn has_last_words(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Writes what fits, where there is no time to wait.
    pub(super) fn try_write(&self, bytes: &[u8]) {
        // Whoever does not take it is not told.
        let outcome = match self {
            Self::Tcp(tcp) => tcp.try_write(bytes),
            Self::Unix(unix) => unix.try_write(bytes),
            Self::Tls(_) => return,
        };
        drop(outcome);
    }

    /// Takes it off this thread's runtime. One with TLS stays where it is.
    pub(super) fn into_parcel(self) -> io::Result<Parcel> {
        match self {
            Self::Tcp(tcp) => tcp.into_std().map(Parcel::Tcp),
            Self::Unix(unix) => unix.into_std().map(Parcel::Unix),
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn from_parcel(parcel: Parcel) -> io::Result<Self> {
        match parcel {
            Parcel::Tcp(tcp) => TcpStream::from_std(tcp).map(Self::Tcp),
            Parcel::Unix(unix) => UnixStream::from_std(unix).map(Self::Unix),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(tcp) => tcp.as_raw_fd(),
            Self::Tls(tls) => tls.get_ref().0.as_raw_fd(),
            Self::Unix(unix) => unix.as_raw_fd(),
        }
    }
}
