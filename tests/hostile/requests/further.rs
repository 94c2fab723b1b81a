//! More requests, by what others were caught with: spellings of framing, lines that end oddly,
//! bytes ahead of their time, targets and hosts in disguise.

use super::super::support::crlf;
use super::corpus::{Case, Expect, broken, get, one, raw, refused, sent};

pub(super) fn further() -> Vec<Case> {
    let mut all = Vec::new();
    for theme in [
        start_lines,
        targets,
        hosts,
        lengths,
        codings,
        chunk_lines,
        chunk_ends,
        names,
        values,
        connections,
        upgrades,
        pages,
        early,
    ] {
        all.extend(theme());
    }
    all
}

/// Lines of bytes between a sound start and a sound end.
fn with_line(line: &[u8]) -> Vec<u8> {
    [&b"GET / HTTP/1.1\r\nHost: localhost\r\n"[..], line, b"\r\n\r\n"].concat()
}

fn start_lines() -> Vec<Case> {
    const RULE: &str = "RFC 9112 3 start line";
    let mut all: Vec<Case> = [
        &b"GET / HTTP/1.1\r\r\nHost: localhost\r\n\r\n"[..],
        b"GET /\rX HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\0\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\x0b\r\nHost: localhost\r\n\r\n",
        b"GET\x0b/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET\xa0/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xef\xbb\xbfGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\tGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.10\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/01.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1,1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/3\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP 1.1\r\nHost: localhost\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G{T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET,POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xc7ET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / ICAP/1.0\r\nHost: localhost\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /?\x08 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /?a\x1bb HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    .into_iter()
    .map(|bytes| raw(RULE, bytes, 400))
    .collect();
    for method in ["CONNECT", "TRACE"] {
        for target in ["/", "http://localhost/", "localhost:443", "http://evil.example/"] {
            let text = format!("{method} {target} HTTP/1.1\nHost: localhost\n\n");
            all.push(refused("S9 S10 method", &text, 405));
        }
    }
    // A method is a name, and names have case.
    for method in ["connect", "trace", "TRACEx", "Connect"] {
        let text = format!("{method} /m HTTP/1.1\nHost: localhost\nConnection: close\n\n");
        all.push(sent("S9 method", &text, &format!("{method} /m"), &[], ""));
    }
    all
}

fn targets() -> Vec<Case> {
    const S9: &str = "S9 target";
    let mut all: Vec<Case> = [
        ("http:/localhost/", "localhost"),
        ("http:localhost/", "localhost"),
        ("http://localhost:80:80/", "localhost"),
        ("http://localhost:x/", "localhost"),
        ("http://localhost:99999/", "localhost"),
        ("http://localhost.evil.example/", "localhost"),
        ("http://localhost%00.evil.example/", "localhost"),
        ("http://localhost\\@evil.example/", "localhost"),
        ("http://:80/", "localhost"),
        ("http://[::1/", "[::1]"),
        ("http://[::2]/", "[::1]"),
        ("http://127.0.0.1/", "localhost"),
        ("http://localhost/", "127.0.0.1"),
        ("ws://localhost/", "localhost"),
        ("javascript:alert(1)", "localhost"),
        ("file:///etc/passwd", "localhost"),
        ("http://u:p@localhost/", "localhost"),
        ("*/", "localhost"),
        ("**", "localhost"),
        ("\\\\evil.example\\x", "localhost"),
        ("%2Fadmin", "localhost"),
        (";/x", "localhost"),
    ]
    .into_iter()
    .map(|(target, host)| refused(S9, &format!("GET {target} HTTP/1.1\nHost: {host}\n\n"), 400))
    .collect();
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let text = format!("{method} * HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n");
        all.push(refused(S9, &text, 400));
    }
    for (target, host, arrives) in [
        ("http://localhost:8080/x", "localhost:8080", "/x"),
        ("http://[::1]:9/x", "[::1]:9", "/x"),
        ("HTTP://localhost/x", "localhost", "/x"),
        ("http://localhost./x", "localhost", "/x"),
        ("http://localhost/?", "localhost", "/?"),
        ("http://localhost//evil.example/x", "localhost", "//evil.example/x"),
        ("/http://evil.example/", "localhost", "/http://evil.example/"),
        ("/@evil.example/", "localhost", "/@evil.example/"),
        ("/?http://evil.example/?x=%0d%0aX:y", "localhost", "/?http://evil.example/?x=%0d%0aX:y"),
        ("/%0d%0aX-Evil:%20y", "localhost", "/%0d%0aX-Evil:%20y"),
    ] {
        let text = format!("GET {target} HTTP/1.1\nHost: {host}\n\n");
        all.push(sent(S9, &text, &format!("GET {arrives}"), &[], ""));
    }
    all
}

