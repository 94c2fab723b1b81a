//! HTTP/2 from clients, without TLS: what of it is HTTP (P12, P14, P35 to P38), and what is only
//! meant to cost (S38).

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Method, Request};

use crate::support::http2::{
    self, Framed, GOAWAY, HEADERS, Multiplexed, PING, RST_STREAM, SETTINGS, block, frame, get, run,
    whole,
};
use crate::support::{Sidecar, Upstream, eventually};

/// `PROTOCOL_ERROR` (RFC 9113 section 7).
const PROTOCOL_ERROR: &[u8] = &[0, 0, 0, 1];
const ENHANCE_YOUR_CALM: &[u8] = &[0, 0, 0, 11];

const PLAIN: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/")];

#[test]
fn a_request_over_http_2_reaches_the_upstream_as_one_over_http_1() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let client = Multiplexed::connect(sidecar.address);
    let request = Request::post("http://localhost:81/a/%7E?b=&c")
        .header("te", "trailers")
        .header("x-own", "kept")
        .header("authorization", "Bearer mine")
        .body(())
        .unwrap();
    let reply = client.send(request, Some(b"hello"));
    assert_eq!((reply.status, reply.text()), (200, "ok".to_owned()));
    assert_eq!(reply.headers["content-length"], "2");
    let request = upstream.request();
    assert_eq!(request.head.start, "POST /a/%7E?b=&c HTTP/1.1");
    assert_eq!(request.body, b"hello");
    assert_eq!(request.head.one("host"), upstream.address.to_string());
    assert_eq!(request.head.one("x-forwarded-host"), "localhost:81");
    assert_eq!(request.head.one("authorization"), "Bearer secret-credential");
    assert_eq!(request.head.one("x-own"), "kept");
    assert_eq!(request.head.one("te"), "trailers");
    assert!(request.head.one("via").starts_with("2 bearerd-"), "{:?}", request.head);
    let series = "bearerd_requests_total{code=\"200\",method=\"POST\",route=\"route-1\"}";
    sidecar.await_metric(series, 1.0);
    sidecar.await_metric("bearerd_requests_in_flight{route=\"route-1\"}", 0.0);
}

#[test]
fn bodies_keep_their_framing_p10() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let client = Multiplexed::connect(sidecar.address);
    let of = |method: Method, length: Option<&str>| {
        let mut request = Request::builder().method(method).uri("http://localhost/");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        request.body(()).unwrap()
    };
    client.send(of(Method::GET, None), None);
    client.send(of(Method::POST, Some("0")), None);
    client.send(of(Method::POST, Some("3")), Some(b"abc"));
    client.send(of(Method::POST, None), Some(b"abc"));
    let framed = |index: usize| {
        let head = &upstream.requests()[index].head;
        (head.one("content-length"), head.one("transfer-encoding"))
    };
    assert_eq!(framed(0), (String::new(), String::new()));
    assert_eq!(framed(1), ("0".to_owned(), String::new()));
    assert_eq!(framed(2), ("3".to_owned(), String::new()));
    assert_eq!(framed(3), (String::new(), "chunked".to_owned()));
}

#[test]
fn answers_without_a_body_have_none_p11() {
    let upstream = Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            let answer = match request.head.start.split(' ').nth(1).unwrap() {
                "/204" => "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: x\r\n\r\n",
                _ => {
                    "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n"
                }
            };
            conversation.send(answer)?;
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let client = Multiplexed::connect(sidecar.address);
    let head = Request::head("http://localhost/head").body(()).unwrap();
    let reply = client.send(head, None);
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(reply.headers["content-length"], "7");
    assert!(!reply.headers.contains_key("connection") && !reply.headers.contains_key("x-hop"));
    let reply = client.get("/204");
    assert_eq!((reply.status, reply.headers.get("content-length")), (204, None));
    let reply = client.get("/304");
    assert_eq!((reply.status, reply.body.len()), (304, 0));
    let head = Request::head("http://evil.example/").body(()).unwrap();
    let reply = client.send(head, None);
    assert_eq!((reply.status, reply.body.len(), reply.refusal()), (403, 0, "host"));
}

