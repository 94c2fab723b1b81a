//! Programs that share a token by a Redis: one asks the issuer, the others take its value over, and
//! nothing that happens to Redis costs a request.
//!
//! Everything here needs a real Redis and is ignored by a plain `cargo test`; `tests/redis/run`
//! runs it, and installs what is missing. What a server can do wrong that a real one will not do
//! on demand is in `tests/faults/store.rs`.

// clippy.toml allows these in tests, but knows only functions marked as such, not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(unreachable_pub, reason = "the doubles are for this crate alone")]

#[allow(dead_code, unused_imports, reason = "shared with a suite that uses all of it")]
#[path = "../faults/support/mod.rs"]
mod support;

#[path = "../faults/support/canary.rs"]
mod canary;

mod fleet;
mod server;

mod away;
mod calls;
mod entries;
mod once;
mod secrets;
mod spread;
mod ways;
