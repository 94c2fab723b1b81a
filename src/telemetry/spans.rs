//! Spans: a request, a call to an upstream, an attempt to obtain a token, each with its beginning
//! and end, for whoever collects traces (W3C Trace Context, OpenTelemetry).
//!
//! They exist only in a build with the feature `otlp`, and there only once `start` was called.
//! Otherwise a span is nothing, and the client's own `traceparent` and `tracestate` pass as they
//! came. A span holds configured names, methods and status codes: no path, no field, no token.

#[cfg_attr(feature = "otlp", path = "spans/on.rs")]
#[cfg_attr(not(feature = "otlp"), path = "spans/off.rs")]
mod kind;

pub use kind::Span;
#[cfg(feature = "otlp")]
pub use kind::start;
