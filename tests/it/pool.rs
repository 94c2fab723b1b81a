//! Upstream connections: used again when they may be, and requests repeated only when nothing
//! can have been done twice (P22–P24; S14, S32).

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{PATIENCE, Sidecar, Upstream, eventually};

#[test]
fn connections_are_used_again_and_kept_no_longer_than_told() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::limited(&upstream, "upstream_idle: 200ms");
    let mut client = sidecar.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(upstream.connections(), 1);
    let state =
        |state| format!("bearerd_upstream_connections{{route=\"route-1\",state=\"{state}\"}}");
    assert!((sidecar.metric(&state("idle")) - 1.0).abs() < 0.5);
    sidecar.await_metric(&state("idle"), 0.0);
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_connection_that_says_close_is_not_kept() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: close\r\ncontent-length: 2\r\n\r\nok",
    );
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn an_unasked_answer_poisons_nothing() {
    let upstream = Upstream::run(|conversation| {
        loop {
            conversation.request()?;
            conversation.send(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        )?;
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for _ in 0..5 {
        let answer = client.get("/");
        assert_eq!((answer.status(), answer.text()), (200, "ok".to_owned()));
    }
}

#[test]
fn a_connection_that_was_closed_while_it_waited_costs_no_request() {
    // The first request of each connection is answered, then it is closed.
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    });
    let sidecar = Sidecar::before(&upstream);
    for i in 0..200 {
        let mut client = sidecar.client();
        let answer = if i % 2 == 0 {
            client.get("/")
        } else {
            client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 2"]);
            // Given the time, the end of the old connection is seen before the next request.
            std::thread::sleep(Duration::from_millis(2));
            client.send("hi").answer()
        };
        if i % 2 == 0 {
            assert_eq!(answer.status(), 200, "request {i}: {}", answer.text());
        } else {
            // A POST that was written into the closing connection is not repeated.
            assert!(
                answer.status() == 200 || answer.refusal() == "upstream-reset",
                "{}",
                answer.text()
            );
        }
    }
}

/// An upstream that closes every connection at its second request, having read it.
fn fickle(seen: &Arc<AtomicUsize>) -> Upstream {
    let seen = Arc::clone(seen);
    Upstream::run(move |conversation| {
        conversation.request()?;
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        conversation.request()?;
        seen.fetch_add(1, Ordering::SeqCst);
        Ok(())
    })
}

#[test]
fn a_reset_before_the_answer_repeats_what_is_safe_once() {
    for (method, body, repeated) in [
        ("GET", "", true),
        ("DELETE", "", true),
        ("PUT", "x", false),
        ("POST", "x", false),
        ("POST", "", false),
    ] {
        let seen = Arc::new(AtomicUsize::new(0));
        let upstream = fickle(&seen);
        let sidecar = Sidecar::before(&upstream);
        let mut client = sidecar.client();
        assert_eq!(client.get("/warm").status(), 200);
        let length = format!("Content-Length: {}", body.len());
        client
            .request(&[&format!("{method} /second HTTP/1.1"), "Host: localhost", &length])
            .send(body);
        let answer = client.answer();
        let requests = upstream.requests();
        let count = requests.iter().filter(|r| r.head.start.contains("/second")).count();
        if repeated {
            assert_eq!((answer.status(), count), (200, 2), "{method}");
            assert_eq!(requests.last().unwrap().head.all("authorization").len(), 1);
        } else {
            assert_eq!((answer.status(), count), (502, 1), "{method} {body}");
            assert_eq!(answer.refusal(), "upstream-reset");
        }
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_reset_on_a_new_connection_or_within_an_answer_repeats_nothing() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        Ok(())
    });
    let sidecar = Sidecar::before(&upstream);
    assert_eq!(sidecar.client().get("/").refusal(), "upstream-reset");
    assert_eq!(upstream.requests().len(), 1);
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        conversation.request()?;
        conversation.send("HTTP/1.1 200 O")
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(client.get("/").refusal(), "upstream-reset");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_post_is_never_sent_twice_over_a_thousand_races() {
    let upstream = Upstream::run(|conversation| {
        for _ in 0..3 {
            let request = conversation.request()?;
            let id = request.head.start.clone();
            conversation
                .send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{id}", id.len()))?;
        }
        Ok(())
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let mut refused = 0;
    for i in 0..1000 {
        let line = format!("POST /{i} HTTP/1.1");
        let answer = client.request(&[&line, "Host: localhost", "Content-Length: 0"]).answer();
        if answer.status() == 200 {
            assert_eq!(answer.text(), line);
        } else {
            refused += 1;
            assert_eq!(answer.refusal(), "upstream-reset");
        }
    }
    let mut starts: Vec<String> = upstream.requests().into_iter().map(|r| r.head.start).collect();
    let count = starts.len();
    starts.sort();
    starts.dedup();
    assert_eq!(starts.len(), count, "a POST arrived twice");
    assert!(refused <= 400, "{refused}");
}

/// Reads up to these last bytes.
fn read_until(stream: &mut UnixStream, end: &str) -> std::io::Result<String> {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte)?;
        all.extend(byte);
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// A Unix socket's server that takes nothing more on a connection after a request for `/warm`, and
/// what else it got.
fn deaf_after_warming(path: &Path) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(path).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let log = Arc::clone(&log);
            std::thread::spawn(move || -> std::io::Result<()> {
                loop {
                    let mut got = read_until(&mut stream, "\r\n\r\n")?;
                    if got.starts_with("GET /warm") {
                        // From here on a write to it fails, and nothing tells before.
                        stream.shutdown(Shutdown::Read)?;
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwarm")?;
                        std::thread::sleep(PATIENCE);
                        return Ok(());
                    }
                    if got.contains("chunked") {
                        got += &read_until(&mut stream, "0\r\n\r\n")?;
                    } else if !got.contains("content-length: 0") {
                        got += &read_until(&mut stream, "END")?;
                    }
                    log.lock().unwrap().push(got);
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
                }
            });
        }
    });
    seen
}

