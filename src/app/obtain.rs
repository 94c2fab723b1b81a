//! `bearerd token`: obtains one token by the way it is obtained in service.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::runtime::Builder;

use super::StartError;
use crate::config::Loaded;
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;
use crate::token::Tokens;
use crate::token::failure::Failure;
use crate::token::handle::Handle;
use crate::vocab::{Moment, TokenName};

/// Parents included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// Nothing could be tried.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The attempt failed.
    #[error("token `{name}` not obtained: {failure}\n    hint: {}", failure.reason.advice())]
    Failed {
        /// The token, or the parent that failed.
        name: TokenName,
        /// Why.
        failure: Box<Failure>,
    },
    /// It took too long.
    #[error("token `{0}` was not obtained within {PATIENCE:?}")]
    Timeout(TokenName),
}

/// Obtains the token `name` and describes it; its value only if `reveal`.
///
/// # Errors
/// See [`ObtainError`].
pub fn obtain(loaded: Loaded, name: &TokenName, reveal: bool) -> Result<String, ObtainError> {
    let metrics = Metrics::new().map_err(StartError::from)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let tasks = Shutdown::new();
    let needed = ancestry(&loaded, name);
    let plans = loaded.plans.into_iter().filter(|plan| needed.contains(&plan.name)).collect();
    runtime.block_on(async {
        let tokens = Tokens::new(plans, &Tokens::default(), &metrics, &tasks);
        tokens.start();
        let outcome = tokio::time::timeout(PATIENCE, first_outcome(&tokens, name)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(ObtainError::Timeout(name.clone())));
        outcome.map(|handle| describe(&handle, reveal))
    })
}

/// The token and all that it is made from.
fn ancestry(loaded: &Loaded, name: &TokenName) -> Vec<TokenName> {
    let mut needed = vec![name.clone()];
    let mut next = 0;
    while let Some(name) = needed.get(next).cloned() {
        next += 1;
        let parents = loaded.plans.iter().filter(|plan| plan.name == name);
        for parent in parents.flat_map(|plan| plan.source.parents()) {
            if !needed.contains(&parent) {
                needed.push(parent);
            }
        }
    }
    needed
}

/// Returns when the token is there or any token on the way has failed.
async fn first_outcome(tokens: &Tokens, name: &TokenName) -> Result<Handle, ObtainError> {
    loop {
        for (handle, _) in tokens.iter() {
            if let Some(failure) = handle.report().failure {
                let (name, failure) = (handle.name().clone(), Box::new(failure));
                return Err(ObtainError::Failed { name, failure });
            }
        }
        if let Some(handle) = tokens.handle(name).filter(|handle| handle.usable().is_some()) {
            return Ok(handle);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn describe(handle: &Handle, reveal: bool) -> String {
    let mut out = String::new();
    let report = handle.report();
    let now = Moment::now();
    let Some(current) = handle.current() else { return out };
    let mut line = |key: &str, value: &str| {
        let written = writeln!(out, "{key:<14}{value}");
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    };
    line("token", handle.name().as_str());
    line("kind", handle.kind());
    line("obtained by", report.last_means);
    match current.expires {
        Some(at) => line(
            "expires",
            &format!("{} (in {} s)", at.to_wall().rfc3339(), now.until(at).as_secs()),
        ),
        None => line("expires", "never, as far as is known"),
    }
    if let Some(at) = report.next_attempt {
        line("renewal", &format!("{} (in {} s)", at.to_wall().rfc3339(), now.until(at).as_secs()));
    }
    let fields: Vec<&str> = current.grant.fields.keys().map(String::as_str).collect();
    if !fields.is_empty() {
        line("fields", &fields.join(", "));
    }
    line("refresh token", if current.grant.refresh_token.is_some() { "yes" } else { "no" });
    if reveal {
        line("value", current.grant.value.expose());
    } else {
        line("value", "hidden; --reveal prints it");
    }
    out
}
