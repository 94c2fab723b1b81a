//! Opens connections: resolve, connect (Happy Eyeballs, RFC 8305), TLS, one deadline for all.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use std::{fmt, io};

use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::health::{Health, Ledger};
use super::io::Io;
use super::tls::{Tls, TlsError, TlsFault};
use crate::vocab::{HttpUrl, Scheme, descriptors};

/// How long one address may stay silent before the next is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Why no connection came about. Nothing was sent to the server's application.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The name could not be resolved.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// No address answered.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// Name and port.
        host: String,
        /// Why the last address failed.
        source: Arc<io::Error>,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host} failed: {source}")]
    Tls {
        /// Name and port.
        host: String,
        /// The kind of fault.
        fault: TlsFault,
        /// Why.
        source: Arc<io::Error>,
    },
    /// It took too long.
    #[error("no connection to {host} within {after:?}")]
    Timeout {
        /// Name and port.
        host: String,
        /// The deadline.
        after: Duration,
    },
    /// The server did not choose the protocol that is required.
    #[error("{host} did not choose HTTP/2 (`h2`) in the TLS handshake")]
    Protocol {
        /// Name and port.
        host: String,
    },
}

impl DialError {
    /// A connection that failed once it was there.
    pub fn connect(
        host: String,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Connect { host, source: Arc::new(io::Error::other(error)) }
    }
}

/// Where to connect.
#[derive(Debug, Clone)]
enum Place {
    Name { host: String, port: u16 },
    Socket(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Opens connections to one configured server. Resolves anew each time.
#[derive(Debug, Clone)]
pub struct Dialer {
    place: Place,
    tls: Option<Tls>,
    timeout: Duration,
    last_descriptors: bool,
    ledger: Option<Arc<Ledger>>,
}

/// A new connection.
#[derive(Debug)]
pub struct Line {
    /// The connection.
    pub io: Io,
    /// How its address fares, where somebody keeps a ledger.
    pub health: Option<Arc<Health>>,
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
            Scheme::Https => Some(Tls::new(url.host(), tls, alpn)?),
        };
        let place = Place::Name { host: url.host().to_owned(), port: url.port() };
        Ok(Self { place, tls, timeout, last_descriptors: false, ledger: None })
    }

    /// A dialer for a server that speaks something else than HTTP, with TLS or without.
    #[must_use]
    pub const fn to(host: String, port: u16, tls: Option<Tls>, timeout: Duration) -> Self {
        let place = Place::Name { host, port };
        Self { place, tls, timeout, last_descriptors: false, ledger: None }
    }

    /// The same, but it may take the process's last file descriptors: for requests on which all
    /// others depend.
    #[must_use]
    pub fn with_last_descriptors(mut self) -> Self {
        self.last_descriptors = true;
        self
    }

    /// The same server at another address.
    #[must_use]
    pub fn at(mut self, host: String, port: u16) -> Self {
        self.place = Place::Name { host, port };
        self
    }

    /// The same server at a Unix socket.
    #[must_use]
    pub fn over(mut self, socket: PathBuf) -> Self {
        self.place = Place::Socket(socket);
        self
    }

