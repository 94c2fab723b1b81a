//! # bearerd
//!
//! A reverse-proxy sidecar that carries credentials for programs that should hold none. It
//! obtains and renews tokens in background tasks, strips every credential that a client sent,
//! injects its own, forwards the request and accounts for it.
//!
//! ## Bird's eye
//!
//! Two things travel, each one way. A **request** comes in through [`server`] and goes from top to
//! bottom through [`proxy`]: admit, find the route, strip, inject, forward, answer. A **token** is
//! asked for by one task in [`token`], is published as ready-made header values, and is read by
//! requests without a lock. [`config`] says which tokens and routes there are, [`app`] puts the
//! parts together, [`admin`] shows them.
//!
//! ## Layers
//!
//! A module imports only from those to its right; a test reads the `use` lines and holds them to
//! it.
//!
//! `main → cli → demo → app → config → {admin, proxy} → token → {server, net} → {shutdown, stream,
//! telemetry} → vocab`
//!
//! ## What must never happen
//!
//! * A credential of a client reaches an upstream, or one of ours reaches a client, a log, a
//!   metric, an error or the status.
//! * A token is injected past its guard, or without the order copy, strip, inject.
//! * A request goes where no route of the configuration leads.
//! * The truncated looks complete: a message that was cut off ends its connection.
//!
//! And so: no module but [`config`] and [`vocab::At`] names the YAML crate; nothing but
//! [`token::present`] builds a credential's header value; in [`proxy`] only
//! [`proxy::refusal`] chooses a status code; tasks are born only in [`shutdown`]; only
//! [`net::tls`] names a crypto provider for TLS; only [`vocab::Moment`] reads a clock by which
//! anything expires.

pub mod cli;

pub mod demo;

pub mod app;

pub mod config;

pub mod admin;
pub mod proxy;

pub mod token;

pub mod net;
pub mod server;

pub mod shutdown;
pub mod stream;
pub mod telemetry;

pub mod vocab;
