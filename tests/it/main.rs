//! Behaviour over real sockets.

mod cli;
mod framing;
mod guard;
mod layers;
mod pool;
mod readme;
mod streaming;
mod strip;
mod support;
