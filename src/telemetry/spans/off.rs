//! A build without traces: a span has no size, and to do something with it takes no time.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Nothing.
#[derive(Debug)]
pub struct Span;

impl Span {
    /// Of a client's request.
    #[must_use]
    pub const fn of_request(_: &Method, _: &HeaderMap) -> Self {
        Self
    }

    /// Of a call to an upstream on behalf of this request.
    #[must_use]
    pub const fn call(&self, _: &Method) -> Self {
        Self
    }

    /// Of an attempt to obtain a token by `means`.
    #[must_use]
    pub const fn of_token(_: &str, _: &'static str) -> Self {
        Self
    }

    /// Whether a field of this name would be told by [`Self::announce`].
    #[must_use]
    pub const fn owns(&self, _: &HeaderName) -> bool {
        false
    }

    /// Has the receiver of the fields that are `put` continue this span.
    pub fn announce(&self, _put: impl FnMut(&HeaderName, &HeaderValue)) {}

    /// It belongs to a route.
    pub const fn route(&self, _: &str) {}

    /// It ended with a status; 0 if there was none.
    pub const fn status(&self, _: u16) {}

    /// It failed for a reason of a closed set.
    pub const fn failed(&self, _: &'static str) {}
}
