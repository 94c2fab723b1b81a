//! Behaviour over real sockets.

mod framing;
mod guard;
mod strip;
mod support;
