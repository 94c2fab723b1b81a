//! The admin listener: metrics, probes and the status. It reads and never acts.
//!
//! It answers only to its own hosts: what it tells holds no secret, yet is nothing for a web page
//! that has a name of its own rebound to this machine.

mod page;
mod status;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, VARY};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use self::page::Page;
use self::status::Status;
pub use self::status::{RouteInfo, State};
use crate::net::body::Body;
use crate::server::{Handler, Host, Hosts, Peer};
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;
use crate::token::Tokens;
use crate::vocab::Moment;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

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
pub struct Admin {
    metrics: Arc<Metrics>,
    view: Arc<ArcSwap<View>>,
    shutdown: Shutdown,
    started: Moment,
    page: Page,
}

impl Admin {
    /// Shows `view` and `metrics`; not ready once `shutdown` drains.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, view: Arc<ArcSwap<View>>, shutdown: Shutdown) -> Self {
        Self { metrics, view, shutdown, started: Moment::now(), page: Page::new() }
    }

    /// The answer to a request's head.
    fn answer(&self, request: &Request<Incoming>, peer: &Peer) -> Response<Body> {
        if !self.is_own_host(request.headers(), peer) {
            return plain(
                StatusCode::FORBIDDEN,
                "not a host of this listener; ask by its IP address, by localhost, or by a name \
                 that the configuration lists under `hosts`\n",
            );
        }
        let answer: fn(&Self, &HeaderMap) -> Response<Body> = match request.uri().path() {
            "/metrics" => |admin, _| admin.metrics(),
            "/livez" | "/healthz" | "/startupz" => |_, _| plain(StatusCode::OK, "ok\n"),
            "/readyz" => |admin, _| admin.readiness(),
            "/status" => Self::status,
            "/" => Self::index,
            _ => {
                return plain(
                    StatusCode::NOT_FOUND,
                    "not found; try /status, /metrics, /livez, /readyz or /startupz\n",
                );
            }
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            answer(self, request.headers())
        } else {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            refused
        }
    }

    /// Whether every `Host` is one of ours; none at all is a probe that speaks HTTP/1.0.
    fn is_own_host(&self, headers: &HeaderMap, peer: &Peer) -> bool {
        let view = self.view.load();
        headers.get_all(HOST).iter().all(|value| {
            let host = Host::parse(value.as_bytes());
            host.is_some_and(|(host, _)| view.hosts.allows(host, peer.local.ip()))
        })
    }

    fn index(&self, headers: &HeaderMap) -> Response<Body> {
        if page::is_wanted(headers.get_all(ACCEPT).iter()) {
            return self.page.respond();
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
            return self.page.respond();
        }
        let view = self.view.load();
        let draining = self.shutdown.is_announced();
        let summary = self.metrics.summary();
        let status = Status::new(&view.tokens, &view.routes, summary, self.started, draining);
        let mut response = match serde_json::to_string_pretty(&status) {
            Ok(json) => respond(StatusCode::OK, JSON, json + "\n"),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the status could not be written\n"),
        };
        response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        response
    }
}

impl Handler for Admin {
    type Body = Body;

    async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        self.answer(&request, peer)
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    respond(status, TEXT, text)
}

fn respond(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(
        "content-security-policy",
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}
