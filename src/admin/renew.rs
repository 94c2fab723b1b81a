//! "Renew now": the one thing that the admin listener does. The rate is that of renewals which
//! upstreams ask for, so that nobody can have an issuer asked more often by either way.

use std::time::Duration;

use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::json;

use super::{Desk, JSON, caller, plain, refused_method, respond};
use crate::net::body::Body;
use crate::token::handle::Asked;
use crate::vocab::TokenName;

/// The token in `/tokens/NAME/renew`.
pub(super) fn token_of(path: &str) -> Option<&str> {
    path.strip_prefix("/tokens/")?.strip_suffix("/renew").filter(|name| !name.contains('/'))
}

impl Desk {
    /// The key by which a program of this machine can ask for a renewal.
    pub(super) fn key(&self, headers: &HeaderMap) -> Response<Body> {
        match &self.key {
            Some(key) if caller::is_own(headers) => {
                respond(StatusCode::OK, super::TEXT, format!("{}\n", key.as_str()))
            }
            _ => forbidden(self),
        }
    }

    pub(super) fn renew(&self, name: &str, method: &Method, headers: &HeaderMap) -> Response<Body> {
        if *method != Method::POST {
            return refused_method(HeaderValue::from_static("POST"));
        }
        if !self.key.as_ref().is_some_and(|key| caller::is_own(headers) && key.is_in(headers)) {
            return forbidden(self);
        }
        if self.shutdown.is_announced() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        let token = TokenName::parse(name).ok();
        let Some(handle) = token.and_then(|name| self.view.load().tokens.handle(&name)) else {
            return plain(StatusCode::NOT_FOUND, "no token has this name; see /status\n");
        };
        let asked = handle.ask_renewal();
        if asked == Asked::Begun {
            tracing::info!(token = %handle.name(), "a person asks for a renewal");
        }
        told(asked)
    }
}

fn forbidden(desk: &Desk) -> Response<Body> {
    plain(
        StatusCode::FORBIDDEN,
        if desk.key.is_some() {
            "not from a page of another site, and only with the field `bearerd-key`, whose value \
             /status/key tells\n"
        } else {
            "tokens are renewed by hand only where `admin` is a loopback address\n"
        },
    )
}

fn told(asked: Asked) -> Response<Body> {
    let (status, words, wait) = match asked {
        Asked::Begun => (StatusCode::ACCEPTED, "a renewal has begun", None),
        Asked::UnderWay => (StatusCode::ACCEPTED, "a renewal is under way already", None),
        Asked::TooSoon(left) => (
            StatusCode::TOO_MANY_REQUESTS,
            "the last forced renewal is less than 30 s ago",
            Some(left),
        ),
        Asked::Held(left) => {
            (StatusCode::TOO_MANY_REQUESTS, "the issuer has asked for a pause", Some(left))
        }
    };
    let wait = wait.map(|left: Duration| left.as_secs() + 1);
    let document = json!({ "renewal": words, "retry_after_seconds": wait });
    let mut response = respond(status, JSON, format!("{document}\n"));
    if let Some(seconds) = wait {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
