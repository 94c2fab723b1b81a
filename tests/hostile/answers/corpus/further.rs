//! More answers: what proxies were caught passing on.

use super::{Case, Cut, Passed, Refused, case, crlf, raw};

pub(super) fn further() -> Vec<Case> {
    let mut all = Vec::new();
    all.extend(heads());
    all.extend(lengths());
    all.extend(chunks());
    all.extend(switches());
    all.extend(without_body());
    all
}

fn heads() -> Vec<Case> {
    const RULE: &str = "P16 head";
    let mut all: Vec<Case> = [
        &b"HTTP/1.1 200 OK\r\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1\t200\tOK\r\nContent-Length: 0\r\n\r\n",
        b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"\xef\xbb\xbfHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 +200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 0200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 \r\nContent-Length: 0\r\n\r\n",
        b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/01.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\x7fK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: \x0bb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\x7f\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-\xe9: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX;A: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A\r\n: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\r\n\tc\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding\0: chunked\r\n\r\n0\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"220 mail.example ESMTP\r\n",
        b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x10\0\0",
        b"{\"error\": \"not HTTP\"}",
    ]
    .into_iter()
    .map(|bytes| raw(RULE, bytes, Refused))
    .collect();
    for reason in ["", " Not \"what\" it seems", " caf\u{e9}"] {
        let text = format!("HTTP/1.1 200{reason}\nContent-Length: 2\n\nok");
        all.push(case("P16 reason", &text, Passed(200, b"ok")));
    }
    all
}

fn lengths() -> Vec<Case> {
    const RULE: &str = "P15 length";
    let mut all = Vec::new();
    for lines in [
        "Content-Length: 2\nContent-Length: 02\nContent-Length: 3\n",
        "Content-Length: 2,3\n",
        "Content-Length: 2,\n",
        "Content-Length: 2;\n",
        "Content-Length: 2 2\n",
        "Content-Length: 2e0\n",
        "Content-Length: \"2\"\n",
        "Content-Length: 18446744073709551617\n",
        "Content-Length: 2\nContent-Length:\n",
        "Transfer-Encoding: chunked, identity\n",
        "Transfer-Encoding: \"chunked\"\n",
        "Transfer-Encoding: chunked;q=1\n",
        "Transfer-Encoding: chunked\nTransfer-Encoding: identity\n",
        "Transfer-Encoding: identity\nTransfer-Encoding: chunked\n",
        "Transfer-Encoding: deflate\nContent-Length: 2\n",
    ] {
        all.push(case(RULE, &format!("HTTP/1.1 200 OK\n{lines}\nok"), Refused));
    }
    for lines in ["Content-Length: 002\n", "Content-Length:2\n", "content-length:\t2\t\n"] {
        all.push(case(RULE, &format!("HTTP/1.1 200 OK\n{lines}\nok"), Passed(200, b"ok")));
    }
    // A length that is too small ends the body, and what follows is nobody's.
    let text = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok and more";
    all.push(case("P42 rest", text, Passed(200, b"ok")));
    all
}

fn chunks() -> Vec<Case> {
    const RULE: &str = "S13 chunk";
    let head = crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n");
    let mut all = Vec::new();
    for body in [
        &b" 2\r\nok\r\n0\r\n\r\n"[..],
        b"+2\r\nok\r\n0\r\n\r\n",
        b"2_0\r\nok\r\n0\r\n\r\n",
        b"2.0\r\nok\r\n0\r\n\r\n",
        b"2,\r\nok\r\n0\r\n\r\n",
        b"G\r\nok\r\n0\r\n\r\n",
        b"2;a=\"\n\"\r\nok\r\n0\r\n\r\n",
        b"2;a\rb\r\nok\r\n0\r\n\r\n",
        b"2\n\r\nok\r\n0\r\n\r\n",
        b"2\xa0\r\nok\r\n0\r\n\r\n",
        b"2\r\nok\r\n0\r\nX-A: a\0b\r\n\r\n",
        b"2\r\nok\r\n0\r\nX-A: a\rb\r\n\r\n",
        b"2\r\nok\r\n0\r\nX A: b\r\n\r\n",
        b"2\r\nok\r\n0\r\n folded: b\r\n\r\n",
        b"2\r\nok\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"2\r\nok\r\n0\r\n\r",
        b"2\r\nok\r\n1\r\n",
        b"10000000000000000\r\nok\r\n0\r\n\r\n",
    ] {
        all.push(raw(RULE, &[&head[..], body].concat(), Cut));
    }
    for body in [&b"2 \r\nok\r\n0\r\n\r\n"[..], b"2;a=\"b;c\"\r\nok\r\n0;d=e\r\n\r\n"] {
        all.push(raw(RULE, &[&head[..], body].concat(), Passed(200, b"ok")));
    }
    let many: String = (0..3_000).map(|i| format!("X-{i}: 1\r\n")).collect();
    let body = format!("2\r\nok\r\n0\r\n{many}\r\n");
    all.push(raw("S38 trailers", &[&head[..], body.as_bytes()].concat(), Cut));
    let late = "2\r\nok\r\n0\r\nSet-Cookie: a=b\r\nContent-Length: 9\r\nLocation: /x\r\n\r\n";
    all.push(raw("S17 trailers", &[&head[..], late.as_bytes()].concat(), Passed(200, b"ok")));
    all
}

fn switches() -> Vec<Case> {
    let mut all = Vec::new();
    for text in [
        "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\n\n",
        "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\n\n",
        "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: TLS/1.2\n\n",
        "HTTP/1.0 101 Switching Protocols\nConnection: upgrade\nUpgrade: websocket\n\n",
        "HTTP/1.1 103 Early Hints\n\nHTTP/1.1 101 Switching Protocols\nUpgrade: h2c\n\n",
        "HTTP/1.1 101 Switching Protocols\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n",
    ] {
        all.push(case("S11 101", text, Refused));
    }
    // An offer is none.
    let text =
        "HTTP/1.1 200 OK\nUpgrade: h2c, websocket\nConnection: upgrade\nContent-Length: 2\n\nok";
    all.push(case("S11 offer", text, Passed(200, b"ok")));
    let text = "HTTP/1.1 426 Upgrade Required\nUpgrade: TLS/1.2\nContent-Length: 2\n\nok";
    all.push(case("S11 demand", text, Passed(426, b"ok")));
    all
}

fn without_body() -> Vec<Case> {
    const RULE: &str = "P11 no body";
    let evil = "HTTP/1.1 200 OK\nContent-Length: 4\n\nevil";
    let mut all = Vec::new();
    for status in ["204 No Content", "304 Not Modified"] {
        for lines in ["", "Content-Length: 40\n", "Transfer-Encoding: chunked\n"] {
            let code = status[..3].parse().unwrap();
            let text = format!("HTTP/1.1 {status}\n{lines}\n{evil}");
            all.push(case(RULE, &text, Passed(code, b"")));
        }
    }
    for (lines, body) in [
        ("Content-Length: 4\n", "evil"),
        ("Transfer-Encoding: chunked\n", "4\nevil\n0\n\n"),
        ("", "evil"),
    ] {
        let answer = crlf(&format!("HTTP/1.1 200 OK\n{lines}\n{body}{evil}"));
        all.push(Case { rule: RULE, method: "HEAD", answer, expect: Passed(200, b"") });
    }
    let reset = "HTTP/1.1 205 Reset Content\nContent-Length: 0\n\n";
    all.push(case(RULE, reset, Passed(205, b"")));
    all
}
