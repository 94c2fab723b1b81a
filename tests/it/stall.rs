//! Upstreams that fall silent within the body of an answer.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use crate::support::{Client, Http2, Sidecar, Upstream};

const LIMIT: &str = "limits: {upstream_body_idle: 400ms}\n";

const STALLS: &str = "bearerd_upstream_stalls_total{route=\"route-1\"}";

/// An upstream that sends this and then nothing more.
fn stalling(answer: &'static str) -> Upstream {
    Upstream::run(move |conversation| {
        conversation.request()?;
        conversation.send(answer)?;
        conversation.until_closed()
    })
}

fn get(sidecar: &Sidecar, version: &str) -> Client {
    let mut client = sidecar.client();
    client.request(&[&format!("GET / HTTP/{version}"), "Host: localhost"]);
    client
}

#[test]
fn an_answer_whose_upstream_falls_silent_is_cut_off() {
    for (version, answer) in [
        ("1.1", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
        ("1.1", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        ("1.1", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("1.0", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
    ] {
        let upstream = stalling(answer);
        let sidecar = Sidecar::start(&upstream, LIMIT);
        let mut client = get(&sidecar, version);
        let head = client.head();
        assert!(head.start.ends_with("200 OK"), "{head:?}");
        let rest = client.until_closed();
        match version {
            // To it the end of the connection would be the end of the answer.
            "1.0" => assert!(rest.is_err(), "{rest:?}"),
            _ => assert!(!rest.unwrap_or_default().ends_with(b"0\r\n\r\n"), "{answer}"),
        }
        sidecar.await_metric(STALLS, 1.0);
    }
}

#[test]
fn an_upstream_that_goes_on_in_time_is_left_alone() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")?;
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(100));
            conversation.send("x")?;
        }
        conversation.request()?;
        // Between two requests of a connection nothing is waited for.
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        conversation.until_closed()
    });
    let sidecar = Sidecar::start(&upstream, LIMIT);
    let mut client = sidecar.client();
    assert_eq!(client.get("/").body, b"x".repeat(10));
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(client.get("/").text(), "ok");
    assert!(sidecar.metric(STALLS) < 0.5);
}

#[test]
fn streams_may_be_silent_and_so_may_what_a_route_permits() {
    let event = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let plain = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let off = format!("{LIMIT}routes: [{{upstream: UPSTREAM, body_idle: off}}]");
    let long = format!("{LIMIT}routes: [{{upstream: UPSTREAM, body_idle: 10m}}]");
    for (answer, yaml) in [(event, LIMIT), (plain, off.as_str()), (plain, long.as_str())] {
        let upstream = stalling(answer);
        let sidecar = Sidecar::start(&upstream, yaml);
        let mut client = get(&sidecar, "1.1");
        client.head();
        assert!(!client.some().is_empty());
        client.stream.set_read_timeout(Some(Duration::from_millis(1200))).unwrap();
        let error = client.stream.read(&mut [0; 1]).expect_err("nothing more");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{yaml}");
        assert!(sidecar.metric(STALLS) < 0.5);
    }
}

#[test]
fn a_client_that_takes_its_time_is_not_the_upstreams_fault() {
    const SIZE: usize = 24 * 1024 * 1024;
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))?;
        conversation.send(vec![b'x'; SIZE])?;
        conversation.until_closed()
    });
    let sidecar = Sidecar::start(&upstream, LIMIT);
    let mut client = get(&sidecar, "1.1");
    let head = client.head();
    // Three times the limit without a byte taken, and then all of it.
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(client.rest(head).body.len(), SIZE);
    assert!(sidecar.metric(STALLS) < 0.5);
}

#[test]
fn an_upload_that_goes_on_is_progress() {
    let upstream = Upstream::run(|conversation| {
        conversation.head()?;
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")?;
        conversation.take(12)?;
        conversation.send("done")?;
        conversation.until_closed()
    });
    let sidecar = Sidecar::start(&upstream, LIMIT);
    let mut client = sidecar.client();
    client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 12"]);
    for _ in 0..12 {
        client.send("x");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.answer().text(), "done");
}

#[test]
fn a_silent_stream_of_http2_is_cut_off_too() {
    let upstream = Http2::run(|mut exchange| async move {
        let mut stream = exchange.respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        std::future::poll_fn(|cx| stream.poll_reset(cx)).await.ok();
    });
    let yaml = format!("{LIMIT}routes: [{{upstream: {{url: UPSTREAM, protocol: http2}}}}]");
    let sidecar = Sidecar::start(&Upstream::at(upstream.address), &yaml);
    let mut client = get(&sidecar, "1.1");
    client.head();
    assert!(!client.until_closed().unwrap_or_default().ends_with(b"0\r\n\r\n"));
    sidecar.await_metric(STALLS, 1.0);
}
