//! Behaviour over real sockets.

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
