//! Behaviour over real sockets.

// clippy.toml allows these in tests, but knows only functions marked as such, not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

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
mod tls;