fn hosts() -> Vec<Case> {
    let mut all = Vec::new();
    for host in [
        "localhost.localdomain",
        "127.0.0.1.nip.io",
        "127.000.000.001",
        "127.0.1",
        "017700000001",
        "0x7f000001",
        "[::ffff:0.0.0.0]",
        "[::ffff:127.0.0.2]",
        "[fe80::1]",
        "ip6-localhost",
        "host.docker.internal",
        "kubernetes.default.svc",
        "localhost-",
        "_localhost",
        "LOCALHOST.EVIL.EXAMPLE",
    ] {
        all.push(refused("S4 host", &format!("GET / HTTP/1.1\nHost: {host}\n\n"), 403));
    }
    for host in [
        "localhost:80 ,evil.example",
        "localhost\tevil",
        "[::1]evil.example",
        "[::1]]",
        "[127.0.0.1]",
        "[::1%lo]",
        "localhost:8080/",
        "localhost:8080@evil.example",
        "evil.example@localhost",
        "\"localhost\"",
        "localhost;a=b",
        "loc%61lhost",
        "localhost:65536",
        "localhost:0x50",
        ":",
        "..",
        "[]",
        "*",
    ] {
        all.push(refused("P5 host", &format!("GET / HTTP/1.1\nHost: {host}\n\n"), 400));
    }
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\tevil.example\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\0: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost_: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: loc\0alhost\r\n\r\n",
    ] {
        all.push(raw("P5 host", bytes, 400));
    }
    all
}

fn lengths() -> Vec<Case> {
    const S12: &str = "S12 length";
    let mut all = Vec::new();
    for lines in [
        "Content-Length: 1,1\n",
        "Content-Length: 2, 2\n",
        "Content-Length: 2e0\n",
        "Content-Length: 1_0\n",
        "Content-Length: \"2\"\n",
        "Content-Length: 2\nContent-Length: 02\nContent-Length: 3\n",
        "Content-Length: 2\nContent-Length:\n",
        "Content-Length: 9223372036854775808999\n",
        "Content-Length: 0\nContent-Length: 2\n",
        "Content-Length: \u{662}\n",
        "Content-Length: 0b10\n",
        "Content-Length: 2h\n",
        "Content-Length: --2\n",
    ] {
        let text = format!("POST / HTTP/1.1\nHost: localhost\n{lines}\nab");
        all.push(refused(S12, &text, 400));
    }
    for line in [&b"Content-Length: 2\x0b"[..], b"Content-Length: 2\0", b"Content-Length:\x0c2"] {
        all.push(raw(S12, &with_line(line), 400));
    }
    let inner = "GET /smuggled HTTP/1.1\nHost: localhost\n\n";
    let size = crlf(inner).len();
    // A body is a body, whatever it looks like.
    for method in ["GET", "DELETE", "OPTIONS"] {
        let text =
            format!("{method} /l HTTP/1.1\nHost: localhost\nContent-Length: {size}\n\n{inner}");
        let length = format!("content-length: {size}");
        all.push(sent(S12, &text, &format!("{method} /l"), &[&length], inner));
    }
    let text = "POST /l HTTP/1.1\nHost: localhost\nContent-Length:\t2\t\n\nab";
    all.push(sent(S12, text, "POST /l", &["content-length: 2"], "ab"));
    let text = "POST /l HTTP/1.1\nHost: localhost\ncontent-length:2\n\nab";
    all.push(sent(S12, text, "POST /l", &["content-length: 2"], "ab"));
    let text = "POST /l HTTP/1.1\nHost: localhost\nContent-Length: 2\nX-Content-Length: 9\n\nab";
    let fields = ["content-length: 2", "x-content-length: 9"];
    all.push(sent(S12, text, "POST /l", &fields, "ab"));
    all
}

