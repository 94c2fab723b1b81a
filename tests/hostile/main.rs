//! Hostile bytes against the real program: a client that writes whatever it likes, an upstream
//! that records what it gets and answers whatever it likes. A request is either refused, with
//! silence upstream, or arrives as exactly what it is taken for.

// clippy.toml allows these in tests, but knows only functions marked as such, not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
#[allow(unreachable_pub, reason = "shared with the suite of faults")]
#[path = "../faults/support/canary.rs"]
mod canary;
mod headers;
mod http2;
mod paths;
mod requests;
mod secrets;
mod secrets_by_tls;
mod support;
