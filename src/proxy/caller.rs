//! The proof that a caller may speak at all (`caller`): a secret in a header field, for listeners
//! that others than the intended callers can reach. A program that can be talked into sending a
//! request (SSRF, S7) cannot be talked into adding the field.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName};
use ring::hmac;
use ring::rand::SystemRandom;
use schemars::JsonSchema;
use serde::Deserialize;

use super::refusal::Refusal;
use crate::vocab::{At, FieldName, Moment, SecretRef};

/// How long the secret is known before it is read again.
const FRESH: Duration = Duration::from_secs(5);

/// How soon it is read again where it does not fit, so that a rotated secret is good at once and
/// a stranger cannot have the file read at will.
const SOON: Duration = Duration::from_secs(1);

/// The `caller` block of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Caller")]
pub struct Settings {
    /// The field that every request must have; it is not forwarded.
    pub header: At<FieldName>,
    /// Its value.
    pub secret: At<SecretRef>,
}

/// Judges callers.
pub(super) struct Caller {
    header: HeaderName,
    secret: SecretRef,
    /// Made anew in each process; what is kept is no secret.
    key: hmac::Key,
    known: ArcSwapOption<Known>,
}

struct Known {
    /// None if the secret could not be read so far.
    tag: Option<hmac::Tag>,
    read: Moment,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("header", &self.header).finish_non_exhaustive()
    }
}

impl Caller {
    /// None if the system has no random numbers.
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        Some(Self {
            header: settings.header.value.as_header().clone(),
            secret: settings.secret.value.clone(),
            key,
            known: ArcSwapOption::empty(),
        })
    }

    /// Lets a caller in by its one field.
    ///
    /// # Errors
    /// No proof, several, or a wrong one; or the secret cannot be read.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut lines = headers.get_all(&self.header).iter();
        let (Some(proof), None) = (lines.next(), lines.next()) else {
            return Err(Refusal::Caller);
        };
        let fits = |tag: hmac::Tag| {
            // Comparing tags takes the same time whatever the proof has in common with the secret.
            hmac::verify(&self.key, proof.as_bytes(), tag.as_ref()).is_ok()
        };
        if self.known(FRESH).is_some_and(fits) || self.known(SOON).is_some_and(fits) {
            Ok(())
        } else {
            Err(Refusal::Caller)
        }
    }

    /// The secret's tag, at most so old. While the secret cannot be read the last one holds.
    fn known(&self, most: Duration) -> Option<hmac::Tag> {
        let now = Moment::now();
        let known = self.known.load();
        if let Some(known) = &*known
            && now.since(known.read) < most
        {
            return known.tag;
        }
        let tag = match self.secret.read() {
            Ok(secret) => Some(hmac::sign(&self.key, secret.expose().as_bytes())),
            Err(error) => {
                tracing::warn!(%error, "cannot read the callers' secret");
                known.as_ref().and_then(|known| known.tag)
            }
        };
        self.known.store(Some(Arc::new(Known { tag, read: now })));
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_secret_lets_a_caller_in_s7() {
        let settings: Settings =
            serde_yaml::from_str("{header: X-Caller, secret: {env: CARGO_PKG_NAME}}").unwrap();
        let caller = Caller::new(&settings).unwrap();
        let of = |values: &[&str]| {
            let header = HeaderName::from_static("x-caller");
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&header, value.parse().unwrap());
            }
            caller.admit(&headers).is_ok()
        };
        assert!(of(&["bearerd"]));
        for wrong in [&[][..], &[""], &["Bearerd"], &["bearer"], &["bearerdd"], &["bearerd"; 2]] {
            assert!(!of(wrong), "{wrong:?}");
        }
        assert!(!format!("{caller:?}").contains("CARGO"));
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_asked_for_no_more_often_than_one_that_can_s7() {
        let settings: Settings =
            serde_yaml::from_str("{header: X-Caller, secret: {file: /nowhere/caller}}").unwrap();
        let caller = Caller::new(&settings).unwrap();
        let proof = HeaderMap::from_iter([(
            HeaderName::from_static("x-caller"),
            http::HeaderValue::from_static("guess"),
        )]);
        assert!(caller.admit(&proof).is_err());
        let read = caller.known.load_full().unwrap().read;
        assert!(caller.admit(&proof).is_err());
        assert_eq!(caller.known.load_full().unwrap().read, read);
    }
}
