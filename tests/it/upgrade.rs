//! WebSocket tunnels (S11, P28, P29).

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crate::support::{
    Answer, Client, Conversation, PATIENCE, Sidecar, Upstream, eventually, read as read_once,
};

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n\
     connection: x, UPGRADE\r\nx: hop\r\nsec-websocket-accept: accepted\r\n\
     sec-websocket-protocol: chat\r\nx-end: 1\r\n\r\n";

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

const ACTIVE: &str = "bearerd_upgrades_active{route=\"route-1\"}";

const HANDSHAKE: [&str; 7] = [
    "GET /chat?room=1 HTTP/1.1",
    "Host: localhost",
    "Connection: keep-alive, Upgrade",
    "Upgrade: WebSocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Protocol: chat, superchat",
];

/// Sends back what it gets; after the end of that it says `bye` and ends too.
fn echo(conversation: &mut Conversation) -> std::io::Result<()> {
    let mut chunk = [0_u8; 16 * 1024];
    loop {
        match read_once(&mut conversation.stream, &mut chunk)? {
            0 => return conversation.send("bye"),
            count => conversation.send(&chunk[..count])?,
        }
    }
}

/// An upstream that agrees to handshakes and echoes; any other request is answered 200.
fn echoing() -> Upstream {
    Upstream::run(|conversation| {
        loop {
            if conversation.request()?.head.has("upgrade") {
                conversation.send(AGREED)?;
                return echo(conversation);
            }
            conversation.send(OK)?;
        }
    })
}

/// Opens a tunnel.
fn tunnel(sidecar: &Sidecar) -> Client {
    let mut client = sidecar.client();
    let head = client.request(&HANDSHAKE).head();
    assert_eq!(head.start, "HTTP/1.1 101 Switching Protocols");
    client
}

/// Reads so many bytes out of a tunnel.
fn read(client: &mut Client, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        let some = client.some();
        assert!(!some.is_empty(), "the tunnel ended after {} bytes", all.len());
        all.extend(some);
    }
    assert_eq!(all.len(), count);
    all
}