#[test]
fn a_request_of_which_nothing_was_written_goes_over_another_connection_p23() {
    let path = crate::support::file("deaf.sock", "");
    std::fs::remove_file(&path).unwrap();
    let seen = deaf_after_warming(&path);
    let yaml = format!("routes: [{{upstream: 'unix:{}'}}]", path.display());
    let sidecar = Sidecar::start(&Upstream::gone(), &yaml);
    let mut client = sidecar.client();
    let large = "x".repeat(9000);
    let (small, long) = ("END".to_owned(), format!("{large}END"));
    let (chunk, chunks) =
        ("3\r\nEND\r\n0\r\n\r\n".to_owned(), format!("2328\r\n{large}\r\n3\r\nEND\r\n0\r\n\r\n"));
    let cases = [
        ("Content-Length: 0", String::new(), 1),
        ("Content-Length: 3", small.clone(), 1),
        ("Content-Length: 3", small, 2),
        ("Content-Length: 9003", long.clone(), 1),
        ("Content-Length: 9003", long, 3),
        ("Transfer-Encoding: chunked", chunk.clone(), 1),
        ("Transfer-Encoding: chunked", chunk, 2),
        ("Transfer-Encoding: chunked", chunks, 3),
    ];
    for (index, (framing, body, parts)) in cases.into_iter().enumerate() {
        assert_eq!(client.get("/warm").text(), "warm");
        let start = format!("POST /{index} HTTP/1.1\r\n");
        let all = format!("{start}Host: localhost\r\n{framing}\r\n\r\n{body}");
        for part in all.as_bytes().chunks(all.len().div_ceil(parts)) {
            client.send(part);
            std::thread::sleep(Duration::from_millis(if parts > 1 { 50 } else { 0 }));
        }
        let answer = client.answer();
        assert_eq!(answer.status(), 200, "{framing} in {parts}: {}", answer.text());
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), index + 1, "{seen:?}");
        let got = &seen[index];
        assert!(got.starts_with(&start), "{got}");
        assert_eq!(got.matches('x').count() >= 9000, body.len() > 9000, "{got}");
        assert_eq!(got.matches("END").count(), usize::from(!body.is_empty()), "{got}");
    }
}

#[test]
fn a_request_whose_body_broke_off_is_not_sent_again_p12_p23() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    for body in ["3\r\nabc\r\nno size\r\n", "no size\r\n"] {
        let mut client = sidecar.client();
        assert_eq!(client.get("/").status(), 200);
        // At once, so that not a byte is written before the fault is seen.
        client.send(format!(
            "POST /half HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        ));
        let answer = client.answer();
        assert_eq!((answer.status(), answer.refusal().as_str()), (400, "body"), "{body}");
    }
    let requests = upstream.requests();
    let mut starts = requests.iter().map(|request| &request.head.start);
    assert!(!starts.any(|start| start.contains("half")), "half a body looked whole");
}

#[test]
fn an_upstream_that_is_not_there_is_told_apart() {
    let upstream = Upstream::gone();
    let sidecar = Sidecar::before(&upstream);
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-connect"));
    assert!(!answer.text().contains("secret-credential"));
    let sidecar =
        Sidecar::start(&upstream, "routes: [{upstream: 'https://does-not-exist.invalid/'}]");
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-connect"));
}

#[test]
fn an_upstream_without_tls_is_told_apart() {
    let upstream = Upstream::run(|conversation| conversation.send("HTTP/1.1 400 What\r\n\r\n"));
    let yaml = "routes: [{upstream: UPSTREAM}]"
        .replace("UPSTREAM", &upstream.url().replace("http:", "https:"));
    let sidecar = Sidecar::start(&upstream, &yaml);
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-tls"));
}

#[test]
fn many_clients_get_their_own_answers() {
    let upstream = Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            let id = request.head.one("x-id");
            conversation
                .send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{id}", id.len()))?;
        }
    });
    let sidecar = Sidecar::start(&upstream, "workers: 3\n");
    let sidecar = Arc::new(sidecar);
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let sidecar = Arc::clone(&sidecar);
            std::thread::spawn(move || {
                let mut connection = sidecar.client();
                for request in 0..200 {
                    let id = format!("X-Id: {client}-{request}");
                    connection.request(&["GET / HTTP/1.1", "Host: localhost", &id]);
                    assert_eq!(format!("X-Id: {}", connection.answer().text()), id);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert!(upstream.connections() <= 48, "{}", upstream.connections());
    let series = "bearerd_requests_total{code=\"200\",method=\"GET\",route=\"route-1\"}";
    eventually(|| sidecar.metric(series) > 3199.5, || "requests are missing".to_owned());
}
