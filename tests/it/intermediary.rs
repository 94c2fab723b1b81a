//! The duties of an intermediary that no other file proves (P2, P13, P18, P21, P24, P25, P26, P30,
//! P31, P33, P34, P39).

use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

use socket2::{Domain, Socket, Type};

use crate::support::{Sidecar, Upstream, eventually};

/// An upstream that answers with the request's target.
fn telling() -> Upstream {
    Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            let path = request.head.start.split(' ').nth(1).unwrap().to_owned();
            conversation
                .send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()))?;
        }
    })
}

#[test]
fn answers_keep_the_via_of_others_and_get_none_of_ours_p2() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nVia: 1.0 inner\r\nVia: 1.1 outer\r\ncontent-length: 0\r\n\r\n",
    );
    let sidecar = Sidecar::before(&upstream);
    let answer = sidecar.client().get("/");
    assert_eq!(answer.head.all("via"), ["1.0 inner", "1.1 outer"]);
    // Of a longer way each line stays as it came, and ours is the last.
    let lines = ["GET / HTTP/1.1", "Host: localhost", "Via: 1.1 a", "Via: 1.0 b, 2 c"];
    sidecar.client().request(&lines).answer();
    let via = upstream.requests().pop().unwrap().head.all("via");
    assert_eq!((via.len(), &via[..2]), (3, &["1.1 a".to_owned(), "1.0 b, 2 c".to_owned()][..]));
}

#[test]
fn a_slow_reader_with_a_small_window_gets_every_byte_p13() {
    const SIZE: usize = 3 * 1024 * 1024;
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))?;
        conversation.send((0..SIZE).map(|i| (i / 7 % 251) as u8).collect::<Vec<_>>())
    });
    let sidecar = Sidecar::before(&upstream);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // The kernel cannot hide the slowness by taking it all.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&sidecar.address.into()).unwrap();
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut got = Vec::new();
    let mut some = [0_u8; 1024];
    let mut chunk = vec![0_u8; 64 * 1024];
    loop {
        // A kilobyte at a time at first, then without a break.
        let slowly = got.len() < 512 * 1024;
        let buffer = if slowly { &mut some[..] } else { &mut chunk[..] };
        match stream.read(buffer).unwrap() {
            0 => break,
            count => got.extend_from_slice(&buffer[..count]),
        }
        if slowly {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    let head = got.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(got.len() - head, SIZE);
    assert!(got[head..].iter().enumerate().all(|(i, b)| *b == (i / 7 % 251) as u8));
}

#[test]
fn ten_thousand_informational_answers_hide_nothing_and_mix_nothing_p18() {
    let upstream = Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 102 x\r\n\r\n";
            conversation.send(hints.repeat(5_000))?;
            let path = request.head.start.split(' ').nth(1).unwrap().to_owned();
            conversation
                .send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()))?;
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for path in ["/first", "/second"] {
        let answer = client.get(path);
        assert_eq!((answer.status(), answer.text().as_str()), (200, path));
        assert!(!answer.head.has("link"));
    }
}

#[test]
fn with_the_shorter_patience_ours_no_post_meets_a_closed_connection_p24() {
    // The upstream closes what has been silent for a second, we after a fifth of that.
    let upstream = Upstream::run(|conversation| {
        loop {
            conversation.request()?;
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            conversation.stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        }
    });
    let sidecar = Sidecar::limited(&upstream, "upstream_idle: 200ms");
    let mut client = sidecar.client();
    for pause in [0, 100, 190, 200, 210, 300, 900, 990, 1000, 1010, 1100] {
        std::thread::sleep(Duration::from_millis(pause));
        let lines = ["POST / HTTP/1.1", "Host: localhost", "Content-Length: 2"];
        let answer = client.request(&lines).send("hi").answer();
        assert_eq!(answer.status(), 200, "after {pause} ms: {}", answer.text());
    }
    assert_eq!(upstream.requests().len(), 11);
}

