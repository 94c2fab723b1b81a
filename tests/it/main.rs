//! Behaviour over real sockets.

mod cli;
mod framing;
mod guard;
mod layers;
mod readme;
mod strip;
mod support;
