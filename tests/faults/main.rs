//! What the life of a token must survive: the rows F1–F56, each a test named by its rule with the
//! row's number at its end, against the real program.
//!
//! Lifetimes are scaled down, so that all of it takes a minute. What is arithmetic runs a second
//! time at full scale against the pure rules ([`full_scale`]).
//!
//! # What is not reproduced faithfully, and what is proved instead
//!
//! * F7: ten minutes. The first 25 s run against the program (tries, memory, log), all ten against
//!   the rules. The whole row is in [`soak`], which takes its time and is left out of a plain run.
//! * F26: SERVFAIL and a resolver that stalls need a resolver of our own at port 53. For the
//!   program both are errors of `getaddrinfo`, as NXDOMAIN is, under the connect deadline. The
//!   address that swallows packets and F27 need a mount namespace; where there is none they say so.
//! * F31: setting the clock of the machine would hurt everything else on it. The sources are read
//!   instead: nothing that decides about time can learn the wall clock's.
//! * F32: no machine suspends for a test, and a time namespace cannot jump once a process lives in
//!   it. The runtime's timers are frozen instead while boot time goes on, which is what a suspend
//!   looks like from inside.
//! * F33, F35, F36: 6 s instead of 30, 33 s instead of 60, 4 MiB instead of 1 GiB.
//! * F39, F40: the hundred replicas are simulated; a hundred processes would measure this machine.
//!   A hundred in one process are in `tests/redis/spread.rs`.
//! * F41: `kill -9` leaves the page cache as it is, so a loss of power is not proved. The order of
//!   the calls (write, fsync, rename, fsync of the directory) is what stands for it.
//! * F43: a directory that is gone stands for ENOSPC and a read-only mount; root, as whom tests
//!   run in containers, is not stopped by permissions. All fail at the same call.
//! * F47: events over HTTP/1.1. Tunnels and HTTP/2 have tests where they are carried.
//! * F54: a panic on demand would be a way to stop the program, so there is none. The supervisor
//!   itself is tested, beside its code in `src/token/mod.rs`.

// clippy.toml allows these in tests, but knows only functions marked as such, not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(unreachable_pub, reason = "the doubles are for this crate alone")]

mod support;

mod answers;
mod chain;
mod clock;
mod full_scale;
mod outage;
mod process;
mod rejection;
mod renewal;
mod secrets;
mod soak;
mod state;
mod store;
mod transport;
