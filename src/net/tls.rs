//! TLS towards upstreams and issuers. The only file that names a crypto provider.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_rustls::TlsConnector;

use crate::vocab::{At, Text};

/// The `tls` block of a URL's owner.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub struct Settings {
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ca_file: Option<At<Text>>,
}

impl Settings {
    /// The CA file, if one is configured.
    #[must_use]
    pub fn ca_path(&self) -> Option<PathBuf> {
        self.ca_file.as_ref().map(|file| PathBuf::from(file.as_str()))
    }
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read or holds no certificate.
    #[error("cannot use the CA file {path}: {why}")]
    CaFile {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// The system has no certificate authorities.
    #[error(
        "found no trusted certificate authorities on this system; install ca-certificates, set SSL_CERT_FILE or configure `tls: {{ca_file: ..}}`"
    )]
    NoRoots,
    /// The host of a URL is no name that a certificate could have.
    #[error("`{0}` is not a name that a certificate can be checked against")]
    Name(String),
    /// The provider lacks a protocol version; a fault of the build.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The crypto provider of the whole program.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Makes TLS connections to one server, whose name comes from the configuration.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Prepares connections to `host`, offering the ALPN protocols in order.
    ///
    /// # Errors
    /// An unusable CA file, no system roots, or a host that is no DNS name or address.
    pub fn new(host: &str, ca_file: Option<&Path>, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let roots = match ca_file {
            Some(path) => Arc::new(roots_of(path)?),
            None => system_roots()?,
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Shakes hands on a connection.
    pub(super) async fn connect(
        &self,
        tcp: tokio::net::TcpStream,
    ) -> io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        self.connector.connect(self.name.clone(), tcp).await
    }
}

pub(super) fn roots_of(path: &Path) -> Result<RootCertStore, TlsError> {
    let fault = |why: String| TlsError::CaFile { path: path.display().to_string(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| fault(e.to_string()))? {
        let certificate = certificate.map_err(|e| fault(e.to_string()))?;
        roots.add(certificate).map_err(|e| fault(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

/// Read once: parsing the system's hundred and more certificates takes milliseconds, and each URL
/// of the configuration needs them.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Some systems ship single certificates that do not parse; the rest is still good.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(Arc::clone(roots)) }
}

/// What went wrong in a handshake, as far as it matters for advice and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// The certificate's time is over or has not come.
    Expired,
    /// The certificate is for another name.
    WrongName,
    /// Nobody we trust has signed it.
    Untrusted,
    /// The two sides share no protocol version or cipher.
    Incompatible,
    /// Anything else.
    Other,
}

impl TlsFault {
    /// Tells a handshake's error from other I/O errors.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            rustls::Error::InvalidCertificate(why) => match why {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                _ => Self::Untrusted,
            },
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(
                rustls::AlertDescription::ProtocolVersion
                | rustls::AlertDescription::HandshakeFailure,
            ) => Self::Incompatible,
            _ => Self::Other,
        })
    }
}
