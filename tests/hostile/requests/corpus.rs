//! The requests, by theme.

use super::super::support::crlf;

/// What must come of a request.
pub(super) enum Expect {
    /// This status, and not a byte upstream.
    Refused(u16),
    /// No complete request upstream and no success: the body breaks off while it streams.
    Broken,
    /// These requests, and the answer 200.
    Sent(Vec<Sent>),
}

/// A request as it must arrive: what the injection adds is added by [`Sent::with`].
pub(super) struct Sent {
    start: String,
    fields: Vec<Vec<u8>>,
    body: Vec<u8>,
}

impl Sent {
    /// The bytes with further fields, sorted by name.
    pub(super) fn with(&self, further: &[(&str, &str)]) -> Vec<u8> {
        let mut fields = self.fields.clone();
        fields.extend(further.iter().map(|(name, value)| format!("{name}: {value}").into_bytes()));
        fields.sort_by_key(|line| line.split(|b| *b == b':').next().map(<[u8]>::to_vec));
        let mut out = format!("{} HTTP/1.1\r\n", self.start).into_bytes();
        for field in fields {
            out.extend_from_slice(&field);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

pub(super) struct Case {
    pub(super) rule: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) expect: Expect,
}

pub(super) fn refused(rule: &'static str, text: &str, status: u16) -> Case {
    Case { rule, bytes: crlf(text), expect: Expect::Refused(status) }
}

pub(super) fn raw(rule: &'static str, bytes: &[u8], status: u16) -> Case {
    Case { rule, bytes: bytes.to_vec(), expect: Expect::Refused(status) }
}

pub(super) fn broken(rule: &'static str, text: &str) -> Case {
    Case { rule, bytes: crlf(text), expect: Expect::Broken }
}

pub(super) fn one(start: &str, fields: &[&str], body: &[u8]) -> Sent {
    Sent {
        start: start.to_owned(),
        fields: fields.iter().map(|field| field.as_bytes().to_vec()).collect(),
        body: body.to_vec(),
    }
}

pub(super) fn sent(
    rule: &'static str,
    text: &str,
    start: &str,
    fields: &[&str],
    body: &str,
) -> Case {
    Case { rule, bytes: crlf(text), expect: Expect::Sent(vec![one(start, fields, &crlf(body))]) }
}

/// A GET of `/` with further lines, each with its line end.
pub(super) fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\nHost: localhost\n{lines}\n")
}

pub(super) fn corpus() -> Vec<Case> {
    let mut all = Vec::new();
    for theme in [
        start_lines,
        targets,
        hosts,
        lengths,
        codings,
        chunks,
        hop_by_hop,
        aliases,
        trailers,
        syntax,
        expectations,
        upgrades,
        browsers,
        pipelines,
        sizes,
        versions,
    ] {
        all.extend(theme());
    }
    all
}

fn start_lines() -> Vec<Case> {
    const S9: &str = "S9 start line";
    let mut all: Vec<Case> = [
        ("CONNECT localhost:80 HTTP/1.1\nHost: localhost:80\n\n", 405),
        ("CONNECT evil.example:443 HTTP/1.1\nHost: evil.example:443\n\n", 405),
        ("CONNECT / HTTP/1.1\nHost: localhost\n\n", 405),
        ("CONNECT localhost:80 HTTP/1.1\nHost: localhost:80\nContent-Length: 3\n\nabc", 405),
        ("TRACE / HTTP/1.1\nHost: localhost\n\n", 405),
        ("TRACE / HTTP/1.1\nHost: localhost\nMax-Forwards: 0\n\n", 405),
        ("GET / HTTP/1.1 \nHost: localhost\n\n", 400),
        ("GET  / HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET /  HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET\t/\tHTTP/1.1\nHost: localhost\n\n", 400),
        (" GET / HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET /\nHost: localhost\n\n", 400),
        ("GET\nHost: localhost\n\n", 400),
        ("GET / http/1.1\nHost: localhost\n\n", 400),
        ("GET / HTTP/2.0\nHost: localhost\n\n", 400),
        ("GET / HTTP/1.2\nHost: localhost\n\n", 400),
        ("GET / HTTP/0.9\nHost: localhost\n\n", 400),
        ("GET / HTTP/11.1\nHost: localhost\n\n", 400),
        ("GET / HTTP/1.1x\nHost: localhost\n\n", 400),
        ("GET / XTTP/1.1\nHost: localhost\n\n", 400),
        ("G@T / HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET: / HTTP/1.1\nHost: localhost\n\n", 400),
        ("G\"T / HTTP/1.1\nHost: localhost\n\n", 400),
        ("PRI * HTTP/2.0\n\nSM\n\n", 0),
        ("HTTP/1.1 200 OK\nHost: localhost\n\n", 400),
    ]
    .into_iter()
    .map(|(text, status)| refused(S9, text, status))
    .collect();
    all.push(raw(S9, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400));
    all.push(raw(S9, b"G\0T / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400));
    all.push(raw(S9, b"GET / HTTP/1.1\rHost: localhost\r\n\r\n", 400));
    for method in ["GET", "HEAD", "DELETE", "PROPFIND", "get", "M-SEARCH", "X!#$%&'*+-.^_`|~9"] {
        let text = format!("{method} /m HTTP/1.1\nHost: localhost\nConnection: close\n\n");
        all.push(sent(S9, &text, &format!("{method} /m"), &[], ""));
    }
    all.push(sent(S9, "\n\nGET /m HTTP/1.1\nHost: localhost\n\n", "GET /m", &[], ""));
    all
}

fn targets() -> Vec<Case> {
    const S9: &str = "S9 target";
    const S19: &str = "S19 target";
    let mut all: Vec<Case> = [
        ("GET * HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET localhost HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET localhost:80 HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET x HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET ?a HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET http://evil.example/ HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET http://localhost/ HTTP/1.1\nHost: evil.example\n\n", 403),
        ("GET http://localhost:81/ HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET http://evil@localhost/ HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET http://localhost@evil.example/ HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET https://localhost/ HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET ftp://localhost/ HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET http:///x HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET http://localhost/ HTTP/1.1\n\n", 400),
    ]
    .into_iter()
    .map(|(text, status)| refused(S9, text, status))
    .collect();
    for path in ["/a\\b", "/%", "/%0", "/%zz", "/%00", "/a%00b", "/%+1", "/%-1", "/% 1"] {
        let text = format!("GET {path} HTTP/1.1\nHost: localhost\n\n");
        all.push(refused(S19, &text, 400));
    }
    all.push(raw(S19, b"GET /a\0b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400));
    all.push(raw(S19, b"GET /a\x7fb HTTP/1.1\r\nHost: localhost\r\n\r\n", 400));
    all.push(raw(S19, b"GET /a\x01b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400));
    all.push(raw(S19, b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", 400));
    all.push(sent(S9, "OPTIONS * HTTP/1.1\nHost: localhost\n\n", "OPTIONS *", &[], ""));
    for (target, path) in [
        ("http://localhost/a?b", "/a?b"),
        ("http://LOCALHOST:80/a", "/a"),
        ("http://localhost", "/"),
        ("http://localhost?q", "/?q"),
        ("/a//b/../c;x=%2e%2E%2f?y=%zz&&z", "/a//b/../c;x=%2e%2E%2f?y=%zz&&z"),
        ("/?", "/?"),
        ("//evil.example/x", "//evil.example/x"),
        // The library drops a fragment before anybody can see it; what is judged is what is sent.
        ("/a#/../b", "/a"),
    ] {
        let text = format!("GET {target} HTTP/1.1\nHost: localhost\n\n");
        all.push(sent(S9, &text, &format!("GET {path}"), &[], ""));
    }
    all
}

fn hosts() -> Vec<Case> {
    let mut all = Vec::new();
    for host in [
        "evil.example",
        "localhost.evil.example",
        "evil.localhost",
        "xlocalhost",
        "localhostx",
        "127.0.0.1.evil.example",
        "127.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "2130706433",
        "0",
        "0.0.0.0",
        "[::]",
        "127.0.0.2",
        "localhost..",
        "[::ffff:10.0.0.1]",
        "metadata.google.internal",
        "169.254.169.254",
        "127.0.0.1.",
        "xn--localhost-8xb",
    ] {
        let text = format!("GET / HTTP/1.1\nHost: {host}\n\n");
        all.push(refused("S4 foreign host", &text, 403));
    }
    for host in [
        "",
        "localhost:x",
        "localhost:99999",
        "localhost:80:80",
        "user@localhost",
        "localhost/x",
        "local host",
        "localhost, evil.example",
        "localhost#",
        "[::1",
        "::1",
        "[localhost]",
        ".",
        "localhost:-1",
        "localhost:+1",
        "[::1%25lo]",
        "localhost\\evil",
        "http://localhost",
        "localhost?",
        "%6cocalhost",
    ] {
        let text = format!("GET / HTTP/1.1\nHost: {host}\n\n");
        all.push(refused("P5 bad host", &text, 400));
    }
    for lines in [
        "",
        "Host: localhost\nHost: localhost\n",
        "Host: localhost\nHost: evil.example\n",
        "Host: evil.example\nHost: localhost\n",
        "Host: localhost\nhost:\n",
    ] {
        all.push(refused("P5 hosts", &format!("GET / HTTP/1.1\n{lines}\n"), 400));
    }
    all.push(raw("P5 bad host", b"GET / HTTP/1.1\r\nHost: localhost\xc2\xad\r\n\r\n", 400));
    for host in
        ["LocalHost", "localhost.", "localhost:1", "127.0.0.1:65535", "[::1]:9", "localhost:"]
    {
        let text = format!("GET /h HTTP/1.1\nHost: {host}\nX-Forwarded-Host: evil.example\n\n");
        all.push(sent("S4 own host", &text, "GET /h", &[], ""));
    }
    all
}

fn lengths() -> Vec<Case> {
    const S12: &str = "S12 length";
    let mut all = Vec::new();
    for lines in [
        "Content-Length: 1\nContent-Length: 2\n",
        "Content-Length: 2, 3\n",
        "Content-Length: +2\n",
        "Content-Length: -2\n",
        "Content-Length: 0x2\n",
        "Content-Length: 2.0\n",
        "Content-Length: 2 2\n",
        "Content-Length:\n",
        "Content-Length: two\n",
        "Content-Length: 99999999999999999999999\n",
        "Content-Length: 18446744073709551616\n",
        "Content-Length: 2;\n",
        "Content-Length: ,2\n",
    ] {
        let text = format!("POST / HTTP/1.1\nHost: localhost\n{lines}\nab");
        all.push(refused(S12, &text, 400));
    }
    let text = "POST /l HTTP/1.1\nHost: localhost\nContent-Length: 2\nContent-Length: 2\n\nab";
    all.push(sent(S12, text, "POST /l", &["content-length: 2"], "ab"));
    let text = "POST /l HTTP/1.1\nHost: localhost\nContent-Length: 0002\n\nab";
    all.push(sent(S12, text, "POST /l", &["content-length: 2"], "ab"));
    let text = "POST /l HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n";
    all.push(sent("P10", text, "POST /l", &["content-length: 0"], ""));
    let text = "GET /l HTTP/1.1\nHost: localhost\nContent-Length: 2\n\nab";
    all.push(sent(S12, text, "GET /l", &["content-length: 2"], "ab"));
    let text = "POST /l HTTP/1.1\nHost: localhost\n\n";
    all.push(sent("P10", text, "POST /l", &[], ""));
    // The alias is no length.
    let text = "POST /l HTTP/1.1\nHost: localhost\nContent_Length: 5\nContent-Length: 2\n\nab";
    all.push(sent("S16 S12", text, "POST /l", &["content-length: 2"], "ab"));
    all
}

fn codings() -> Vec<Case> {
    const S12: &str = "S12 coding";
    let mut all = Vec::new();
    for coding in ["gzip, chunked", "identity, chunked", "chunked, chunked", "x, chunked"] {
        let text = format!(
            "POST / HTTP/1.1\nHost: localhost\nTransfer-Encoding: {coding}\n\n2\nab\n0\n\n"
        );
        all.push(refused(S12, &text, 501));
    }
    for coding in ["identity", "chunked, gzip", "xchunked", "chunked;x", "\"chunked\"", "", ","] {
        let text = format!(
            "POST / HTTP/1.1\nHost: localhost\nTransfer-Encoding: {coding}\n\n2\nab\n0\n\n"
        );
        all.push(refused(S12, &text, 400));
    }
    let two = "POST / HTTP/1.1\nHost: localhost\nTransfer-Encoding: gzip\n\
        Transfer-Encoding: chunked\n\n2\nab\n0\n\n";
    all.push(refused(S12, two, 501));
    let smuggle = "GET /smuggled HTTP/1.1\nHost: localhost\n\n";
    let chunked = ["transfer-encoding: chunked"];
    for lines in [
        "Content-Length: 4\nTransfer-Encoding: chunked\n",
        "Transfer-Encoding: chunked\nContent-Length: 4\n",
        "Transfer-Encoding: Chunked\nContent-Length: 4\n",
        "Transfer-Encoding:\tchunked \nContent-Length: 999\n",
    ] {
        // Both framings: chunked counts, and what follows must not be read.
        let text = format!("POST /c HTTP/1.1\nHost: localhost\n{lines}\n0\n\n{smuggle}");
        all.push(sent(S12, &text, "POST /c", &chunked, "0\n\n"));
    }
    let aliased = "POST /c HTTP/1.1\nHost: localhost\nTransfer_Encoding: chunked\n\
        Content-Length: 2\n\nab";
    all.push(sent("S16 S12", aliased, "POST /c", &["content-length: 2"], "ab"));
    let text = "POST /c HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n2\nab\n0\n\n";
    all.push(sent(S12, text, "POST /c", &chunked, "2\nab\n0\n\n"));
    let text = "GET /c HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n2\nab\n0\n\n";
    all.push(sent(S12, text, "GET /c", &chunked, "2\nab\n0\n\n"));
    let old = "POST / HTTP/1.0\nHost: localhost\nTransfer-Encoding: chunked\n\n2\nab\n0\n\n";
    all.push(refused("S12 old", old, 400));
    all
}

fn chunks() -> Vec<Case> {
    const S13: &str = "S13 chunk";
    const HEAD: &str = "POST /k HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n";
    let mut all = Vec::new();
    for body in [
        "x\nab\n0\n\n",
        "-2\nab\n0\n\n",
        "+2\nab\n0\n\n",
        "0x2\nab\n0\n\n",
        "\nab\n0\n\n",
        "2\nabc\n0\n\n",
        "2\na\n0\n\n",
        "FFFFFFFFFFFFFFFFF\nab\n0\n\n",
        "10000000000000000\nab\n",
        "2,\nab\n0\n\n",
        "2 2\nab\n0\n\n",
        "2\nab0\n\n",
        ";\nab\n0\n\n",
        "2\nab\n0\nbad trailer\n\n",
        "2\nab\n0\n: x\n\n",
        "2\nab\n0\na b: x\n\n",
        "2\nab\n0\na : x\n\n",
    ] {
        all.push(broken(S13, &format!("{HEAD}{body}")));
    }
    let head = crlf(HEAD);
    for body in [
        &b"2\nab\r\n0\r\n\r\n"[..],
        b"2\r\nab\n0\r\n\r\n",
        b"2\r\nab\r0\r\n\r\n",
        b"2;a\nb\r\nab\r\n0\r\n\r\n",
        b"2\rab\r\n0\r\n\r\n",
        b"2\0\r\nab\r\n0\r\n\r\n",
        b"2\x0b\r\nab\r\n0\r\n\r\n",
        b"2\xa0\r\nab\r\n0\r\n\r\n",
        b"2\r\r\nab\r\n0\r\n\r\n",
        b"2;\r\r\nab\r\n0\r\n\r\n",
    ] {
        let bytes = [&head, body].concat();
        all.push(Case { rule: S13, bytes, expect: Expect::Broken });
    }
    for body in [
        "2;a=b\nab\n0\n\n",
        "2;a=\"x;y\"\nab\n0\n\n",
        "02\nab\n0\n\n",
        "0000000000000002\nab\n0\n\n",
        "2 \nab\n0;x\n\n",
        "2\t;x\nab\n000\n\n",
        "2;;;\nab\n0\n\n",
    ] {
        // Extensions go no further; the size is written anew.
        let text = format!("{HEAD}{body}");
        all.push(sent(S13, &text, "POST /k", &["transfer-encoding: chunked"], "2\nab\n0\n\n"));
    }
    let long = format!("{HEAD}2;{}\nab\n0\n\n", "x".repeat(20_000));
    all.push(broken(S13, &long));
    all
}

fn hop_by_hop() -> Vec<Case> {
    const S15: &str = "S15 connection";
    let mut all = Vec::new();
    for lines in [
        "Connection: authorization, organization\n",
        "Connection: Authorization\nConnection: ORGANIZATION\n",
        "Connection:\nConnection: authorization\n",
        "Connection: ,,\tauthorization\t,,organization,\n",
        "Connection: close, authorization\n",
        "Connection: x-a, x-b\nX-A: 1\nX-B: 2\nx-a: 3\n",
        "Keep-Alive: timeout=5\nConnection: keep-alive\n",
        "Proxy-Connection: keep-alive\n",
        "Proxy-Authorization: Basic eDp5\n",
        "Proxy: http://evil.example\n",
        "TE: gzip\n",
        "Trailer: Authorization\nConnection: trailer\n",
        "Connection: host\n",
        "Connection: via, cookie, content-length\nCookie: a\n",
        "Connection: \"x-a\"\n",
    ] {
        all.push(sent(S15, &get(lines), "GET /", &[], ""));
    }
    all.push(sent(S15, &get("TE: trailers\n"), "GET /", &["connection: te", "te: trailers"], ""));
    let text = "POST /h HTTP/1.1\nHost: localhost\nConnection: content-length\n\
        Content-Length: 2\n\nab";
    all.push(sent(S15, text, "POST /h", &["content-length: 2"], "ab"));
    all
}

fn aliases() -> Vec<Case> {
    let mut all = Vec::new();
    for lines in [
        "Authorization: Bearer evil\n",
        "authorization: Bearer evil\nAUTHORIZATION: Bearer evil2\n",
        "Authorization:\n",
        "Proxy_Authorization: evil\n",
        "Organization: evil\norganization: evil\n",
        "ORGANIZATION: evil\n",
        "Transfer_Encoding: chunked\n",
        "Content_Length: 5\n",
        "Connection_: close\nConnection: connection_\n",
        "X_Forwarded_For: 1.2.3.4\nX_Real_IP: 1.2.3.4\n",
        "X-Forwarded-For: 1.2.3.4\nForwarded: for=1.2.3.4\nX-Real-IP: 1.2.3.4\n",
        "X-Forwarded-Prefix: /admin\nX-Forwarded-Port: 1\nX-Forwarded-Server: evil\n",
        "Proxy_Connection: close\n",
    ] {
        all.push(sent("S16 S18 S47 alias", &get(lines), "GET /", &[], ""));
    }
    let harmless = ["x_harmless: 1", "authorization-x: 2", "xauthorization: 3"];
    let lines = "X_Harmless: 1\nAuthorization-X: 2\nXAuthorization: 3\n";
    all.push(sent("S16 harmless", &get(lines), "GET /", &harmless, ""));
    all
}

fn trailers() -> Vec<Case> {
    const HEAD: &str = "POST /t HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\
        Trailer: Authorization, Organization, X-Ok\n\n2\nab\n0\n";
    let mut all = Vec::new();
    for lines in [
        "Authorization: Bearer evil\n",
        "authorization: evil\nOrganization: evil\n",
        "Organization_: x\nOrganiza_tion: x\nAuthorization_: x\n",
        "Transfer-Encoding: chunked\nContent-Length: 5\nHost: evil.example\n",
        "Connection: close\nCookie: a=b\nX-Forwarded-For: 1.2.3.4\n",
    ] {
        let text = format!("{HEAD}{lines}\n");
        all.push(Case {
            rule: "S17 trailer",
            bytes: crlf(&text),
            expect: Expect::Sent(vec![one(
                "POST /t",
                &["transfer-encoding: chunked", "trailer: Authorization, Organization, X-Ok"],
                &crlf("2\nab\n0\n\n"),
            )]),
        });
    }
    let text = format!("{HEAD}X-Ok: yes\nAuthorization: evil\n\n");
    let fields = ["transfer-encoding: chunked", "trailer: Authorization, Organization, X-Ok"];
    all.push(sent("S17 trailer", &text, "POST /t", &fields, "2\nab\n0\nx-ok: yes\n\n"));
    all
}

fn syntax() -> Vec<Case> {
    const RULE: &str = "RFC 9112 5.1 field";
    let mut all = Vec::new();
    for line in [
        "Authorization : x",
        " Authorization: x",
        "X A: x",
        "X@A: x",
        "X(A): x",
        "no colon",
        ": x",
        "X-A\t: x",
        "X\"A: x",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        "X/A: b",
    ] {
        all.push(refused(RULE, &get(&format!("{line}\n")), 400));
    }
    for line in [
        &b"X-A: a\0b"[..],
        b"X-A: a\x01b",
        b"X-A: a\x7fb",
        b"X-A: a\rb",
        b"X\0A: x",
        b"X-\xe9: x",
        b"X-A: a\r\n b",
        b"X-A: a\r\n\tb",
        b"X-A\r\n: x",
        b"\x0bX-A: x",
        b"X-A: a\x0bb",
        b"X-A: b\rContent-Length: 5",
        b"X-A: \x08",
    ] {
        let bytes = [&b"GET / HTTP/1.1\r\nHost: localhost\r\n"[..], line, b"\r\n\r\n"].concat();
        all.push(raw(RULE, &bytes, 400));
    }
    // Lone line feeds end lines (RFC 9112 section 2.2), and go no further as they are.
    let bytes = b"GET /lf HTTP/1.1\nHost: localhost\nX-A: b\n\n".to_vec();
    let expect = Expect::Sent(vec![one("GET /lf", &["x-a: b"], b"")]);
    all.push(Case { rule: "H2 lone LF", bytes, expect });
    for (line, arrives) in [
        (&b"X-A:b"[..], &b"x-a: b"[..]),
        (b"X-A: \t b \t ", b"x-a: b"),
        (b"X-A: a\tb", b"x-a: a\tb"),
        (b"X-A: caf\xe9", b"x-a: caf\xe9"),
        (b"X-A:", b"x-a: "),
        (b"x-a: a: b", b"x-a: a: b"),
        (b"!#$%&'*+-.^_`|~: 1", b"!#$%&'*+-.^_`|~: 1"),
    ] {
        let bytes = [&b"GET /f HTTP/1.1\r\nHost: localhost\r\n"[..], line, b"\r\n\r\n"].concat();
        let mut expected = one("GET /f", &[], b"");
        expected.fields.push(arrives.to_vec());
        all.push(Case { rule: RULE, bytes, expect: Expect::Sent(vec![expected]) });
    }
    let order = ["set: 1", "set: 2", "set: 3"];
    all.push(sent("P8 order", &get("Set: 1\nset: 2\nSET: 3\n"), "GET /", &order, ""));
    all
}

fn expectations() -> Vec<Case> {
    const P17: &str = "P17 expect";
    let mut all = Vec::new();
    for value in ["the-unexpected", "100-continue, x", "", "200-ok", "100-continue;x"] {
        let text =
            format!("POST / HTTP/1.1\nHost: localhost\nExpect: {value}\nContent-Length: 2\n\nab");
        all.push(refused(P17, &text, 417));
    }
    let smuggled = "POST / HTTP/1.1\nHost: evil.example\nExpect: 100-continue\n\
        Content-Length: 45\n\nGET /smuggled HTTP/1.1\nHost: localhost\n\n";
    all.push(refused("P17 S14 expect", smuggled, 403));
    all
}

fn upgrades() -> Vec<Case> {
    let mut all = Vec::new();
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAA\n",
        "Connection: upgrade\nUpgrade: h2c, websocket\n",
        "Upgrade: h2c\n",
        "HTTP2-Settings: AAMAAABkAARAAAAA\n",
        "Connection: upgrade\nUpgrade: TLS/1.0\n",
        "Connection: upgrade\nUpgrade: raw\n",
        "Upgrade: websocket\n",
    ] {
        all.push(sent("S11 upgrade", &get(lines), "GET /", &[], ""));
    }
    all
}

fn browsers() -> Vec<Case> {
    const S2: &str = "S2 S3 page";
    let mut all = Vec::new();
    for lines in [
        "Origin: http://evil.example\n",
        "Origin: null\n",
        "Origin:\n",
        "Origin: https://localhost.evil.example\n",
        "Origin: http://localhost:1\n",
        "Origin: http://localhost, http://evil.example\n",
        "Origin: http://localhost\nOrigin: http://evil.example\n",
        "Origin: file://\n",
        "Sec-Fetch-Site: cross-site\n",
        "Sec-Fetch-Site: same-site\n",
        "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document\n",
        "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors\nSec-Fetch-Dest: script\n",
        "Sec-Fetch-Site: cross-site\nSec-Fetch-Dest: image\n",
        "Sec-Fetch-Site: none\nSec-Fetch-Site: cross-site\n",
        "Sec-Fetch-Site: unheard-of\n",
        "Sec-Fetch-Site:\n",
        "Referer: http://evil.example/page\n",
        "Origin: http://localhost\nSec-Fetch-Site: cross-site\n",
    ] {
        for method in ["GET", "POST"] {
            let text = format!("{method} / HTTP/1.1\nHost: localhost\n{lines}\n");
            all.push(refused(S2, &text, 403));
        }
    }
    let preflight = "OPTIONS / HTTP/1.1\nHost: localhost\nOrigin: http://evil.example\n\
        Access-Control-Request-Method: PUT\nAccess-Control-Request-Private-Network: true\n\n";
    all.push(refused("S6 preflight", preflight, 403));
    let rebound = "GET / HTTP/1.1\nHost: rebound.evil.example\n\
        Origin: http://rebound.evil.example\nSec-Fetch-Site: same-origin\n\n";
    all.push(refused("S4 rebinding", rebound, 403));
    let own = ["sec-fetch-site: same-origin", "origin: http://localhost"];
    let lines = "Origin: http://localhost\nSec-Fetch-Site: same-origin\n";
    all.push(sent(S2, &get(lines), "GET /", &own, ""));
    all
}

fn pipelines() -> Vec<Case> {
    const S14: &str = "S14 left over";
    let mut all = Vec::new();
    let inner = "GET /smuggled HTTP/1.1\nHost: localhost\n\n";
    let length = crlf(inner).len();
    for head in [
        "POST / HTTP/1.1\nHost: evil.example\n",
        "POST / HTTP/1.1\nHost: localhost\nOrigin: null\n",
        "POST /%00 HTTP/1.1\nHost: localhost\n",
        "TRACE / HTTP/1.1\nHost: localhost\n",
    ] {
        let text = format!("{head}Content-Length: {length}\n\n{inner}");
        let status = if head.starts_with("TRACE") {
            405
        } else if head.contains("%00") {
            400
        } else {
            403
        };
        all.push(refused(S14, &text, status));
    }
    let two = "GET /1 HTTP/1.1\nHost: localhost\n\nGET /2 HTTP/1.1\nHost: localhost\n\n";
    all.push(Case {
        rule: "P25 pipeline",
        bytes: crlf(two),
        expect: Expect::Sent(vec![one("GET /1", &[], b""), one("GET /2", &[], b"")]),
    });
    let closing = format!("GET /1 HTTP/1.1\nHost: localhost\nConnection: close\n\n{inner}");
    all.push(sent("P25 close", &closing, "GET /1", &[], ""));
    let garbage = "GET /1 HTTP/1.1\nHost: localhost\n\n\u{1}\u{2}garbage\n\n";
    all.push(sent("P25 garbage", garbage, "GET /1", &[], ""));
    let longer = "POST /1 HTTP/1.1\nHost: localhost\nContent-Length: 2\n\nabGET";
    all.push(sent("P25 rest", longer, "POST /1", &["content-length: 2"], "ab"));
    all
}

fn sizes() -> Vec<Case> {
    let many: String = (0..100).map(|i| format!("X-{i}: 1\n")).collect();
    let long = "x".repeat(70_000);
    vec![
        refused("P34 fields", &get(&many), 431),
        refused("P34 head", &get(&format!("X: {long}\n")), 431),
        refused("P34 name", &get(&format!("{long}: x\n")), 431),
        refused("P34 target", &format!("GET /{long} HTTP/1.1\nHost: localhost\n\n"), 414),
    ]
}

fn versions() -> Vec<Case> {
    let mut all = Vec::new();
    for (text, start) in [
        ("GET /o HTTP/1.0\n\n", "GET /o"),
        ("GET /o HTTP/1.0\nHost: localhost\n\n", "GET /o"),
        ("GET /o HTTP/1.0\nConnection: keep-alive\n\n", "GET /o"),
        ("GET /o HTTP/1.0\nConnection: authorization\nAuthorization: evil\n\n", "GET /o"),
    ] {
        all.push(sent("P26 old", text, start, &[], ""));
    }
    all.push(refused("S4 old", "GET / HTTP/1.0\nHost: evil.example\n\n", 403));
    all.push(refused("P5 old", "GET / HTTP/1.0\nHost: a\nHost: b\n\n", 400));
    all.push(refused("S9 old", "CONNECT a:1 HTTP/1.0\n\n", 405));
    all
}
