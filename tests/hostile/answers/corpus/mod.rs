//! Answers that are wrong, odd or meant to be read as two. The program is tested with them, and the
//! codec beside hyper's.

mod further;

use Expect::{Cut, Passed, Refused};

/// What becomes of an answer.
#[derive(Debug)]
pub(crate) enum Expect {
    /// 502.
    Refused,
    /// This status with this body.
    Passed(u16, &'static [u8]),
    /// The head passes; then the client's connection breaks off without a proper end.
    Cut,
}

/// An answer of an upstream.
pub(crate) struct Case {
    pub(crate) rule: &'static str,
    pub(crate) method: &'static str,
    pub(crate) answer: Vec<u8>,
    pub(crate) expect: Expect,
}

fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn case(rule: &'static str, answer: &str, expect: Expect) -> Case {
    Case { rule, method: "GET", answer: crlf(answer), expect }
}

fn raw(rule: &'static str, answer: &[u8], expect: Expect) -> Case {
    Case { rule, method: "GET", answer: answer.to_vec(), expect }
}

/// Everything; `ours` is a credential of ours, without its scheme.
pub(crate) fn corpus(ours: &str) -> Vec<Case> {
    let mut all = Vec::new();
    all.extend(heads());
    all.extend(framings());
    all.extend(chunks());
    all.extend(informational());
    all.extend(leftovers());
    all.extend(leaks(ours));
    all.extend(further::further());
    all
}

fn heads() -> Vec<Case> {
    const RULE: &str = "P16 head";
    let mut all: Vec<Case> = [
        "HTTP/0.9 200 OK\n\n",
        "HTTP/2.0 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.2 200 OK\nContent-Length: 0\n\n",
        "200 OK\n\n",
        "hello\n",
        "HTTP/1.1 20 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 2000 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 abc OK\nContent-Length: 0\n\n",
        "HTTP/1.1 000 No\nContent-Length: 0\n\n",
        "HTTP/1.1 099 No\nContent-Length: 0\n\n",
        "HTTP/1.1  200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nno colon\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\n: x\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nX A: x\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nContent-Length : 0\n\n",
        "HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\n X: a\nContent-Length: 0\n\n",
        "GET / HTTP/1.1\nHost: x\n\n",
        "",
        "HTTP/1.1",
        "HTTP/1.1 200 OK\nContent-Length: 0\n",
    ]
    .into_iter()
    .map(|text| case(RULE, text, Refused))
    .collect();
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x01\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\0: a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\rContent-Length: 0\r\n\r\n",
        b"\0\0\0\0",
        b"\x15\x03\x01\x00\x02\x02\x46",
    ] {
        all.push(raw(RULE, bytes, Refused));
    }
    let many: String = (0..200).map(|i| format!("X-{i}: 1\n")).collect();
    all.push(case(RULE, &format!("HTTP/1.1 200 OK\n{many}\n"), Refused));
    let long = "x".repeat(1024 * 1024);
    all.push(case(RULE, &format!("HTTP/1.1 200 {long}\n\n"), Refused));
    all.push(case(RULE, &format!("HTTP/1.1 200 OK\nX: {long}\n\n"), Refused));
    // Others end lines at lone line feeds (RFC 9112 section 2.2 permits it): one that came in with
    // a field's value would make two fields of it.
    all.push(raw("H2 lone LF", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Refused));
    all.push(raw(
        "H2 lone LF",
        b"HTTP/1.1 200 OK\r\nX: a\nX: b\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ));
    all.push(case("P16 reason", "HTTP/1.1 200\nContent-Length: 2\n\nok", Passed(200, b"ok")));
    all.push(case("P16 status", "HTTP/1.1 299 Odd\nContent-Length: 2\n\nok", Passed(299, b"ok")));
    all.push(case("P16 status", "HTTP/1.1 799 Odd\nContent-Length: 2\n\nok", Passed(799, b"ok")));
    all
}

fn framings() -> Vec<Case> {
    const RULE: &str = "P15 framing";
    let mut all = Vec::new();
    for lines in [
        "Content-Length: 2\nContent-Length: 3\n",
        "Content-Length: 2, 3\n",
        "Content-Length: -1\n",
        "Content-Length: +2\n",
        "Content-Length: 0x2\n",
        "Content-Length: two\n",
        "Content-Length:\n",
        "Content-Length: 99999999999999999999\n",
        "Transfer-Encoding: gzip, chunked\n",
        "Transfer-Encoding: chunked, chunked\n",
        "Transfer-Encoding: chunked, gzip\n",
        "Transfer-Encoding: identity\n",
        "Transfer-Encoding: xchunked\n",
        "Transfer-Encoding:\n",
        "Transfer-Encoding: gzip\nTransfer-Encoding: chunked\n",
        "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n",
        "Transfer-Encoding: xchunked\nContent-Length: 2\n",
    ] {
        all.push(case(RULE, &format!("HTTP/1.1 200 OK\n{lines}\nok"), Refused));
    }
    for lines in ["Content-Length: 2\nContent-Length: 2\n", "Content-Length: 2, 2\n"] {
        let text = format!("HTTP/1.1 200 OK\n{lines}\nok");
        all.push(case(RULE, &text, Passed(200, b"ok")));
    }
    for lines in [
        "Content-Length: 99\nTransfer-Encoding: chunked\n",
        "Transfer-Encoding: chunked\nContent-Length: 1\n",
        "Transfer-Encoding: Chunked\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\n{lines}\n2\nok\n0\n\n");
        all.push(case(RULE, &text, Passed(200, b"ok")));
    }
    all.push(case(RULE, "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n", Refused));
    all.push(case("P12 cut", "HTTP/1.1 200 OK\nContent-Length: 5\n\nok", Cut));
    all.push(case("P12 close", "HTTP/1.1 200 OK\n\nok", Passed(200, b"ok")));
    all.push(case("P12 old", "HTTP/1.0 200 OK\n\nok", Passed(200, b"ok")));
    all
}

fn chunks() -> Vec<Case> {
    const RULE: &str = "S13 chunk";
    const HEAD: &str = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n";
    let mut all = Vec::new();
    for body in [
        "2\nok\n",
        "2\nok\n0\n",
        "2\nokx\n0\n\n",
        "x\nok\n0\n\n",
        "-2\nok\n0\n\n",
        "0x2\nok\n0\n\n",
        "FFFFFFFFFFFFFFFFF\nok\n",
        "\nok\n0\n\n",
        "2\nok\n0\nbad trailer\n\n",
        "2 2\nok\n0\n\n",
    ] {
        all.push(case(RULE, &format!("{HEAD}{body}"), Cut));
    }
    let head = crlf(HEAD);
    for body in [
        &b"2\nok\r\n0\r\n\r\n"[..],
        b"2\r\nok\n0\r\n\r\n",
        b"2;a\nb\r\nok\r\n0\r\n\r\n",
        b"2\0\r\nok\r\n0\r\n\r\n",
        b"2\r\r\nok\r\n0\r\n\r\n",
        b"2\rok\r\n0\r\n\r\n",
        b"2\r\nok\r0\r\n\r\n",
    ] {
        all.push(raw(RULE, &[&head, body].concat(), Cut));
    }
    // What an extension says, a NUL included, goes no further.
    for body in
        [&b"2;a=b\r\nok\r\n0\r\n\r\n"[..], b"002\r\nok\r\n00\r\n\r\n", b"2;\0\r\nok\r\n0\r\n\r\n"]
    {
        all.push(raw(RULE, &[&head, body].concat(), Passed(200, b"ok")));
    }
    all
}

fn informational() -> Vec<Case> {
    let mut all = Vec::new();
    for text in [
        "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: websocket\n\nraw bytes",
        "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: h2c\n\nraw bytes",
        "HTTP/1.1 101 Switching Protocols\n\nraw bytes",
        "HTTP/1.1 101 Switching Protocols\nContent-Length: 2\n\nok",
        "HTTP/1.1 100 Continue\n\nHTTP/1.1 101 Switching Protocols\nUpgrade: x\n\nraw",
    ] {
        all.push(case("S11 101", text, Refused));
    }
    for text in [
        "HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 103 Early Hints\nLink: </x>\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 102 Processing\n\nHTTP/1.1 199 x\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    ] {
        all.push(case("P18 1xx", text, Passed(200, b"ok")));
    }
    let flood = "HTTP/1.1 103 Early Hints\n\n".repeat(10_000);
    all.push(case(
        "P18 flood",
        &format!("{flood}HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        Passed(200, b"ok"),
    ));
    all.push(case("P18 flood", &flood, Refused));
    all
}

fn leftovers() -> Vec<Case> {
    const RULE: &str = "P42 left over";
    let evil = "HTTP/1.1 200 OK\nContent-Length: 4\n\nevil";
    let mut all = vec![
        case(RULE, &format!("HTTP/1.1 200 OK\nContent-Length: 2\n\nok{evil}"), Passed(200, b"ok")),
        case(RULE, &format!("HTTP/1.1 204 No Content\n\n{evil}"), Passed(204, b"")),
        case(
            RULE,
            &format!("HTTP/1.1 304 Not Modified\nContent-Length: 4\n\n{evil}"),
            Passed(304, b""),
        ),
        case(RULE, "HTTP/1.1 204 No Content\nContent-Length: 4\n\nevil", Passed(204, b"")),
        case(
            RULE,
            "HTTP/1.1 204 No Content\nTransfer-Encoding: chunked\n\n4\nevil\n0\n\n",
            Passed(204, b""),
        ),
        case(
            RULE,
            &format!("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n{evil}"),
            Passed(200, b"ok"),
        ),
    ];
    all.push(Case {
        rule: RULE,
        method: "HEAD",
        answer: crlf("HTTP/1.1 200 OK\nContent-Length: 4\n\nevil"),
        expect: Passed(200, b""),
    });
    all
}

fn leaks(secret: &str) -> Vec<Case> {
    let mut all = Vec::new();
    for text in [
        format!("HTTP/1.1 200 OK\nX-Echo: Bearer {secret}\nContent-Length: 2\n\nok"),
        format!("HTTP/1.1 200 OK\nX-Echo: a{secret}b\nContent-Length: 2\n\nok"),
        format!("HTTP/1.1 200 {secret}\nContent-Length: 2\n\nok"),
        format!("HTTP/1.1 302 Found\nLocation: /?token={secret}\nContent-Length: 0\n\n"),
        format!("HTTP/1.1 200 OK\nSet-Cookie: t={secret}\nContent-Length: 2\n\nok"),
    ] {
        all.push(case("S27 leak", &text, Refused));
    }
    let trailing = format!(
        "HTTP/1.1 200 OK\nTrailer: x-echo\nTransfer-Encoding: chunked\n\n2\nok\n0\nX-Echo: {secret}\n\n"
    );
    all.push(case("S27 leak", &trailing, Passed(200, b"ok")));
    all
}
