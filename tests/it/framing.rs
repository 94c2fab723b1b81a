//! How messages begin and end (P5–P12, P15–P17, P25, P26; S12, S13).

use std::time::{Duration, SystemTime};

use crate::support::{Sidecar, Upstream};

#[test]
fn a_get_goes_through_with_the_credential() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let answer = sidecar.client().get("/a/%7E?x=1&&y");
    assert_eq!((answer.status(), answer.text()), (200, "ok".to_owned()));
    let request = upstream.request();
    assert_eq!(request.head.start, "GET /a/%7E?x=1&&y HTTP/1.1");
    assert_eq!(request.head.one("authorization"), "Bearer secret-credential");
    assert_eq!(request.head.one("host"), upstream.address.to_string());
    assert!(!request.head.has("content-length") && !request.head.has("transfer-encoding"));
}

#[test]
fn path_and_query_are_the_same_bytes_upstream() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let targets = [
        "/",
        "/a?",
        "/a??b",
        "//a//b/../c/./%2e%2e/%2F",
        "/%7Euser/caf%C3%A9?q=100%&r=%zz&s=a+b&&=",
        "/a;v=1,2:3@x!$'()*",
        "/?url=http://x/?y#not-a-fragment".split('#').next().unwrap(),
    ];
    for target in targets {
        assert_eq!(client.get(target).status(), 200, "{target}");
    }
    for (target, request) in targets.iter().zip(upstream.requests()) {
        assert_eq!(request.head.start, format!("GET {target} HTTP/1.1"));
    }
}

#[test]
fn an_absolute_target_becomes_a_path_and_an_asterisk_stays() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let host = format!("Host: {}", sidecar.address);
    let line = format!("GET http://{}/x?y HTTP/1.1", sidecar.address);
    assert_eq!(client.request(&[&line, &host]).answer().status(), 200);
    assert_eq!(client.request(&["OPTIONS * HTTP/1.1", &host]).answer().status(), 200);
    let starts: Vec<String> = upstream.requests().into_iter().map(|r| r.head.start).collect();
    assert_eq!(starts, ["GET /x?y HTTP/1.1", "OPTIONS * HTTP/1.1"]);
}

#[test]
fn an_empty_body_keeps_its_framing() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for method in ["GET", "DELETE", "POST", "OPTIONS"] {
        client.request(&[&format!("{method} / HTTP/1.1"), "Host: localhost"]).answer();
        let zero = [&format!("{method} / HTTP/1.1"), "Host: localhost", "Content-Length: 0"];
        client.request(&zero).answer();
    }
    for (index, request) in upstream.requests().iter().enumerate() {
        assert!(!request.head.has("transfer-encoding"), "{request:?}");
        let expected = if index % 2 == 1 { "0" } else { "" };
        assert_eq!(request.head.one("content-length"), expected, "{}", request.head.start);
    }
}

