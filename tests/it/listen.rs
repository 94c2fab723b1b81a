//! How clients reach the listener other than by plain TCP: TLS and Unix sockets.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::http2::Multiplexed;
use crate::support::{PATIENCE, Place, Process, Upstream, eventually, file};

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// How a client trusts it, and what the client shows of itself.
    fn client(&self, own: Option<&Pair>, protocol: &str) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(bearerd::net::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config)
    }
}

/// A sidecar whose listener speaks TLS.
struct Secure {
    process: Process,
    authority: Authority,
    certificate: PathBuf,
    key: PathBuf,
}

impl Secure {
    fn start(upstream: &Upstream, more: &str) -> Self {
        let authority = Authority::new();
        let pair = authority.issue("localhost");
        let certificate = file("listener.pem", &pair.certificate);
        let key = file("listener.key", &pair.key);
        let ca = file("clients.pem", &authority.pem);
        let more = more.replace("CLIENTS", ca.to_str().unwrap());
        let config = format!(
            "tls: {{cert_file: {}, key: {{file: {}}}{more}\nroutes: [{{upstream: '{}'}}]\n",
            certificate.display(),
            key.display(),
            upstream.url()
        );
        let process = Process::start(&file("secure.yaml", &config), &[]);
        Self { process, authority, certificate, key }
    }

    /// What a client reads that sends a GET.
    fn get(&self, config: &Arc<ClientConfig>) -> std::io::Result<(String, Vec<u8>)> {
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let (answer, shown) = self.say(config, request)?;
        Ok((String::from_utf8(answer).map_err(std::io::Error::other)?, shown))
    }

    /// All that a client reads that sends these bytes, and the certificate that it is shown.
    fn say(&self, config: &Arc<ClientConfig>, bytes: &[u8]) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
        let stream = TcpStream::connect(self.process.proxy)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut tls = StreamOwned::new(connection, stream);
        tls.write_all(bytes)?;
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer)?;
        let shown = tls.conn.peer_certificates().unwrap()[0].to_vec();
        Ok((answer, shown))
    }
}

#[test]
fn what_the_handshake_settles_on_is_what_is_spoken() {
    let upstream = Upstream::ok();
    let secure = Secure::start(&upstream, "}");
    // The connection ends in the middle of TLS, perhaps: what was read until then counts.
    let said = |protocol, bytes| {
        let config = secure.authority.client(None, protocol);
        secure.say(&config, bytes).map_or_else(|_| Vec::new(), |(answer, _)| answer)
    };
    // RFC 9113 section 3.4: no preface is an error of the connection.
    let one = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = said("h2", one);
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    let two = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = said("http/1.1", two);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    assert!(upstream.requests().is_empty());
}

#[test]
fn clients_that_speak_tls_are_served_over_both_protocols() {
    let upstream = Upstream::ok();
    let secure = Secure::start(&upstream, "}");
    let (answer, _) = secure.get(&secure.authority.client(None, "http/1.1")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let config = secure.authority.client(None, "h2");
    let client = Multiplexed::secure(secure.process.proxy, config);
    let request = http::Request::get("https://localhost/").body(()).unwrap();
    assert_eq!(client.send(request, None).text(), "ok");
    let other = http::Request::get("https://evil.example/").body(()).unwrap();
    assert_eq!(client.send(other, None).refusal(), "host");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    for (request, version) in requests.iter().zip(["1.1 ", "2 "]) {
        assert_eq!(request.head.one("x-forwarded-proto"), "https");
        assert!(request.head.one("via").starts_with(version), "{:?}", request.head);
    }
}

#[test]
fn a_renewed_certificate_is_shown_and_a_broken_one_is_not() {
    let upstream = Upstream::ok();
    let secure = Secure::start(&upstream, "}");
    let config = secure.authority.client(None, "http/1.1");
    let (_, first) = secure.get(&config).unwrap();
    let pair = secure.authority.issue("localhost");
    fs::write(&secure.key, &pair.key).unwrap();
    fs::write(&secure.certificate, &pair.certificate).unwrap();
    let renewed = || secure.get(&config).is_ok_and(|(_, shown)| shown != first);
    eventually(renewed, || secure.process.log());
    fs::write(&secure.certificate, "no certificate").unwrap();
    let failed = || secure.process.metric("bearerd_secret_reload_total{result=\"failure\"}") > 0.5;
    eventually(failed, || secure.process.log());
    let (answer, shown) = secure.get(&config).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && shown != first);
    assert!(secure.process.log().contains("certificate not reloaded"));
}