#[test]
fn the_authority_is_the_host_p35() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let client = Multiplexed::connect(sidecar.address);
    let refused = |uri: &str, host: Option<&str>| {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let reply = client.send(request.body(()).unwrap(), None);
        (reply.status, reply.refusal().to_owned())
    };
    assert_eq!(refused("http://evil.example/", None), (403, "host".to_owned()));
    assert_eq!(refused("http://evil.example/", Some("localhost")), (400, "bad-host".to_owned()));
    assert_eq!(refused("http://localhost/", Some("evil.example")), (403, "host".to_owned()));
    assert_eq!(refused("http://localhost/", Some("127.0.0.1")), (400, "bad-host".to_owned()));
    assert_eq!(refused("http://localhost:1/", Some("localhost:2")), (400, "bad-host".to_owned()));
    assert_eq!(refused("http://me@localhost/", None), (400, "bad-host".to_owned()));
    assert_eq!(refused("ftp://localhost/", None), (400, "target".to_owned()));
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(refused("http://localhost/", Some("LOCALHOST:80")), (200, String::new()));
    let request = Request::builder().method("CONNECT").uri("localhost:80").body(()).unwrap();
    assert_eq!(client.send(request, None).status, 405);
    let request = Request::options("http://localhost/").body(()).unwrap();
    assert_eq!(client.send(request, None).status, 200);
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn malformed_heads_end_their_stream_alone_p35_p36() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = Framed::connect(sidecar.address);
    let with = |field: (&'static str, &'static str)| [&PLAIN[..], &[field]].concat();
    let without = |name: &str| PLAIN.into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let malformed = [
        with(("connection", "close")),
        with(("keep-alive", "1")),
        with(("proxy-connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("upgrade", "h2c")),
        with(("te", "gzip")),
        with((":path", "/again")),
        with((":status", "200")),
        with((":protocol", "websocket")),
        with(("x-a", " padded")),
        with(("x-a", "padded ")),
        with(("x-a", "padded\t")),
        with(("content-length", "5")),
        [&[("x-early", "a")], &PLAIN[..]].concat(),
        without(":method"),
        without(":scheme"),
        without(":path"),
        [&without(":path")[..], &[(":path", "no-slash")]].concat(),
        [&without(":path")[..], &[(":path", "")]].concat(),
    ];
    let mut id = 1;
    for fields in malformed {
        client.request(id, &fields);
        let reset = client.until(RST_STREAM);
        assert_eq!((reset.stream, reset.payload.as_slice()), (id, PROTOCOL_ERROR), "{fields:?}");
        id += 2;
    }
    for field in [("x-a", "a\rb"), ("x-a", "a\nb"), ("x-a", "a\0b"), ("X-Upper", "a")] {
        client.request(id, &with(field));
        // The library ends the whole connection for these.
        loop {
            match client.next() {
                Some(frame) if frame.kind == RST_STREAM && frame.stream == id => break,
                Some(frame) if frame.kind == GOAWAY => {
                    client = Framed::connect(sidecar.address);
                    break;
                }
                Some(_) => {}
                None => panic!("no word about {field:?}"),
            }
        }
        id += 2;
    }
    assert_eq!(upstream.requests().len(), 0);
    client.request(id, &PLAIN);
    let head = client.until(HEADERS);
    assert_eq!((head.stream, head.payload[0]), (id, 0x88), "200 by the static table");
}

#[test]
fn crumbs_of_a_cookie_are_joined_p36() {
    let upstream = Upstream::ok();
    let sidecar =
        Sidecar::start(&upstream, "routes: [{upstream: UPSTREAM, strip: {cookies: [session]}}]");
    let client = Multiplexed::connect(sidecar.address);
    let mut request = get("/");
    for crumb in ["a=1", "session=mine", "b=2; c=3"] {
        request.headers_mut().append("cookie", HeaderValue::from_static(crumb));
    }
    assert_eq!(client.send(request, None).status, 200);
    assert_eq!(upstream.request().head.one("cookie"), "a=1; b=2; c=3");
}

#[test]
fn the_crumbs_of_a_cookie_count_as_one_field_p34_p36() {
    let upstream = Upstream::ok();
    let sidecar =
        Sidecar::start(&upstream, "limits: {head_fields: 10}\nroutes: [{upstream: UPSTREAM}]");
    let client = Multiplexed::connect(sidecar.address);
    let mut request = get("/");
    for number in 0..50 {
        request.headers_mut().append("cookie", format!("c{number}=1").parse().unwrap());
    }
    assert_eq!(client.send(request, None).status, 200);
    assert_eq!(upstream.request().head.one("cookie").matches("=1").count(), 50);
    let mut request = get("/");
    for number in 0..20 {
        request.headers_mut().append("x-a", number.into());
    }
    assert_eq!(client.send(request, None).status, 431);
}

#[test]
fn a_cut_answer_is_never_the_end_of_a_stream_p12() {
    let upstream = Upstream::run(|conversation| {
        let request = conversation.request()?;
        if request.head.start.contains("/chunked") {
            conversation.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        } else {
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let client = Multiplexed::connect(sidecar.address);
    for path in ["/chunked", "/length"] {
        let error = run(async {
            let (answer, _) = client.begin(get(path), true).await;
            whole(answer.await.expect("a head")).await.expect_err("a reset")
        });
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}");
    }
}

#[test]
fn half_a_request_never_looks_whole_p12() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        let upstream = Upstream::run(|conversation| {
            conversation.request()?;
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        });
        let sidecar = Sidecar::before(&upstream);
        let client = Multiplexed::connect(sidecar.address);
        run(async {
            let request = Request::post("http://localhost/").body(()).unwrap();
            let (_answer, mut sending) = client.begin(request, false).await;
            sending.send_data(Bytes::from_static(b"half"), false).unwrap();
            while upstream.connections() == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            sending.send_reset(reason);
        });
        sidecar.await_metric("bearerd_requests_in_flight{route=\"route-1\"}", 0.0);
        // The connection to the upstream is closed, for there is no other way to break off.
        let active = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";
        sidecar.await_metric(active, 0.0);
        assert_eq!(upstream.requests().len(), 0, "{reason:?}");
    }
}

#[test]
fn trailers_go_both_ways_p14() {
    let upstream = Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            conversation.send(if request.head.start.contains("/only") {
                "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 5\r\ncontent-length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n0\r\ngrpc-status: 0\r\ngrpc-message: fine\r\nset-cookie: a=b\r\n\
                 x-echo: secret-credential\r\n\r\n"
            })?;
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let client = Multiplexed::connect(sidecar.address);
    let reply = run(async {
        let request = Request::post("http://localhost/x")
            .header("te", "trailers")
            .header("trailer", "x-checksum, authorization")
            .body(())
            .unwrap();
        let (answer, mut sending) = client.begin(request, false).await;
        sending.send_data(Bytes::from_static(b"ping"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("abc"));
        trailers.insert("authorization", HeaderValue::from_static("Bearer mine"));
        sending.send_trailers(trailers).unwrap();
        whole(answer.await.unwrap()).await.unwrap()
    });
    assert_eq!(reply.text(), "hello");
    let trailers = reply.trailers.expect("trailers");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["grpc-message"]),
        (&"0".parse().unwrap(), &"fine".parse().unwrap())
    );
    assert!(!trailers.contains_key("set-cookie") && !trailers.contains_key("x-echo"));
    let request = upstream.request();
    assert_eq!(request.trailers, [("x-checksum".to_owned(), b"abc".to_vec())]);
    let reply = client.get("/only");
    assert_eq!(
        (&reply.headers["grpc-status"], reply.trailers.is_none()),
        (&"5".parse().unwrap(), true)
    );
}

