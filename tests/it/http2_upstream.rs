//! HTTP/2 towards upstreams, with clients that speak HTTP/1.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Builder;
use http::{HeaderMap, HeaderValue, Response};

use crate::support::{Client, Http2, PATIENCE, Sidecar, Upstream, eventually};

/// A sidecar before an upstream that speaks HTTP/2 without TLS.
pub(crate) fn before(upstream: &Http2) -> Sidecar {
    with(upstream, "")
}

/// The same with further settings.
fn with(upstream: &Http2, yaml: &str) -> Sidecar {
    let yaml = format!(
        "{yaml}\nroutes: [{{upstream: {{url: UPSTREAM, protocol: http2}}, inject: {{Authorization: Bearer secret-credential}}}}]"
    );
    Sidecar::start(&Upstream::at(upstream.address), &yaml)
}

pub(crate) fn post(client: &mut Client, target: &str, body: &str) -> crate::support::Answer {
    let length = format!("Content-Length: {}", body.len());
    client.request(&[&format!("POST {target} HTTP/1.1"), "Host: localhost", &length]);
    client.send(body).answer()
}

#[test]
fn a_request_arrives_as_http2_has_it_p36() {
    let upstream = Http2::echo();
    let sidecar = before(&upstream);
    let mut client = sidecar.client();
    client.request(&[
        "POST /a%7Eb?c=d&&e HTTP/1.1",
        "Host: localhost",
        "Connection: x-gone, keep-alive, te",
        "X-Gone: 1",
        "Keep-Alive: timeout=5",
        "TE: trailers, deflate",
        "Authorization: Bearer client",
        "X-Twice: 1",
        "X-Twice: 2",
        "Transfer-Encoding: chunked",
    ]);
    let answer = client.send("3\r\nabc\r\n0\r\n\r\n").answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "abc"));
    let seen = &upstream.requests()[0];
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.uri.to_string(), format!("{}/a%7Eb?c=d&&e", upstream.url()));
    assert_eq!(seen.headers["authorization"], "Bearer secret-credential");
    assert_eq!(seen.headers["te"], "trailers");
    assert_eq!(seen.headers["via"].to_str().unwrap().split(' ').next(), Some("1.1"));
    let twice: Vec<_> = seen.headers.get_all("x-twice").iter().collect();
    assert_eq!(twice, ["1", "2"]);
    for gone in ["host", "connection", "keep-alive", "x-gone", "transfer-encoding", "upgrade"] {
        assert!(!seen.headers.contains_key(gone), "{gone}: {seen:?}");
    }
    let answer = post(&mut client, "/", "hello");
    assert_eq!(answer.text(), "hello");
    assert_eq!(upstream.requests()[1].headers["content-length"], "5");
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(client.request(&["OPTIONS * HTTP/1.1", "Host: localhost"]).answer().status(), 200);
    assert_eq!(upstream.requests()[3].uri.path(), "*");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn what_is_injected_has_no_blanks_around_it_p36() {
    let upstream =
        Http2::run(|mut exchange| async move { exchange.answer(Response::new(()), "ok") });
    let sidecar = Sidecar::start(
        &Upstream::at(upstream.address),
        "routes: [{upstream: {url: UPSTREAM, protocol: http2}, inject: {X-A: ' a b '}}]",
    );
    assert_eq!(sidecar.client().get("/").status(), 200);
    assert_eq!(upstream.requests()[0].headers["x-a"], "a b");
}

#[test]
fn a_target_without_a_path_gets_one_p6_p36() {
    let upstream =
        Http2::run(|mut exchange| async move { exchange.answer(Response::new(()), "ok") });
    let sidecar = before(&upstream);
    assert_eq!(sidecar.client().get("http://localhost?x").status(), 200);
    let target = upstream.requests()[0].uri.path_and_query().unwrap().clone();
    assert_eq!(target.as_str(), "/?x");
}

#[test]
fn an_answer_with_two_lengths_is_refused_p15() {
    let upstream = Http2::run(|mut exchange| async move {
        let mut head = Response::new(());
        for _ in 0..2 {
            head.headers_mut().append("content-length", HeaderValue::from_static("2"));
        }
        let mut body = exchange.respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"ok"), true).unwrap();
    });
    let answer = before(&upstream).client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-invalid"));
}

