//! Every answer that is bearerd's own, and the only file of the proxy that names status codes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{ALLOW, CONNECTION};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use prometheus::IntCounter;

use super::download::Cut;
use crate::net::body::Body;
use crate::net::dial::DialError;
use crate::server::{Problem, dated};
use crate::telemetry::metrics::Metrics;

/// What is forwarded: a 405 must list it (RFC 9110 section 15.5.6).
pub(super) const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// When to come back where no better time is known.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Why a request was not answered by the upstream.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// CONNECT or TRACE.
    #[error("the method is not allowed")]
    Method,
    /// A request target of a form that the method does not have (RFC 9112 section 3.2).
    #[error("the request target has the wrong form")]
    Target,
    /// A path that could be read in two ways; holds what is wrong.
    #[error("the path {0}")]
    Path(&'static str),
    /// A query whose parameters cannot be told apart, where some must be removed.
    #[error("the query cannot be parsed")]
    Query,
    /// No `Host`, several, one that is no host, or another than the target's.
    #[error("the `Host` field {0}")]
    Host(&'static str),
    /// A `Host` that is not one of ours: DNS rebinding (S4).
    #[error("the `Host` is not one that this listener answers to")]
    ForeignHost,
    /// A browser asks on behalf of another site's page (S2, S3).
    #[error("the request comes from another site's page")]
    Origin,
    /// The caller does not prove that it may speak (S7).
    #[error("the request does not prove that its sender may use this listener")]
    Caller,
    /// An expectation other than `100-continue`.
    #[error("the expectation is not known")]
    Expectation,
    /// A transfer coding other than `chunked` alone.
    #[error("the transfer coding is not supported")]
    TransferCoding,
    /// No route fits.
    #[error("no route matches")]
    NoRoute,
    /// The route's `allow` and `deny` rules forbid it.
    #[error("the route does not permit this request")]
    Denied,
    /// The request has been here before.
    #[error("the request has passed through this process before")]
    Loop,
    /// The client's body broke off or is malformed.
    #[error("the request's body is broken: {0}")]
    Body(#[source] Cut),
    /// The client stopped sending its body.
    #[error("the request's body did not arrive in time")]
    BodyTimeout,
    /// No usable credential; holds when the next attempt to get one is due.
    #[error("there is no usable token")]
    NoToken(Duration),
    /// No connection to the upstream.
    #[error("{0}")]
    Connect(#[source] DialError),
    /// The connection broke before the answer's head was complete.
    #[error("the upstream closed the connection: {0}")]
    Reset(#[source] Cut),
    /// The answer is not valid HTTP; holds what is wrong.
    #[error("the upstream's answer {0}")]
    Malformed(Cow<'static, str>),
    /// The answer switches to a protocol that was not asked for (S11).
    #[error("the upstream switches protocols unasked")]
    Switched,
    /// No answer in time.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// The answer's header holds the injected credential (S27).
    #[error("the upstream's answer holds the credential")]
    Leak,
}

/// Whose fault a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The request.
    Client,
    /// The configuration of bearerd or what stands before it.
    Proxy,
    /// The upstream.
    Upstream,
    /// The issuer of the token.
    Issuer,
}

impl Blame {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Upstream => "upstream",
            Self::Issuer => "issuer",
        }
    }
}

impl Refusal {
    /// The status code.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Target | Self::Path(_) | Self::Query | Self::Host(_) | Self::Body(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::ForeignHost | Self::Origin | Self::Caller | Self::Denied => StatusCode::FORBIDDEN,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NoToken(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect(DialError::Timeout { .. }) | Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect(_)
            | Self::Reset(_)
            | Self::Malformed(_)
            | Self::Switched
            | Self::Leak => StatusCode::BAD_GATEWAY,
        }
    }

    /// A stable name for machines: in the answer, in metrics, in the documentation.
    #[must_use]
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Target => "target",
            Self::Path(_) => "path",
            Self::Query => "query",
            Self::Host(_) => "bad-host",
            Self::ForeignHost => "host",
            Self::Origin => "origin",
            Self::Caller => "caller",
            Self::Expectation => "expectation",
            Self::TransferCoding => "transfer-encoding",
            Self::NoRoute => "no-route",
            Self::Denied => "denied",
            Self::Loop => "loop",
            Self::Body(_) => "body",
            Self::BodyTimeout => "body-timeout",
            Self::NoToken(_) => "no-token",
            Self::Connect(DialError::Timeout { .. }) => "upstream-connect-timeout",
            Self::Connect(DialError::Tls { .. } | DialError::Protocol { .. }) => "upstream-tls",
            Self::Connect(DialError::Resolve { .. } | DialError::Connect { .. }) => {
                "upstream-connect"
            }
            Self::Reset(_) => "upstream-reset",
            Self::Malformed(_) | Self::Switched => "upstream-invalid",
            Self::Timeout => "upstream-timeout",
            Self::Leak => "leak",
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Method
            | Self::Target
            | Self::Path(_)
            | Self::Query
            | Self::Host(_)
            | Self::ForeignHost
            | Self::Origin
            | Self::Caller
            | Self::Expectation
            | Self::TransferCoding
            | Self::NoRoute
            | Self::Denied
            | Self::Body(_)
            | Self::BodyTimeout => Blame::Client,
            Self::Loop => Blame::Proxy,
            Self::NoToken(_) => Blame::Issuer,
            Self::Connect(_)
            | Self::Reset(_)
            | Self::Malformed(_)
            | Self::Switched
            | Self::Timeout
            | Self::Leak => Blame::Upstream,
        }
    }

    /// When a repetition may succeed without anybody's help.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoToken(due) => Some(*due),
            _ => None,
        }
    }

    /// What to do about it.
    const fn advice(&self) -> &'static str {
        match self {
            Self::Method => "CONNECT and TRACE are never forwarded.",
            Self::Target => "Send an origin-form target such as `/path?query`.",
            Self::Path(_) => "Percent-encode what is not a plain path segment.",
            Self::Query => "Write parameters as `name=value`, percent-encoded, joined by `&`.",
            Self::Host(_) => "Send exactly one `Host` field, equal to the target's authority.",
            Self::ForeignHost => "Use a loopback name, or list the name under `hosts`.",
            Self::Origin => "List the page's origin under the route's `cors: {origins: [..]}`.",
            Self::Caller => "Send the field that `caller` names, with its secret.",
            Self::Expectation => "Send no `Expect` field other than `100-continue`.",
            Self::TransferCoding => "Send the body chunked or with a `Content-Length`.",
            Self::NoRoute => "Compare host and path with the configured routes.",
            Self::Denied => {
                "Ask for the request to be permitted under the route's `allow` or `deny`."
            }
            Self::Loop => "A route's upstream leads back here; look at its URL.",
            Self::Body(_) => "Send the body as its header fields announce it.",
            Self::BodyTimeout => "Send the body without long pauses.",
            Self::NoToken(_) => "Repeat later; the status page says why the token is missing.",
            Self::Connect(DialError::Protocol { .. }) => {
                "Say `protocol: auto` or `http1`, or have the upstream offer HTTP/2."
            }
            Self::Connect(_) => "Check that the upstream runs and that its URL is right.",
            Self::Reset(_) => "The request may have been processed; see the upstream's log.",
            Self::Malformed(_) | Self::Switched => "See the upstream's log.",
            Self::Timeout => "The request may still be processed; see the upstream's log.",
            Self::Leak => "The upstream reflects request fields; it must not see credentials.",
        }
    }

    /// The answer. `close` announces that the connection ends, where a body is left unread. It
    /// ends too where a client may already speak another protocol, and after what is no proper
    /// request: nobody knows what to make of that which follows.
    #[must_use]
    pub fn to_response(&self, close: bool) -> Response<Body> {
        let problem = Problem {
            status: self.status(),
            slug: self.slug(),
            blame: self.blame().as_str(),
            detail: &format!("{self}. {}", self.advice()),
            retry_after: self.retry_after().map(|after| after.as_secs()),
        };
        let mut response = problem.to_response().map(Body::Full);
        if matches!(self, Self::Method) {
            response.headers_mut().insert(ALLOW, METHODS);
        }
        let makes_no_sense = matches!(self, Self::Target | Self::Host(_) | Self::Body(_));
        if close || makes_no_sense || matches!(self, Self::Switched) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// An answer of our own that refuses nothing: to a preflight, or to `OPTIONS` at its last hop.
pub(super) fn granted(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = headers;
    dated(response)
}

/// All slugs, so that every series exists from the start.
pub const SLUGS: [&str; 23] = [
    "method",
    "target",
    "path",
    "query",
    "bad-host",
    "host",
    "origin",
    "caller",
    "expectation",
    "transfer-encoding",
    "no-route",
    "denied",
    "loop",
    "body",
    "body-timeout",
    "no-token",
    "upstream-connect",
    "upstream-connect-timeout",
    "upstream-tls",
    "upstream-reset",
    "upstream-invalid",
    "upstream-timeout",
    "leak",
];

/// A counter for every slug.
#[derive(Debug)]
pub(super) struct Tally(BTreeMap<&'static str, IntCounter>);

impl Tally {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self(SLUGS.iter().map(|slug| (*slug, metrics.rejected(slug))).collect())
    }

    pub(super) fn count(&self, refusal: &Refusal) {
        if let Some(counter) = self.0.get(refusal.slug()) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::net::tls::TlsFault;

    fn refusals() -> Vec<Refusal> {
        let host = || "api.example:443".to_owned();
        let source = || std::sync::Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        vec![
            Refusal::Method,
            Refusal::Target,
            Refusal::Path("has a dot segment"),
            Refusal::Query,
            Refusal::Host("is missing"),
            Refusal::ForeignHost,
            Refusal::Origin,
            Refusal::Caller,
            Refusal::Expectation,
            Refusal::TransferCoding,
            Refusal::NoRoute,
            Refusal::Denied,
            Refusal::Loop,
            Refusal::BodyTimeout,
            Refusal::NoToken(SOON),
            Refusal::Connect(DialError::Resolve { host: host(), source: source() }),
            Refusal::Connect(DialError::Connect { host: host(), source: source() }),
            Refusal::Connect(DialError::Tls {
                host: host(),
                fault: TlsFault::Expired,
                source: source(),
            }),
            Refusal::Connect(DialError::Timeout { host: host(), after: SOON }),
            Refusal::Malformed("is not HTTP".into()),
            Refusal::Switched,
            Refusal::Timeout,
            Refusal::Leak,
        ]
    }

    #[test]
    fn every_refusal_is_counted_and_says_what_to_do() {
        for refusal in refusals() {
            assert!(SLUGS.contains(&refusal.slug()), "{refusal:?}");
            let response = refusal.to_response(false);
            assert_eq!(response.headers()["bearerd-refusal"], refusal.slug());
            assert_eq!(response.headers()["content-security-policy"], "default-src 'none'");
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert!(response.headers().contains_key("date"));
            let Body::Full(body) = response.body() else { panic!("a refusal has a body") };
            let problem: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert_eq!(problem["status"], response.status().as_u16());
            assert!(problem["detail"].as_str().unwrap().len() > 30);
            assert!(!response.status().is_success());
        }
    }

    #[test]
    fn a_missing_token_is_not_the_clients_fault() {
        let response = Refusal::NoToken(SOON).to_response(false);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(Refusal::NoToken(SOON).blame(), Blame::Issuer);
    }

    #[test]
    fn a_foreign_host_is_never_told_to_try_another_connection() {
        // Chromium repeats a request that is answered 421, POST included.
        assert_eq!(Refusal::ForeignHost.status(), StatusCode::FORBIDDEN);
    }
}