#[test]
fn clients_must_show_a_certificate_where_authorities_are_named() {
    let upstream = Upstream::ok();
    let secure = Secure::start(&upstream, ", client_ca_file: CLIENTS}");
    assert!(secure.get(&secure.authority.client(None, "http/1.1")).is_err());
    let stranger = Authority::new().issue("client");
    assert!(secure.get(&secure.authority.client(Some(&stranger), "http/1.1")).is_err());
    assert_eq!(upstream.requests().len(), 0);
    let known = secure.authority.issue("client");
    let (answer, _) = secure.get(&secure.authority.client(Some(&known), "http/1.1")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn http_in_the_clear_is_answered_where_tls_is_spoken() {
    let upstream = Upstream::ok();
    let secure = Secure::start(&upstream, "}");
    let answer = secure.process.client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (400, "no-tls"));
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn a_handshake_that_does_not_end_is_ended() {
    let upstream = Upstream::ok();
    let secure = Secure::start(&upstream, "}\nlimits: {head: 200ms}");
    let mut silent = secure.process.client();
    let mut halfway = secure.process.client();
    halfway.send([22, 3, 1, 2, 0]);
    let began = SystemTime::now();
    assert!(halfway.is_closed() && silent.is_closed());
    assert!(began.elapsed().unwrap() < Duration::from_secs(3));
    let (answer, _) = secure.get(&secure.authority.client(None, "http/1.1")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

fn complaint(yaml: &str) -> String {
    let config =
        file("check.yaml", &format!("{yaml}\nroutes: [{{upstream: 'https://a.example'}}]\n"));
    let output = Command::new(env!("CARGO_BIN_EXE_bearerd"))
        .args(["check", "--config", config.to_str().unwrap()])
        .stdout(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn mistakes_about_the_listener_are_told_with_their_place() {
    let authority = Authority::new();
    let (pair, other) = (authority.issue("localhost"), authority.issue("localhost"));
    let certificate = file("c.pem", &pair.certificate).display().to_string();
    let key = file("k.pem", &pair.key).display().to_string();
    let wrong = file("w.pem", &other.key).display().to_string();
    let junk = file("j.pem", "canary-of-a-key").display().to_string();
    for (yaml, place, words) in [
        (
            format!("tls: {{cert_file: {certificate}, key: {{file: {wrong}}}}}"),
            ":1:",
            "fit together",
        ),
        (
            format!("tls: {{cert_file: {junk}, key: {{file: {key}}}}}"),
            ":1:",
            "holds no certificate",
        ),
        (
            format!("tls:\n  cert_file: {certificate}\n  key: {{file: {junk}}}"),
            ":3:",
            "no private key",
        ),
        (
            format!("tls: {{cert_file: /nowhere, key: {{file: {key}}}}}"),
            ":1:",
            "cannot use the certificate",
        ),
        (
            format!(
                "tls:\n  cert_file: {certificate}\n  key: {{file: {key}}}\n  client_ca_file: {junk}"
            ),
            ":4:",
            "holds no certificate",
        ),
        (
            format!("listen: 0.0.0.0:80\ntls: {{cert_file: {certificate}, key: {{file: {key}}}}}"),
            ":1:",
            "authority",
        ),
        ("listen: unix:proxy.sock".to_owned(), ":1:", "is not a socket to listen at"),
        (
            format!(
                "listen: unix:/a.sock\ntls: {{cert_file: {certificate}, key: {{file: {key}}}}}"
            ),
            ":1:",
            "has no TLS",
        ),
        ("socket_mode: 9".to_owned(), ":1:", "three octal digits"),
    ] {
        let complaint = complaint(&yaml);
        assert!(complaint.contains(place) && complaint.contains(words), "{yaml}\n{complaint}");
        assert!(!complaint.contains("canary"), "{complaint}");
    }
    let ca = file("ca.pem", &authority.pem).display().to_string();
    let fine = format!(
        "listen: 0.0.0.0:80\ntls: {{cert_file: {certificate}, key: {{file: {key}}}, client_ca_file: {ca}}}"
    );
    assert_eq!(complaint(&fine), "");
}

#[test]
fn a_unix_socket_is_for_its_user_and_goes_with_the_process() {
    let upstream = Upstream::ok();
    let config = file("unix.yaml", &format!("routes: [{{upstream: '{}'}}]\n", upstream.url()));
    let place = Place::new();
    let path = place.path().join("proxy.sock");
    let listen = format!("unix:{}", path.display());
    let start = || Process::listening(&config, &[], &listen);
    // What a killed process has left behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let process = start();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let get = |host: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(get("localhost").starts_with("HTTP/1.1 200 OK\r\n"));
    // No browser gets here, but a relay may, and it has names too.
    assert!(get("evil.example").starts_with("HTTP/1.1 403 "));
    let request = upstream.request();
    assert!(!request.head.has("x-forwarded-for"));
    assert_eq!(request.head.one("x-forwarded-host"), "localhost");
    let second = Command::new(env!("CARGO_BIN_EXE_bearerd"))
        .args(["run", "--admin", "127.0.0.1:0", "--listen", &listen, "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && words.contains("cannot listen at unix:"), "{words}");
    assert!(get("localhost").starts_with("HTTP/1.1 200 OK\r\n"));
    process.stop();
    assert!(!path.exists());
    fs::write(&path, "not a socket").unwrap();
    let third = Command::new(env!("CARGO_BIN_EXE_bearerd"))
        .args(["run", "--admin", "127.0.0.1:0", "--listen", &listen, "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&third.stderr).contains("there is another file"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "not a socket");
}

#[test]
fn a_slow_client_is_given_up_over_tls_too() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")?;
        while conversation.send([0_u8; 65_536]).is_ok() {}
        Ok(())
    });
    let secure = Secure::start(&upstream, "}\nlimits: {write_idle: 300ms, idle: 300ms}");
    let name = ServerName::try_from("localhost").unwrap();
    let config = secure.authority.client(None, "http/1.1");
    let connection = ClientConnection::new(config, name).unwrap();
    let stream = TcpStream::connect(secure.process.proxy).unwrap();
    let mut tls = StreamOwned::new(connection, stream);
    tls.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut some = [0; 16];
    tls.read_exact(&mut some).unwrap();
    eventually(|| secure.process.metric("bearerd_connections ") < 0.5, || secure.process.log());
}

#[test]
fn the_json_log_has_where_it_listens_in_fields_and_an_empty_choice_silences_nothing() {
    let config = file("json", "routes: [{upstream: 'https://a.example'}]\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bearerd"));
    command.args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "json"]);
    command.arg("--config").arg(&config).env_clear().env("RUST_LOG", "");
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["message"], "listening", "{line}");
    for key in ["proxy", "admin"] {
        let address: std::net::SocketAddr = line[key].as_str().unwrap().parse().unwrap();
        assert_ne!(address.port(), 0, "{line}");
    }
}
