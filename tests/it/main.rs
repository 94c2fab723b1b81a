//! Behaviour over real sockets.

mod framing;
mod guard;
mod pool;
mod streaming;
mod strip;
mod support;
