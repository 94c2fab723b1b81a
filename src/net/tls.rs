//! TLS towards upstreams and issuers. The only file that names a crypto provider.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_rustls::TlsConnector;

use crate::vocab::{At, Mistake, Moment, Place, Problems, SecretRef, Text};

/// How soon files that have been read are looked at again.
const FRESH: Duration = Duration::from_secs(1);

/// The `tls` block of a URL's owner. The files are read again when their content changes.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub struct Settings {
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ca_file: Option<At<Text>>,
    /// A PEM file: the certificate by which we prove ourselves (RFC 8705), then those that lead
    /// from it to the authority. Default: none.
    pub cert_file: Option<At<Text>>,
    /// The certificate's private key in PEM.
    pub key: Option<At<SecretRef>>,
}

impl Settings {
    /// Notes what keeps them from being used where TLS `is_spoken`, or that it is not.
    pub fn check(&self, is_spoken: bool, problems: &mut Problems) {
        let written = [&self.ca_file, &self.cert_file].into_iter().flatten().map(|file| file.place);
        let Some(first) = written.chain(self.key.as_ref().map(|key| key.place)).next() else {
            return;
        };
        if !is_spoken {
            let mistake = Mistake::new("`tls` stands beside a URL by which no TLS is spoken");
            problems.add(first, mistake.hint("correct the URL's scheme, or remove `tls`"));
        } else if let Err(error) = self.load(&[])
            && let Some(place) = self.place_of(&error)
        {
            problems.add(place, Mistake::from(&error));
        }
    }

    /// Where the setting stands that an error is about, if it is about any that is written.
    #[must_use]
    pub fn place_of(&self, error: &TlsError) -> Option<Place> {
        let file = |file: &Option<At<Text>>| file.as_ref().map(|file| file.place);
        let key = self.key.as_ref().map(|key| key.place);
        match error {
            TlsError::CaFile { .. } => file(&self.ca_file),
            TlsError::Identity { .. } | TlsError::Half => file(&self.cert_file).or(key),
            TlsError::NoRoots | TlsError::Name(_) | TlsError::Rustls(_) => None,
        }
    }

    fn is_plain(&self) -> bool {
        self.ca_file.is_none() && self.cert_file.is_none() && self.key.is_none()
    }

    /// A number that changes when the content of any file does.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in [&self.ca_file, &self.cert_file].into_iter().flatten() {
            std::fs::read(file.as_str()).ok().hash(&mut hasher);
        }
        self.key.as_ref().map(|key| key.fingerprint()).hash(&mut hasher);
        hasher.finish()
    }

    /// Reads all of it.
    fn load(&self, alpn: &[Vec<u8>]) -> Result<TlsConnector, TlsError> {
        if self.cert_file.is_some() != self.key.is_some() {
            return Err(TlsError::Half);
        }
        let roots = match &self.ca_file {
            Some(file) => Arc::new(roots_of(Path::new(file.as_str()))?),
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match (&self.cert_file, &self.key) {
            (Some(file), Some(key)) => {
                let fault = |why: String| TlsError::Identity { path: file.as_str().into(), why };
                let chain = chain_of(file.as_str()).map_err(fault)?;
                let secret = key.read().map_err(|error| fault(error.to_string()))?;
                // What the parser says may quote what it has read.
                let key = PrivateKeyDer::from_pem_slice(secret.expose().as_bytes())
                    .map_err(|_| fault(format!("no private key in {}", key.describe())))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| fault(format!("the key does not fit: {error}")))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.to_vec();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

pub(super) fn chain_of(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let chain: Result<Vec<_>, _> = read.collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(chain) }
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
    /// The certificate by which we prove ourselves, or its key, cannot be used.
    #[error("cannot use the client certificate {path}: {why}")]
    Identity {
        /// The certificate's file.
        path: String,
        /// Why; nothing of the key is in it.
        why: String,
    },
    /// A certificate without a key, or a key without a certificate.
    #[error("`cert_file` and `key` of `tls` go together; one of them is missing")]
    Half,
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

impl From<&TlsError> for Mistake {
    fn from(error: &TlsError) -> Self {
        let mistake = Self::new(error.to_string());
        match error {
            TlsError::CaFile { .. } => mistake.hint("write a PEM file of certificate authorities"),
            TlsError::Identity { .. } => mistake
                .hint("name PEM files: the certificate, leaf first, and the key that it is for"),
            TlsError::Half => mistake.hint("write both, or neither"),
            TlsError::NoRoots | TlsError::Name(_) | TlsError::Rustls(_) => mistake,
        }
    }
}

/// The crypto provider of the whole program.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Makes TLS connections to one server, whose name comes from the configuration.
#[derive(Clone)]
pub struct Tls {
    name: ServerName<'static>,
    source: Arc<Source>,
}

/// Where a connector comes from, and the one in use.
struct Source {
    settings: Settings,
    alpn: Vec<Vec<u8>>,
    live: Mutex<Live>,
}

struct Live {
    connector: TlsConnector,
    fingerprint: u64,
    looked: Moment,
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
    /// Unusable files, no system roots, or a host that is no DNS name or address.
    pub fn new(host: &str, settings: &Settings, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
        let alpn: Vec<_> = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        // In this order: what changes in between is noticed later.
        let fingerprint = settings.fingerprint();
        let connector = settings.load(&alpn)?;
        let live = Mutex::new(Live { connector, fingerprint, looked: Moment::now() });
        let source = Source { settings: settings.clone(), alpn, live };
        Ok(Self { name, source: Arc::new(source) })
    }

    /// Shakes hands on a connection.
    pub(super) async fn connect(
        &self,
        tcp: tokio::net::TcpStream,
    ) -> io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        self.source.connector().connect(self.name.clone(), tcp).await
    }
}

impl Source {
    /// The connector for what the files hold now. While they cannot be used the last one stays.
    fn connector(&self) -> TlsConnector {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Moment::now();
        if self.settings.is_plain() || now.since(live.looked) < FRESH {
            return live.connector.clone();
        }
        live.looked = now;
        let fingerprint = self.settings.fingerprint();
        if fingerprint != live.fingerprint {
            live.fingerprint = fingerprint;
            match self.settings.load(&self.alpn) {
                Ok(connector) => {
                    live.connector = connector;
                    tracing::info!("certificates for outgoing connections have changed");
                }
                Err(error) => tracing::warn!(%error, "changed certificates cannot be used"),
            }
        }
        live.connector.clone()
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
