//! TLS towards clients: what the listener shows, and what clients have to show.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use schemars::JsonSchema;
use serde::Deserialize;

use super::tls::{chain_of, provider, roots_of};
use crate::vocab::{At, Mistake, SecretRef, Text};

/// What clients may go on with, the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The `tls` block of the listener. The files are read again when their content changes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ListenerTls")]
pub struct Settings {
    /// A PEM file: the listener's certificate, then those that lead from it to the authority.
    pub cert_file: At<Text>,
    /// The certificate's private key in PEM.
    pub key: At<SecretRef>,
    /// A PEM file of certificate authorities. Every client must then show a certificate of one of
    /// them, which counts as its proof that it may use the listener. Default: none.
    pub client_ca_file: Option<At<Text>>,
}

impl Settings {
    /// Reads all of it.
    ///
    /// # Errors
    /// What cannot be used, and where it is named.
    pub fn load(&self) -> Result<Arc<ServerConfig>, (crate::vocab::Place, Mistake)> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| (self.cert_file.place, Mistake::new(format!("TLS: {error}"))))?;
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let fault = |why: String| (file.place, Mistake::new(why));
                let roots: RootCertStore =
                    roots_of(Path::new(file.as_str())).map_err(|error| fault(error.to_string()))?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .map_err(|error| fault(format!("cannot judge clients: {error}")))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = chain_of(self.cert_file.as_str()).map_err(|why| {
            let what = format!("cannot use the certificate {}: {why}", self.cert_file.as_str());
            (self.cert_file.place, Mistake::new(what).hint("write a PEM file, leaf first"))
        })?;
        let key = self.private_key().map_err(|mistake| (self.key.place, mistake))?;
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let what = format!("the certificate and the key do not fit together: {error}");
            (self.key.place, Mistake::new(what).hint("name the key that the certificate is for"))
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(Arc::new(config))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, Mistake> {
        let secret = self.key.read()?;
        // What the parser says may quote what it has read.
        PrivateKeyDer::from_pem_slice(secret.expose().as_bytes()).map_err(|_| {
            Mistake::new(format!("there is no private key in {}", self.key.describe()))
                .hint("write it as PEM, without a passphrase")
        })
    }

    /// A number that changes when the content of any file does.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let files = [Some(&self.cert_file), self.client_ca_file.as_ref()];
        for file in files.into_iter().flatten() {
            std::fs::read(file.as_str()).ok().hash(&mut hasher);
        }
        self.key.fingerprint().hash(&mut hasher);
        hasher.finish()
    }
}