fn codings() -> Vec<Case> {
    const S12: &str = "S12 coding";
    let mut all = Vec::new();
    for (lines, status) in [
        ("Transfer-Encoding: chunked, identity\n", 400),
        ("Transfer-Encoding: chunked\nTransfer-Encoding: identity\n", 400),
        ("Transfer-Encoding: identity\nTransfer-Encoding: chunked\n", 501),
        ("Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", 501),
        ("Transfer-Encoding: , chunked\n", 501),
        ("Transfer-Encoding: deflate\n", 400),
        ("Transfer-Encoding: chunked chunked\n", 400),
        ("Transfer-Encoding: chunked\\\n", 400),
        ("Transfer-Encoding: 'chunked'\n", 400),
        ("Transfer-Encoding: chunke\n", 400),
        ("Transfer-Encoding: trailers\n", 400),
        ("Transfer-Encoding: cow, chunked\nContent-Length: 5\n", 501),
    ] {
        let text = format!("POST / HTTP/1.1\nHost: localhost\n{lines}\n2\nab\n0\n\n");
        all.push(refused(S12, &text, status));
    }
    for line in [
        &b"Transfer-Encoding: chunked\0"[..],
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer-Encoding: chunked\x0c",
        b"Transfer-Encoding\0: chunked",
        b"Transfer-Encoding : chunked",
        b" Transfer-Encoding: chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding: chunked\r",
    ] {
        all.push(raw(S12, &with_line(line), 400));
    }
    let chunked = ["transfer-encoding: chunked"];
    for value in ["CHUNKED", "chunKed", "\tchunked\t"] {
        let text =
            format!("PUT /c HTTP/1.1\nHost: localhost\nTransfer-Encoding:{value}\n\n2\nab\n0\n\n");
        all.push(sent(S12, &text, "PUT /c", &chunked, "2\nab\n0\n\n"));
    }
    for line in
        ["Content-Encoding: chunked", "X-Transfer-Encoding: chunked", "TransferEncoding: chunked"]
    {
        let text = format!("POST /c HTTP/1.1\nHost: localhost\n{line}\nContent-Length: 2\n\nab");
        let fields = [line.to_ascii_lowercase(), "content-length: 2".to_owned()];
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        all.push(sent(S12, &text, "POST /c", &fields, "ab"));
    }
    all
}

const CHUNKED: &str = "POST /k HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n";

fn chunk_lines() -> Vec<Case> {
    const S13: &str = "S13 chunk line";
    let mut all = Vec::new();
    for body in [
        &b" 2\r\nab\r\n0\r\n\r\n"[..],
        b"\t2\r\nab\r\n0\r\n\r\n",
        b"2_0\r\nab\r\n0\r\n\r\n",
        b"2.0\r\nab\r\n0\r\n\r\n",
        b"0x\r\nab\r\n0\r\n\r\n",
        b"2h\r\nab\r\n0\r\n\r\n",
        b"G\r\nab\r\n0\r\n\r\n",
        b"-0\r\n\r\n",
        b"ffffffffffffffff0\r\nab\r\n0\r\n\r\n",
        b"2;\nx\r\nab\r\n0\r\n\r\n",
        b"2;a=\"\n\"\r\nab\r\n0\r\n\r\n",
        b"2;a\rb\r\nab\r\n0\r\n\r\n",
        b"2\n\r\nab\r\n0\r\n\r\n",
        b"\r\n2\r\nab\r\n0\r\n\r\n",
        b"2\r\x0aab\r\r\n0\r\n\r\n",
        b"\x002\r\nab\r\n0\r\n\r\n",
        b"2\x85\r\nab\r\n0\r\n\r\n",
        b"\xef\xbc\x92\r\nab\r\n0\r\n\r\n",
    ] {
        all.push(Case {
            rule: S13,
            bytes: [&crlf(CHUNKED)[..], body].concat(),
            expect: Expect::Broken,
        });
    }
    for body in ["2;a=\"\\\"\"\nab\n0\n\n", "2;a=b;c=\"0\\r\\n\"\nab\n0;d\n\n", "2;=\nab\n0\n\n"] {
        let text = format!("{CHUNKED}{body}");
        all.push(sent(S13, &text, "POST /k", &["transfer-encoding: chunked"], "2\nab\n0\n\n"));
    }
    all
}

