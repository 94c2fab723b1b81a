//! The admin listener: metrics, probes and the status. It reads; the one thing that it can be asked
//! to do is to renew a token, and that only on a loopback address.
//!
//! It answers only to its own hosts: what it tells holds no secret, yet is nothing for a web page
//! that has a name of its own rebound to this machine.

mod caller;
mod events;
mod first;
mod page;
mod renew;
mod requests;
mod status;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, VARY};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};

use self::caller::Key;
use self::events::Reply;
use self::page::Page;
use self::status::{Frame, Status};
pub use self::status::{RouteInfo, State};
use crate::net::body::Body;
use crate::server::{Handler, Host, Hosts, Incoming, Peer, dated};
use crate::shutdown::Shutdown;
use crate::telemetry::journal::Journal;
use crate::telemetry::metrics::Metrics;
use crate::token::Tokens;
use crate::vocab::Moment;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const READING: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// What the admin listener shows; a reload swaps it whole.
#[derive(Debug)]
pub struct View {
    /// The tokens.
    pub tokens: Arc<Tokens>,
    /// The routes.
    pub routes: Vec<RouteInfo>,
    /// By which hosts it may be asked.
    pub hosts: Hosts,
}

/// Answers requests to the admin listener.
#[derive(Debug)]
pub struct Admin(Arc<Desk>);

/// What the answers are made from; streams of events hold it too.
#[derive(Debug)]
struct Desk {
    metrics: Arc<Metrics>,
    view: Arc<ArcSwap<View>>,
    journal: Arc<Journal>,
    shutdown: Shutdown,
    started: Moment,
    page: Page,
    /// There if tokens may be renewed from here.
    key: Option<Key>,
    streams: AtomicUsize,
}

impl Admin {
    /// Shows `view`, `metrics` and `journal` at an address; not ready once `shutdown` drains.
    #[must_use]
    pub fn new(
        at: IpAddr,
        metrics: Arc<Metrics>,
        view: Arc<ArcSwap<View>>,
        journal: Arc<Journal>,
        shutdown: Shutdown,
    ) -> Self {
        Self(Arc::new(Desk {
            metrics,
            view,
            journal,
            shutdown,
            started: Moment::now(),
            page: Page::new(),
            // Others than this machine's programs do not get to act.
            key: if at.is_loopback() { Key::new() } else { None },
            streams: AtomicUsize::new(0),
        }))
    }
}

impl Handler for Admin {
    type Body = Reply;

    async fn handle(&self, head: &mut Parts, _: Incoming, peer: &Peer) -> Response<Reply> {
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        dated(if !self.0.is_own_host(&head.headers, peer) {
            plain(
                StatusCode::FORBIDDEN,
                "not a host of this listener; ask by its IP address, by localhost, or by a name \
                 that the configuration lists under `hosts`\n",
            )
            .map(Reply::Whole)
        } else if reads && head.uri.path() == "/status/events" {
            events::open(&self.0, &head.headers, head.method == Method::HEAD)
        } else {
            self.0.answer(head, reads).map(Reply::Whole)
        })
    }
}

impl Desk {
    /// The answer to a request's head.
    fn answer(&self, head: &Parts, reads: bool) -> Response<Body> {
        let path = head.uri.path();
        if let Some(name) = renew::token_of(path) {
            return self.renew(name, &head.method, &head.headers);
        }
        let answer: fn(&Self, &HeaderMap) -> Response<Body> = match path {
            "/metrics" => |desk, _| desk.metrics(),
            "/livez" | "/healthz" | "/startupz" => |_, _| plain(StatusCode::OK, "ok\n"),
            "/readyz" => |desk, _| desk.readiness(),
            "/status" => Self::status,
            "/status/requests" => Self::requests,
            "/status/key" => Self::key,
            "/" => Self::index,
            "/status/events" => |_, _| refused_method(READING),
            _ => {
                return plain(
                    StatusCode::NOT_FOUND,
                    "not found; try /status, /metrics, /livez, /readyz or /startupz\n",
                );
            }
        };
        if reads { answer(self, &head.headers) } else { refused_method(READING) }
    }

    /// Whether every `Host` is one of ours; none at all is a probe that speaks HTTP/1.0.
    fn is_own_host(&self, headers: &HeaderMap, peer: &Peer) -> bool {
        let view = self.view.load();
        headers.get_all(HOST).iter().all(|value| {
            let host = Host::parse(value.as_bytes());
            host.is_some_and(|(host, _)| view.hosts.allows(host, peer.ends.local()))
        })
    }

    fn index(&self, headers: &HeaderMap) -> Response<Body> {
        if page::is_wanted(headers.get_all(ACCEPT).iter()) {
            return self.show_page();
        }
        plain(StatusCode::OK, "bearerd: /status /metrics /livez /readyz /startupz\n")
    }

    fn metrics(&self) -> Response<Body> {
        self.view.load().tokens.observe();
        respond(StatusCode::OK, PROMETHEUS, self.metrics.render())
    }

    fn readiness(&self) -> Response<Body> {
        if self.shutdown.is_announced() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        let view = self.view.load();
        let missing = view.tokens.missing();
        if missing.is_empty() {
            return plain(StatusCode::OK, "ok\n");
        }
        let lines: String =
            missing.iter().map(|name| format!("token `{name}` is not usable\n")).collect();
        respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines)
    }

    fn status(&self, headers: &HeaderMap) -> Response<Body> {
        if page::is_wanted(headers.get_all(ACCEPT).iter()) {
            return self.show_page();
        }
        let json = self.with_status(|status| serde_json::to_string_pretty(status));
        let mut response = match json {
            Ok(json) => respond(StatusCode::OK, JSON, json + "\n"),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the status could not be written\n"),
        };
        response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        response
    }

    fn show_page(&self) -> Response<Body> {
        let key = self.key.as_ref().map_or("", Key::as_str);
        self.page.respond(&self.with_status(|status| first::view(status, key)))
    }

    /// Where everything stands now.
    fn with_status<T>(&self, read: impl FnOnce(&Status<'_>) -> T) -> T {
        let view = self.view.load();
        let frame = Frame {
            started: self.started,
            draining: self.shutdown.is_announced(),
            renewable: self.key.is_some(),
            inspect: self.journal.inspect(),
        };
        read(&Status::new(&view.tokens, &view.routes, self.metrics.summary(), frame))
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    respond(status, TEXT, text)
}

fn refused_method(allowed: HeaderValue) -> Response<Body> {
    let text = format!("only {}\n", allowed.to_str().unwrap_or_default().replace(", ", " and "));
    let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
    refused.headers_mut().insert(ALLOW, allowed);
    refused
}

fn respond(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert(
        "content-security-policy",
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}
