//! Kind `value`: a ready-made value from a file or the environment, read again and again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::exchange::Fetched;
use super::super::exchange::lifetime;
use super::super::exchange::value::KeptSecret;
use super::super::failure::{Failure, Reason};
use super::super::grant::Grant;
use super::super::rejection::Rejection;
use super::super::schedule::Renew;
use super::Common;
use crate::vocab::{Moment, Period};

/// The settings of one ready-made token.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Value")]
pub struct Settings {
    /// Where it is.
    pub from: KeptSecret,
    /// How often it is read again; every ten seconds unless said otherwise.
    #[serde(default = "ten_seconds")]
    pub every: Period,
    /// When to renew.
    #[serde(default)]
    pub renew: Renew,
    /// By which answers an upstream rejects the token; 401 unless said otherwise.
    pub rejected: Option<Vec<Rejection>>,
    /// Whether `/readyz` waits for this token.
    #[serde(default = "yes")]
    pub required: bool,
}

const fn yes() -> bool {
    true
}

const fn ten_seconds() -> Period {
    Period::secs(10)
}

impl Settings {
    pub(super) const fn common(&self) -> Common<'_> {
        Common { renew: &self.renew, rejected: &self.rejected, required: self.required }
    }

    /// Ready to read.
    pub(super) fn plan(&self) -> Reader {
        Reader { secret: self.from.clone(), every: self.every.0.max(Duration::from_secs(1)) }
    }
}

/// Reads.
#[derive(Debug)]
pub struct Reader {
    secret: KeptSecret,
    every: Duration,
}

impl Reader {
    /// How often to read.
    #[must_use]
    pub const fn every(&self) -> Duration {
        self.every
    }

    pub(super) const fn secret(&self) -> &KeptSecret {
        &self.secret
    }

    /// Reads the value now. A JWT is used up to its own end, anything else for ever.
    ///
    /// # Errors
    /// A value that cannot be read, that no header can carry, or whose time is over.
    pub(super) fn fetch(&self) -> Result<Fetched, Failure> {
        let value = self.secret.read()?;
        if !value.expose().bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            let why = "the value holds a line break, control or non-ASCII character";
            return Err(Failure::new(Reason::Malformed, why));
        }
        if lifetime::is_over(value.expose()) {
            let why = "the value is a JWT whose time is over";
            return Err(Failure::new(Reason::NoSecret, why));
        }
        let mut grant = Grant::of(value);
        grant.lifetime = lifetime::of_jwt(grant.value.expose());
        Ok(Fetched { grant, sent: Moment::now() })
    }
}
