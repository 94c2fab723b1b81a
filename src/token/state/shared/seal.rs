//! What stands in the store: sealed, so that whoever reads the store learns nothing, and whoever
//! writes to it cannot pass one token's value for another's.
//!
//! AES-256-GCM with a random nonce. The key comes from the configured secret by HKDF (RFC 5869);
//! the entry's name is authenticated with the value.

use std::collections::BTreeMap;
use std::time::Duration;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::super::super::exchange::Means;
use super::super::super::failure::{Failure, Reason};
use super::super::super::grant::Grant;
use crate::vocab::Secret;

/// The first byte of what is stored.
const VERSION: u8 = 1;

/// What the configured secret is good for.
pub(super) struct Keys {
    values: LessSafeKey,
    /// Names entries.
    pub(super) names: hmac::Key,
}

impl Keys {
    /// # Errors
    /// The cryptographic library refuses, which it has no reason to.
    pub(super) fn derive(secret: &Secret) -> Result<Self, Failure> {
        let refused = |_| Failure::new(Reason::Config, "no keys can be made of the store's `key`");
        let salt = Salt::new(HKDF_SHA256, b"bearerd token store 1");
        let root: Prk = salt.extract(secret.expose().as_bytes());
        let values = root.expand(&[b"values"], &AES_256_GCM).map_err(refused)?;
        let values = LessSafeKey::new(UnboundKey::from(values));
        let names = root.expand(&[b"names"], hmac::HMAC_SHA256).map_err(refused)?;
        Ok(Self { values, names: names.into() })
    }

    /// Seals a value for the entry of this name.
    pub(super) fn seal(&self, name: &str, stored: &Stored) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = serde_json::to_vec(&Document::from(stored)).ok()?;
        let nonce_of_key = Nonce::assume_unique_for_key(nonce);
        self.values.seal_in_place_append_tag(nonce_of_key, aad(name), &mut sealed).ok()?;
        Some([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// Opens what the entry of this name holds; `None` for anything that was not sealed for it
    /// with this key.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Option<Stored> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        if *version != VERSION {
            return None;
        }
        let mut sealed = sealed.to_vec();
        let plain = self.values.open_in_place(nonce, aad(name), &mut sealed).ok()?;
        // The reason is not told: it could quote the content.
        serde_json::from_slice::<Document>(plain).ok().map(Stored::from)
    }
}

fn aad(name: &str) -> Aad<Vec<u8>> {
    Aad::from([&[VERSION], name.as_bytes()].concat())
}

/// A value as programs hand it to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) grant: Grant,
    /// By which request it came.
    pub(super) means: Means,
    /// When its request was sent, in milliseconds of the store's clock.
    pub(super) sent_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    value: String,
    fields: BTreeMap<String, String>,
    refresh_token: Option<String>,
    lifetime_ms: Option<u64>,
    refresh_lifetime_ms: Option<u64>,
    initial: bool,
    sent_ms: u64,
}

impl From<&Stored> for Document {
    fn from(stored: &Stored) -> Self {
        let text = |secret: &Secret| secret.expose().to_owned();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let grant = &stored.grant;
        Self {
            value: text(&grant.value),
            fields: grant.fields.iter().map(|(name, field)| (name.clone(), text(field))).collect(),
            refresh_token: grant.refresh_token.as_ref().map(text),
            lifetime_ms: grant.lifetime.map(millis),
            refresh_lifetime_ms: grant.refresh_lifetime.map(millis),
            initial: stored.means == Means::Acquire,
            sent_ms: stored.sent_ms,
        }
    }
}

impl From<Document> for Stored {
    fn from(document: Document) -> Self {
        let fields = document.fields.into_iter();
        Self {
            grant: Grant {
                value: Secret::from(document.value),
                fields: fields.map(|(name, field)| (name, Secret::from(field))).collect(),
                refresh_token: document.refresh_token.map(Secret::from),
                lifetime: document.lifetime_ms.map(Duration::from_millis),
                refresh_lifetime: document.refresh_lifetime_ms.map(Duration::from_millis),
                untyped: false,
            },
            means: if document.initial { Means::Acquire } else { Means::Refresh },
            sent_ms: document.sent_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secret: &str) -> Keys {
        Keys::derive(&Secret::from(secret)).unwrap()
    }

    fn stored() -> Stored {
        let mut grant = Grant::of(Secret::from("hunter2"));
        grant.refresh_token = Some(Secret::from("refresh"));
        grant.fields.insert("scope".to_owned(), Secret::from("read"));
        grant.lifetime = Some(Duration::from_secs(300));
        Stored { grant, means: Means::Refresh, sent_ms: 7 }
    }

    #[test]
    fn what_was_sealed_for_an_entry_opens_there_and_nowhere_else() {
        let sealed = keys("key").seal("a", &stored()).unwrap();
        assert_eq!(keys("key").open("a", &sealed), Some(stored()));
        assert_eq!(keys("key").open("b", &sealed), None, "swapped");
        assert_eq!(keys("other").open("a", &sealed), None, "another key");
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        let again = keys("key").seal("a", &stored()).unwrap();
        assert_ne!(sealed, again, "a nonce serves once");
    }

    #[test]
    fn nothing_that_was_touched_opens() {
        let sealed = keys("key").seal("a", &stored()).unwrap();
        for at in 0..sealed.len() {
            let mut touched = sealed.clone();
            touched[at] ^= 1;
            assert_eq!(keys("key").open("a", &touched), None, "byte {at}");
        }
        for end in 0..sealed.len() {
            assert_eq!(keys("key").open("a", &sealed[..end]), None, "cut at {end}");
        }
    }
}
