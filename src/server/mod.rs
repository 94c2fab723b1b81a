//! Serves HTTP/1 and HTTP/2 on bound addresses: accepts, spreads connections over workers, keeps the
//! limits, closes gracefully. It serves any [`Handler`] and knows nothing of what the handler does.
//!
//! A worker is one thread with a runtime of its own, which runs [`Worker::serve`]; a connection
//! stays with its worker for life. All workers accept on all addresses, and a worker that has
//! taken a connection hands it over if another one, chosen at random, has fewer.

mod address;
mod body;
mod clock;
mod crew;
mod handshake;
mod hosts;
mod http1;
mod http2;
mod limits;
mod listener;
mod meter;
pub mod passed;
mod problem;
mod roll;
mod socket;
mod stream;
mod watch;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response};
use http_body::Body;
use prometheus::IntCounter;
use rustls::ServerConfig;
use tokio::sync::mpsc;

pub use address::{Endpoint, Ends};
pub use body::{Broken, Incoming};
use crew::{Crew, accept};
pub use hosts::{Host, HostName, Hosts};
pub use http2::is_padded;
pub use limits::Limits;
use listener::Acceptor;
pub use listener::{Listener, SocketFile};
pub use problem::{Problem, dated};
use socket::Refusals;
use stream::Parcel;
pub use watch::{Expired, Watch};

use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::tally::{Count, Level};

/// The sweeps' intervals.
const SHORTEST_TICK: Duration = Duration::from_millis(5);
const LONGEST_TICK: Duration = Duration::from_millis(500);

/// How long a client may go on sending after the last answer.
const LINGER: Duration = Duration::from_secs(1);

/// How long a connection at rest stays when draining has begun. A request that was on its way then
/// is answered, and told that it was the last, where a close would have the client wonder whether
/// to send it again (RFC 9112 section 9.6).
const PARTING: Duration = Duration::from_millis(250);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answers' body. It is dropped as soon as it is sent or cannot be sent any more.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request. The future is dropped when the client goes away. It borrows the head,
    /// since what a future owns is often held twice in it.
    fn handle(
        &self,
        head: &mut Parts,
        body: Incoming,
        peer: &Peer,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// The ends of the connection.
    pub ends: Ends,
    /// Whether the client speaks TLS.
    pub secure: bool,
    /// The connection's limits and progress.
    pub watch: Arc<Watch>,
    labels: Labels,
}

/// How a client is named to upstreams; each is made once a connection.
#[derive(Debug, Clone, Default)]
struct Labels {
    label: OnceLock<Option<HeaderValue>>,
    element: OnceLock<HeaderValue>,
}

impl Peer {
    /// A peer whose connection nobody watches; for tests of handlers.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn unwatched(addr: std::net::SocketAddr) -> Self {
        let watch = Arc::new(Watch::new(Arc::new(clock::Clock::new())));
        let ends = Ends::Inet { client: addr, local: addr };
        Self { ends, secure: false, watch, labels: Labels::default() }
    }

    /// The client's IP address as a header value, made once a connection; none over a Unix
    /// socket.
    #[must_use]
    pub fn label(&self) -> Option<&HeaderValue> {
        let made = self.labels.label.get_or_init(|| match self.ends.client()? {
            // Of a sidecar, every client.
            IpAddr::V4(Ipv4Addr::LOCALHOST) => Some(HeaderValue::from_static("127.0.0.1")),
            client => HeaderValue::from_str(&client.to_string()).ok(),
        });
        made.as_ref()
    }

    /// The client and its protocol as an element of `Forwarded` (RFC 7239 section 4).
    #[must_use]
    pub fn element(&self) -> &HeaderValue {
        self.labels.element.get_or_init(|| {
            let proto = if self.secure { "https" } else { "http" };
            let client = match self.ends.client() {
                None => "unknown".to_owned(),
                Some(IpAddr::V4(address)) => address.to_string(),
                Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
            };
            HeaderValue::from_str(&format!("for={client};proto={proto}"))
                .unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
        })
    }
}

