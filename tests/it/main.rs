//! Behaviour over real sockets.

mod caepe;
mod cli;
mod doubles;
mod educates;
mod framing;
mod guard;
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
