//! Behaviour over real sockets.

mod framing;
mod guard;
mod limits;
mod pool;
mod rejection;
mod streaming;
mod strip;
mod support;
