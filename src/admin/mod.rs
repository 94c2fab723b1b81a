//! The admin listener: metrics, probes and the status. It reads and never acts.

mod status;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use self::status::Status;
pub use self::status::{RouteInfo, State};
use crate::net::body::Body;
use crate::server::{Handler, Peer};
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
}

/// Answers requests to the admin listener.
#[derive(Debug)]
pub struct Admin {
    metrics: Arc<Metrics>,
    view: Arc<ArcSwap<View>>,
    shutdown: Shutdown,
    started: Moment,
}

impl Admin {
    /// Shows `view` and `metrics`; not ready once `shutdown` drains.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, view: Arc<ArcSwap<View>>, shutdown: Shutdown) -> Self {
        Self { metrics, view, shutdown, started: Moment::now() }
    }

    /// The answer to a method and path.
    fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        let answer: fn(&Self) -> Response<Body> = match path {
            "/metrics" => Self::metrics,
            "/livez" | "/healthz" => |_| plain(StatusCode::OK, "ok\n"),
            "/startupz" => |_| plain(StatusCode::OK, "ok\n"),
            "/readyz" => Self::readiness,
            "/status" => Self::status,
            "/" => {
                |_| plain(StatusCode::OK, "bearerd: /status /metrics /livez /readyz /startupz\n")
            }
            _ => {
                return plain(
                    StatusCode::NOT_FOUND,
                    "not found; try /status, /metrics, /livez, /readyz or /startupz\n",
                );
            }
        };
        if method == Method::GET || method == Method::HEAD {
            answer(self)
        } else {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            refused
        }
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

    fn status(&self) -> Response<Body> {
        let view = self.view.load();
        let draining = self.shutdown.is_announced();
        let status = Status::new(&view.tokens, &view.routes, self.started, draining);
        match serde_json::to_string_pretty(&status) {
            Ok(json) => respond(StatusCode::OK, JSON, json + "\n"),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the status could not be written\n"),
        }
    }
}

impl Handler for Admin {
    type Body = Body;

    async fn handle(&self, request: Request<Incoming>, _: &Peer) -> Response<Body> {
        self.answer(request.method(), request.uri().path())
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
