//! The form of every answer that is our own: a problem (RFC 9457) that browsers and caches can
//! make nothing of.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, DATE,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};

/// Marks an answer as our own, so that nobody takes it for an upstream's.
const MARK: HeaderName = HeaderName::from_static("bearerd-refusal");

/// Keeps other sites' pages from embedding the answer.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What an answer of our own says.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'p> {
    /// The status code.
    pub status: StatusCode,
    /// A stable name for machines.
    pub slug: &'static str,
    /// Whose fault it is: `client`, `proxy`, `upstream` or `issuer`.
    pub blame: &'static str,
    /// What is wrong and what to do about it; never a secret.
    pub detail: &'p str,
    /// When to come back, in seconds.
    pub retry_after: Option<u64>,
}

/// An answer of our own with the time at which it was made (RFC 9110 section 6.6.1).
#[must_use]
pub fn dated<B>(mut response: Response<B>) -> Response<B> {
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

impl Problem<'_> {
    /// The answer. After a refused navigation a browser would ask for `/favicon.ico` as a page
    /// of this origin, which the policy forbids.
    #[must_use]
    pub fn to_response(self) -> Response<Bytes> {
        let problem = serde_json::json!({
            "type": format!("urn:bearerd:problem:{}", self.slug),
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "blame": self.blame,
        });
        let mut response = Response::new(Bytes::from(problem.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(MARK, HeaderValue::from_static(self.slug));
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after));
        }
        dated(response)
    }

    /// The answer's bytes, where there is no request to answer; it is the connection's last.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut response = self.to_response();
        let body = std::mem::take(response.body_mut());
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let reason = self.status.canonical_reason().unwrap_or_default();
        let mut out = format!("HTTP/1.1 {} {reason}\r\n", self.status.as_str()).into_bytes();
        for (name, value) in response.headers() {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&body);
        out
    }
}

/// The answers that the server gives without a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// The head is not HTTP.
    BadHead,
    /// The target is longer than hyper takes, or than a head may be.
    LongTarget,
    /// The head is larger than the limit, or has more fields.
    LargeHead,
    /// The head did not arrive in time.
    SlowHead,
    /// There are too many connections.
    Crowded,
    /// The client speaks HTTP in the clear where TLS is spoken.
    NoTls,
}

impl Own {
    pub(super) const ALL: [Self; 6] = [
        Self::BadHead,
        Self::LongTarget,
        Self::LargeHead,
        Self::SlowHead,
        Self::Crowded,
        Self::NoTls,
    ];

    pub(super) const fn problem(self) -> Problem<'static> {
        let (status, slug, detail, retry_after) = match self {
            Self::BadHead => (
                StatusCode::BAD_REQUEST,
                "head",
                "The request's head is not valid HTTP/1. Look at the client.",
                None,
            ),
            Self::LongTarget => (
                StatusCode::URI_TOO_LONG,
                "target-size",
                "The request target is too long: 65534 bytes go, if `limits: {head_size}` permits.",
                None,
            ),
            Self::LargeHead => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head-size",
                "The request's head is too large. See `limits: {head_size, head_fields}`.",
                None,
            ),
            Self::SlowHead => (
                StatusCode::REQUEST_TIMEOUT,
                "head-timeout",
                "The request's head did not arrive in time. See `limits: {head}`.",
                None,
            ),
            Self::Crowded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "connections",
                "There are too many connections. See `limits: {connections}`.",
                Some(1),
            ),
            Self::NoTls => (
                StatusCode::BAD_REQUEST,
                "no-tls",
                "This port speaks TLS. Use `https://` in place of `http://`.",
                None,
            ),
        };
        Problem { status, slug, blame: "client", detail, retry_after }
    }

    /// Recognises what hyper writes on its own, bare of any field, when it cannot read a head.
    pub(super) fn of_hyper(bytes: &[u8]) -> Option<Self> {
        const TAIL: &[u8] = b"connection: close\r\ncontent-length: 0\r\n\r\n";
        let line = bytes.strip_suffix(TAIL)?;
        match line {
            b"HTTP/1.1 400 Bad Request\r\n" => Some(Self::BadHead),
            b"HTTP/1.1 414 URI Too Long\r\n" => Some(Self::LongTarget),
            b"HTTP/1.1 431 Request Header Fields Too Large\r\n" => Some(Self::LargeHead),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_a_whole_answer() {
        for own in Own::ALL {
            let text = String::from_utf8(own.problem().to_bytes()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{head}");
            assert!(head.contains("\r\nconnection: close"));
            assert!(head.contains("\r\ncontent-security-policy: default-src 'none'"));
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", problem["status"])));
        }
    }
}
