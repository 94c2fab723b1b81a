//! Bound addresses and the loop that accepts on them.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

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
    socket: StdListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 chooses a free one.
    ///
    /// # Errors
    /// The address is in use, not on this machine, or not permitted.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit these, which saves a call for each.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(UNSENT)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = StdListener::from(socket);
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The bound address, with the port that was chosen.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Another handle to the same address, for another worker.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, address: self.address })
    }

    pub(super) fn into_tokio(self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.socket)
    }
}

/// Accepts; never gives up.
#[derive(Debug)]
pub(super) struct Acceptor {
    listener: TcpListener,
    pause: Duration,
}

impl Acceptor {
    pub(super) const fn new(listener: TcpListener) -> Self {
        Self { listener, pause: FIRST_PAUSE }
    }

    /// The next connection. `failed` is called for every failure of the process, such as a lack
    /// of file descriptors, which is then waited out: the backlog keeps the clients meanwhile.
    pub(super) async fn next(&mut self, failed: impl Fn(&io::Error)) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.pause = FIRST_PAUSE;
                    return accepted;
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    failed(&error);
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
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
