//! An open connection to a server, whatever it runs over.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::stream::Stream;

/// An open connection to a server.
pub type Io = Stream<TlsStream<TcpStream>>;

impl Io {
    /// The protocol that ALPN settled on.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }
}

/// A connection that can be asked whether it says anything, without waiting for it.
pub trait Listen: AsyncRead + Unpin {
    /// Whether nothing has come: no byte, nor the end. A byte that has come is lost.
    fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        let read = poll_fn(|cx| Pin::new(&mut *self).poll_read(cx, &mut byte));
        // A task whose time is up would be told that there is nothing whatever there is.
        let read = pin!(tokio::task::unconstrained(read));
        read.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

impl Listen for Io {
    fn is_silent(&mut self) -> bool {
        // This asks only for what the runtime has heard already: no waker changes hands.
        let outcome = match self {
            Self::Tcp(stream) => stream.try_read(&mut [0]),
            Self::Unix(stream) => stream.try_read(&mut [0]),
            Self::Tls(stream) => return stream.is_silent(),
        };
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Listen for Box<TlsStream<TcpStream>> {}
