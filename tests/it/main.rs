//! Behaviour over real sockets.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cli;
mod framing;
mod guard;
mod layers;
mod limits;
mod pool;
mod readme;
mod rejection;
mod streaming;
mod strip;
mod support;
