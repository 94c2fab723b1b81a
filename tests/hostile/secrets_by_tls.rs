//! Canaries behind a listener that speaks TLS: its key, and what clients send through it, come out
//! nowhere, whatever becomes of handshakes and of the key's file.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::canary::assert_hidden;
use super::secrets::{CANARIES, configuration, issuer};
use super::support::{PATIENCE, Program, Upstream, connect, crlf, directory, talk_to_the_end};

/// What stands in the key's file after a rotation that went wrong.
const JUNK: &str = "canary-of-a-broken-key-06d8";

/// An authority for both sides, the listener's key, and how clients with and without a certificate
/// of theirs speak.
struct Keys {
    listener: String,
    known: Arc<ClientConfig>,
    unknown: Arc<ClientConfig>,
}

/// Writes the listener's files.
fn keys(place: &std::path::Path) -> Keys {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = KeyPair::generate().unwrap();
    let authority = params.self_signed(&own).unwrap();
    let issuer = Issuer::new(params, own);
    let issue = || {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let (certificate, key) = issue();
    let write = |name: &str, text: &str| {
        fs::write(place.join(name), text).unwrap();
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("authority.pem", &authority.pem());
    write("listener.pem", &certificate.pem());
    write("listener.key", &key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.der().to_vec())).unwrap();
    let client = || {
        ClientConfig::builder_with_provider(bearerd::net::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
    };
    let (shown, its_key) = issue();
    let its_key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(its_key.serialize_der()));
    let known = client().with_client_auth_cert(vec![shown.der().clone()], its_key).unwrap();
    Keys {
        listener: key.serialize_pem(),
        known: Arc::new(known),
        unknown: Arc::new(client().with_no_client_auth()),
    }
}

/// What a client reads to the end, or as much as the handshake lets it.
fn ask(program: &Program, config: &Arc<ClientConfig>, request: &[u8]) -> String {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut tls = StreamOwned::new(connection, connect(program.proxy));
    let mut answer = Vec::new();
    if tls.write_all(request).is_ok() {
        drop(tls.read_to_end(&mut answer));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn every_way_in(program: &Program, keys: &Keys, out: &mut String) {
    let [.., proof, client] = CANARIES;
    for path in ["/workload", "/key", "/client", "/user", "/missing", "/gone", "/none", "/%00"] {
        for lines in [
            format!("X-Proof: {proof}\nAuthorization: Bearer {client}\nCookie: {client}\n"),
            format!("X-Proof: {client}\nX-Api-Key: {client}\n"),
            format!("X-Proof: {proof}\nTransfer-Encoding: {client}\n"),
        ] {
            let request =
                format!("GET {path}?x=1 HTTP/1.1\nHost: localhost\nConnection: close\n{lines}\n");
            out.push_str(&ask(program, &keys.known, &crlf(&request)));
        }
    }
    // A client without a certificate; one that speaks no TLS; one whose handshake is nonsense.
    let request = format!("GET / HTTP/1.1\nHost: localhost\nAuthorization: Bearer {client}\n\n");
    out.push_str(&ask(program, &keys.unknown, &crlf(&request)));
    let plain = talk_to_the_end(program.proxy, &crlf(&request));
    let plain = String::from_utf8_lossy(&plain).into_owned();
    assert!(plain.contains("no-tls"), "{plain}");
    out.push_str(&plain);
    let length = u8::try_from(client.len()).unwrap();
    let hello = [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length], client.as_bytes()].concat();
    out.push_str(&String::from_utf8_lossy(&talk_to_the_end(program.proxy, &hello)));
    for path in ["/metrics", "/status", "/status/requests", "/readyz"] {
        out.push_str(&program.admin(path));
    }
}

#[test]
fn no_output_behind_tls_holds_a_secret_or_the_listeners_key_s22_s23_s24_s35() {
    let upstream = Upstream::ok();
    let name = "secrets-by-tls";
    let place = directory(name);
    let keys = keys(&place);
    let shown = place.display();
    let tls = format!(
        "tls: {{cert_file: {shown}/listener.pem, key: {{file: {shown}/listener.key}}, client_ca_file: {shown}/authority.pem}}\n"
    );
    let text = tls + &configuration(name, &upstream, issuer());
    let program = Program::run_with(name, &text, &[("RUST_LOG", "trace")]);
    let mut out = String::new();
    for _ in 0..4 {
        every_way_in(&program, &keys, &mut out);
    }
    let key = CANARIES[5];
    let delivered = upstream.take();
    let with_key = |request: &&Vec<u8>| String::from_utf8_lossy(request).contains(key);
    assert!(delivered.iter().filter(with_key).count() >= 4, "the tokens were in use");
    // A rotation that goes wrong.
    fs::write(place.join("listener.key"), JUNK).unwrap();
    let failed = "bearerd_secret_reload_total{result=\"failure\"";
    let deadline = SystemTime::now() + PATIENCE;
    loop {
        let metrics = program.admin("/metrics");
        if metrics.lines().any(|line| line.starts_with(failed) && !line.ends_with(" 0")) {
            break;
        }
        assert!(SystemTime::now() < deadline, "the broken key is looked at: {metrics}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    every_way_in(&program, &keys, &mut out);
    out.push_str(&program.output());
    assert!(out.contains("DEBUG bearerd"), "everything is logged: {out}");
    let lines: Vec<&str> = keys.listener.lines().filter(|line| line.len() > 40).collect();
    assert!(lines.len() > 1, "{lines:?}");
    assert_hidden(&out, &CANARIES);
    assert_hidden(&out, &lines);
    assert_hidden(&out, &[JUNK]);
}
