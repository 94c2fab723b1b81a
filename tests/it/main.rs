//! Behaviour over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends where it meets what it did not expect"
)]

mod caepe;
mod cli;
mod custom;
mod doubles;
mod educates;
mod examples;
mod framing;
mod guard;
mod kinds;
mod layers;
mod limits;
mod lxhive;
mod pool;
mod readme;
mod rejection;
mod streaming;
mod strip;
mod sunbird;
mod support;
