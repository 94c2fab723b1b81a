//! Where a token stands, for people.

use super::failure::Failure;
use crate::vocab::Moment;

/// Where a token stands, for people.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The last failure, while it lasts.
    pub failure: Option<Failure>,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// When the next attempt is due.
    pub next_attempt: Option<Moment>,
    /// When the last success was.
    pub last_success: Option<Moment>,
    /// By which request the current value came: `acquire` or `refresh`; `store` if another program
    /// has sent it.
    pub last_means: &'static str,
    /// The store that the token is shared by, if it is.
    pub store: Option<StoreReport>,
}

/// Where a token's shared store stands, for people.
#[derive(Debug, Clone)]
pub struct StoreReport {
    /// Where it is.
    pub place: String,
    /// Why it cannot be used; empty if it can.
    pub fault: String,
}
