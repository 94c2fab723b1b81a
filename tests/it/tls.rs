//! TLS towards upstreams: the credential goes only to the server that the configuration names.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use h2::server::Builder;
use http::Response;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio_rustls::TlsAcceptor;

use crate::support::{Exchange, Http2, Sidecar, Upstream};

/// A certificate authority and the file that it is trusted by.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{name}.pem"));
        fs::write(&file, certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// What makes TLS connections of a server for `localhost` that offers these protocols.
    pub(crate) fn acceptor(&self, alpn: &[&str]) -> TlsAcceptor {
        let mut config =
            self.server_config(CertificateParams::new(["localhost".to_owned()]).unwrap());
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// The same, for clients that have to show a certificate.
    fn config(&self, alpn: &[&str], verifier: Arc<dyn ClientCertVerifier>) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(bearerd::net::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    fn server_config(&self, params: CertificateParams) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(bearerd::net::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }

    /// A server for `names` that answers every connection once, and how many bytes of requests
    /// it has read.
    fn server(&self, names: &[&str], expired: bool) -> (u16, Arc<AtomicUsize>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let config = self.server_config(params);
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut tls = StreamOwned::new(connection, stream);
                let mut head = [0; 4096];
                let read = tls.read(&mut head).unwrap_or(0);
                count.fetch_add(read, Ordering::SeqCst);
                let text = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
                let ours = text.contains("authorization: bearer secret-credential\r\n");
                let body = if ours { "ours" } else { "bare" };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\n{body}"
                );
                if read > 0 && tls.write_all(answer.as_bytes()).is_ok() {
                    tls.conn.send_close_notify();
                    tls.flush().unwrap();
                }
            }
        });
        (port, seen)
    }
}

fn sidecar(port: u16, trusted: &Authority) -> Sidecar {
    // Only the URL of the route is used; the plain upstream stands by for the harness.
    let nobody = Upstream::run(|_| Ok(()));
    let file = trusted.file.display();
    Sidecar::start(
        &nobody,
        &format!(
            "routes: [{{upstream: 'https://localhost:{port}', tls: {{ca_file: '{file}'}}, inject: {{Authorization: Bearer secret-credential}}}}]"
        ),
    )
}

#[test]
fn a_trusted_server_of_the_right_name_gets_the_credential() {
    let authority = Authority::new("right");
    let (port, _) = authority.server(&["localhost"], false);
    let sidecar = sidecar(port, &authority);
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.body.as_slice()), (200, b"ours".as_slice()));
}

#[test]
fn no_other_server_sees_a_byte_of_a_request() {
    let ours = Authority::new("ours");
    let theirs = Authority::new("theirs");
    for (what, (port, seen)) in [
        ("another authority", theirs.server(&["localhost"], false)),
        ("another name", ours.server(&["other.example"], false)),
        ("an expired certificate", ours.server(&["localhost"], true)),
    ] {
        let sidecar = sidecar(port, &ours);
        let answer = sidecar.client().get("/");
        assert_eq!(answer.status(), 502, "{what}");
        assert_eq!(answer.refusal(), "upstream-tls", "{what}");
        assert_eq!(seen.load(Ordering::SeqCst), 0, "{what}");
    }
}

/// Before an upstream with TLS, by which `protocol` is spoken.
fn over_tls(upstream: &Http2, authority: &Authority, protocol: &str) -> Sidecar {
    let (port, file) = (upstream.address.port(), authority.file.display());
    Sidecar::start(
        &Upstream::at(upstream.address),
        &format!(
            "routes: [{{upstream: {{url: 'https://localhost:{port}', protocol: {protocol}}}, tls: {{ca_file: '{file}'}}, inject: {{Authorization: Bearer secret-credential}}}}]"
        ),
    )
}

async fn name_scheme(mut exchange: Exchange) {
    let scheme = exchange.request.uri().scheme_str().unwrap_or_default().to_owned();
    exchange.answer(Response::new(()), scheme);
}

#[test]
fn with_tls_the_upstream_chooses_the_protocol() {
    let authority = Authority::new("alpn");
    let both = authority.acceptor(&["h2", "http/1.1"]);
    let upstream = Http2::start(&Builder::new(), Some(both), name_scheme);
    for protocol in ["auto", "http2"] {
        let sidecar = over_tls(&upstream, &authority, protocol);
        let mut client = sidecar.client();
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "https", "{protocol}");
        }
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (6, 2));
    assert_eq!(upstream.requests()[0].uri.host(), Some("localhost"));

    // One that knows no HTTP/2, or does not say so.
    for alpn in [&["http/1.1"][..], &[]] {
        let upstream = Http2::raw(authority.acceptor(alpn));
        let sidecar = over_tls(&upstream, &authority, "auto");
        let mut client = sidecar.client();
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "http/1.1");
        }
        assert_eq!(upstream.connections(), 1);
        let sidecar = over_tls(&upstream, &authority, "http2");
        let answer = sidecar.client().get("/");
        assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-tls"));
        assert!(answer.text().contains("HTTP/2") || answer.text().contains("Protocol"));
    }
}

