//! Kind `jwt`: a JWT that is signed here (RFC 7519), no issuer asked.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::exchange::Fetched;
use super::super::exchange::value::{JsonBody, KeptSecret, RequestValue};
use super::super::failure::{Failure, Reason};
use super::super::grant::Grant;
use super::super::handle::Handle;
use super::super::rejection::Rejection;
use super::super::schedule::Renew;
use super::super::sign::{Algorithm, sign};
use super::super::template::{Scope, Template};
use super::Common;
use crate::vocab::{Moment, Period, TokenName, Wall};

/// The settings of one signed token.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Jwt")]
pub struct Settings {
    /// How it is signed, which the kind of the key must fit.
    pub algorithm: Algorithm,
    /// The shared secret, or the private key in PEM.
    pub key: KeptSecret,
    /// Members of the header beside `alg`; `typ: JWT` unless said otherwise.
    pub header: Option<JsonBody>,
    /// The claims; strings may hold references.
    pub claims: JsonBody,
    /// Adds `iat` and `exp` this far apart; without it the token never expires.
    pub lifetime: Option<Period>,
    /// Whether every token request that names this token gets one signed afresh.
    #[serde(default)]
    pub fresh_per_use: bool,
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

impl Settings {
    pub(super) const fn common(&self) -> Common<'_> {
        Common { renew: &self.renew, rejected: &self.rejected, required: self.required }
    }

    /// Ready to sign.
    #[must_use]
    pub fn plan(&self) -> Signer {
        Signer { settings: self.clone() }
    }
}

/// Signs.
#[derive(Debug)]
pub struct Signer {
    settings: Settings,
}

impl Signer {
    /// Whether each use in a token request gets a token of its own.
    #[must_use]
    pub const fn is_fresh_per_use(&self) -> bool {
        self.settings.fresh_per_use
    }

    /// Signs a token now.
    ///
    /// # Errors
    /// A key that cannot be read or does not fit, or a reference without a value.
    pub fn fetch(&self, parents: &BTreeMap<TokenName, Handle>) -> Result<Fetched, Failure> {
        let tokens = parents
            .iter()
            .filter_map(|(name, handle)| Some((name.clone(), handle.usable()?.grant.clone())))
            .collect();
        let scope = Scope { tokens, own: None };
        let header = match &self.settings.header {
            Some(header) => header.render(&scope)?,
            None => json!({ "typ": "JWT" }),
        };
        let mut claims = self.settings.claims.render(&scope)?;
        let Value::Object(members) = &mut claims else {
            return Err(Failure::new(Reason::Config, "the claims of a JWT are a map"));
        };
        let lifetime = self.settings.lifetime.map(Duration::from);
        if let Some(lifetime) = lifetime {
            let now = Wall::now().secs();
            let until = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX / 2);
            members.insert("iat".to_owned(), now.into());
            members.insert("exp".to_owned(), now.saturating_add(until).into());
        }
        let key = self.settings.key.read()?;
        let mut grant = Grant::of(sign(self.settings.algorithm, &key, &header, &claims)?);
        grant.lifetime = lifetime;
        Ok(Fetched { grant, sent: Moment::now() })
    }

    fn values(&self) -> Vec<&RequestValue> {
        let mut values = self.settings.claims.values();
        values.extend(self.settings.header.iter().flat_map(JsonBody::values));
        values
    }

    pub(super) fn secrets(&self) -> Vec<&KeptSecret> {
        let mut secrets = vec![&self.settings.key];
        secrets.extend(self.values().into_iter().filter_map(RequestValue::secret));
        secrets
    }

    pub(super) fn templates(&self) -> Vec<&Template> {
        self.values().into_iter().filter_map(RequestValue::template).collect()
    }
}