fn assert_echoes(client: &mut Client, bytes: &[u8]) {
    client.send(bytes);
    assert_eq!(read(client, bytes.len()), bytes);
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn a_handshake_carries_the_credential_and_its_own_fields_p28() {
    let upstream = echoing();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let mut lines = HANDSHAKE.to_vec();
    lines.extend([
        "Authorization: Bearer the-clients-own",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "HTTP2-Settings: AAMAAABkAARAAAAA",
        "TE: trailers",
        "Connection: te, http2-settings, authorization, x-hop",
        "X-Hop: 1",
    ]);
    let answer = client.request(&lines).head();
    assert_eq!(answer.start, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(answer.one("connection"), "Upgrade");
    assert_eq!(answer.one("upgrade"), "websocket");
    assert_eq!(answer.one("sec-websocket-accept"), "accepted");
    assert_eq!(answer.one("sec-websocket-protocol"), "chat");
    assert_eq!(answer.one("x-end"), "1");
    assert!(!answer.has("x") && !answer.has("content-length"));
    assert_echoes(&mut client, b"\x81\x05hello");
    let sent = upstream.request().head;
    assert_eq!(sent.start, "GET /chat?room=1 HTTP/1.1");
    assert_eq!(sent.one("authorization"), "Bearer secret-credential");
    assert_eq!(sent.one("connection"), "Upgrade");
    assert_eq!(sent.one("upgrade"), "websocket");
    assert_eq!(sent.one("sec-websocket-key"), "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(sent.one("sec-websocket-version"), "13");
    assert_eq!(sent.one("sec-websocket-protocol"), "chat, superchat");
    assert_eq!(sent.one("sec-websocket-extensions"), "permessage-deflate; client_max_window_bits");
    for gone in ["http2-settings", "te", "x-hop", "content-length", "transfer-encoding"] {
        assert!(!sent.has(gone), "{gone}");
    }
    let series = "bearerd_requests_total{code=\"101\",method=\"GET\",route=\"route-1\"}";
    sidecar.await_metric(series, 1.0);
}

#[test]
fn a_subprotocol_that_is_a_credential_is_removed_s18() {
    let upstream = echoing();
    let sidecar = Sidecar::before(&upstream);
    let (last, handshake) = HANDSHAKE.split_last().unwrap();
    assert!(last.ends_with("chat, superchat"));
    for (offers, arrives) in [
        (
            &["chat, base64url.bearer.authorization.k8s.io.dGhlaXJz, superchat"][..],
            "chat, superchat",
        ),
        (&["OpenAI-Insecure-API-Key.theirs", "realtime"], "realtime"),
        (&["base64url.bearer.authorization.k8s.io.dGhlaXJz"], ""),
    ] {
        let offers: Vec<String> =
            offers.iter().map(|offer| format!("Sec-WebSocket-Protocol: {offer}")).collect();
        let lines: Vec<&str> =
            handshake.iter().copied().chain(offers.iter().map(String::as_str)).collect();
        let answer = sidecar.client().request(&lines).head();
        assert_eq!(answer.start, "HTTP/1.1 101 Switching Protocols");
        let sent = upstream.requests().pop().unwrap().head;
        assert_eq!(sent.one("sec-websocket-protocol"), arrives);
        assert_eq!(sent.all("authorization"), ["Bearer secret-credential"]);
    }
    let stripped =
        "bearerd_client_credentials_stripped_total{header=\"authorization\",route=\"route-1\"}";
    assert!((sidecar.metric(stripped) - 3.0).abs() < 0.5);
}

#[test]
fn bytes_go_through_untouched_and_each_side_ends_by_itself_p28() {
    let upstream = echoing();
    let sidecar = Sidecar::before(&upstream);
    let mut client = tunnel(&sidecar);
    // What looks like HTTP is none.
    assert_echoes(&mut client, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_echoes(&mut client, b"\0\r\n\xff");
    let large = pattern(1024 * 1024);
    let mut writer = client.stream.try_clone().unwrap();
    let sent = large.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let got = client.until_closed().unwrap();
    writing.join().unwrap();
    assert!(got.len() == large.len() + 3 && got.starts_with(&large) && got.ends_with(b"bye"));
    sidecar.await_metric(ACTIVE, 0.0);
    sidecar.await_metric("bearerd_connections", 0.0);
}

#[test]
fn the_upstream_may_end_first_and_may_speak_first() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        // In one piece with the head.
        conversation.send(format!("{AGREED}hello"))?;
        conversation.stream.shutdown(Shutdown::Write)?;
        let mut rest = Vec::new();
        conversation.stream.read_to_end(&mut rest)?;
        assert_eq!(rest, b"still here");
        Ok(())
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = tunnel(&sidecar);
    assert_eq!(client.until_closed().unwrap(), b"hello");
    sidecar.await_metric(ACTIVE, 1.0);
    client.send("still here").stream.shutdown(Shutdown::Write).unwrap();
    sidecar.await_metric(ACTIVE, 0.0);
}

#[test]
fn a_client_that_does_not_wait_is_heard_after_the_agreement() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut byte = [0_u8; 1];
        let early = conversation.stream.read(&mut byte);
        conversation.stream.set_read_timeout(None)?;
        match early {
            Ok(_) => conversation.send("HTTP/1.1 500 Early\r\ncontent-length: 0\r\n\r\n"),
            Err(_) => {
                conversation.send(AGREED)?;
                echo(conversation)
            }
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    client.send(HANDSHAKE.join("\r\n") + "\r\n\r\nearly");
    assert_eq!(client.head().start, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(read(&mut client, 5), b"early");
}

#[test]
fn a_side_that_takes_nothing_holds_the_other_back() {
    const ALL: usize = 128 * 1024 * 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let upstream = Upstream::run(move |conversation| {
        conversation.request()?;
        conversation.send(AGREED)?;
        let chunk = vec![7_u8; 64 * 1024];
        while count.load(Ordering::SeqCst) < ALL {
            conversation.send(&chunk)?;
            count.fetch_add(chunk.len(), Ordering::SeqCst);
        }
        Ok(())
    });
    let sidecar = Sidecar::limited(&upstream, "write_idle: 100ms");
    let mut client = tunnel(&sidecar);
    std::thread::sleep(Duration::from_millis(600));
    let ahead = sent.load(Ordering::SeqCst);
    assert!(ahead < ALL / 2, "{ahead} bytes ahead");
    let mut got = client.some().len();
    let mut chunk = vec![0_u8; 1024 * 1024];
    while got < ALL {
        let count = read_once(&mut client.stream, &mut chunk).unwrap();
        assert!(count > 0, "ended after {got}");
        got += count;
    }
    assert_eq!(got, ALL);
}

#[test]
fn only_a_websocket_handshake_is_one_s11() {
    let upstream = echoing();
    let sidecar = Sidecar::before(&upstream);
    let cases: &[&[&str]] = &[
        &[
            "GET / HTTP/1.1",
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMA",
        ],
        &["GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c, websocket"],
        &["GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"],
        &["GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket/13"],
        &["GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: "],
        &["GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: TLS/1.0"],
        &["GET / HTTP/1.1", "Connection: keep-alive", "Upgrade: websocket"],
        &["GET / HTTP/1.1", "Connection: Upgraded", "Upgrade: websocket"],
        &["GET / HTTP/1.1", "Upgrade: websocket"],
        &["GET / HTTP/1.1", "Connection: Upgrade"],
        &["GET / HTTP/1.0", "Connection: keep-alive, Upgrade", "Upgrade: websocket"],
        &["POST / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"],
        &["OPTIONS / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"],
        &["GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 0"],
        &["GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 4"],
        &[
            "GET / HTTP/1.1",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Transfer-Encoding: chunked",
        ],
    ];
    for lines in cases {
        let mut client = sidecar.client();
        let mut all = vec![lines[0], "Host: localhost"];
        all.extend(&lines[1..]);
        client.request(&all);
        match *lines.last().unwrap() {
            "Content-Length: 4" => drop(client.send("body")),
            "Transfer-Encoding: chunked" => drop(client.send("4\r\nbody\r\n0\r\n\r\n")),
            _ => {}
        }
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "{lines:?}");
        assert_eq!(client.get("/").status(), 200, "{lines:?}");
        let sent = &upstream.requests()[upstream.requests().len() - 2].head;
        assert_eq!(sent.one("authorization"), "Bearer secret-credential");
        for gone in ["upgrade", "http2-settings", "connection"] {
            assert!(!sent.has(gone), "{gone}: {lines:?}");
        }
    }
    assert_eq!(upstream.connections(), 1);
}

fn handshake_answered(answer: &'static str) -> (Sidecar, Upstream, Client, Answer) {
    let upstream = Upstream::run(move |conversation| {
        loop {
            let is_handshake = conversation.request()?.head.has("upgrade");
            conversation.send(if is_handshake { answer } else { OK })?;
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let answer = client.request(&HANDSHAKE).answer();
    (sidecar, upstream, client, answer)
}

#[test]
fn another_agreement_than_asked_for_is_refused_s11_p29() {
    for answer in [
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nraw",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n\r\nraw",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\n\r\nraw",
        "HTTP/1.1 101 x\r\nupgrade: websocket\r\n\r\nraw",
        "HTTP/1.1 101 x\r\nconnection: close\r\nupgrade: websocket\r\n\r\nraw",
        "HTTP/1.1 101 x\r\n\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let (sidecar, upstream, mut client, got) = handshake_answered(answer);
        assert_eq!((got.status(), got.refusal().as_str()), (502, "upstream-invalid"), "{answer}");
        assert_eq!(got.head.one("connection"), "close", "{answer}");
        assert!(client.is_closed(), "{answer}");
        assert_eq!(sidecar.client().get("/").status(), 200);
        assert_eq!(upstream.connections(), 2, "{answer}");
        assert!(sidecar.metric(ACTIVE).abs() < 0.5);
    }
}

#[test]
fn an_agreement_to_nothing_is_refused_s11_p29() {
    let upstream = Upstream::answering(AGREED);
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let got = client.get("/");
    assert_eq!((got.status(), got.refusal().as_str()), (502, "upstream-invalid"));
    assert!(client.is_closed());
}

#[test]
fn an_upstream_that_does_not_agree_is_heard_as_ever() {
    let (_sidecar, upstream, mut client, got) = handshake_answered(
        "HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         content-length: 2\r\n\r\nno",
    );
    assert_eq!((got.status(), got.text().as_str()), (426, "no"));
    assert!(!got.head.has("upgrade") && !got.head.has("connection"));
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_upgraded_connection_is_never_used_again() {
    let upstream = echoing();
    let sidecar = Sidecar::before(&upstream);
    assert_eq!(sidecar.client().get("/").status(), 200);
    for _ in 0..3 {
        let mut client = tunnel(&sidecar);
        assert_echoes(&mut client, b"x");
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.until_closed().unwrap(), b"bye");
        sidecar.await_metric(ACTIVE, 0.0);
    }
    assert_eq!(sidecar.client().get("/").status(), 200);
    // The first tunnel took over the connection that waited.
    assert_eq!(upstream.connections(), 4);
    let series = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";
    sidecar.await_metric(series, 0.0);
}

#[test]
fn pages_of_other_sites_open_no_tunnel_s2() {
    let upstream = echoing();
    let routes = "routes: [{upstream: UPSTREAM, cors: {origins: ['http://localhost:5173']}}]";
    let sidecar = Sidecar::start(&upstream, routes);
    let ask = |host: &str, origin: &str| {
        let (host, origin) = (format!("Host: {host}"), format!("Origin: {origin}"));
        let mut lines = HANDSHAKE.to_vec();
        lines[1] = &host;
        lines.extend([origin.as_str(), "Sec-Fetch-Mode: websocket", "Sec-Fetch-Dest: websocket"]);
        let mut client = sidecar.client();
        let head = client.request(&lines).head();
        let own = head.one("bearerd-refusal");
        (head.start[9..12].to_owned(), own)
    };
    for origin in ["http://evil.example", "null", "http://localhost:8081"] {
        let refused = ("403".to_owned(), "origin".to_owned());
        assert_eq!(ask("localhost:8080", origin), refused, "{origin}");
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(ask("localhost:8080", "http://localhost:5173").0, "101");
    assert_eq!(ask("localhost:8080", "http://localhost:8080").0, "101");
    assert_eq!(ask("evil.example", "http://evil.example").1, "host");
}

#[test]
fn a_rejected_handshake_is_sent_again_with_a_renewed_credential() {
    let issued = AtomicUsize::new(0);
    let issuer = Upstream::run(move |conversation| {
        loop {
            conversation.request()?;
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            let body = format!("{{\"t\":\"token-number-{number}\"}}");
            conversation.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ))?;
        }
    });
    let upstream = Upstream::run(|conversation| {
        loop {
            let head = conversation.request()?.head;
            assert!(head.has("upgrade"));
            if head.one("authorization").ends_with("number-2") {
                conversation.send(AGREED)?;
                return echo(conversation);
            }
            conversation.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")?;
        }
    });
    let url = issuer.url();
    let sidecar = Sidecar::start(
        &upstream,
        &format!(
            "tokens: {{api: {{http: {{acquire: {{url: {url}/}}, value: /t}}}}}}
routes: [{{upstream: UPSTREAM, inject: {{Authorization: 'Bearer ${{api}}'}}}}]"
        ),
    );
    assert_echoes(&mut tunnel(&sidecar), b"renewed");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_tunnel_outlives_its_credential_and_ends_at_closing() {
    let answered = AtomicUsize::new(0);
    let issuer = Upstream::run(move |conversation| {
        loop {
            conversation.request()?;
            let first = answered.fetch_add(1, Ordering::SeqCst) == 0;
            conversation.send(if first {
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 28\r\n\r\n\
                 {\"t\":\"token-number-1\",\"n\":1}"
            } else {
                "HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n"
            })?;
        }
    });
    let upstream = echoing();
    let url = issuer.url();
    let sidecar = Sidecar::start(
        &upstream,
        &format!(
            "tokens: {{api: {{http: {{acquire: {{url: {url}/}}, value: /t, expiry: [{{seconds: /n}}]}}}}}}
token_wait: 1s
limits: {{head: 100ms, idle: 100ms, body_idle: 100ms, write_idle: 100ms, response_head: 2s}}
routes: [{{upstream: UPSTREAM, inject: {{Authorization: 'Bearer ${{api}}'}}}}]"
        ),
    );
    let mut client = tunnel(&sidecar);
    assert_echoes(&mut client, b"valid");
    sidecar.await_metric(ACTIVE, 1.0);
    sidecar.await_metric("bearerd_connections", 1.0);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(sidecar.client().get("/").refusal(), "no-token");
    assert_echoes(&mut client, b"GET / HTTP/1.1\r\n");
    std::thread::sleep(Duration::from_millis(300));
    sidecar.shutdown.drain();
    std::thread::sleep(Duration::from_millis(100));
    assert_echoes(&mut client, b"draining");
    assert!((sidecar.metric(ACTIVE) - 1.0).abs() < 0.5);
    sidecar.shutdown.close();
    assert!(client.is_closed());
    sidecar.await_metric(ACTIVE, 0.0);
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send(AGREED)?;
        let mut byte = [0_u8; 1];
        conversation.stream.read_exact(&mut byte)?;
        // From here on only the upstream speaks.
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(50));
            conversation.send(byte)?;
        }
        conversation.until_closed()
    });
    let sidecar = Sidecar::limited(&upstream, "tunnel_idle: 300ms");
    let mut client = tunnel(&sidecar);
    std::thread::sleep(Duration::from_millis(150));
    client.send("x");
    assert_eq!(read(&mut client, 10), b"xxxxxxxxxx");
    let began = SystemTime::now();
    assert!(client.is_closed());
    let took = began.elapsed().unwrap();
    assert!(took > Duration::from_millis(200) && took < Duration::from_secs(3), "{took:?}");
    sidecar.await_metric(ACTIVE, 0.0);
}

#[test]
fn tunnels_count_as_connections() {
    let upstream = echoing();
    let sidecar = Sidecar::limited(&upstream, "connections: 2");
    let first = tunnel(&sidecar);
    let second = tunnel(&sidecar);
    sidecar.await_metric(ACTIVE, 2.0);
    assert_eq!(sidecar.client().answer().status(), 503);
    drop((first, second));
    eventually(|| sidecar.metric(ACTIVE) < 0.5, || "the tunnels stay".to_owned());
    sidecar.await_metric("bearerd_connections", 0.0);
    assert_eq!(sidecar.client().get("/").status(), 200);
}

#[test]
fn an_agreement_that_holds_the_credential_opens_nothing_s27() {
    let issuer = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 22\r\n\r\n\
         {\"t\":\"token-number-1\"}",
    );
    let upstream = Upstream::run(|conversation| {
        loop {
            let leaks = conversation.request()?.head.has("upgrade");
            let leak = AGREED.replace("accepted", "token-number-1");
            conversation.send(if leaks { &leak } else { OK })?;
        }
    });
    let url = issuer.url();
    let sidecar = Sidecar::start(
        &upstream,
        &format!(
            "tokens: {{api: {{http: {{acquire: {{url: {url}/}}, value: /t}}}}}}
routes: [{{upstream: UPSTREAM, inject: {{Authorization: 'Bearer ${{api}}'}}}}]"
        ),
    );
    assert_eq!(sidecar.client().request(&HANDSHAKE).answer().refusal(), "leak");
    assert_eq!(sidecar.client().get("/").status(), 200);
    assert_eq!(upstream.connections(), 2);
    sidecar.await_metric(ACTIVE, 0.0);
}

#[test]
fn a_tunnel_of_which_one_side_has_ended_gets_ten_seconds_of_silence() {
    let upstream = Upstream::run(|conversation| {
        let request = conversation.request()?;
        conversation.send(AGREED)?;
        if request.head.start.contains("room=1") {
            conversation.stream.shutdown(Shutdown::Write)?;
        }
        conversation.until_closed()?;
        // It has no more to say, and does not go either.
        std::thread::sleep(PATIENCE * 3);
        Ok(())
    });
    let sidecar = Sidecar::before(&upstream);
    let began = SystemTime::now();
    // The upstream ends the one, the client the other; their neighbours say nothing more.
    let mut left = tunnel(&sidecar);
    assert_eq!(left.until_closed().unwrap(), b"");
    let mut lines = HANDSHAKE;
    lines[0] = "GET /chat?room=2 HTTP/1.1";
    let mut leaving = sidecar.client();
    assert!(leaving.request(&lines).head().start.contains("101"));
    leaving.stream.shutdown(Shutdown::Write).unwrap();
    leaving.stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    assert_eq!(leaving.until_closed().unwrap(), b"");
    let took = began.elapsed().unwrap();
    assert!(took > Duration::from_secs(9), "{took:?}");
    sidecar.await_metric(ACTIVE, 0.0);
    sidecar.await_metric("bearerd_connections", 0.0);
}