#[test]
fn a_stalled_stream_does_not_stall_the_others_p37() {
    let upstream = Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            if request.head.start.contains("/large") {
                conversation
                    .send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 8 << 20))?;
                for _ in 0..128 {
                    conversation.send([b'x'; 65_536])?;
                }
            } else {
                conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            }
        }
    });
    let sidecar = Sidecar::before(&upstream);
    // The library has an unread answer use up all of its own room, the connection's included,
    // unless the connection has more.
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(65_535).initial_connection_window_size(1 << 20);
    let client = Multiplexed::built(sidecar.address, &builder);
    let slowest = |client: &Multiplexed| {
        let times = (0..99).map(|index| {
            let began = SystemTime::now();
            assert_eq!(client.get(&format!("/{index}")).text(), "ok");
            began.elapsed().unwrap()
        });
        let mut times: Vec<Duration> = times.collect();
        times.sort();
        times[97]
    };
    let before = slowest(&client);
    let stalled = run(async {
        let (answer, _) = client.begin(get("/large"), true).await;
        answer.await.expect("a head")
    });
    let beside = slowest(&client);
    assert!(beside < before * 2 + Duration::from_millis(50), "{before:?} became {beside:?}");
    let reply = run(whole(stalled)).expect("the rest of the answer");
    assert_eq!(reply.body.len(), 8 << 20);
}

