//! Behaviour over real sockets.

mod caepe;
mod cli;
mod doubles;
mod educates;
mod framing;
mod guard;
mod layers;
mod lxhive;
mod readme;
mod strip;
mod sunbird;
mod support;
