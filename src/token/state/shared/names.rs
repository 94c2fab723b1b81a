//! By which names a token's entry is known in the store.

use super::super::super::failure::Failure;
use super::super::super::identity::Identity;
use super::seal::Keys;
use crate::vocab::Secret;

/// The names, and the keys, as the secrets now stand.
pub(super) struct Names {
    pub(super) keys: Keys,
    /// What tells this entry from those of the same definition with other credentials.
    pub(super) mark: String,
    /// The value.
    pub(super) entry: String,
    /// Who asks the issuer.
    pub(super) lease: String,
    /// Written for no other reason than to see whether the store takes writes.
    pub(super) probe: String,
}

impl Names {
    /// # Errors
    /// A credential that cannot be read.
    pub(super) fn new(base: &str, identity: &Identity, key: &Secret) -> Result<Self, Failure> {
        let keys = Keys::derive(key)?;
        let mark = identity.mark(&keys.names)?;
        let entry = format!("{base}:{mark}");
        let (lease, probe) = (format!("{entry}:lease"), format!("{entry}:probe"));
        Ok(Self { keys, mark, entry, lease, probe })
    }
}
