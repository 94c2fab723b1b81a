//! What of a token outlives the process: its newest refresh token.
//!
//! Issuers that give one-time refresh tokens leave the program with nothing but the last one. It
//! is written before it is used; what cannot be written is kept in memory and written later, so
//! that a full disk or a read-only one costs nothing while the process lives.

mod file;
mod keeper;

use std::path::PathBuf;

use ring::digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::file::{StateError, StateFile};
pub(super) use self::keeper::Keeper;
use crate::vocab::{At, Secret, Text};

/// Where the newest refresh token is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Settings {
    /// A file, which only its owner can read. Its directory must exist and be writable; programs
    /// that share the file take over each other's tokens.
    File(At<Text>),
}

impl Settings {
    /// The file.
    #[must_use]
    pub fn store(&self) -> StateFile {
        let Self::File(path) = self;
        StateFile::new(PathBuf::from(path.as_str()))
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
    use std::fmt::Write as _;
    let hash = digest::digest(&digest::SHA256, seed.expose().as_bytes());
    hash.as_ref().iter().take(8).fold(String::new(), |mut text, byte| {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
        text
    })
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