fn chunk_ends() -> Vec<Case> {
    const S17: &str = "S17 chunk end";
    let mut all = Vec::new();
    for end in [
        "0\nX-A: a\n b\n\n",
        "0\nX A: b\n\n",
        "0\n X-A: b\n\n",
        "0\nno colon at all\n\n",
        "0\nX-A\n\n",
        "0\nGET /smuggled HTTP/1.1\nHost: localhost\n\n",
    ] {
        all.push(broken(S17, &format!("{CHUNKED}2\nab\n{end}")));
    }
    for end in [
        &b"0\r\nX-A: a\0b\r\n\r\n"[..],
        b"0\r\nX-A: a\rb\r\n\r\n",
        b"0\r\nX-A: a\x01\r\n\r\n",
        b"0\r\nX\0A: b\r\n\r\n",
        b"0\r\n\rX",
        b"0\r\n\r\r\n",
    ] {
        let bytes = [&crlf(CHUNKED)[..], b"2\r\nab\r\n", end].concat();
        all.push(Case { rule: S17, bytes, expect: Expect::Broken });
    }
    let many: String = (0..2_000).map(|i| format!("X-{i}: 1\n")).collect();
    all.push(broken("S38 trailers", &format!("{CHUNKED}2\nab\n0\n{many}\n")));
    let long = format!("{CHUNKED}2\nab\n0\nX: {}\n\n", "y".repeat(200_000));
    all.push(broken("S38 trailers", &long));
    for lines in [
        "Proxy-Authorization: x\nKeep-Alive: 5\nUpgrade: websocket\n",
        "X_Forwarded_For: 1.2.3.4\nForwarded: for=x\nVia: 1.1 evil\n",
        "Content_Length: 7\nTransfer_Encoding: chunked\n",
        "ORGANIZATION: evil\nAuthorization!: x\n",
        "Expect: 100-continue\nIf-Match: x\nRange: bytes=0-\nContent-Type: x/y\n",
        "Trailer: x\nTE: trailers\nSet-Cookie: a=b\nMax-Forwards: 0\n",
    ] {
        let text = format!("{CHUNKED}2\nab\n0\n{lines}\n");
        all.push(sent(S17, &text, "POST /k", &["transfer-encoding: chunked"], "2\nab\n0\n\n"));
    }
    all
}

fn names() -> Vec<Case> {
    const RULE: &str = "RFC 9110 5.1 name";
    let mut all = Vec::new();
    for name in
        ["X;A", "X,A", "X=A", "X<A>", "X[A]", "X{A}", "X\\A", "X?A", "(X-A)", "X-A ", "\u{b5}"]
    {
        let line = format!("{name}: x");
        all.push(raw(RULE, &with_line(line.as_bytes()), 400));
    }
    for bytes in [&b"\x00: x"[..], b"\x1f: x", b"X\x7fA: x", b":", b" "] {
        all.push(raw(RULE, &with_line(bytes), 400));
    }
    // Odd bytes count as `-`, as they do where fields become environment variables.
    for lines in [
        "Proxy.Authorization: x\n",
        "X!Forwarded!For: 1.2.3.4\n",
        "Content.Length: 5\nTransfer*Encoding: chunked\n",
        "Keep~Alive: 5\nProxy^Connection: x\n",
    ] {
        let text = format!("POST /n HTTP/1.1\nHost: localhost\n{lines}Content-Length: 2\n\nab");
        all.push(sent("S16 alias", &text, "POST /n", &["content-length: 2"], "ab"));
    }
    let longer = ["authorization~: x", "organization-: y"];
    let lines = "Authorization~: x\nOrganization-: y\n";
    all.push(sent("S16 other names", &get(lines), "GET /", &longer, ""));
    all
}