#[test]
fn bodies_arrive_whole_in_either_framing_and_with_any_method() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for method in ["POST", "GET", "DELETE", "PROPFIND"] {
        let line = format!("{method} /p HTTP/1.1");
        client.request(&[&line, "Host: localhost", "Content-Length: 5"]).send("hello");
        assert_eq!(client.answer().status(), 200);
        client.request(&[&line, "Host: localhost", "Transfer-Encoding: chunked"]);
        client.send("3\r\nabc\r\n2;ext=\"1\"\r\nde\r\n0\r\n\r\n");
        assert_eq!(client.answer().status(), 200);
    }
    for pair in upstream.requests().chunks(2) {
        assert_eq!(pair[0].body, b"hello");
        assert_eq!(pair[0].head.one("content-length"), "5");
        assert!(!pair[0].head.has("transfer-encoding"));
        assert_eq!(pair[1].body, b"abcde");
        assert_eq!(pair[1].head.one("transfer-encoding"), "chunked");
        assert!(!pair[1].head.has("content-length"));
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn lengths_that_contradict_each_other_never_reach_the_upstream() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    for lines in [
        &["Content-Length: 5", "Content-Length: 6"][..],
        &["Content-Length: 5, 5"],
        &["Content-Length: +5"],
        &["Content-Length: 5x"],
        &["Transfer-Encoding: gzip"],
        &["Transfer-Encoding: gzip, chunked"],
        &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        &["Transfer-Encoding : chunked"],
    ] {
        let mut client = sidecar.client();
        client.request(&[&["POST / HTTP/1.1", "Host: localhost"], lines].concat());
        // hyper answers some of these and merely closes at others.
        let said = client.send("0\r\n\r\n").until_closed().unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        let refused = ["", "HTTP/1.1 400", "HTTP/1.1 501"];
        assert!(refused.iter().any(|start| said.get(..12).unwrap_or("") == *start), "{said}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn both_framings_at_once_are_made_one_and_the_connection_ends() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    for lines in [
        ["Content-Length: 60", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 60"],
    ] {
        let mut client = sidecar.client();
        client.request(&[&["POST /first HTTP/1.1", "Host: localhost"], &lines[..]].concat());
        client.send("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.answer().status(), 200);
        assert!(client.is_closed());
    }
    for request in upstream.requests() {
        assert_eq!(request.head.start, "POST /first HTTP/1.1");
        assert!(!request.head.has("content-length"));
    }
}

#[test]
fn a_bad_chunk_ends_the_request_and_the_connection() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    for chunk in
        ["zz\r\n", "-1\r\n", "5\nhello", "5\r\nhelloX\r\n", "FFFFFFFFFFFFFFFFF\r\n", "1;\n"]
    {
        let mut client = sidecar.client();
        client.request(&["POST / HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked"]);
        client.send("3\r\nabc\r\n").send(chunk);
        client.send("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.status(), answer.refusal().as_str()), (400, "body"), "{chunk:?}");
        assert_eq!(answer.head.one("connection"), "close");
        assert!(client.is_closed());
    }
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
}

#[test]
fn fields_keep_their_order_and_their_bytes_both_ways() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 200 Fine By Me\r\nSet-Cookie: a=1, b\r\nX-Bytes: \xff\xe9\t x\r\n\
          set-cookie: b=2\r\nDate: yesterday\r\nServer: mine\r\ncontent-length: 0\r\n\r\n",
    );
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    client.send("GET / HTTP/1.1\r\nhOsT: localhost\r\nX-A: 1\r\nx-a: 2, 3\r\nX-A: 4\r\n");
    let answer = client.send(b"X-Bytes: \xfe\xfd\r\n\r\n").answer();
    assert_eq!(answer.head.start, "HTTP/1.1 200 Fine By Me");
    assert_eq!(answer.head.all("set-cookie"), ["a=1, b", "b=2"]);
    assert!(answer.head.fields.contains(&("x-bytes".to_owned(), b"\xff\xe9\t x".to_vec())));
    assert_eq!(
        (answer.head.one("date"), answer.head.one("server")),
        ("yesterday".into(), "mine".into())
    );
    let request = upstream.request();
    assert_eq!(request.head.all("x-a"), ["1", "2, 3", "4"]);
    assert!(request.head.fields.contains(&("x-bytes".to_owned(), b"\xfe\xfd".to_vec())));
}

#[test]
fn answers_without_a_body_have_none() {
    let upstream = Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            let status = request.head.start.split(['/', ' ']).nth(2).unwrap().to_owned();
            let length = match &*status {
                "204" if request.head.start.contains("/0 ") => "content-length: 0\r\n",
                "204" => "",
                _ => "content-length: 1234\r\n",
            };
            conversation.send(format!("HTTP/1.1 {status} x\r\n{length}etag: \"e\"\r\n\r\n"))?;
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let head = client.request(&["HEAD /200 HTTP/1.1", "Host: localhost"]).head();
    assert_eq!((head.one("content-length"), head.one("etag")), ("1234".into(), "\"e\"".into()));
    for status in ["204", "304"] {
        let answer = client.get(&format!("/{status}"));
        assert_eq!(answer.status().to_string(), status);
        assert!(!answer.head.has("transfer-encoding"));
        assert!(status != "204" || !answer.head.has("content-length"));
    }
    // Not even what is left out of 204 for GET.
    let head = client.request(&["HEAD /204/0 HTTP/1.1", "Host: localhost"]).head();
    assert_eq!(head.start, "HTTP/1.1 204 x");
    assert!(!head.has("content-length") && head.has("etag"));
    // Nothing was left over: the connection still works, on both sides.
    assert_eq!(
        client.request(&["HEAD /200 HTTP/1.1", "Host: localhost"]).head().one("etag"),
        "\"e\""
    );
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_body_that_ends_with_its_connection_is_relayed_chunked() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send("HTTP/1.0 200 OK\r\n\r\nuntil the end")
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(answer.head.one("transfer-encoding"), "chunked");
        assert_eq!(answer.text(), "until the end");
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn an_answer_with_both_framings_is_relayed_with_one_and_its_connection_is_not_used_again() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 99\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(answer.text(), "ok");
        assert!(!answer.head.has("content-length"));
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn repeated_lengths_of_an_answer_become_one() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2, 2\r\n\r\nok",
    );
    let sidecar = Sidecar::before(&upstream);
    let answer = sidecar.client().get("/");
    assert_eq!((answer.text(), answer.head.one("content-length")), ("ok".into(), "2".into()));
}

