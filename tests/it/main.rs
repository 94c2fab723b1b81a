//! Behaviour over real sockets.

mod caepe;
mod doubles;
mod educates;
mod framing;
mod guard;
mod lxhive;
mod strip;
mod sunbird;
mod support;