#[test]
fn answers_without_a_body_stay_without_one_p11() {
    let upstream = Http2::run(|mut exchange| async move {
        let status = if exchange.request.method() == "HEAD" { 200 } else { 204 };
        let mut head = Response::new(());
        *head.status_mut() = status.try_into().unwrap();
        if status == 200 {
            head.headers_mut().insert("content-length", HeaderValue::from_static("1234"));
        }
        exchange.respond.send_response(head, true).unwrap();
    });
    let sidecar = before(&upstream);
    let mut client = sidecar.client();
    let head = client.request(&["HEAD / HTTP/1.1", "Host: localhost"]).head();
    assert_eq!(head.one("content-length"), "1234");
    let answer = client.get("/");
    assert_eq!((answer.status(), answer.head.has("content-length")), (204, false));
    assert!(!answer.head.has("transfer-encoding"));
    assert_eq!(client.get("/").status(), 204);
}

#[test]
fn a_cold_herd_dials_once() {
    let upstream = Http2::echo();
    let sidecar = Arc::new(before(&upstream));
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let sidecar = Arc::clone(&sidecar);
            std::thread::spawn(move || assert_eq!(sidecar.client().get("/").status(), 200))
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!((upstream.requests().len(), upstream.connections()), (40, 1));
}

#[test]
fn more_streams_than_the_upstream_takes_need_more_connections() {
    let mut builder = Builder::new();
    builder.max_concurrent_streams(2);
    let waiting = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&waiting);
    let upstream = Http2::start(&builder, None, move |mut exchange| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            while count.load(Ordering::SeqCst) < 6 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            exchange.answer(Response::new(()), "all");
        }
    });
    let sidecar = before(&upstream);
    let mut clients: Vec<Client> = (0..6).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        client.request(&["GET / HTTP/1.1", "Host: localhost"]);
    }
    for client in &mut clients {
        assert_eq!(client.answer().text(), "all");
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn a_client_that_leaves_resets_the_stream_p21() {
    let reset = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reset);
    let upstream = Http2::run(move |mut exchange| {
        let count = Arc::clone(&count);
        async move {
            if exchange.request.uri().path() == "/wait" {
                std::future::poll_fn(|cx| exchange.respond.poll_reset(cx)).await.ok();
            } else {
                let mut stream = exchange.respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"event"), false).unwrap();
                std::future::poll_fn(|cx| stream.poll_reset(cx)).await.ok();
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let sidecar = before(&upstream);
    for (number, target) in ["/wait", "/events"].into_iter().enumerate() {
        let mut client = sidecar.client();
        client.request(&[&format!("GET {target} HTTP/1.1"), "Host: localhost"]);
        if target == "/events" {
            client.head();
        } else {
            eventually(|| upstream.requests().len() == 1, || "no request".to_owned());
        }
        drop(client);
        eventually(
            || reset.load(Ordering::SeqCst) == number + 1,
            || format!("{target} was not reset"),
        );
    }
    // A client that leaves while it uploads, behind the answer's head.
    let mut client = sidecar.client();
    client.request(&["POST /events HTTP/1.1", "Host: localhost", "Content-Length: 100"]);
    client.send("x").head();
    drop(client);
    eventually(|| reset.load(Ordering::SeqCst) == 3, || "the upload was not reset".to_owned());
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn trailers_pass_both_ways_p14() {
    let upstream = Http2::run(|mut exchange| async move {
        let body = exchange.body().await;
        let seen = exchange.trailers().await;
        let mut head = Response::new(());
        head.headers_mut().insert("trailer", HeaderValue::from_static("grpc-status, x-seen"));
        let mut stream = exchange.respond.send_response(head, false).unwrap();
        stream.send_data(body, false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("content-length", HeaderValue::from_static("9"));
        let sum = seen.get("x-sum").cloned().unwrap_or(HeaderValue::from_static("none"));
        trailers.insert("x-seen", sum);
        assert!(!seen.contains_key("authorization"));
        stream.send_trailers(trailers).unwrap();
    });
    let sidecar = before(&upstream);
    let mut client = sidecar.client();
    client.request(&[
        "POST / HTTP/1.1",
        "Host: localhost",
        "TE: trailers",
        "Connection: te",
        "Trailer: x-sum, authorization",
        "Transfer-Encoding: chunked",
    ]);
    client.send("2\r\nhi\r\n0\r\nx-sum: 7\r\nauthorization: mine\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.text(), "hi");
    let trailers: Vec<_> = answer.trailers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(trailers, ["grpc-status", "x-seen"]);
    assert_eq!(answer.trailers[1].1, b"7");
}

#[test]
fn one_stalled_reader_does_not_stall_the_others_p37() {
    let upstream = Http2::run(|mut exchange| async move {
        if exchange.request.uri().path() == "/quick" {
            exchange.answer(Response::new(()), "quick");
            return;
        }
        let mut stream = exchange.respond.send_response(Response::new(()), false).unwrap();
        let chunk = Bytes::from(vec![b'x'; 16 * 1024]);
        loop {
            stream.reserve_capacity(chunk.len());
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            if !matches!(room, Some(Ok(_))) || stream.send_data(chunk.clone(), false).is_err() {
                return;
            }
        }
    });
    let sidecar = before(&upstream);
    let mut stalled: Vec<Client> = (0..30).map(|_| sidecar.client()).collect();
    for client in &mut stalled {
        client.request(&["GET /endless HTTP/1.1", "Host: localhost"]).head();
    }
    let mut client = sidecar.client();
    for _ in 0..50 {
        assert_eq!(client.get("/quick").text(), "quick");
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_unused_connection_ends_and_a_used_one_does_not() {
    let upstream = Http2::echo();
    let sidecar = with(&upstream, "limits: {upstream_idle: 200ms}");
    assert_eq!(sidecar.client().get("/").status(), 200);
    eventually(|| upstream.open() == 0, || "the connection stays".to_owned());
    sidecar.await_metric("bearerd_upstream_connections{route=\"route-1\",state=\"idle\"}", 0.0);
    assert_eq!(sidecar.client().get("/").status(), 200);
    assert_eq!(upstream.connections(), 2);

    let slow = Http2::run(|mut exchange| async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        exchange.answer(Response::new(()), "late");
    });
    let sidecar = with(&slow, "limits: {upstream_idle: 100ms, upstream_age: 200ms}");
    assert_eq!(sidecar.client().get("/").text(), "late");
}

#[test]
fn an_upstream_that_does_not_begin_to_answer_is_given_up() {
    let reset = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&reset);
    let upstream = Http2::run(move |mut exchange| {
        let seen = Arc::clone(&seen);
        async move {
            std::future::poll_fn(|cx| exchange.respond.poll_reset(cx)).await.ok();
            seen.store(true, Ordering::SeqCst);
        }
    });
    let sidecar = with(&upstream, "limits: {response_head: 300ms}");
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (504, "upstream-timeout"));
    eventually(|| reset.load(Ordering::SeqCst), || "the stream was not reset".to_owned());
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let upstream = Http2::run(|mut exchange| async move {
        let mut head = Response::new(());
        if exchange.request.uri().path() == "/many" {
            for i in 0..300 {
                let name = http::HeaderName::try_from(format!("x-{i}")).unwrap();
                head.headers_mut().insert(name, HeaderValue::from_static("1"));
            }
        } else {
            let large = HeaderValue::try_from("x".repeat(100_000)).unwrap();
            head.headers_mut().insert("x-large", large);
        }
        exchange.answer(head, "");
    });
    let sidecar = before(&upstream);
    for target in ["/many", "/large"] {
        let answer = sidecar.client().get(target);
        assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-invalid"));
    }
}

#[test]
fn what_does_not_speak_http2_is_told_so() {
    let upstream = Upstream::answering("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let yaml = "routes: [{upstream: {url: UPSTREAM, protocol: http2}}]";
    let sidecar = Sidecar::start(&upstream, yaml);
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-connect"));
    assert!(answer.text().contains("does not speak HTTP/2"), "{}", answer.text());
    let silent = Upstream::run(|conversation| {
        std::thread::sleep(PATIENCE);
        conversation.until_closed()
    });
    let yaml = format!("limits: {{connect: 300ms}}\n{yaml}");
    let sidecar = Sidecar::start(&silent, &yaml);
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-connect"));
}

#[test]
fn a_rejected_credential_is_replayed_with_its_body() {
    let secret = crate::support::file("http2-token", "first");
    let path = secret.clone();
    let upstream = Http2::run(move |mut exchange| {
        let path = path.clone();
        async move {
            let credential = exchange.request.headers()["authorization"].clone();
            let body = exchange.body().await;
            let mut head = Response::new(());
            if credential == "Bearer first" {
                std::fs::write(path, "second").unwrap();
                *head.status_mut() = 401.try_into().unwrap();
                return exchange.answer(head, "");
            }
            exchange.answer(head, body);
        }
    });
    let yaml = format!(
        "tokens: {{api: {{value: {{from: {{file: '{}'}}, every: 10s}}}}}}\nroutes: [{{upstream: {{url: UPSTREAM, protocol: http2}}, inject: {{Authorization: 'Bearer ${{api}}'}}}}]",
        secret.display()
    );
    let sidecar = Sidecar::start(&Upstream::at(upstream.address), &yaml);
    let answer = post(&mut sidecar.client(), "/", "the body");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "the body"));
    assert_eq!((upstream.requests().len(), upstream.connections()), (2, 1));
}