fn values() -> Vec<Case> {
    const RULE: &str = "RFC 9110 5.5 value";
    let mut all = Vec::new();
    for byte in (0_u8..=31).chain([127]) {
        if matches!(byte, b'\t' | b'\n' | b'\r') {
            continue;
        }
        all.push(raw(RULE, &with_line(&[b"X-A: a", &[byte][..], b"b"].concat()), 400));
    }
    for lines in ["Cookie: a=1; b=2\nCookie: c=3\n", "X-A: %0d%0aX-Evil: y\n", "X-A: \\r\\nX: y\n"]
    {
        let fields: Vec<String> = lines
            .lines()
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                format!("{}:{value}", name.to_ascii_lowercase())
            })
            .collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        all.push(sent(RULE, &get(lines), "GET /", &fields, ""));
    }
    all
}

fn connections() -> Vec<Case> {
    const S15: &str = "S15 connection";
    let mut all = Vec::new();
    let tokens = vec!["authorization"; 500].join(",");
    for lines in [
        format!("Connection: {tokens}\n"),
        "Connection: Authorization\nAuthorization: Bearer evil\nConnection: authorization\n".into(),
        "connection: organization\nOrganization: evil\n".into(),
        "Connection: te, transfer-encoding, connection\n".into(),
        "Connection: x-forwarded-for, forwarded, x-real-ip\nX-Forwarded-For: evil\n".into(),
        "Connection: authorization;q=1\n".into(),
        "Connection: close\nConnection: keep-alive\n".into(),
        "Connection: upgrade\n".into(),
        "Proxy-Connection: authorization\n".into(),
        "Keep-Alive: authorization\n".into(),
        "Connection: \u{e9}, authorization\n".into(),
    ] {
        all.push(sent(S15, &get(&lines), "GET /", &[], ""));
    }
    let text = "POST /h HTTP/1.1\nHost: localhost\nConnection: transfer-encoding, content-length\n\
        Transfer-Encoding: chunked\n\n2\nab\n0\n\n";
    let chunked = ["transfer-encoding: chunked"];
    all.push(sent(S15, text, "POST /h", &chunked, "2\nab\n0\n\n"));
    all
}

fn upgrades() -> Vec<Case> {
    const S11: &str = "S11 upgrade";
    let socket = "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";
    let kept = ["sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="];
    let mut all = Vec::new();
    // Whatever leaves a doubt is an ordinary request.
    for lines in [
        "Connection: upgrade\nUpgrade: websocket, h2c\n",
        "Connection: upgrade\nUpgrade: h2c\nUpgrade: websocket\n",
        "Connection: upgrade\nUpgrade: websocket/13\n",
        "Connection: upgrade\nUpgrade: \"websocket\"\n",
        "Connection: close\nUpgrade: websocket\n",
        "Connection: xupgrade\nUpgrade: websocket\n",
        "Connection: upgrade\nUpgrade: web socket\n",
    ] {
        all.push(sent(S11, &get(&format!("{lines}{socket}")), "GET /", &kept, ""));
    }
    let asks = format!("Connection: upgrade\nUpgrade: websocket\n{socket}");
    for method in ["POST", "PUT", "OPTIONS"] {
        let text = format!("{method} /u HTTP/1.1\nHost: localhost\n{asks}\n");
        all.push(sent(S11, &text, &format!("{method} /u"), &kept, ""));
    }
    let old = format!("GET /u HTTP/1.0\nHost: localhost\n{asks}\n");
    all.push(sent(S11, &old, "GET /u", &kept, ""));
    let body = format!("GET /u HTTP/1.1\nHost: localhost\n{asks}Content-Length: 2\n\nab");
    let fields = [&kept[..], &["content-length: 2"]].concat();
    all.push(sent(S11, &body, "GET /u", &fields, "ab"));
    let foreign =
        format!("GET /u HTTP/1.1\nHost: localhost\nOrigin: http://evil.example\n{asks}\n");
    all.push(refused("S2 S11 upgrade", &foreign, 403));
    all
}

