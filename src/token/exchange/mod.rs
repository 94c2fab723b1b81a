//! A source that asks an issuer over HTTP: the one engine behind every kind that does.
//!
//! A kind such as `oauth2` is a short spelling for an [`Exchange`]: which requests are sent
//! ([`call`]), how the client proves itself ([`client_auth`]), how answers are read ([`answer`],
//! [`lifetime`]).

pub mod answer;
pub mod call;
pub mod client_auth;
mod clock;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod json;
pub mod lifetime;
pub mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::answer::Reading;
use self::call::{Call, Setting};
use self::value::KeptSecret;
use super::failure::{Failure, Reason};
use super::grant::Grant;
use super::handle::{Current, Handle};
use super::state::Store;
use super::template::{Scope, Template};
use crate::shutdown::Shutdown;
use crate::vocab::{Moment, TokenName};

/// By which request a grant is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// The initial request, with the configured credential.
    Acquire,
    /// The refresh request, with the refresh token of the last grant.
    Refresh,
}

impl Means {
    /// In one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acquire => "acquire",
            Self::Refresh => "refresh",
        }
    }
}

/// Everything that is declared about an issuer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The initial request.
    pub acquire: Call,
    /// The request with a refresh token.
    pub refresh: Option<Call>,
    /// How a refresh token may be used.
    pub refreshing: Refreshing,
    /// The request that withdraws a grant.
    pub revoke: Option<Revoke>,
    /// How answers are read.
    pub reading: Reading,
    /// What outlives the process, or is shared with others.
    pub state: Option<Store>,
}

/// What is known of the issuer's refresh tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refreshing {
    /// Whether one may be sent again although the answer to it was lost.
    pub reusable: bool,
    /// After how many failures in a row the initial request is tried instead.
    pub fallback_after: u32,
    /// The configured refresh token, where the initial request is itself a refresh and there is
    /// no other credential (`grant: refresh_token`).
    pub seed: Option<KeptSecret>,
}

/// How grants are withdrawn.
#[derive(Debug, Clone)]
pub struct Revoke {
    /// The request.
    pub call: Call,
    /// The request for a grant that came without a refresh token, where that makes a difference.
    pub without_refresh_token: Option<Call>,
    /// Whether at the end of the process.
    pub on_shutdown: bool,
    /// How long after a grant was replaced, if at all.
    pub on_replace: Option<std::time::Duration>,
}

/// A grant and when it was asked for.
#[derive(Debug)]
pub struct Fetched {
    /// What came.
    pub grant: Grant,
    /// When the request was sent.
    pub sent: Moment,
}

/// What a try runs with.
#[derive(Debug, Clone, Copy)]
pub struct Try<'t> {
    /// The tokens that requests may name.
    pub parents: &'t BTreeMap<TokenName, Handle>,
    /// For the whole try.
    pub deadline: std::time::Duration,
    /// Who drives the connection.
    pub tasks: &'t Shutdown,
}

impl Exchange {
    /// Asks for a grant. On success a refresh token of the `previous` grant is kept where the
    /// answer brings none (RFC 6749 section 6).
    ///
    /// # Errors
    /// The classified failure. A blamed parent has been told already.
    pub async fn fetch(
        &self,
        means: Means,
        previous: Option<&Grant>,
        attempt: Try<'_>,
    ) -> Result<Fetched, Failure> {
        let call = match (means, &self.refresh) {
            (Means::Refresh, Some(refresh)) => refresh,
            _ => &self.acquire,
        };
        let parents = usable_parents(call, attempt.parents)?;
        let sent = Moment::now();
        let answer = call.send(&setting(&parents, previous, attempt)).await?;
        let mut grant = match self.reading.read(&answer) {
            Ok(grant) => grant,
            Err(failure) => {
                let failure = hushed(failure, call, previous, &parents);
                return Err(self.blame(&answer, failure, &parents, attempt.parents));
            }
        };
        if means == Means::Refresh && grant.refresh_token.is_none() {
            grant.refresh_token = previous.and_then(|old| old.refresh_token.clone());
        }
        Ok(Fetched { grant, sent })
    }

