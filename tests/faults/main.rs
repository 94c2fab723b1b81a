//! What a token's life must survive: the rows F1–F56, each against the real program.

#![allow(unreachable_pub, reason = "the doubles are one crate with the tests")]

mod support;

mod answers;
mod clock;
mod full_scale;
mod outage;
mod process;
mod rejection;
mod renewal;
mod secrets;
mod state;
mod transport;
