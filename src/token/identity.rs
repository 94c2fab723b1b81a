//! What tells one token from another, wherever it is kept: its definition, the definitions of all
//! that it is made from, and what the credentials behind them hold.
//!
//! Two programs may share a value only if both would have got it by the same requests. A file's
//! path says too little: two deployments of one configuration mount different secrets there.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ring::{digest, hmac};

use super::failure::Failure;
use super::source::{Kind, Source};
use crate::vocab::TokenName;

/// One token's identity.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    definition: [u8; 32],
    sources: Vec<Arc<Source>>,
}

impl Identity {
    /// Of a token and all that it is made from, itself first.
    pub(super) fn new(lineage: &[(&TokenName, &Kind, &Arc<Source>)]) -> Self {
        let mut hasher = Sha256(digest::Context::new(&digest::SHA256));
        for (name, kind, _) in lineage {
            name.hash(&mut hasher);
            kind.hash(&mut hasher);
        }
        let mut definition = [0; 32];
        definition.copy_from_slice(hasher.0.finish().as_ref());
        let sources = lineage.iter().map(|(_, _, source)| Arc::clone(source)).collect();
        Self { definition, sources }
    }

    /// A name for the definition alone; it tells nothing of any secret.
    pub(super) fn definition(&self) -> String {
        hex(&self.definition[..8])
    }

    /// A name for the definition with the present content of its credentials; without `key` it
    /// tells nothing of them.
    ///
    /// # Errors
    /// A credential that cannot be read.
    pub(super) fn mark(&self, key: &hmac::Key) -> Result<String, Failure> {
        let mut context = hmac::Context::with_key(key);
        context.update(&self.definition);
        for secret in self.sources.iter().flat_map(|source| source.credentials()) {
            let content = secret.read()?;
            // The length keeps two neighbours apart.
            context.update(&(content.expose().len() as u64).to_be_bytes());
            context.update(content.expose().as_bytes());
        }
        Ok(hex(&context.sign().as_ref()[..16]))
    }
}

/// A digest of all that is hashed into it.
struct Sha256(digest::Context);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finish();
        digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
