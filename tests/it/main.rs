//! Behaviour over real sockets.

// clippy.toml allows these in tests, but knows only functions marked as such, not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod activation;
mod addresses;
mod admin;
mod browser;
mod caepe;
mod cli;
mod custom;
mod docs;
mod doubles;
mod duties;
mod educates;
mod examples;
mod framing;
mod grpc;
mod guard;
mod http2;
mod http2_losses;
mod http2_streams;
mod http2_upstream;
mod init;
mod intermediary;
mod kinds;
mod layers;
mod limits;
mod listen;
mod lxhive;
mod mistakes;
mod pool;
mod presets;
mod proofs;
mod readme;
mod rejection;
mod reload;
mod stall;
mod streaming;
mod strip;
mod sunbird;
mod support;
mod tls;
mod trailers;
mod upgrade;
