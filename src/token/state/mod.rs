//! What of a token lives outside the process: its newest refresh token in a file, or all of it in
//! a store that many programs share ([`shared`]).
//!
//! Issuers that give one-time refresh tokens leave the program with nothing but the last one. It
//! is written before it is used; what cannot be written is kept in memory and written later, so
//! that a full disk or a read-only one costs nothing while the process lives.

mod file;
mod keeper;
pub mod shared;

use std::path::PathBuf;

use ring::digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::file::{StateError, StateFile};
pub(super) use self::keeper::Keeper;
use super::identity::hex;
use crate::net::tls;
use crate::vocab::{At, Mistake, Place, Problems, Secret, Text};

/// Where a token is kept beyond the process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Settings {
    /// A file, which only its owner can read. Its directory must exist and be writable; programs
    /// that share the file take over each other's tokens.
    File(At<Text>),
    /// A Redis, by which programs share the token.
    Redis(Box<shared::Settings>),
}

impl Settings {
    /// The settings of the TLS that is spoken with it, if it may be.
    pub(super) const fn tls(&self) -> Option<&tls::Settings> {
        match self {
            Self::File(_) => None,
            Self::Redis(settings) => Some(&settings.tls),
        }
    }

    /// The place, and every mistake that shows without going there.
    pub(super) fn plan(&self, problems: &mut Problems) -> Option<Store> {
        match self {
            Self::File(path) => Some(Store::File(StateFile::new(PathBuf::from(path.as_str())))),
            Self::Redis(settings) => {
                settings.check(problems);
                match shared::Plan::new(settings) {
                    Ok(plan) => Some(Store::Shared(Box::new(plan))),
                    Err(error) => {
                        let place = settings.tls.place_of(&error).unwrap_or(settings.url.place);
                        problems.add(place, Mistake::from(&error));
                        None
                    }
                }
            }
        }
    }
}

/// What one program withdraws at its end would be gone for the next one, and for those that share
/// it.
pub(super) fn check_revocation(
    state: Option<&Settings>,
    on_shutdown: bool,
    place: Place,
    problems: &mut Problems,
) {
    if state.is_some() && on_shutdown {
        let mistake = Mistake::new("`revoke` would withdraw at the end what `state` keeps");
        problems.add(place, mistake.hint("say `on_shutdown: false` under `revoke`"));
    }
}

/// A place beyond the process.
#[derive(Debug, Clone)]
pub enum Store {
    /// For the newest refresh token.
    File(StateFile),
    /// For the token itself, shared with other programs.
    Shared(Box<shared::Plan>),
}

impl Store {
    /// The file, if it is one.
    #[must_use]
    pub const fn file(&self) -> Option<&StateFile> {
        match self {
            Self::File(file) => Some(file),
            Self::Shared(_) => None,
        }
    }

    /// The shared store, if it is one.
    #[must_use]
    pub const fn shared(&self) -> Option<&shared::Plan> {
        match self {
            Self::File(_) => None,
            Self::Shared(plan) => Some(plan),
        }
    }
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The newest refresh token.
    pub refresh_token: Secret,
    /// The mark of the configured refresh token that it descends from, where there is one. A new
    /// one in the configuration puts an end to what was kept.
    pub seed: Option<String>,
}

/// The mark by which a configured refresh token is known again; it tells nothing of the token.
#[must_use]
pub fn mark(seed: &Secret) -> String {
    let hash = digest::digest(&digest::SHA256, seed.expose().as_bytes());
    hex(&hash.as_ref()[..8])
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u8,
    refresh_token: String,
    seed: Option<String>,
}

const VERSION: u8 = 1;

impl Kept {
    fn to_json(&self) -> Vec<u8> {
        let document = Document {
            version: VERSION,
            refresh_token: self.refresh_token.expose().to_owned(),
            seed: self.seed.clone(),
        };
        // Strings and a number always fit JSON.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// `None` for anything but a document of ours. The reason is not told: it could quote the
    /// content.
    fn from_json(bytes: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(bytes).ok()?;
        let Document { version, refresh_token, seed } = document;
        (version == VERSION && !refresh_token.is_empty())
            .then(|| Self { refresh_token: Secret::from(refresh_token), seed })
    }
}
