//! An answer's body as an upstream's connection gives it, whatever the protocol.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};

use super::http1::{self, Switched};
use crate::vocab::Moment;

/// Why an exchange broke off.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// hyper says why.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
}

impl Cut {
    /// Whether it was the request's body that broke off, and not the connection.
    pub(super) fn is_upload(&self) -> bool {
        match self {
            Self::Hyper(error) => error.is_user(),
        }
    }

    /// Whether what came is not HTTP.
    pub(super) fn is_malformed(&self) -> bool {
        match self {
            Self::Hyper(error) => error.is_parse(),
        }
    }
}

/// An answer's body together with the connection that it comes from.
#[derive(Debug)]
pub(super) enum Download {
    /// Over HTTP/1.1.
    Http1(http1::Body),
}

impl Download {
    /// Takes the connection out of an answer that has switched protocols.
    pub(super) fn switch<B: AsMut<Self>>(response: &mut Response<B>) -> Switched {
        Switched::of(response, |body| {
            let Self::Http1(body) = body.as_mut();
            body
        })
    }

    /// Has the connection carry no other exchange after this one.
    pub(super) fn last(&mut self) {
        match self {
            Self::Http1(body) => body.last(),
        }
    }

    /// Gives the connection back if the answer is complete, or else ends the exchange.
    pub(super) fn release(&mut self, now: Moment) {
        match self {
            Self::Http1(body) => body.release(now),
        }
    }

    /// Whether [`Self::release`] was not called yet and has something to do.
    pub(super) const fn is_held(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_held(),
        }
    }

    /// Whether every byte has come.
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_complete(),
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self {
            Self::Http1(body) => body.poll_frame(cx),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
        }
    }
}
