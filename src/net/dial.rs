//! Opens connections: resolve, connect (Happy Eyeballs, RFC 8305), TLS, one deadline for all.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::client::TlsStream;

use super::tls::{Tls, TlsError, TlsFault};
use crate::vocab::{HttpUrl, Scheme, descriptors};

/// How long one address may stay silent before the next is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Why no connection came about. Nothing was sent to the server's application.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name could not be resolved.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// No address answered.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// Name and port.
        host: String,
        /// Why the last address failed.
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host} failed: {source}")]
    Tls {
        /// Name and port.
        host: String,
        /// The kind of fault.
        fault: TlsFault,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("no connection to {host} within {after:?}")]
    Timeout {
        /// Name and port.
        host: String,
        /// The deadline.
        after: Duration,
    },
}

/// Opens connections to one configured server. Resolves anew each time.
#[derive(Debug, Clone)]
pub struct Dialer {
    host: String,
    port: u16,
    tls: Option<Tls>,
    timeout: Duration,
    last_descriptors: bool,
}

impl Dialer {
    /// A dialer for the server of `url`.
    ///
    /// # Errors
    /// TLS settings that cannot work.
    pub fn new(
        url: &HttpUrl,
        tls: &super::tls::Settings,
        alpn: &[&[u8]],
        timeout: Duration,
    ) -> Result<Self, TlsError> {
        let tls = match url.scheme() {
            Scheme::Http => None,
            Scheme::Https => Some(Tls::new(url.host(), tls.ca_path().as_deref(), alpn)?),
        };
        let host = url.host().to_owned();
        Ok(Self { host, port: url.port(), tls, timeout, last_descriptors: false })
    }

    /// The same, but it may take the process's last file descriptors: for requests on which all
    /// others depend.
    #[must_use]
    pub const fn with_last_descriptors(mut self) -> Self {
        self.last_descriptors = true;
        self
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self) -> Result<Io, DialError> {
        match tokio::time::timeout(self.timeout, self.dial_inner()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DialError::Timeout { host: self.place(), after: self.timeout }),
        }
    }

    async fn dial_inner(&self) -> Result<Io, DialError> {
        let addresses: Vec<SocketAddr> = lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|source| DialError::Resolve { host: self.host.clone(), source })?
            .collect();
        let tcp = connect_any(interleaved(addresses))
            .await
            .map_err(|source| DialError::Connect { host: self.place(), source })?;
        if !self.last_descriptors && descriptors::is_reserved(&tcp) {
            let source = io::Error::other("too many open files");
            return Err(DialError::Connect { host: self.place(), source });
        }
        drop(tcp.set_nodelay(true));
        match &self.tls {
            None => Ok(Io::Tcp(tcp)),
            Some(tls) => match tls.connect(tcp).await {
                Ok(stream) => Ok(Io::Tls(Box::new(stream))),
                Err(source) => Err(DialError::Tls {
                    host: self.place(),
                    fault: TlsFault::of(&source).unwrap_or(TlsFault::Other),
                    source,
                }),
            },
        }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Alternates address families, in the resolver's order otherwise.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut same, mut other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    same.reverse();
    other.reverse();
    let mut out = Vec::with_capacity(same.len() + other.len());
    while let Some(address) = same.pop() {
        out.push(address);
        out.extend(other.pop());
    }
    other.reverse();
    out.extend(other);
    out
}

/// Tries addresses one beside the other, a quarter of a second apart or as soon as one fails.
async fn connect_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut running: Vec<Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>> = Vec::new();
    loop {
        match waiting.next() {
            Some(address) => running.push(Box::pin(TcpStream::connect(address))),
            None if running.is_empty() => return Err(last),
            None => {}
        }
        let mut pause = pin!(tokio::time::sleep(STAGGER));
        let more = !waiting.as_slice().is_empty();
        let outcome = poll_fn(|cx| {
            for index in 0..running.len() {
                if let Poll::Ready(outcome) = running[index].as_mut().poll(cx) {
                    drop(running.swap_remove(index));
                    return Poll::Ready(Some(outcome));
                }
            }
            if more { pause.as_mut().poll(cx).map(|()| None) } else { Poll::Pending }
        })
        .await;
        match outcome {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => last = error,
            None => {}
        }
    }
}

/// An open connection, with or without TLS.
#[derive(Debug)]
pub enum Io {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// The protocol that ALPN settled on.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
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
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse =
            |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = parse(&["[::1]:1", "[::2]:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let expected = parse(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "10.0.0.3:1"]);
        assert_eq!(interleaved(mixed), expected);
    }
}
