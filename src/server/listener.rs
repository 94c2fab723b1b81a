//! Bound addresses and the loop that accepts on them.

use std::fs;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcp};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnix, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::{Sleep, sleep};

use super::address::{Endpoint, Ends};
use super::stream::Stream;

/// Connections that the kernel holds for us.
const BACKLOG: i32 = 1024;

/// When a silent client is asked whether it is still there, so that an answer which streams
/// nothing for hours does not outlive its reader.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Most bytes of answers that the kernel holds for a client that does not take them. It would
/// hold megabytes, and say nothing while a slow client takes them one by one.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

/// The pauses after failures to accept: from this, doubling …
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// … to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A bound address. Each worker accepts on a clone; the kernel gives a connection to whoever
/// asks first.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
}

#[derive(Debug)]
enum Bound {
    Tcp(StdTcp, SocketAddr),
    Unix(StdUnix, PathBuf),
}

impl Listener {
    /// Binds `address`; port 0 chooses a free one.
    ///
    /// # Errors
    /// The address is in use, not on this machine, or not permitted.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        tune(SockRef::from(&socket))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = StdTcp::from(socket);
        let address = socket.local_addr()?;
        Ok(Self { socket: Bound::Tcp(socket, address), tls: None })
    }

    /// Binds a Unix socket of this `mode`. One that nobody listens at any more is replaced. The
    /// file goes with the value that is returned beside the listener.
    ///
    /// # Errors
    /// Somebody listens there, or it is no socket, or not permitted.
    pub fn bind_unix(path: &Path, mode: u32) -> io::Result<(Self, SocketFile)> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile::new(path)?;
        // Nobody connects before it listens, so nobody comes in by a wider mode.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        socket.listen(BACKLOG)?;
        let socket = Bound::Unix(StdUnix::from(socket), path.into());
        Ok((Self { socket, tls: None }, file))
    }

    /// Takes over a TCP socket that another process has bound.
    pub(super) fn adopt_tcp(socket: StdTcp) -> io::Result<Self> {
        listening(SockRef::from(&socket))?;
        tune(SockRef::from(&socket))?;
        let address = socket.local_addr()?;
        Ok(Self { socket: Bound::Tcp(socket, address), tls: None })
    }

    /// Takes over a Unix socket that another process has bound. Its file is the other's.
    pub(super) fn adopt_unix(socket: StdUnix) -> io::Result<Self> {
        listening(SockRef::from(&socket))?;
        let address = SockRef::from(&socket).local_addr()?;
        // The kernel's notation for a name that is in no file system.
        let abstract_name =
            || address.as_abstract_namespace().map(|name| format!("@{}", name.escape_ascii()));
        let path = address.as_pathname().map(PathBuf::from);
        let path = path.or_else(|| abstract_name().map(PathBuf::from)).unwrap_or_default();
        Ok(Self { socket: Bound::Unix(socket, path), tls: None })
    }

    /// Has clients speak TLS, by what is in `config` when they connect.
    #[must_use]
    pub fn with_tls(mut self, config: Option<Arc<ArcSwap<ServerConfig>>>) -> Self {
        self.tls = config;
        self
    }

    /// The bound address, with the port that was chosen.
    #[must_use]
    pub fn address(&self) -> Endpoint {
        match &self.socket {
            Bound::Tcp(_, address) => Endpoint::Inet(*address),
            Bound::Unix(_, path) => Endpoint::Unix(path.clone()),
        }
    }

    /// Another handle to the same address, for another worker.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Bound::Tcp(socket, address) => Bound::Tcp(socket.try_clone()?, *address),
            Bound::Unix(socket, path) => Bound::Unix(socket.try_clone()?, path.clone()),
        };
        Ok(Self { socket, tls: self.tls.clone() })
    }
}

