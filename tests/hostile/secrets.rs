//! Canaries: secrets are planted everywhere, good things and bad things happen, and nothing that
//! comes out of the program may hold one of them, in any common spelling.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::canary::assert_hidden;
use super::support::http2::{Http2, request};
use super::support::{Program, Upstream, connect, crlf, directory, find, read, talk_to_the_end};

/// None of them holds a character that any encoding would change, so that each is found in
/// percent-encoded texts as well; the one with a `/` is looked for in its encoded form too.
pub(crate) const CANARIES: [&str; 8] = [
    "canary-client-secret-1f6b",
    "canary/password-8c2d",
    "canary-access-token-91aa",
    "canary-refresh-token-e07c",
    "canary-assertion-55d3",
    "canary-static-key-b4f0",
    "canary-caller-proof-7e19",
    "canary-client-header-c3c3",
];

/// An issuer that fails in every way in turn, and gives a short token now and then.
pub(crate) fn issuer() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let number = count.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || drop(answer(stream.unwrap(), number)));
        }
    });
    address
}

fn answer(mut stream: TcpStream, number: usize) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    let mut chunk = [0_u8; 4096];
    // The whole request, roughly: head and a small body come in one or two pieces.
    while find(&request, b"\r\n\r\n").is_none() {
        let count = read(&mut stream, &mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..count]);
    }
    std::thread::sleep(Duration::from_millis(10));
    let echo = String::from_utf8_lossy(&request).replace(['"', '\\', '\r', '\n'], " ");
    let [.., access, refresh, _, _, _, _] = CANARIES;
    let (status, body) = match number % 6 {
        0 | 1 => (
            "200 OK",
            format!(
                r#"{{"access_token":"{access}","refresh_token":"{refresh}","token_type":"Bearer","expires_in":2}}"#
            ),
        ),
        2 => (
            "400 Bad Request",
            format!(r#"{{"error":"invalid_grant","error_description":"{echo}"}}"#),
        ),
        3 => ("500 Oops", format!("<html>{echo}</html>")),
        4 => ("200 OK", format!(r#"{{"access_token":"{access} with space","x":"{echo}"}}"#)),
        _ => ("200 OK", format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}""#)),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// The secrets in files of the test `name`, and tokens and routes that want them all.
pub(crate) fn configuration(name: &str, upstream: &Upstream, issuer: SocketAddr) -> String {
    let place = directory(name);
    let [client_secret, password, .., assertion, key, proof, _] = CANARIES;
    for (name, text) in [
        ("client-secret", client_secret),
        ("password", password),
        ("assertion", assertion),
        ("key", key),
        ("proof", proof),
    ] {
        fs::write(place.join(name), text).unwrap();
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (place, url) = (place.display(), upstream.url());
    let token = format!("token_url: http://{issuer}/token");
    format!(
        "caller: {{header: X-Proof, secret: {{file: {place}/proof}}}}
token_wait: 300ms
tokens:
  client: {{oauth2: {{{token}, client_id: c, client_secret: {{file: {place}/client-secret}}}}}}
  user:
    oauth2:
      {token}
      grant: password
      client_id: c
      client_auth: none
      username: u
      password: {{file: {place}/password}}
  workload: {{oauth2: {{{token}, client_id: c, client_auth: {{assertion: {{file: {place}/assertion}}}}}}}}
  key: {{value: {{from: {{file: {place}/key}}}}}}
  missing: {{oauth2: {{token_url: 'http://127.0.0.1:9/token', client_id: c, client_secret: {{file: {place}/client-secret}}}}}}
routes:
  - {{upstream: {url}, match: {{path: /client}}, inject: {{Authorization: 'Bearer ${{client}}'}}}}
  - {{upstream: {url}, match: {{path: /user}}, inject: {{Authorization: 'Bearer ${{user}}'}}}}
  - {{upstream: {url}, match: {{path: /workload}}, inject: {{Authorization: 'Bearer ${{workload}}', X-Key: '${{key}}'}}}}
  - {{upstream: {url}, match: {{path: /key}}, inject: {{Authorization: 'ApiKey ${{key}}'}}}}
  - {{upstream: {url}, match: {{path: /missing}}, inject: {{Authorization: 'Bearer ${{missing}}'}}}}
  - {{upstream: 'http://127.0.0.1:9', match: {{path: /gone}}, inject: {{Authorization: 'ApiKey ${{key}}'}}}}
"
    )
}

/// An upstream that speaks HTTP/2 and counts requests that hold this.
fn http2_upstream(key: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, count) = (stream.unwrap(), Arc::clone(&shared));
            std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    stream.set_nonblocking(true).unwrap();
                    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let field = &request.headers()["authorization"];
                        count.fetch_add(
                            usize::from(field.to_str().unwrap().contains(key)),
                            Ordering::Relaxed,
                        );
                        drop(respond.send_response(http::Response::new(()), true));
                    }
                });
            });
        }
    });
    (address, count)
}

