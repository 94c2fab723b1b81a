//! Tunnels: requests by which a client asks to go on in another protocol (S11).
//!
//! WebSocket is the only one. A request that asks for anything else, or asks in a way that leaves
//! room for doubt, loses its `Upgrade` as every request does and goes on as an ordinary one. Not a
//! byte goes through before the upstream has agreed to just that protocol; from then on bytes are
//! bytes, and neither connection is used for HTTP again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io};

use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::sync::Notify;

use super::answer::Arrival;
use super::headers::{self, Survey};
use super::pool::Lease;
use super::refusal::Refusal;
use super::route::Route;
use crate::server::{Peer, Watch};
use crate::shutdown::Shutdown;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const OPTION: HeaderValue = HeaderValue::from_static("Upgrade");

/// How often a tunnel looks whether it still moves, within the limit on that.
const LOOKS: u32 = 8;

/// How long nothing may move once one side has ended: the other one has had the news, and whatever
/// it still wants to say it can say now.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What the tunnels of a route are subject to.
#[derive(Debug)]
pub(super) struct Tunnels {
    /// Longest time without a byte.
    pub(super) idle: Duration,
    pub(super) shutdown: Shutdown,
}

/// What was `found` in a request's head, with `Upgrade` only if the request asks for a tunnel.
pub(super) fn asked(head: &Parts, found: Survey) -> Survey {
    if !found.has(Survey::UPGRADE) {
        return found;
    }
    let is_tunnel = head.method == Method::GET
        && head.version == Version::HTTP_11
        && !found.has(Survey::CONTENT_LENGTH | Survey::TRANSFER_ENCODING | Survey::EXPECT)
        && names_websocket(&head.headers);
    if is_tunnel { found } else { found.without(Survey::UPGRADE) }
}

/// Refuses an answer, in whose head these fields were `found`, that switches to anything but what
/// was `asked` for.
pub(super) fn check<B>(
    response: &Response<B>,
    asked: Survey,
    found: Survey,
) -> Result<(), Refusal> {
    let agrees = || {
        asked.has(Survey::UPGRADE)
            && !found.has(Survey::CONTENT_LENGTH | Survey::TRANSFER_ENCODING)
            && names_websocket(response.headers())
    };
    if switches(response) && !agrees() { Err(Refusal::Switched) } else { Ok(()) }
}

/// Opens the tunnel if the answer, which was checked, says so.
pub(super) fn open(
    head: &mut Parts,
    response: &mut Response<Arrival>,
    route: &Arc<Route>,
    peer: &Peer,
) {
    if !switches(response) {
        return;
    }
    let Some(client) = head.extensions.remove::<OnUpgrade>() else { return };
    let Some(upstream) = response.body_mut().detach() else { return };
    response.headers_mut().insert(CONNECTION, OPTION);
    response.headers_mut().insert(UPGRADE, WEBSOCKET);
    let tunnel =
        Tunnel { client, upstream, watch: Arc::clone(&peer.watch), route: Arc::clone(route) };
    drop(route.tunnels.shutdown.spawn(tunnel.run()));
}

/// Whether an answer ends HTTP on its connection: of the informational ones no other gets here.
fn switches<B>(response: &Response<B>) -> bool {
    response.status().is_informational()
}

/// Whether a head names WebSocket, and nothing else, as the protocol to go on with.
fn names_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let is_websocket =
        |protocol: &HeaderValue| protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    protocols.next().is_some_and(is_websocket)
        && protocols.next().is_none()
        && headers::lists(headers, &CONNECTION, "upgrade")
}

/// Two connections that become one.
struct Tunnel {
    client: OnUpgrade,
    /// Never goes back to the pool.
    upstream: Lease,
    watch: Arc<Watch>,
    route: Arc<Route>,
}

/// Why a tunnel ended.
enum End {
    /// Both sides were through: so many bytes from the client, and to it.
    Done(u64, u64),
    Broken(Box<dyn std::error::Error + Send + Sync>),
    Idle,
    /// One side was through, and nothing more moved on the other.
    Half,
    Closing,
}

impl Tunnel {
    async fn run(self) {
        let Self { client, mut upstream, watch, route } = self;
        let course = Course::default();
        let traffic = async {
            let client = client.await?;
            // The server's limits hold until the client's connection is ours.
            watch.hand_over();
            let Some(upstream) = upstream.connection_mut() else { return Ok((0, 0)) };
            route.metrics.upgrades.inc();
            let _open = Open(&route);
            let mut client = Side { io: TokioIo::new(client), course: &course };
            let mut upstream = Side { io: upstream, course: &course };
            let (up, down) = copy_bidirectional(&mut client, &mut upstream).await?;
            Ok((up, down))
        };
        let idle = route.tunnels.idle;
        let end = tokio::select! {
            biased;
            () = route.tunnels.shutdown.closing() => End::Closing,
            outcome = traffic => match outcome {
                Ok((up, down)) => End::Done(up, down),
                Err(error) => End::Broken(error),
            },
            () = stillness(&course.moved, idle) => End::Idle,
            () = course.half(idle.min(LAST_WORDS)) => End::Half,
        };
        tracing::debug!(route = route.name.as_str(), %end, "a tunnel ended");
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(up, down) => write!(f, "after {up} bytes up and {down} down"),
            Self::Broken(error) => write!(f, "by a failure: {error}"),
            Self::Idle => f.write_str("as nothing moved"),
            Self::Half => f.write_str("as one side had ended and nothing more moved"),
            Self::Closing => f.write_str("with the process"),
        }
    }
}

/// Counts a tunnel while it is open, however it ends.
struct Open<'r>(&'r Route);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.metrics.upgrades.dec();
    }
}

/// Returns when nothing has `moved` for at least `limit`, and an eighth more at most.
async fn stillness(moved: &AtomicU64, limit: Duration) {
    let mut before = 0;
    let mut looks = 0;
    while looks < LOOKS {
        tokio::time::sleep((limit / LOOKS).max(Duration::from_millis(1))).await;
        let now = moved.load(Relaxed);
        looks = if now == before { looks + 1 } else { 0 };
        before = now;
    }
}

/// What is known of a tunnel while it is open.
#[derive(Debug, Default)]
struct Course {
    /// Bytes that went into or came out of either side.
    moved: AtomicU64,
    /// One side has said its last.
    ended: Notify,
}

impl Course {
    fn note(&self, count: usize) {
        self.moved.fetch_add(count as u64, Relaxed);
    }

    /// Returns when one side has ended and nothing has moved since for `limit`.
    async fn half(&self, limit: Duration) {
        self.ended.notified().await;
        stillness(&self.moved, limit).await;
    }
}

/// One side of a tunnel.
struct Side<'t, T> {
    io: T,
    course: &'t Course,
}

impl<T: AsyncRead + Unpin> AsyncRead for Side<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        match buffer.filled().len() - before {
            0 => self.course.ended.notify_one(),
            count => self.course.note(count),
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Side<'_, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.course.note(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_keeps_a_tunnel_of_which_one_side_has_ended() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let course = Course::default();
        let talk = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            // From here on one side has ended, and the other is not through.
            course.ended.notify_one();
            for _ in 0..20 {
                tokio::time::sleep(LAST_WORDS * 3 / 4).await;
                course.note(1);
            }
            tokio::time::sleep(LAST_WORDS * 2).await;
            unreachable!("nothing moves any more");
        };
        runtime.block_on(async {
            tokio::select! {
                () = talk => {}
                () = course.half(LAST_WORDS) => {}
            }
        });
        assert_eq!(course.moved.load(Relaxed), 20);
    }
}
