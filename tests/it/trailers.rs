//! Trailers of requests that are malformed: the bytes behind a body are the last chance to say
//! something that the upstream reads otherwise (S17, P14, P36).

use std::sync::{Arc, Mutex};

use crate::support::http2::{DATA, Framed, GOAWAY, HEADERS, RST_STREAM, block, frame};
use crate::support::{Client, Sidecar, Upstream, read};

/// An upstream that keeps what it gets, byte for byte, and answers when that is a whole request.
fn raw() -> (Upstream, Arc<Mutex<Vec<u8>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let upstream = Upstream::run(move |conversation| {
        let mut chunk = [0; 4096];
        loop {
            let count = read(&mut conversation.stream, &mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            let mut log = log.lock().unwrap();
            log.extend_from_slice(&chunk[..count]);
            let body = behind(&log, b"\r\n\r\n");
            if body.ends_with(b"0\r\n\r\n") || behind(&body, b"0\r\n").ends_with(b"\r\n") {
                conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            }
        }
    });
    (upstream, seen)
}

/// What stands behind the first of these.
fn behind(bytes: &[u8], mark: &[u8]) -> Vec<u8> {
    let at = bytes.windows(mark.len()).position(|window| window == mark);
    at.map_or_else(Vec::new, |at| bytes[at + mark.len()..].to_vec())
}

const ACTIVE: &str = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";

fn post(client: &mut Client, trailers: &[u8]) {
    client.request(&[
        "POST / HTTP/1.1",
        "Host: localhost",
        "Trailer: x-a, x-b, authorization",
        "Transfer-Encoding: chunked",
    ]);
    client.send(b"4\r\nbody\r\n0\r\n").send(trailers);
}

#[test]
fn malformed_trailers_leave_the_request_without_an_end() {
    for trailers in [
        &b"x-a : 1\r\n\r\n"[..],
        b" x-a: 1\r\n\r\n",
        b"x-a: 1\r\n x-b: 2\r\n\r\n",
        b"x-a\r\n\r\n",
        b": 1\r\n\r\n",
        b"x-a: 1\0\r\n\r\n",
        b"x-a: 1\x0b\r\n\r\n",
        b"x-a: 1\rx-b: 2\r\n\r\n",
        b"x-a: 1\nx-b: 2\r\n\r\n",
        b"x(a): 1\r\n\r\n",
        b"x-a: 1\r\nx-b\0: 2\r\n\r\n",
        b"x-a: 1\r\nauthorization: mine\r\nx-b\r\n\r\n",
    ] {
        let (upstream, seen) = raw();
        let sidecar = Sidecar::before(&upstream);
        let mut client = sidecar.client();
        post(&mut client, trailers);
        let answer = client.answer();
        assert_eq!((answer.status(), answer.refusal().as_str()), (400, "body"));
        // It is the connection's last, on both sides.
        assert!(client.is_closed());
        sidecar.await_metric(ACTIVE, 0.0);
        let seen = seen.lock().unwrap();
        let body = behind(&seen, b"\r\n\r\n");
        let text = String::from_utf8_lossy(trailers);
        assert!(b"4\r\nbody\r\n".starts_with(&body), "{text:?}: {}", body.escape_ascii());
    }
}

#[test]
fn what_hides_behind_a_bare_line_feed_in_trailers_goes_nowhere() {
    for (trailers, left) in [
        (&b"x-a: 1\n\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &b"x-a: 1\r\n"[..]),
        (b"\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
        (b"x-a: 1\r\n\nauthorization: mine\r\n\r\n", b"x-a: 1\r\n"),
        (b"x-a: 1\n\n\r\n\r\n", b"x-a: 1\r\n"),
    ] {
        let (upstream, seen) = raw();
        let sidecar = Sidecar::before(&upstream);
        let mut client = sidecar.client();
        post(&mut client, trailers);
        assert_eq!(client.answer().status(), 200);
        // Its own answer comes next: there was one request.
        client.send("HEAD /next HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        assert!(client.head().start.contains("403"));
        assert!(client.is_closed());
        let seen = seen.lock().unwrap();
        let body = behind(&seen, b"\r\n\r\n");
        assert_eq!(body, [b"4\r\nbody\r\n0\r\n", left, b"\r\n"].concat());
    }
}

const HEAD: [(&str, &str); 5] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    (":path", "/"),
    ("trailer", "x-a, connection, transfer-encoding"),
];

#[test]
fn malformed_trailers_of_http_2_leave_the_request_without_an_end_p36() {
    for field in [
        ("x-a", " padded"),
        ("x-a", "padded\t"),
        ("x-a", "a\rb"),
        ("x-a", "a\nb"),
        ("x-a", "a\0b"),
        ("X-A", "upper"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
    ] {
        let (upstream, seen) = raw();
        let sidecar = Sidecar::before(&upstream);
        let mut client = Framed::connect(sidecar.address);
        client.write(&frame(HEADERS, 4, 1, &block(&HEAD)));
        client.write(&frame(DATA, 0, 1, b"body"));
        client.write(&frame(HEADERS, 5, 1, &block(&[field])));
        // The stream is reset, the connection ends, or the request is refused.
        loop {
            match client.next() {
                Some(frame) if frame.kind == GOAWAY || frame.kind == RST_STREAM => break,
                Some(frame) if frame.kind == HEADERS => {
                    // 200 and 400 stand in the static table.
                    assert_eq!(frame.payload[0], 0x8c, "{field:?} is taken");
                    break;
                }
                Some(_) => {}
                None => break,
            }
        }
        sidecar.await_metric(ACTIVE, 0.0);
        let body = behind(&seen.lock().unwrap(), b"\r\n\r\n");
        assert!(b"4\r\nbody\r\n".starts_with(&body), "{field:?}: {}", body.escape_ascii());
    }
    // What names another target is dropped before anybody sees it.
    let (upstream, seen) = raw();
    let sidecar = Sidecar::before(&upstream);
    let mut client = Framed::connect(sidecar.address);
    client.write(&frame(HEADERS, 4, 1, &block(&HEAD)));
    client.write(&frame(HEADERS, 5, 1, &block(&[(":path", "/other"), ("x-a", "1")])));
    client.until(HEADERS);
    let seen = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    assert!(seen.starts_with("POST / HTTP/1.1\r\n") && !seen.contains("other"), "{seen}");
    assert!(seen.ends_with("\r\n0\r\nx-a: 1\r\n\r\n"), "{seen}");
}
