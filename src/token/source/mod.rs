//! The kinds of sources.
//!
//! # How to add a kind
//! Write `source/<kind>.rs` with a `Settings` struct (serde, `deny_unknown_fields`) that has the
//! fields of [`Common`], and a `plan` that turns it into a [`Source`]; add one variant to
//! [`Kind`]. The compiler then points at the matches below; the schema, `check`, `token`, the
//! metrics and the status follow. What asks an issuer over HTTP needs no code at all beyond
//! spelling out an [`Exchange`].

pub mod http;
pub mod jwt;
pub mod oauth2;
pub mod value;

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::exchange::call::{Target, TargetError};
use super::exchange::value::KeptSecret;
use super::exchange::{Exchange, Fetched, Means, Refreshing, Try};
use super::failure::{Failure, Reason};
use super::grant::Grant;
use super::handle::Handle;
use super::rejection::Rejection;
use super::schedule::Renew;
use super::state::{self, Store};
use super::template::Template;
use crate::net::tls;
use crate::vocab::{Mistake, Place, Problems, TokenName};

/// The settings of one token: a map with one key, the kind.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An OAuth 2.0 token endpoint (RFC 6749).
    Oauth2(Box<oauth2::Settings>),
    /// Any HTTP exchange that answers JSON.
    Http(Box<http::Settings>),
    /// A JWT signed here.
    Jwt(Box<jwt::Settings>),
    /// A ready-made value from a file or the environment.
    Value(Box<value::Settings>),
}

/// What every kind has.
#[derive(Debug, Clone, Copy)]
pub struct Common<'s> {
    /// When to renew.
    pub renew: &'s Renew,
    /// By which answers an upstream rejects the token.
    pub rejected: &'s Option<Vec<Rejection>>,
    /// Whether readiness depends on it.
    pub required: bool,
}

impl Common<'_> {
    /// The rules of rejection; 401 where none are configured.
    #[must_use]
    pub fn rejections(&self) -> Vec<Rejection> {
        self.rejected.clone().unwrap_or_else(|| vec![Rejection::unauthorized()])
    }
}

impl Kind {
    /// The kind's name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Oauth2(_) => "oauth2",
            Self::Http(_) => "http",
            Self::Jwt(_) => "jwt",
            Self::Value(_) => "value",
        }
    }

    /// What every kind has.
    #[must_use]
    pub fn common(&self) -> Common<'_> {
        match self {
            Self::Oauth2(settings) => settings.common(),
            Self::Http(settings) => settings.common(),
            Self::Jwt(settings) => settings.common(),
            Self::Value(settings) => settings.common(),
        }
    }

    /// The settings of all TLS that it speaks.
    pub fn tls(&self) -> impl Iterator<Item = &tls::Settings> {
        let (own, state) = match self {
            Self::Oauth2(settings) => (Some(&settings.tls), settings.state.as_ref()),
            Self::Http(settings) => (Some(&settings.tls), settings.state.as_ref()),
            Self::Jwt(_) | Self::Value(_) => (None, None),
        };
        own.into_iter().chain(state.and_then(state::Settings::tls))
    }

    /// Turns settings into a source, and reports every mistake that shows without asking anybody.
    /// `place` is where the kind stands in the file. A source may come with problems: it then
    /// serves to find more of them.
    pub fn plan(&self, place: Place, problems: &mut Problems) -> Option<Source> {
        match self {
            Self::Oauth2(settings) => {
                settings.plan(place, problems).map(|e| Source::Exchange(Box::new(e)))
            }
            Self::Http(settings) => {
                settings.plan(place, problems).map(|e| Source::Exchange(Box::new(e)))
            }
            Self::Jwt(settings) => Some(Source::Jwt(Box::new(settings.plan()))),
            Self::Value(settings) => Some(Source::Value(settings.plan())),
        }
    }
}

/// Where a token comes from, ready to be asked.
#[derive(Debug)]
pub enum Source {
    /// Over HTTP.
    Exchange(Box<Exchange>),
    /// Signed here.
    Jwt(Box<jwt::Signer>),
    /// Read.
    Value(value::Reader),
}

impl Source {
    /// Asks for a grant.
    ///
    /// # Errors
    /// The classified failure.
    pub async fn fetch(
        &self,
        means: Means,
        previous: Option<&Grant>,
        attempt: Try<'_>,
    ) -> Result<Fetched, Failure> {
        match self {
            Self::Exchange(exchange) => exchange.fetch(means, previous, attempt).await,
            Self::Jwt(signer) => signer.fetch(attempt.parents),
            Self::Value(reader) => reader.fetch(),
        }
    }