#[test]
fn no_get_fails_whenever_the_upstream_closes_p24() {
    // It closes what was used and has been silent for 20 ms, in the middle of what comes.
    let upstream = Upstream::run(|conversation| {
        loop {
            conversation.request()?;
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            conversation.stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let clients: Vec<_> = (0..8)
        .map(|own| {
            let mut client = sidecar.client();
            std::thread::spawn(move || {
                for round in 0..40 {
                    std::thread::sleep(Duration::from_micros(18_000 + 100 * own + 37 * round));
                    let answer = client.get("/");
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_hundred_pipelined_requests_are_answered_in_order_p25() {
    let upstream = telling();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let all: String = (0..100)
        .map(|i| match i % 3 {
            0 => format!("GET /{i} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            1 => format!("POST /{i} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"),
            _ => format!(
                "PUT /{i} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\n\r\n"
            ),
        })
        .collect();
    client.send(&all);
    for i in 0..100 {
        assert_eq!(client.answer().text(), format!("/{i}"));
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_old_client_gets_plain_bytes_whatever_the_upstream_sends_p26() {
    for answer in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.0 200 OK\r\n\r\nab",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
    ] {
        let upstream = Upstream::run(move |conversation| {
            conversation.request()?;
            conversation.send(answer)
        });
        let sidecar = Sidecar::before(&upstream);
        let mut client = sidecar.client();
        let text = client.send("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n").until_closed().unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n") && text.ends_with("\r\n\r\nab"), "{text}");
        assert!(!text.contains("chunked") && !text.contains("x-sum"), "{text}");
    }
}

#[test]
fn an_options_request_goes_no_further_than_it_says_p30() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let mut ask = |method: &str, value: &str| {
        let lines = [&format!("{method} / HTTP/1.1"), "Host: localhost", value];
        client.request(&lines).answer()
    };
    for last in ["Max-Forwards: 0", "max-forwards: 000"] {
        let answer = ask("OPTIONS", last);
        assert_eq!((answer.status(), answer.body.len()), (204, 0));
        assert!(answer.head.one("allow").contains("OPTIONS"));
    }
    assert_eq!(upstream.connections(), 0);
    for (method, value, arrives) in [
        ("OPTIONS", "Max-Forwards: 7", "6"),
        ("OPTIONS", "Max-Forwards: 1", "0"),
        ("OPTIONS", "Max-Forwards: many", "many"),
        ("GET", "Max-Forwards: 0", "0"),
    ] {
        assert_eq!(ask(method, value).status(), 200);
        assert_eq!(upstream.requests().pop().unwrap().head.one("max-forwards"), arrives);
    }
}

#[test]
fn a_date_is_added_to_nothing_that_is_not_ours_p31() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let sidecar = Sidecar::before(&upstream);
    let answer = sidecar.client().get("/");
    assert!(!answer.head.has("date") && !answer.head.has("server"), "{:?}", answer.head);
    let own = sidecar.client().get("/%");
    assert!(own.head.has("date") && !own.head.has("server"));
    let lines = ["OPTIONS / HTTP/1.1", "Host: localhost", "Max-Forwards: 0"];
    let own = sidecar.client().request(&lines).answer();
    assert_eq!((own.status(), own.head.all("date").len()), (204, 1));
}

#[test]
fn content_and_its_conditions_pass_untouched_p33() {
    let body: Vec<u8> = (0..=255).collect();
    let head = "HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nETag: W/\"a,b\"\r\n\
                Content-Type: multipart/byteranges; boundary=THIS\r\nAccept-Ranges: bytes\r\n\
                Content-Range: bytes 0-255/*\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                Cache-Control: no-transform\r\nVary: *\r\ncontent-length: 256\r\n\r\n";
    let upstream = Upstream::answering([head.as_bytes(), &body].concat());
    let sidecar = Sidecar::before(&upstream);
    let conditions = [
        "Range: bytes=0-0,2-",
        "If-Range: \"x\"",
        "If-None-Match: W/\"a\", *",
        "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
        "If-Match: \"b\"",
        "Accept-Encoding: br;q=1.0, gzip;q=0",
        "Cache-Control: only-if-cached",
        "Pragma: no-cache",
    ];
    let lines = [&["GET /f HTTP/1.1", "Host: localhost"][..], &conditions].concat();
    let answer = sidecar.client().request(&lines).answer();
    assert_eq!((answer.status(), &answer.body), (206, &body));
    for line in head.lines().skip(1).filter(|line| line.contains(": ")) {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(answer.head.all(&name.to_ascii_lowercase()), [value], "{name}");
    }
    let request = upstream.request();
    for line in conditions {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(request.head.all(&name.to_ascii_lowercase()), [value], "{name}");
    }
}

#[test]
fn a_head_of_60_kib_passes_and_one_byte_too_many_does_not_p34() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::limited(&upstream, "head_size: 61440B");
    let head = |size: usize| {
        let start = "GET / HTTP/1.1\r\nHost: localhost\r\n";
        let mut head = start.to_owned();
        // Many fields, so that none is unusually long.
        for i in 0..60 {
            head.push_str(&format!("X-{i:02}: {}\r\n", "x".repeat(990)));
        }
        let left = size - head.len() - "X-Last: \r\n\r\n".len();
        format!("{head}X-Last: {}\r\n\r\n", "y".repeat(left))
    };
    let fits = head(60 * 1024);
    assert_eq!(fits.len(), 61_440);
    assert_eq!(sidecar.client().send(&fits).answer().status(), 200);
    assert!(upstream.request().raw.len() > 60_000);
    let answer = sidecar.client().send(head(60 * 1024 + 1)).answer();
    assert_eq!((answer.status(), answer.refusal().as_str()), (431, "head-size"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_421_of_the_upstream_is_its_own_affair_p39() {
    let upstream =
        Upstream::answering("HTTP/1.1 421 Misdirected Request\r\ncontent-length: 3\r\n\r\nnot");
    let sidecar = Sidecar::before(&upstream);
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (421, "not"));
    assert!(!answer.head.has("bearerd-refusal"));
    let lines = ["GET / HTTP/1.1", "Host: evil.example"];
    assert_eq!(sidecar.client().request(&lines).answer().status(), 403);
}

#[test]
fn a_client_that_leaves_is_noticed_within_a_second_a_hundred_times_p21() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.until_closed()
    });
    let sidecar = Sidecar::before(&upstream);
    let active = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";
    for round in 1..=4 {
        let clients: Vec<_> = (0..25)
            .map(|_| {
                let mut client = sidecar.client();
                client.request(&["GET / HTTP/1.1", "Host: localhost"]);
                client
            })
            .collect();
        eventually(|| upstream.requests().len() == 25 * round, || "requests".to_owned());
        let began = SystemTime::now();
        drop(clients);
        sidecar.await_metric(active, 0.0);
        assert!(began.elapsed().unwrap() < Duration::from_secs(1));
    }
}