#[test]
fn answers_that_are_not_http_are_refused_and_nothing_hangs() {
    let long = format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(1024 * 1024));
    let answers: Vec<(Vec<u8>, &str)> = vec![
        (b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n".to_vec(), "upstream-invalid"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n".to_vec(), "upstream-invalid"),
        (b"<html>nine</html>\r\n\r\n".to_vec(), "upstream-invalid"),
        (b"HTTP/2.0 200 OK\r\n\r\n".to_vec(), "upstream-invalid"),
        (b"HTTP/1.1 2000 OK\r\n\r\n".to_vec(), "upstream-invalid"),
        (long.into_bytes(), "upstream-invalid"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\nhello".to_vec(), "upstream-invalid"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n".to_vec(), "upstream-invalid"),
        (
            b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            "upstream-invalid",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_vec(),
            "upstream-invalid",
        ),
        (
            b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nxx".to_vec(),
            "upstream-invalid",
        ),
        (b"HTTP/1.1 200 OK\r\nx: unfin".to_vec(), "upstream-reset"),
        (b"".to_vec(), "upstream-reset"),
    ];
    for (answer, slug) in answers {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        let upstream = Upstream::run(move |conversation| {
            conversation.request()?;
            conversation.send(&answer)
        });
        let sidecar = Sidecar::before(&upstream);
        let got = sidecar.client().get("/");
        assert_eq!((got.status(), got.refusal().as_str()), (502, slug), "{shown}");
        assert!(!got.text().contains("secret-credential"));
        sidecar.await_metric(&format!("bearerd_rejected_total{{reason=\"{slug}\"}}"), 1.0);
    }
}

#[test]
fn a_client_that_waits_for_100_gets_it_only_if_the_request_goes_on() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let began = SystemTime::now();
    let lines = ["POST / HTTP/1.1", "Host: localhost", "Expect: 100-continue", "Content-Length: 5"];
    client.request(&lines);
    assert_eq!(client.head().start, "HTTP/1.1 100 Continue");
    assert!(began.elapsed().unwrap() < Duration::from_secs(1));
    assert_eq!(client.send("hello").answer().status(), 200);
    assert!(!upstream.request().head.has("expect"));
    let mut client = sidecar.client();
    client.request(&[&lines[..], &["Origin: null"]].concat());
    assert_eq!(client.head().start, "HTTP/1.1 403 Forbidden");
    let mut client = sidecar.client();
    client.request(&["GET / HTTP/1.1", "Host: localhost", "Expect: the-unexpected"]);
    assert_eq!(client.answer().status(), 417);
}

#[test]
fn pipelined_requests_are_answered_in_order_and_a_bad_one_ends_it() {
    let upstream = Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            let path = request.head.start.split(' ').nth(1).unwrap().to_owned();
            conversation
                .send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()))?;
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let good: String =
        (0..50).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: localhost\r\n\r\n")).collect();
    // No request, one without a host, and one for what is no target.
    let bad = [
        "BAD REQUEST\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ];
    for (sent, bad) in bad.into_iter().enumerate() {
        let mut client = sidecar.client();
        client.send(&good).send(bad).send(&good);
        for i in 0..50 {
            assert_eq!(client.answer().text(), format!("/{i}"));
        }
        let answer = client.answer();
        assert_eq!((answer.status(), answer.head.one("connection")), (400, "close".to_owned()));
        assert!(client.is_closed());
        assert_eq!(upstream.requests().len(), 50 * (sent + 1));
    }
}

#[test]
fn http_1_0_gets_no_chunks() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let answer = client.request(&["GET / HTTP/1.0"]).answer();
    assert!(answer.head.start.starts_with("HTTP/1.0 200"), "{}", answer.head.start);
    assert!(!answer.head.has("transfer-encoding"));
    assert_eq!(answer.text(), "abcde");
    let request = upstream.request();
    assert!(request.head.start.ends_with("HTTP/1.1"));
    assert_eq!(request.head.one("host"), upstream.address.to_string());
    assert!(request.head.one("via").starts_with("1.0 bearerd-"));
}

#[test]
fn http_1_0_can_keep_its_connection() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for _ in 0..2 {
        let answer = client.request(&["GET / HTTP/1.0", "Connection: keep-alive"]).answer();
        assert_eq!(answer.head.one("connection"), "keep-alive");
        assert_eq!(answer.text(), "ok");
    }
}

#[test]
fn http_1_0_is_promised_no_connection_by_whose_end_the_answer_ends_p26() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let head = client.request(&["GET / HTTP/1.0", "Connection: keep-alive"]).head();
    assert!(!head.has("content-length") && !head.has("connection"), "{head:?}");
    assert_eq!(client.until_closed().unwrap(), b"ok");
}

#[test]
fn a_connection_ends_when_the_client_asks() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    let lines = ["GET / HTTP/1.1", "Host: localhost", "Connection: close"];
    let answer = client.request(&lines).answer();
    assert_eq!(answer.head.one("connection"), "close");
    assert!(client.is_closed());
    assert!(!upstream.request().head.has("connection"));
}
