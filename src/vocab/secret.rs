//! Secrets and where they come from.
//!
//! A secret is never written in the configuration: it is read from a file or the environment at
//! every use, so that a rotated secret is picked up without a restart and without a file watcher.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{At, Mistake, Text};

/// A secret file larger than this is a mistake, not a secret.
const MAX_BYTES: u64 = 64 * 1024;

/// A value that must not be shown: `Debug` prints `[redacted]`, there is no `Display`, the memory
/// is wiped on drop. [`Secret::expose`] is the word to search for in a review.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(SecretString::from(value))
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(SecretString::from(value))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where a secret is found: `{file: PATH}` or `{env: NAME}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// A file, re-read at every use. One trailing newline and a byte order mark are cut.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// Who else can reach a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Nobody that the file's mode tells of.
    None,
    /// The file's group or everybody can read it.
    Readable,
    /// Everybody can replace it.
    Writable,
}

/// Why a secret could not be read. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be opened or read.
    #[error("cannot read the secret file {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The variable is not there.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// Nothing in it.
    #[error("the secret in {0} is empty")]
    Empty(String),
    /// More than 64 KiB.
    #[error("the secret in {0} is larger than 64 KiB")]
    Large(String),
    /// Not text.
    #[error("the secret in {0} is not valid UTF-8")]
    NotText(String),
}

impl SecretRef {
    /// Reads the secret as it is now.
    ///
    /// # Errors
    /// An unreadable, empty, oversized or binary secret.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let text = match self {
            Self::Env(name) => std::env::var(name).map_err(|_| SecretError::Unset(name.clone()))?,
            Self::File(path) => {
                let shown = path.display().to_string();
                let failed = |source| SecretError::Read { path: shown.clone(), source };
                let mut bytes = Vec::new();
                File::open(path)
                    .map_err(failed)?
                    .take(MAX_BYTES + 1)
                    .read_to_end(&mut bytes)
                    .map_err(failed)?;
                if bytes.len() as u64 > MAX_BYTES {
                    return Err(SecretError::Large(shown));
                }
                String::from_utf8(bytes).map_err(|_| SecretError::NotText(shown))?
            }
        };
        let value = trimmed(&text);
        if value.is_empty() {
            return Err(SecretError::Empty(self.describe()));
        }
        Ok(Secret::from(value))
    }

    /// Who else than its owner can reach the secret's file.
    #[must_use]
    pub fn exposure(&self) -> Exposure {
        use std::os::unix::fs::PermissionsExt;
        let Self::File(path) = self else { return Exposure::None };
        let Ok(metadata) = std::fs::metadata(path) else { return Exposure::None };
        let mode = metadata.permissions().mode() & 0o777;
        match mode {
            _ if !metadata.is_file() => Exposure::None,
            _ if mode & 0o002 != 0 => Exposure::Writable,
            // How Kubernetes mounts a secret for a Pod's `fsGroup`.
            0o440 => Exposure::None,
            _ if mode & 0o044 != 0 && !is_of_kubelet(path) => Exposure::Readable,
            _ => Exposure::None,
        }
    }

    /// A number that changes when the secret's content (or its absence) does.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self.read() {
            Ok(secret) => secret.expose().hash(&mut hasher),
            Err(_) => 0_u8.hash(&mut hasher),
        }
        hasher.finish()
    }

    /// Where the secret is, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::File(path) => format!("file {}", path.display()),
            Self::Env(name) => format!("environment variable {name}"),
        }
    }
}

/// Whether the kubelet has put the file there: it keeps what it mounts behind a link of this name,
/// and lets everybody read it unless told otherwise, which is the processes of the container alone.
fn is_of_kubelet(file: &Path) -> bool {
    file.parent().is_some_and(|directory| directory.join("..data").is_symlink())
}

/// Editors add a newline and sometimes a byte order mark; neither is part of a secret.
fn trimmed(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// What to write instead of an inline secret.
pub(super) const INLINE: &str =
    "a secret is never written in the configuration; use `{file: PATH}` or `{env: NAME}`";

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: serde's derived messages quote the value, and here the value is a pasted secret.
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Reads the two keys of a [`SecretRef`]; every message is a constant.
pub(crate) struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{file: PATH}` or `{env: NAME}`")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        let wrong = || A::Error::custom("a secret has exactly one key: `file` or `env`");
        let Some(key) = map.next_key::<String>()? else { return Err(wrong()) };
        let found = match key.as_str() {
            "file" => SecretRef::File(PathBuf::from(map.next_value::<At<Text>>()?.as_str())),
            "env" => SecretRef::Env(map.next_value::<At<Text>>()?.as_str().to_owned()),
            _ => return Err(wrong()),
        };
        if map.next_key::<String>()?.is_some() {
            return Err(wrong());
        }
        Ok(found)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where a secret is found; it is read again at every use.",
            "oneOf": [
                { "type": "object", "properties": { "file": { "type": "string" } },
                  "required": ["file"], "additionalProperties": false },
                { "type": "object", "properties": { "env": { "type": "string" } },
                  "required": ["env"], "additionalProperties": false }
            ]
        })
    }
}

impl From<SecretError> for Mistake {
    fn from(error: SecretError) -> Self {
        let what = error.to_string();
        Self::new(what).hint(match error {
            SecretError::Read { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                "let the user of this process read it"
            }
            SecretError::Read { .. } => "create it, or name the place where it is",
            SecretError::Unset(_) => "set it before you start bearerd, or name another one",
            SecretError::Empty(_) => "put the secret there",
            SecretError::Large(_) | SecretError::NotText(_) => "name what holds the secret alone",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_a_secret() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "[redacted]");
    }

    #[test]
    fn a_trailing_newline_and_a_byte_order_mark_are_no_part_of_a_secret() {
        assert_eq!(trimmed("\u{feff}abc\r\n"), "abc");
        assert_eq!(trimmed("abc \n"), "abc ");
    }

    #[test]
    fn an_inline_secret_is_refused_without_being_quoted() {
        for yaml in
            ["hunter2", "123456", "true", "[hunter2]", "{fil: hunter2}", "{file: a, env: hunter2}"]
        {
            let error =
                serde_yaml::from_str::<SecretRef>(yaml).unwrap_err().without_snippet().to_string();
            assert!(!error.contains("hunter2") && !error.contains("123456"), "{error}");
        }
    }
}