    /// Signs a value for one use.
    ///
    /// # Errors
    /// It cannot, or is of a kind that signs nothing.
    pub(super) fn sign(&self, parents: &BTreeMap<TokenName, Handle>) -> Result<Grant, Failure> {
        match self {
            Self::Jwt(signer) => signer.fetch(parents).map(|fetched| fetched.grant),
            Self::Exchange(_) | Self::Value(_) => {
                Err(Failure::new(Reason::Config, "this kind of token is not signed here"))
            }
        }
    }

    /// The exchange, if it is one.
    #[must_use]
    pub fn exchange(&self) -> Option<&Exchange> {
        match self {
            Self::Exchange(exchange) => Some(exchange),
            Self::Jwt(_) | Self::Value(_) => None,
        }
    }

    /// What is known of its refresh tokens, if it has a refresh request.
    #[must_use]
    pub fn refreshing(&self) -> Option<&Refreshing> {
        self.exchange().filter(|e| e.refresh.is_some()).map(|exchange| &exchange.refreshing)
    }

    /// How often it is read anew although nothing expires.
    #[must_use]
    pub const fn period(&self) -> Option<Duration> {
        match self {
            Self::Value(reader) => Some(reader.every()),
            Self::Exchange(_) | Self::Jwt(_) => None,
        }
    }

    /// The secrets that it reads.
    #[must_use]
    pub fn secrets(&self) -> Vec<&KeptSecret> {
        match self {
            Self::Exchange(exchange) => exchange.secrets(),
            Self::Jwt(signer) => signer.secrets(),
            Self::Value(reader) => vec![reader.secret()],
        }
    }

    /// The secrets that say for whom the token is.
    #[must_use]
    pub fn credentials(&self) -> Vec<&KeptSecret> {
        match self {
            Self::Exchange(exchange) => exchange.credentials(),
            Self::Jwt(_) | Self::Value(_) => self.secrets(),
        }
    }

    /// What of the token outlives the process, or is shared with others.
    #[must_use]
    pub fn state(&self) -> Option<&Store> {
        self.exchange().and_then(|exchange| exchange.state.as_ref())
    }

    /// The templates that name other tokens.
    #[must_use]
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Exchange(exchange) => exchange.templates(),
            Self::Jwt(signer) => signer.templates(),
            Self::Value(_) => Vec::new(),
        }
    }

    /// The names of tokens that failures may be blamed on.
    #[must_use]
    pub fn blamable(&self) -> Vec<&TokenName> {
        self.exchange()
            .map(|e| e.reading.parent_faults.iter().map(|fault| &fault.renew).collect())
            .unwrap_or_default()
    }

    /// The tokens that it needs.
    #[must_use]
    pub fn parents(&self) -> Vec<TokenName> {
        self.templates().iter().flat_map(|t| t.tokens().map(|(name, _)| name.clone())).collect()
    }

    /// The tokens whose replacement replaces this one: those that it needs and those that it may
    /// blame.
    #[must_use]
    pub fn relatives(&self) -> Vec<TokenName> {
        let mut names = self.parents();
        names.extend(self.blamable().into_iter().cloned());
        names
    }

    /// Whether `${token.name}` can ever have a value.
    #[must_use]
    pub fn has_field(&self, name: &str) -> bool {
        if ["value", "access_token", "token"].contains(&name) {
            return true;
        }
        self.exchange().is_some_and(|exchange| {
            let reading = &exchange.reading;
            reading.fields.iter().any(|(field, _)| field == name)
                || name == "refresh_token" && reading.refresh_token.is_some()
        })
    }

    /// Where it asks, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Exchange(exchange) => exchange.acquire.target.shown(),
            Self::Jwt(_) => "signed here".to_owned(),
            Self::Value(reader) => reader.secret().source().describe(),
        }
    }
}

/// A target, or the problem with it at the URL's place.
pub(super) fn target(
    url: &Template,
    plaintext: bool,
    tls: &tls::Settings,
    problems: &mut Problems,
) -> Option<Target> {
    match Target::probe(url) {
        Ok(probe) => {
            if let Some(mistake) = probe.plaintext_mistake(plaintext) {
                problems.add(url.place(), mistake);
            }
        }
        Err(mistake) => {
            problems.add(url.place(), mistake);
            return None;
        }
    }
    match Target::new(url.clone(), tls) {
        Ok(target) => Some(target),
        Err(TargetError::Url(mistake)) => {
            problems.add(url.place(), mistake);
            None
        }
        Err(TargetError::Tls(error)) => {
            let place = tls.place_of(&error).unwrap_or_else(|| url.place());
            problems.add(place, Mistake::from(&error));
            None
        }
    }
}