/// What a server counts.
#[derive(Debug, Clone)]
pub struct Counters {
    connections: Level,
    accepted: Count,
    accept_errors: IntCounter,
    refusals: Refusals,
}

impl Counters {
    /// Counts in the program's metrics.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.connections.clone(),
            accepted: metrics.accepted.clone(),
            accept_errors: metrics.accept_errors.clone(),
            refusals: Refusals::new(metrics),
        }
    }
}

/// What the workers of one server share.
#[derive(Debug)]
struct Fleet {
    limits: Limits,
    counters: Option<Counters>,
    shutdown: Shutdown,
    posts: Vec<Post>,
}

/// How the other workers see a worker.
#[derive(Debug)]
struct Post {
    connections: AtomicUsize,
    /// Requests under way over HTTP/2.
    requests: AtomicUsize,
    inbox: mpsc::UnboundedSender<Handed>,
}

/// A connection on its way to another worker.
#[derive(Debug)]
struct Handed {
    stream: Parcel,
    ends: Ends,
    tls: Option<Arc<ServerConfig>>,
}

impl Fleet {
    /// Where a connection that `here` accepted should live: power of two choices.
    fn place(&self, here: usize) -> usize {
        let count = self.posts.len();
        if count < 2 {
            return here;
        }
        let other = (here + fastrand::usize(1..count)) % count;
        let load = |index: usize| self.posts[index].connections.load(Relaxed);
        if load(other) < load(here) { other } else { here }
    }

    fn refusals(&self) -> Refusals {
        self.counters.as_ref().map(|counters| counters.refusals.clone()).unwrap_or_default()
    }

    fn connections(&self) -> usize {
        self.posts.iter().map(|post| post.connections.load(Relaxed)).sum()
    }

    fn requests(&self) -> usize {
        self.posts.iter().map(|post| post.requests.load(Relaxed)).sum()
    }
}

/// One of the threads that serve; see [`workers`].
#[derive(Debug)]
pub struct Worker {
    fleet: Arc<Fleet>,
    index: usize,
    inbox: mpsc::UnboundedReceiver<Handed>,
}

/// Makes the workers of one server, of which each goes to a thread of its own. Without
/// `counters` nothing is counted.
#[must_use]
pub fn workers(
    count: usize,
    limits: Limits,
    counters: Option<Counters>,
    shutdown: Shutdown,
) -> Vec<Worker> {
    let (posts, inboxes): (Vec<_>, Vec<_>) = (0..count.max(1))
        .map(|_| {
            let (inbox, receiver) = mpsc::unbounded_channel();
            let (connections, requests) = (AtomicUsize::new(0), AtomicUsize::new(0));
            (Post { connections, requests, inbox }, receiver)
        })
        .unzip();
    let fleet = Arc::new(Fleet { limits, counters, shutdown, posts });
    let worker = |(index, inbox)| Worker { fleet: Arc::clone(&fleet), index, inbox };
    inboxes.into_iter().enumerate().map(worker).collect()
}

impl Worker {
    /// Serves until draining is over: accepts on `listeners` until draining begins, then waits
    /// for the connections to end, or for the time to be over.
    ///
    /// # Errors
    /// A listener that the runtime cannot take.
    pub async fn serve<H: Handler>(
        self,
        listeners: Vec<Listener>,
        handler: Arc<H>,
    ) -> std::io::Result<()> {
        let Self { fleet, index, mut inbox } = self;
        let tasks = fleet.shutdown.clone();
        let crew = Arc::new(Crew::new(fleet, index, handler));
        let mut doors = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let acceptor = Acceptor::new(listener)?;
            doors.push(tasks.spawn(accept(Arc::clone(&crew), acceptor)));
        }
        {
            let mut sweep = pin!(crew.sweep());
            loop {
                tokio::select! {
                    () = &mut sweep => break,
                    Some(handed) = inbox.recv() => crew.receive(handed),
                }
            }
        }
        // Whoever came in while the last ones left is served as well.
        inbox.close();
        for door in doors {
            drop(door.await);
        }
        while let Some(handed) = inbox.recv().await {
            crew.receive(handed);
        }
        crew.sweep().await;
        Ok(())
    }
}