#[test]
fn an_upstream_that_changes_its_protocol_is_met_with_the_next_connection() {
    let authority = Authority::new("changing");
    let (old, new) = (authority.acceptor(&["http/1.1"]), authority.acceptor(&["h2", "http/1.1"]));
    // It knows no HTTP/2 at first, then it does, and then no longer.
    let tls = move |index| if (2..4).contains(&index) { new.clone() } else { old.clone() };
    let upstream = Http2::choosing(tls, name_scheme);
    let (port, file) = (upstream.address.port(), authority.file.display());
    let yaml = format!(
        "limits: {{upstream_idle: 50ms}}
routes: [{{upstream: 'https://localhost:{port}', tls: {{ca_file: '{file}'}}}}]"
    );
    let sidecar = Sidecar::start(&Upstream::at(upstream.address), &yaml);
    let mut client = sidecar.client();
    let mut answers = Vec::new();
    for number in 1..=6 {
        answers.push(client.get("/").text());
        crate::support::eventually(|| upstream.open() == 0, || format!("{number} stays"));
        assert_eq!(upstream.connections(), number, "{answers:?}");
    }
    assert_eq!(answers, ["http/1.1", "http/1.1", "https", "https", "http/1.1", "http/1.1"]);
}

#[test]
fn an_upstream_that_demands_http_1_1_gets_it() {
    let authority = Authority::new("demanding");
    let both = authority.acceptor(&["h2", "http/1.1"]);
    for (method, first) in [("GET", 200), ("POST", 502)] {
        let both = both.clone();
        let upstream = Http2::choosing(
            move |_| both.clone(),
            |mut exchange| async move {
                exchange.respond.send_reset(Reason::HTTP_1_1_REQUIRED);
            },
        );
        let sidecar = over_tls(&upstream, &authority, "auto");
        let mut client = sidecar.client();
        let mut ask = || {
            let line = format!("{method} / HTTP/1.1");
            client.request(&[&line, "Host: localhost", "Content-Length: 0"]).answer()
        };
        // It does not say that it did nothing, so that only what may be repeated is.
        let answer = ask();
        assert_eq!(answer.status(), first, "{method}: {}", answer.text());
        for _ in 0..3 {
            assert_eq!(ask().text(), "http/1.1", "{method}");
        }
        assert_eq!((upstream.requests().len(), upstream.connections()), (1, 2), "{method}");
        // Where HTTP/2 is wanted and nothing else, there is nothing else.
        let sidecar = over_tls(&upstream, &authority, "http2");
        for _ in 0..2 {
            assert_eq!(sidecar.client().get("/").refusal(), "upstream-reset");
        }
    }
}

/// What a client shows: a certificate for this name, and its key.
fn identity(authority: &Authority, name: &str) -> (String, String) {
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &authority.issuer).unwrap().pem(), key.serialize_pem())
}

#[test]
fn an_upstream_that_wants_a_certificate_gets_the_present_one() {
    let (ours, clients) = (Authority::new("mtls"), Authority::new("mtls-clients"));
    let strangers = Authority::new("mtls-strangers");
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls::pki_types::CertificateDer::from_pem_file(&clients.file).unwrap();
    roots.add(ca).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        bearerd::net::tls::provider(),
    );
    let config = ours.config(&["h2"], verifier.build().unwrap());
    let upstream = Http2::start(&Builder::new(), Some(config), name_scheme);
    let start = |certificate: &str, key: &str| {
        let (port, ca) = (upstream.address.port(), ours.file.display());
        let yaml = format!(
            "limits: {{upstream_age: 100ms, upstream_idle: 100ms}}\nroutes: [{{upstream: 'https://localhost:{port}', tls: {{ca_file: '{ca}', cert_file: '{certificate}', key: {{file: '{key}'}}}}}}]"
        );
        Sidecar::start(&Upstream::at(upstream.address), &yaml)
    };
    let write = |authority: &Authority, certificate: &Path, key: &Path| {
        let (pem, secret) = identity(authority, "sidecar");
        fs::write(certificate, pem).unwrap();
        fs::write(key, secret).unwrap();
    };
    let certificate = crate::support::file("client.pem", "");
    let key = crate::support::file("client.key", "");
    write(&strangers, &certificate, &key);
    let sidecar = start(&certificate.display().to_string(), &key.display().to_string());
    let answer = sidecar.client().get("/");
    assert_eq!(answer.status(), 502, "{}", answer.text());
    // A certificate that fits is found without a restart.
    write(&clients, &certificate, &key);
    let is_served = || sidecar.client().get("/").status() == 200;
    crate::support::eventually(is_served, || "the new certificate is not shown".to_owned());
    // One that cannot be used changes nothing.
    fs::write(&certificate, "junk").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(sidecar.client().get("/").status(), 200);
    assert!(upstream.requests().iter().all(|seen| seen.uri.scheme_str() == Some("https")));
}