    /// The same, but addresses that fail are tried last for a while.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Arc<Ledger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Whether connections are protected by TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self) -> Result<Io, DialError> {
        self.reach().await.map(|line| line.io)
    }

    /// Opens a connection, and says how its address fares.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn reach(&self) -> Result<Line, DialError> {
        let tried = Tried::default();
        match tokio::time::timeout(self.timeout, self.reach_inner(&tried)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                tried.unreachable();
                Err(DialError::Timeout { host: self.place(), after: self.timeout })
            }
        }
    }

    async fn reach_inner(&self, tried: &Tried) -> Result<Line, DialError> {
        let (host, port) = match &self.place {
            Place::Name { host, port } => (host, *port),
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| self.failed(error))?;
                self.spare(&stream)?;
                return Ok(Line { io: Io::Unix(stream), health: None });
            }
        };
        let addresses: Vec<SocketAddr> = lookup_host((host.as_str(), port))
            .await
            .map_err(|error| DialError::Resolve { host: host.clone(), source: Arc::new(error) })?
            .collect();
        let candidates = match &self.ledger {
            None => interleaved(&addresses, 0).into_iter().map(|a| (a, None)).collect(),
            Some(ledger) => {
                ledger.order(&addresses).into_iter().map(|(a, health)| (a, Some(health))).collect()
            }
        };
        let (tcp, health) =
            connect_any(candidates, tried).await.map_err(|error| self.failed(error))?;
        self.spare(&tcp)?;
        drop(tcp.set_nodelay(true));
        let io = match &self.tls {
            None => Io::Tcp(tcp),
            Some(tls) => match tls.connect(tcp).await {
                Ok(stream) => Io::Tls(Box::new(stream)),
                Err(error) => {
                    if let Some(health) = &health {
                        health.unreachable();
                    }
                    return Err(DialError::Tls {
                        host: self.place(),
                        fault: TlsFault::of(&error).unwrap_or(TlsFault::Other),
                        source: Arc::new(error),
                    });
                }
            },
        };
        Ok(Line { io, health })
    }

    /// Keeps the process's last file descriptors for those who may take them.
    fn spare(&self, stream: &impl std::os::fd::AsRawFd) -> Result<(), DialError> {
        if !self.last_descriptors && descriptors::is_reserved(stream) {
            return Err(self.failed(io::Error::other("too many open files")));
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> DialError {
        DialError::Connect { host: self.place(), source: Arc::new(error) }
    }

    /// Where it connects to, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        self.place.to_string()
    }
}

/// The addresses that were tried, for the case that the time is over.
#[derive(Debug, Default)]
struct Tried(Mutex<Vec<Arc<Health>>>);

impl Tried {
    fn note(&self, health: Option<&Arc<Health>>) {
        if let Some(health) = health {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(health));
        }
    }

    fn unreachable(self) {
        let tried = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        tried.iter().for_each(|health| health.unreachable());
    }
}

/// Alternates address families, in the resolver's order otherwise, but for the first family, whose
/// addresses take turns.
pub(super) fn interleaved(addresses: &[SocketAddr], turn: usize) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut same, mut other): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == first_is_v6);
    let turns = same.len().max(1);
    same.rotate_left(turn % turns);
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

/// An address, and how it fares.
type Candidate = (SocketAddr, Option<Arc<Health>>);

/// Tries addresses one beside the other, a quarter of a second apart or as soon as one fails.
async fn connect_any(
    candidates: Vec<Candidate>,
    tried: &Tried,
) -> io::Result<(TcpStream, Option<Arc<Health>>)> {
    let mut waiting = candidates.into_iter();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut running: Vec<Attempt> = Vec::new();
    loop {
        match waiting.next() {
            Some((address, health)) => {
                tried.note(health.as_ref());
                running.push((Box::pin(TcpStream::connect(address)), health));
            }
            None if running.is_empty() => return Err(last),
            None => {}
        }
        let mut pause = pin!(tokio::time::sleep(STAGGER));
        let more = !waiting.as_slice().is_empty();
        let outcome = poll_fn(|cx| {
            for index in 0..running.len() {
                if let Poll::Ready(outcome) = running[index].0.as_mut().poll(cx) {
                    let (_, health) = running.swap_remove(index);
                    return Poll::Ready(Some((outcome, health)));
                }
            }
            if more { pause.as_mut().poll(cx).map(|()| None) } else { Poll::Pending }
        })
        .await;
        match outcome {
            Some((Ok(stream), health)) => return Ok((stream, health)),
            Some((Err(error), health)) => {
                if let Some(health) = health {
                    health.unreachable();
                }
                last = error;
            }
            None => {}
        }
    }
}

/// An address that is being connected to.
type Attempt = (Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>, Option<Arc<Health>>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse =
            |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = parse(&["[::1]:1", "[::2]:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let expected = parse(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "10.0.0.3:1"]);
        assert_eq!(interleaved(&mixed, 0), expected);
        let turned = interleaved(&mixed, 3);
        assert_eq!(turned[0], mixed[1]);
        assert_eq!(turned.len(), 5);
    }
}