#[test]
fn a_stream_whose_client_takes_nothing_is_given_up_alone() {
    let upstream = Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            if request.head.start.contains("/large") {
                conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")?;
                while conversation.send([0_u8; 65_536]).is_ok() {}
                return Ok(());
            }
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        }
    });
    let sidecar = Sidecar::limited(&upstream, "write_idle: 200ms");
    let client = Multiplexed::connect(sidecar.address);
    let error = run(async {
        let (answer, _) = client.begin(get("/large"), true).await;
        let mut stream = answer.await.expect("a head").into_body();
        loop {
            // Taken, but no room is made for more.
            if let Err(error) = stream.data().await.expect("no end") {
                break error;
            }
        }
    });
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    let active = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";
    sidecar.await_metric(active, 0.0);
    assert_eq!(client.get("/").text(), "ok");
}

#[test]
fn a_body_that_stops_is_answered_408_and_only_its_stream_ends() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::limited(&upstream, "body_idle: 200ms, response_head: 10s");
    let client = Multiplexed::connect(sidecar.address);
    let reply = run(async {
        let request = Request::post("http://localhost/").body(()).unwrap();
        let (answer, mut sending) = client.begin(request, false).await;
        sending.send_data(Bytes::from_static(b"some"), false).unwrap();
        whole(answer.await.unwrap()).await.unwrap()
    });
    assert_eq!((reply.status, reply.refusal()), (408, "body-timeout"));
    assert!(!reply.headers.contains_key("connection"));
    assert_eq!(client.get("/").text(), "ok");
}

#[test]
fn a_client_that_waits_for_100_gets_it_only_if_the_request_goes_on_p17() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let client = Multiplexed::connect(sidecar.address);
    let mut asking = Framed::connect(sidecar.address);
    let fields = [&PLAIN[1..], &[(":method", "POST"), ("expect", "100-continue")]].concat();
    asking.write(&frame(HEADERS, 4, 1, &block(&fields)));
    let informed = asking.until(HEADERS);
    assert_eq!(informed.flags & 1, 0, "not the end of the stream");
    assert_eq!(upstream.requests().len(), 0);
    asking.write(&frame(0, 1, 1, b"hello"));
    assert_eq!(asking.until(HEADERS).payload[0], 0x88);
    assert_eq!(upstream.request().body, b"hello");
    let request = Request::post("http://localhost/")
        .header("expect", "100-continue")
        .header("origin", "null")
        .body(())
        .unwrap();
    assert_eq!(client.send(request, Some(b"x")).status, 403);
}

#[test]
fn draining_tells_the_client_and_lets_streams_finish_p38() {
    let upstream = Upstream::ok_at_leisure();
    let sidecar = Sidecar::before(&upstream);
    let idle = Multiplexed::connect(sidecar.address);
    assert_eq!(idle.get("/").text(), "ok");
    let busy = Multiplexed::connect(sidecar.address);
    let reply = run(async {
        let (answer, _) = busy.begin(get("/slow"), true).await;
        while upstream.requests().len() < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        sidecar.shutdown.drain();
        whole(answer.await.unwrap()).await.unwrap()
    });
    assert_eq!((reply.status, reply.text()), (200, "ok".to_owned()));
    eventually(|| idle.is_over() && busy.is_over(), || "still open".to_owned());
    sidecar.await_metric("bearerd_connections", 0.0);
}