fn pages() -> Vec<Case> {
    const S2: &str = "S2 S3 page";
    let mut all = Vec::new();
    for lines in [
        "Origin: http://localhost:80:80\n",
        "Origin: http://localhost/\n",
        "Origin: //localhost\n",
        "Origin: localhost\n",
        "Origin: http://[::1]\n",
        "Origin: chrome-extension://abcdef\n",
        "Origin: http://localhost http://localhost\n",
        "Origin: http://localhost%00.evil.example\n",
        "Origin: NULL\n",
        "Sec-Fetch-Site: SAME-ORIGIN\n",
        "Sec-Fetch-Site: same-origin, cross-site\n",
        "Sec-Fetch-Site: same-origin;x\n",
        "Sec-Fetch-Site: cross-site\nSec-Fetch-User: ?1\nSec-Fetch-Mode: navigate\n",
        "Sec-Fetch-Site: same-site\nSec-Fetch-Dest: empty\nSec-Fetch-Mode: cors\n",
        "Referer: https://localhost.evil.example/\n",
        "Referer: http://localhost@evil.example/\n",
        "Referer: http://localhost:1/\n",
    ] {
        all.push(refused(S2, &get(lines), 403));
        let text = format!("DELETE /x HTTP/1.1\nHost: localhost\n{lines}\n");
        all.push(refused(S2, &text, 403));
    }
    // The dot that ends a name makes no other name of it.
    let fields = ["origin: http://localhost."];
    all.push(sent(S2, &get("Origin: http://localhost.\n"), "GET /", &fields, ""));
    all
}

/// Bytes that come before they may.
fn early() -> Vec<Case> {
    const S14: &str = "S14 early bytes";
    let inner = "GET /smuggled HTTP/1.1\nHost: localhost\n\n";
    let mut all = Vec::new();
    for head in [
        "POST / HTTP/1.1\nHost: localhost\nExpect: the-unexpected\nContent-Length: 5\n\n",
        "POST / HTTP/1.1\nHost: localhost\nContent-Length: x\n\n",
        "POST / HTTP/1.1\nHost: localhost\nTransfer-Encoding: gzip, chunked\n\n",
        "POST / HTTP/1.1\nHost: evil.example\nTransfer-Encoding: chunked\n\n",
        "GET / HTTP/1.1\nHost: localhost\nX: a\n b\n\n",
    ] {
        let status = match head {
            head if head.contains("the-unexpected") => 417,
            head if head.contains("gzip") => 501,
            head if head.contains("evil") => 403,
            _ => 400,
        };
        all.push(refused(S14, &format!("{head}{inner}"), status));
    }
    // Behind CONNECT comes what would be a tunnel.
    let tunnel =
        format!("CONNECT localhost:80 HTTP/1.1\nHost: localhost:80\nContent-Length: 9\n\n{inner}");
    all.push(refused("S10 tunnel", &tunnel, 405));
    for (lines, start) in [
        ("Connection: close\n", "GET /1"),
        ("Connection: close, x\n", "GET /1"),
        ("Connection: x\nConnection: CLOSE\n", "GET /1"),
    ] {
        let text = format!("GET /1 HTTP/1.1\nHost: localhost\n{lines}\n{inner}{inner}");
        all.push(sent(S14, &text, start, &[], ""));
    }
    let old = format!("GET /1 HTTP/1.0\nHost: localhost\n\n{inner}");
    all.push(sent(S14, &old, "GET /1", &[], ""));
    let zero = format!("POST /1 HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n{inner}");
    all.push(Case {
        rule: S14,
        bytes: crlf(&zero),
        expect: Expect::Sent(vec![
            one("POST /1", &["content-length: 0"], b""),
            one("GET /smuggled", &[], b""),
        ]),
    });
    all
}