/// What accepted sockets inherit, which saves a call for each.
fn tune(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

/// Makes a socket that another process has set up fit for an event loop.
fn listening(socket: SockRef<'_>) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
    if !socket.is_listener()? {
        return Err(io::Error::other("it does not listen"));
    }
    socket.set_nonblocking(true)
}

/// Removes a socket at which nobody listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is another file"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// A Unix socket's file, which is removed with this value, unless it is another's by then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), identity: identity(path)? })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// A connection that has just been accepted.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) ends: Ends,
    /// What to shake hands by, if the client is to speak TLS.
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// Accepts; never gives up.
#[derive(Debug)]
pub(super) struct Acceptor {
    door: Door,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
    pause: Duration,
    resting: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Door {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener),
}

impl Acceptor {
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        let door = match listener.socket {
            Bound::Tcp(socket, address) => Door::Tcp(TcpListener::from_std(socket)?, address),
            Bound::Unix(socket, _) => Door::Unix(UnixListener::from_std(socket)?),
        };
        Ok(Self { door, tls: listener.tls, pause: FIRST_PAUSE, resting: None })
    }

    /// The next connection. `failed` is called for every failure of the process, such as a lack
    /// of file descriptors, which is then waited out: the backlog keeps the clients meanwhile.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        failed: impl Fn(&io::Error),
    ) -> Poll<Accepted> {
        loop {
            if let Some(resting) = &mut self.resting {
                ready!(resting.as_mut().poll(cx));
                self.resting = None;
            }
            match ready!(self.door.poll_accept(cx)) {
                Ok((stream, ends)) => {
                    self.pause = FIRST_PAUSE;
                    let tls = self.tls.as_ref().map(|config| config.load_full());
                    return Poll::Ready(Accepted { stream, ends, tls });
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    failed(&error);
                    self.resting = Some(Box::pin(sleep(self.pause)));
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Whoever has connected; then the door is shut. The event loop may not have heard of them
    /// yet, so that the kernel is asked.
    pub(super) fn close(self) -> impl Iterator<Item = Accepted> {
        let Self { door, tls, .. } = self;
        let door = match door {
            Door::Tcp(listener, address) => {
                listener.into_std().map(|socket| Bound::Tcp(socket, address))
            }
            Door::Unix(listener) => {
                listener.into_std().map(|socket| Bound::Unix(socket, PathBuf::new()))
            }
        };
        let next = move || {
            let (stream, ends) = door.as_ref().ok()?.accept()?;
            let tls = tls.as_ref().map(|config| config.load_full());
            Some(Accepted { stream, ends, tls })
        };
        // Even where they go on coming there is an end.
        std::iter::from_fn(next).take(BACKLOG.unsigned_abs() as usize)
    }
}

impl Bound {
    /// A connection that waits, if there is one.
    fn accept(&self) -> Option<(Stream, Ends)> {
        loop {
            let outcome = match self {
                Self::Tcp(listener, bound) => listener.accept().and_then(|(stream, client)| {
                    stream.set_nonblocking(true)?;
                    let local = local(*bound, || stream.local_addr());
                    Ok((Stream::Tcp(TcpStream::from_std(stream)?), Ends::Inet { client, local }))
                }),
                Self::Unix(listener, _) => listener.accept().and_then(|(stream, _)| {
                    stream.set_nonblocking(true)?;
                    Ok((Stream::Unix(tokio::net::UnixStream::from_std(stream)?), Ends::Unix))
                }),
            };
            match outcome {
                Ok(accepted) => return Some(accepted),
                Err(error) if is_of_the_connection(&error) => {}
                Err(_) => return None,
            }
        }
    }
}

impl Door {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Ends)>> {
        match self {
            Self::Tcp(listener, bound) => {
                let (stream, client) = ready!(listener.poll_accept(cx))?;
                let local = local(*bound, || stream.local_addr());
                Poll::Ready(Ok((Stream::Tcp(stream), Ends::Inet { client, local })))
            }
            Self::Unix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Stream::Unix(stream), Ends::Unix)))
            }
        }
    }
}

/// The end of a connection that is ours.
fn local(bound: SocketAddr, look: impl FnOnce() -> io::Result<SocketAddr>) -> SocketAddr {
    if bound.ip().is_unspecified() { look().unwrap_or(bound) } else { bound }
}

/// Whether the fault is of the one connection, which is gone, and not of the process.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
