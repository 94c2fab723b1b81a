//! The way to the issuer: TLS, names, addresses (F24, F26, F27).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::support::{
    Issuer, Launch, Reply, Sidecar, Upstream, eventually, secs, simple, tolerance, within,
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for 127.0.0.1, with changes.
    fn config(&self, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(bearerd::net::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}

/// A token endpoint with TLS.
struct Secure {
    address: SocketAddr,
    /// Bytes that came through TLS.
    heard: Arc<AtomicUsize>,
    handshakes: Arc<AtomicUsize>,
}

impl Secure {
    fn start(config: ServerConfig) -> Self {
        let config = Arc::new(config);
        Self::run(move |stream, heard| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, stream);
            let mut buffer = [0_u8; 8192];
            let mut request = Vec::new();
            while !request.ends_with(b"grant_type=client_credentials") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(count) => request.extend_from_slice(&buffer[..count]),
                }
                heard.store(request.len(), Ordering::SeqCst);
            }
            stream.write_all(&Reply::token("token-0", 600.0).bytes()).ok();
        })
    }

    fn run(serve: impl Fn(TcpStream, &AtomicUsize) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, handshakes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&heard), Arc::clone(&handshakes));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counts.1.fetch_add(1, Ordering::SeqCst);
                serve(stream.unwrap(), &counts.0);
            }
        });
        Self { address, heard, handshakes }
    }
}

/// F24.
#[test]
fn a_bad_certificate_has_its_reason_and_hears_no_credential_f24() {
    let (ours, other, upstream) = (Authority::new(), Authority::new(), Upstream::ok());
    let old = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let elsewhere = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("other.example".try_into().unwrap())];
    };
    // TLS 1.1: the server's answer is the alert `protocol_version`.
    let outdated = Secure::run(|mut stream, _| {
        stream.read_exact(&mut [0_u8; 64]).ok();
        stream.write_all(&[0x15, 3, 2, 0, 2, 2, 70]).ok();
    });
    for (server, reason) in [
        (Secure::start(ours.config(old)), "tls_expired"),
        (Secure::start(ours.config(elsewhere)), "tls_name"),
        (Secure::start(other.config(|_| {})), "tls_untrusted"),
        (outdated, "tls"),
    ] {
        let sidecar = secured(&server, &ours, &upstream);
        eventually(reason, || sidecar.failures(reason) >= 2.0);
        assert_eq!(server.heard.load(Ordering::SeqCst), 0, "{reason}");
        assert!(server.handshakes.load(Ordering::SeqCst) >= 2, "tried again soon");
    }
    let good = Secure::start(ours.config(|_| {}));
    let sidecar = secured(&good, &ours, &upstream);
    sidecar.await_ready();
    assert!(good.heard.load(Ordering::SeqCst) > 0);
}

fn secured(server: &Secure, authority: &Authority, upstream: &Upstream) -> Sidecar {
    let launch = Sidecar::launch();
    launch.write("ca.pem", authority.pem());
    let url = format!("https://{}/token", server.address);
    launch.start(&simple(&url, upstream, ", tls: {ca_file: DIR/ca.pem}"))
}

/// F26: a name that nobody knows (RFC 6761 section 6.4).
#[test]
fn a_name_that_cannot_be_resolved_is_tried_again_f26() {
    let upstream = Upstream::ok();
    let config = simple("https://issuer.invalid/token", &upstream, "");
    let sidecar = Sidecar::start(&config);
    eventually("two tries", || sidecar.failures("resolve") + sidecar.failures("timeout") >= 2.0);
    assert!(!sidecar.is_ready());
}

/// F26: the name has two addresses, and the one of IPv6 swallows every packet.
#[test]
fn an_address_that_swallows_packets_costs_a_quarter_of_a_second_f26() {
    let issuer = Issuer::giving(600.0);
    let hole = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    let place = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], issuer.address.port()));
    let bound = hole.set_only_v6(true).and_then(|()| hole.bind(&place.into()));
    let Some(launch) = with_hosts("127.0.0.1 issuer.test\n::1 issuer.test\n") else { return };
    if bound.is_err() {
        eprintln!("not proved here: this machine has no IPv6");
        return;
    }
    // A listener whose queue is full drops what comes.
    hole.listen(0).unwrap();
    let fillers = Mutex::new(Vec::new());
    within(secs(10.0), "a full queue", || {
        match TcpStream::connect_timeout(&place, secs(0.2)) {
            Ok(stream) => fillers.lock().unwrap().push(stream),
            Err(_) => return true,
        }
        false
    });
    let upstream = Upstream::ok();
    let url = format!("http://issuer.test:{}/token", issuer.address.port());
    let sidecar = launch.start(&simple(&url, &upstream, ", plaintext: true"));
    sidecar.await_ready();
    assert_eq!(issuer.count(), 1);
    let took = sidecar.metric("bearerd_token_refresh_duration_seconds_sum");
    assert!(
        (0.24..0.3 + tolerance()).contains(&took),
        "{took} s; at less the hole was not tried first"
    );
}

/// F27: the name's address changes while the program runs.
#[test]
fn a_new_address_of_the_issuer_is_found_without_a_restart_f27() {
    let (issuer, upstream) = (Issuer::giving(2.0), Upstream::ok());
    let Some(launch) = with_hosts("127.0.0.1 issuer.test\n") else { return };
    let hosts = launch.path("hosts");
    let url = format!("http://issuer.test:{}/token", issuer.address.port());
    let sidecar = launch.start(&simple(&url, &upstream, ", plaintext: true"));
    sidecar.await_ready();
    // 127.0.0.9 is this machine too, and nobody listens there. The file is written in place,
    // because the mount is of the file and not of its name.
    std::fs::write(&hosts, "127.0.0.9 issuer.test\n").unwrap();
    eventually("a failure", || sidecar.failures("connect") >= 1.0);
    let before = issuer.count();
    std::fs::write(&hosts, "127.0.0.1 issuer.test\n").unwrap();
    issuer.await_posts(before + 1);
    sidecar.await_ready();
}

/// The program with an `/etc/hosts` of its own, which takes a mount namespace; `None` where the
/// machine does not give us one.
fn with_hosts(content: &str) -> Option<Launch> {
    let possible = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", "mount --bind /etc/hosts /etc/hosts"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !possible {
        eprintln!("not proved here: no mount namespace");
        return None;
    }
    let launch = Sidecar::launch();
    let hosts = launch.write("hosts", content);
    let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    Some(launch.wrapped(&["unshare", "-m", "sh", "-c", &script, "sh"]))
}