/// A client that has been at rest for long has sent it before it could have known.
#[test]
fn a_request_that_crosses_our_goaway_is_answered_p38() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = Framed::connect(sidecar.address);
    client.until(SETTINGS);
    // For longer than a connection may linger that has been told.
    std::thread::sleep(Duration::from_millis(1200));
    sidecar.shutdown.drain();
    assert_eq!(client.until(GOAWAY).payload[..4], [0x7f, 0xff, 0xff, 0xff], "not the last word");
    client.request(1, &PLAIN);
    assert_eq!(client.until(HEADERS).stream, 1);
    assert_eq!(client.until(GOAWAY).payload[..4], [0, 0, 0, 1]);
    assert_eq!(client.next(), None);
}

#[test]
fn streams_beyond_the_limit_are_refused_and_idle_connections_told() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::limited(&upstream, "streams: 7, connections: 2, idle: 300ms");
    let mut client = Framed::connect(sidecar.address);
    let settings = client.until(SETTINGS);
    let streams = settings.payload.chunks(6).find(|one| one[..2] == [0, 3]).expect("a limit");
    assert_eq!(streams[2..], [0, 0, 0, 7]);
    let goaway = client.until(GOAWAY);
    assert_eq!(goaway.payload[4..8], [0, 0, 0, 0], "no error");
    assert_eq!(client.next(), None);
}

fn flood(address: SocketAddr, bytes: &[u8]) -> Vec<http2::Frame> {
    let mut client = Framed::connect(address);
    client.patience(Duration::from_secs(5));
    for _ in 0..200 {
        if !client.try_write(bytes) {
            break;
        }
    }
    let mut frames = Vec::new();
    while let Some(frame) = client.next() {
        frames.push(frame);
    }
    frames
}

#[test]
fn frames_that_ask_for_nothing_end_the_connection_s38() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let open = frame(HEADERS, 4, 1, &block(&[&PLAIN[1..], &[(":method", "POST")]].concat()));
    let floods: [(&str, Vec<u8>, Vec<u8>); 4] = [
        ("PING", Vec::new(), frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", Vec::new(), frame(SETTINGS, 0, 0, &[])),
        ("empty DATA", open, frame(0, 0, 1, &[])),
        ("unknown", Vec::new(), frame(0x77, 0, 0, &[])),
    ];
    for (index, (name, first, noise)) in floods.into_iter().enumerate() {
        let bytes = [first, noise.repeat(2000)].concat();
        // A closed connection may swallow the word, so the counter tells.
        let frames = flood(sidecar.address, &bytes);
        if let Some(last) = frames.last().filter(|last| last.kind == GOAWAY) {
            assert_eq!(last.payload[4..8], *ENHANCE_YOUR_CALM, "{name}");
        }
        let wanted = f64::from(u8::try_from(index).unwrap()) + 1.0;
        sidecar.await_metric("bearerd_rejected_total{reason=\"flood\"}", wanted);
        sidecar.await_metric("bearerd_connections", 0.0);
    }
    assert_eq!(Multiplexed::connect(sidecar.address).get("/").text(), "ok");
}

#[test]
fn requests_that_are_taken_back_again_and_again_end_the_connection_s38() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = Framed::connect(sidecar.address);
    for id in 0..2000_u32 {
        let head = frame(HEADERS, 5, id * 2 + 1, &block(&PLAIN));
        if !client.try_write(&[head, frame(RST_STREAM, 0, id * 2 + 1, &[0, 0, 0, 8])].concat()) {
            break;
        }
    }
    while client.next().is_some() {}
    sidecar.await_metric("bearerd_connections", 0.0);
    assert!(upstream.connections() < 300, "{}", upstream.connections());
    assert_eq!(Multiplexed::connect(sidecar.address).get("/").text(), "ok");
}
