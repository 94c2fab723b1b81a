//! An answer's body as an upstream's connection gives it, whatever the protocol.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::pool::Lease;
use super::{http1, http2};
use crate::server::Broken;
use crate::vocab::Moment;

/// Why an exchange broke off.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// hyper says why.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    /// The stream or its connection ended.
    #[error(transparent)]
    Http2(#[from] h2::Error),
    /// The client's body broke off.
    #[error("{0}")]
    Upload(#[source] Broken),
    /// The client's body is not as long as its head says.
    #[error("it is not as long as it was to be")]
    Length,
    /// The upstream fell silent within its answer's body.
    #[error("the upstream sent no more of its answer in time")]
    Stalled,
    /// What came cannot be passed on; holds what is wrong.
    #[error("it {0}")]
    Malformed(&'static str),
    /// The connection ended too early.
    #[error("the connection ended before the answer was complete")]
    Ended,
    /// The connection failed.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl Cut {
    /// Whether it was the request's body that broke off, and not the connection.
    pub(super) fn is_upload(&self) -> bool {
        match self {
            Self::Hyper(error) => error.is_user(),
            Self::Upload(_) | Self::Length => true,
            Self::Http2(_) | Self::Stalled | Self::Malformed(_) | Self::Ended | Self::Io(_) => {
                false
            }
        }
    }

    /// Whether what came is not HTTP.
    pub(super) fn is_malformed(&self) -> bool {
        match self {
            Self::Hyper(error) => error.is_parse(),
            Self::Http2(error) => error.is_library(),
            Self::Malformed(_) => true,
            Self::Upload(_) | Self::Stalled | Self::Length | Self::Ended | Self::Io(_) => false,
        }
    }
}

/// An answer's body together with the connection that it comes from.
#[derive(Debug)]
pub(super) enum Download {
    /// Over HTTP/1.1.
    Http1(http1::Body),
    /// Over HTTP/2.
    Http2(Box<http2::Stream>),
}

impl Download {
    /// Takes the connection out of an answer that has switched protocols, which only HTTP/1.1
    /// has.
    pub(super) const fn detach(&mut self) -> Option<Lease> {
        match self {
            Self::Http1(body) => body.detach(),
            Self::Http2(_) => None,
        }
    }

    /// Has the connection carry no other exchange after this one. Over HTTP/2 exchanges cannot
    /// be mixed up.
    pub(super) fn last(&mut self) {
        match self {
            Self::Http1(body) => body.last(),
            Self::Http2(_) => {}
        }
    }

    /// Gives the connection back if the answer is complete, or else ends the exchange.
    pub(super) fn release(&mut self, now: Moment) {
        match self {
            Self::Http1(body) => body.release(now),
            Self::Http2(stream) => stream.release(),
        }
    }

    /// Whether [`Self::release`] was not called yet and has something to do.
    pub(super) const fn is_held(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_held(),
            Self::Http2(stream) => stream.is_held(),
        }
    }

    /// Whether every byte has come.
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_complete(),
            Self::Http2(stream) => stream.is_complete(),
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self {
            Self::Http1(body) => body.poll_frame(cx),
            Self::Http2(stream) => stream.poll_frame(cx),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(stream) => stream.size_hint(),
        }
    }
}
