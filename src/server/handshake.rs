//! The handshake of TLS with a client. The connection's watch sees to it that it ends.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::stream::Stream;
use super::watch::{Verdict, Watch, poll_verdict};

/// With this a client begins TLS: a record that holds a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// Why there is no TLS.
pub(super) enum Misfit {
    /// The client speaks something else, most likely HTTP in the clear.
    Plain(TcpStream),
    /// Anything else.
    Failed(io::Error),
}

/// Shakes hands.
///
/// # Errors
/// See [`Misfit`].
pub(super) async fn shake(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    watch: &Watch,
) -> Result<Stream, Misfit> {
    let first = poll_fn(|cx| poll_first(&tcp, watch, cx)).await.map_err(Misfit::Failed)?;
    if first != HANDSHAKE {
        return Err(Misfit::Plain(tcp));
    }
    let mut shaking = pin!(TlsAcceptor::from(config).accept(tcp));
    let shaken = poll_fn(|cx| {
        poll_limit(watch, cx)?;
        shaking.as_mut().poll(cx)
    });
    Ok(Stream::Tls(Box::new(shaken.await.map_err(Misfit::Failed)?)))
}

/// The first byte, which stays where it is.
fn poll_first(tcp: &TcpStream, watch: &Watch, cx: &mut Context<'_>) -> Poll<io::Result<u8>> {
    poll_limit(watch, cx)?;
    let mut byte = [0];
    let count = ready!(tcp.poll_peek(cx, &mut ReadBuf::new(&mut byte)))?;
    Poll::Ready(if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(byte[0]) })
}

fn poll_limit(watch: &Watch, cx: &Context<'_>) -> io::Result<()> {
    if poll_verdict(watch, cx) == Verdict::Close {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}