/// Somebody looks at the status page all the time: requests are listed while that is so.
fn watch(program: &Program) -> Arc<Mutex<Vec<u8>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let mut stream = connect(program.admin);
    stream.write_all(b"GET /status/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    std::thread::spawn(move || {
        let mut chunk = [0_u8; 4096];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            into.lock().unwrap().extend_from_slice(&chunk[..count]);
        }
    });
    seen
}

/// The same over HTTP/2, whose library keeps tables of fields and has much to log.
fn ask_over_http2(program: &Program, path: &str, proof: &str, client: &str) {
    let bearer = format!("Bearer {client}");
    let path = format!("{path}?x=1");
    let mut connection = Http2::connect(program.proxy);
    connection.send(&request(
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"localhost"),
            (b":path", path.as_bytes()),
            (b"x-proof", proof.as_bytes()),
            (b"authorization", bearer.as_bytes()),
            (b"cookie", client.as_bytes()),
            (b"x-api-key", client.as_bytes()),
        ],
        None,
        &[],
    ));
    connection.outcome();
}

#[test]
fn no_output_of_any_kind_holds_a_secret_s22_s23_s24_s35() {
    let upstream = Upstream::ok();
    let (http2, over_http2) = http2_upstream(CANARIES[5]);
    let mut configuration = configuration("secrets", &upstream, issuer());
    configuration.push_str(&format!(
        "  - {{upstream: {{url: 'http://{http2}', protocol: http2}}, match: {{path: /two}}, inject: {{Authorization: 'ApiKey ${{key}}'}}}}\n"
    ));
    let trace = [("RUST_LOG", "trace")];
    let program = Program::run_with("secrets", &configuration, &trace);
    let [.., access, _, _, key, proof, client] = CANARIES;
    let reflected = format!("HTTP/1.1 200 OK\nX-Echo: {key}\nContent-Length: 2\n\nok");
    let answers = [
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok".to_owned(),
        "HTTP/1.1 401 No\nWWW-Authenticate: Bearer\nContent-Length: 0\n\n".to_owned(),
        reflected,
        "nonsense\n\n".to_owned(),
    ];
    let mut out = String::new();
    let mut delivered = 0;
    let watched = watch(&program);
    for round in 0..8 {
        upstream.answer(&crlf(&answers[round % answers.len()]), round % 2 == 1);
        // What reflects the key is asked only along routes that send it.
        let paths =
            ["/workload", "/key", "/client", "/user", "/missing", "/gone", "/none", "/two", "/%00"];
        let reflects = round % answers.len() == 2;
        for path in &paths[..if reflects { 2 } else { paths.len() }] {
            for lines in [
                format!("X-Proof: {proof}\nAuthorization: Bearer {client}\nCookie: {client}\n"),
                format!("X-Proof: {client}\nX-Api-Key: {client}\n"),
                format!("X-Proof: {proof}\nTransfer-Encoding: {client}\n"),
                format!("X-Proof: {proof}\nBad Name: {client}\n"),
            ] {
                let request = format!(
                    "GET {path}?x=1 HTTP/1.1\nHost: localhost\nConnection: close\n{lines}\n"
                );
                let answer = talk_to_the_end(program.proxy, &crlf(&request));
                out.push_str(&String::from_utf8_lossy(&answer));
            }
            ask_over_http2(&program, path, proof, client);
        }
        for path in
            ["/metrics", "/status", "/status/requests", "/", "/readyz", "/livez", "/nothing"]
        {
            out.push_str(&program.admin(path));
        }
        for request in upstream.take() {
            let text = String::from_utf8_lossy(&request).into_owned();
            delivered += usize::from(text.contains(access)) + usize::from(text.contains(key));
            assert!(!text.contains(proof), "the proof goes no further: {text}");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    out.push_str(&program.output());
    let watched = String::from_utf8_lossy(&watched.lock().unwrap()).into_owned();
    assert!(watched.contains("/workload"), "requests are listed: {watched}");
    out.push_str(&watched);
    assert!(delivered > 8, "the tokens were in use");
    assert!(over_http2.load(Ordering::Relaxed) > 8, "over HTTP/2 too");
    assert!(out.contains("DEBUG bearerd"), "everything is logged: {out}");
    for reason in ["bad_response", "connect", "invalid_grant", "malformed", "server_error"] {
        let failed = format!("bearerd_token_refresh_total{{reason=\"{reason}\",result=\"failure\"");
        let happened = out.lines().any(|line| line.starts_with(&failed) && !line.ends_with(" 0"));
        assert!(happened, "{reason} happened: {out}");
    }
    assert_hidden(&out, &CANARIES);
}

#[test]
fn the_process_leaves_no_core_and_lets_nobody_look_into_it_s26() {
    let upstream = Upstream::ok();
    let program = Program::run("core", &super::support::plain(&upstream));
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{line}");
    // What cannot be dumped belongs to root in /proc, whoever runs it; as root the mode tells.
    let environment = fs::metadata(format!("/proc/{}/environ", program.id())).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(environment.uid(), 0);
}

#[test]
fn a_secret_that_everybody_can_write_is_refused_and_one_that_others_read_is_told_s34() {
    let place = directory("modes");
    let secret = place.join("secret");
    fs::write(&secret, "canary-mode").unwrap();
    let yaml = format!(
        "tokens: {{t: {{value: {{from: {{file: {}}}}}}}}}\nroutes: [{{upstream: 'https://a.example', inject: {{X: '${{t}}'}}}}]\n",
        secret.display()
    );
    let file = place.join("modes.yaml");
    fs::write(&file, yaml).unwrap();
    for (mode, code, says) in [
        (0o600, 0, None),
        (0o400, 0, None),
        (0o440, 0, None),
        (0o644, 0, Some("readable by others")),
        (0o640, 0, Some("readable by others")),
        (0o666, 64, Some("writable by everybody")),
        (0o602, 64, Some("chmod o-w")),
    ] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bearerd"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{mode:o}: {text}");
        assert_eq!(text.contains("by others") || text.contains("by everybody"), says.is_some());
        assert!(says.is_none_or(|says| text.contains(says)), "{mode:o}: {text}");
        assert!(!text.contains("canary-mode"));
    }
}