    /// Withdraws a grant; best effort.
    ///
    /// # Errors
    /// What went wrong, for the log.
    pub async fn withdraw(&self, grant: &Grant, attempt: Try<'_>) -> Result<(), Failure> {
        let Some(revoke) = &self.revoke else { return Ok(()) };
        let call = match &revoke.without_refresh_token {
            Some(call) if grant.refresh_token.is_none() => call,
            _ => &revoke.call,
        };
        let parents = usable_parents(call, attempt.parents)?;
        let answer = call.send(&setting(&parents, Some(grant), attempt)).await?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(Failure::new(Reason::BadResponse, format!("status {}", answer.status().as_u16())))
        }
    }

    /// Hands a failure that is a parent's fault to the parent.
    fn blame(
        &self,
        answer: &crate::net::fetch::Answer,
        mut failure: Failure,
        used: &BTreeMap<TokenName, Arc<Current>>,
        parents: &BTreeMap<TokenName, Handle>,
    ) -> Failure {
        let Some(name) = self.reading.blamed(answer) else { return failure };
        let Some((handle, current)) = parents.get(name).zip(used.get(name)) else { return failure };
        let outcome = handle.reject(current.generation);
        let detail = format!("the issuer refused `{name}` ({}; {outcome:?})", failure.detail);
        (failure.reason, failure.detail) = (Reason::Parent, detail);
        failure.parent = Some((name.clone(), current.generation));
        failure
    }

    /// All requests.
    fn calls(&self) -> impl Iterator<Item = &Call> {
        std::iter::once(&self.acquire)
            .chain(&self.refresh)
            .chain(self.revoke.iter().map(|revoke| &revoke.call))
    }

    /// The secrets whose change is worth a new try.
    #[must_use]
    pub fn secrets(&self) -> Vec<&KeptSecret> {
        let mut secrets: Vec<_> = self.calls().flat_map(Call::secrets).collect();
        if let Some(Store::Shared(store)) = &self.state {
            secrets.extend(store.secrets());
        }
        secrets
    }

    /// The secrets that say for whom a token is asked for. An assertion is none: each program and
    /// each hour has another one for the same client.
    #[must_use]
    pub fn credentials(&self) -> Vec<&KeptSecret> {
        self.calls().flat_map(Call::credentials).collect()
    }

    /// The templates of all requests.
    #[must_use]
    pub fn templates(&self) -> Vec<&Template> {
        self.calls().flat_map(Call::templates).collect()
    }
}

/// Cuts everything secret that was in a request out of the words of its failure: an issuer may
/// quote what it refuses (S22), and a short password looks like any word.
fn hushed(
    mut failure: Failure,
    call: &Call,
    own: Option<&Grant>,
    parents: &BTreeMap<TokenName, Arc<Current>>,
) -> Failure {
    let grants = own.into_iter().chain(parents.values().map(|current| current.grant.as_ref()));
    let secrets =
        call.secrets().into_iter().filter_map(|secret| secret.read().ok()).chain(
            grants.flat_map(|grant| grant.refresh_token.iter().chain([&grant.value]).cloned()),
        );
    for secret in secrets.filter(|secret| !secret.is_empty()) {
        failure.detail = failure.detail.replace(secret.expose(), "[..]");
    }
    failure
}

/// The current values of the tokens that a call names.
fn usable_parents(
    call: &Call,
    parents: &BTreeMap<TokenName, Handle>,
) -> Result<BTreeMap<TokenName, Arc<Current>>, Failure> {
    call.parents()
        .map(|name| {
            let handle = parents.get(&name).ok_or_else(|| {
                Failure::new(Reason::Parent, format!("there is no token `{name}`"))
            })?;
            Ok((name, handle.fresh()?))
        })
        .collect()
}

fn setting<'s>(
    parents: &BTreeMap<TokenName, Arc<Current>>,
    own: Option<&'s Grant>,
    attempt: Try<'s>,
) -> Setting<'s> {
    let tokens =
        parents.iter().map(|(name, current)| (name.clone(), Arc::clone(&current.grant))).collect();
    Setting { scope: Scope { tokens, own }, deadline: attempt.deadline, tasks: attempt.tasks }
}