#[test]
fn what_the_kubelet_mounts_is_not_told_as_readable_by_others_s34() {
    let place = directory("kubelet");
    // What an earlier run has left: a link cannot be made where one is.
    fs::remove_dir_all(&place).unwrap();
    let files = place.join("..2026_01_01");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("secret"), "canary-kubelet").unwrap();
    fs::set_permissions(files.join("secret"), fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink("..2026_01_01", place.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/secret", place.join("secret")).unwrap();
    let file = place.join("kubelet.yaml");
    let yaml = format!(
        "tokens: {{t: {{value: {{from: {{file: {}}}}}}}}}\nroutes: [{{upstream: 'https://a.example', inject: {{X: '${{t}}'}}}}]\n",
        place.join("secret").display()
    );
    fs::write(&file, yaml).unwrap();
    let check = || {
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_bearerd"));
        let output = check.args(["check", "--config"]).arg(&file).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = check();
    assert!(code == Some(0) && !text.contains("by others"), "{text}");
    fs::set_permissions(files.join("secret"), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(check().0, Some(64), "one that everybody can write is refused there too");
}

#[test]
fn the_keys_of_all_tls_are_secrets_too_s34() {
    let place = directory("tls-modes");
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&pair).unwrap().pem();
    let (cert, key) = (place.join("cert.pem"), place.join("key.pem"));
    fs::write(&cert, certificate).unwrap();
    fs::write(&key, pair.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
    let tls = format!("{{cert_file: {}, key: {{file: {}}}}}", cert.display(), key.display());
    let route = "routes: [{upstream: 'https://a.example'}]\n";
    let token = "token_url: 'https://a.example', client_id: x, client_secret: {env: PATH}";
    let redis = "url: 'rediss://a.example', key: {env: PATH}";
    for yaml in [
        format!("routes: [{{upstream: 'https://a.example', tls: {tls}}}]\n"),
        format!("tokens: {{t: {{oauth2: {{{token}, tls: {tls}}}}}}}\n{route}"),
        format!(
            "tokens: {{t: {{oauth2: {{{token}, state: {{redis: {{{redis}, tls: {tls}}}}}}}}}}}\n{route}"
        ),
        format!("tls: {tls}\n{route}"),
    ] {
        let file = place.join("tls-modes.yaml");
        fs::write(&file, &yaml).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bearerd"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{yaml}: {text}");
        assert!(text.contains("writable by everybody"), "{yaml}: {text}");
    }
}

#[test]
fn beyond_loopback_somebody_must_answer_for_the_callers_s7_s8() {
    let place = directory("reach");
    fs::write(place.join("proof"), "canary-proof").unwrap();
    let file = place.join("reach.yaml");
    let check = |extra: &str| {
        let routes = "routes: [{upstream: 'https://a.example'}]\n";
        fs::write(&file, format!("{extra}\n{routes}")).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bearerd"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let proof = format!("caller: {{header: X-Proof, secret: {{file: {}/proof}}}}", place.display());
    for fine in [
        "listen: 127.0.0.1:1",
        "listen: '[::1]:1'",
        "{listen: '0.0.0.0:1', exposed: true}"
            .trim_matches(['{', '}'])
            .replace(", ", "\n")
            .as_str(),
        format!("listen: 0.0.0.0:1\n{proof}").as_str(),
        "admin: 0.0.0.0:1",
    ] {
        assert_eq!(check(fine).0, Some(0), "{fine}: {}", check(fine).1);
    }
    for wrong in ["listen: 0.0.0.0:1", "listen: '[::]:1'", "listen: 10.0.0.1:1\nexposed: false"] {
        let (code, text) = check(wrong);
        assert_eq!(code, Some(64), "{wrong}");
        assert!(text.contains("exposed: true") && text.contains("caller"), "{text}");
    }
}

#[test]
fn a_caller_without_proof_is_refused_and_the_proof_goes_no_further_s7() {
    let upstream = Upstream::ok();
    let place = directory("caller");
    fs::write(place.join("proof"), "canary-proof-1\n").unwrap();
    let proof =
        format!("caller: {{header: X-Proof, secret: {{file: {}/proof}}}}\n", place.display());
    let program = Program::run("caller", &(proof + &super::support::plain(&upstream)));
    let ask = |lines: &str| {
        let request = format!("GET / HTTP/1.1\nHost: localhost\nConnection: close\n{lines}\n");
        String::from_utf8_lossy(&talk_to_the_end(program.proxy, &crlf(&request))).into_owned()
    };
    for lines in [
        "",
        "X-Proof:\n",
        "X-Proof: canary-proof-2\n",
        "X-Proof: canary-proof-1x\n",
        "X_Proof: canary-proof-1\n",
        "X-Proof: canary-proof-1\nX-Proof: canary-proof-1\n",
    ] {
        assert!(ask(lines).contains("\r\nbearerd-refusal: caller\r\n"), "{lines}");
    }
    assert!(upstream.take().is_empty());
    let good = "X-Proof: canary-proof-1\nX_Proof: canary-proof-1\nX.Proof: canary-proof-1\n";
    assert!(ask(good).starts_with("HTTP/1.1 200"));
    let arrived = upstream.take();
    assert!(find(&arrived[0], b"canary-proof").is_none());
    // A rotated secret is good within seconds, without a restart.
    fs::write(place.join("proof"), "canary-proof-2").unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(ask("X-Proof: canary-proof-2\n").starts_with("HTTP/1.1 200"));
    assert!(ask("X-Proof: canary-proof-1\n").starts_with("HTTP/1.1 403"));
}
