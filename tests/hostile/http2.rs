//! Hostile requests over HTTP/2: what would be a line end, a second field or another message to an
//! HTTP/1.1 upstream goes no further (P35, P36; S4, S9-S12, S15-S18, S36).

use super::support::http2::{Http2, Outcome, frame, request};
use super::support::{ORGANIZATION, OURS, Program, Upstream, find, plain, talk};

type Fields = Vec<(&'static [u8], &'static [u8])>;

enum Expect {
    /// Nothing upstream, no success.
    Refused,
    /// One request upstream that begins so and has these lines, and the answer 200.
    Sent(&'static str, &'static [&'static str]),
}
use Expect::{Refused, Sent};

struct Case {
    rule: &'static str,
    fields: Fields,
    body: Option<&'static [u8]>,
    trailers: Fields,
    expect: Expect,
}

/// A sound head with one field in another's place.
fn head(other: &[(&'static [u8], &'static [u8])]) -> Fields {
    let plain: [(&[u8], &[u8]); 4] = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"localhost"),
        (b":path", b"/"),
    ];
    let named = |name: &[u8]| other.iter().any(|(own, _)| *own == name);
    let kept = plain.into_iter().filter(|(name, _)| !named(name));
    let (first, then): (Fields, Fields) =
        other.iter().partition(|(name, _)| name.starts_with(b":"));
    kept.chain(first).chain(then).collect()
}

fn case(rule: &'static str, fields: Fields, expect: Expect) -> Case {
    Case { rule, fields, body: None, trailers: Vec::new(), expect }
}

fn refused(rule: &'static str, other: &[(&'static [u8], &'static [u8])]) -> Case {
    case(rule, head(other), Refused)
}

fn corpus() -> Vec<Case> {
    let mut all = Vec::new();
    values(&mut all);
    pseudo(&mut all);
    targets(&mut all);
    fields(&mut all);
    bodies(&mut all);
    all
}

fn values(all: &mut Vec<Case>) {
    for value in [
        &b"a\rb"[..],
        b"a\nb",
        b"a\r\nX-Evil: y",
        b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"a\0b",
        b"\r",
        b"\n",
        b" a",
        b"a ",
        b"\ta",
        b"a\x01b",
        b"a\x0bb",
        b"a\x7fb",
    ] {
        all.push(refused("P36 value", &[(b"x-a", value)]));
    }
    for (name, value) in [
        (&b":path"[..], &b"/ HTTP/1.1\r\nX-Evil: y"[..]),
        (b":path", b"/\r\n"),
        (b":path", b"/a b"),
        (b":path", b"/\0"),
        (b":path", b"/\x7f"),
        (b":method", b"GET / HTTP/1.1\r\nX: "),
        (b":method", b"GET /smuggled"),
        (b":method", b"G\0T"),
        (b":method", b""),
        (b":scheme", b"http\r\n"),
        (b":scheme", b"http://evil.example/?"),
        (b":authority", b"localhost\r\nX-Evil: y"),
        (b":authority", b"localhost evil"),
        (b":authority", b"localhost\0"),
    ] {
        all.push(refused("P36 pseudo-header", &[(name, value)]));
    }
    for name in [
        &b"X-Upper"[..],
        b"x a",
        b"x:a",
        b"x\ra",
        b"x\r\na",
        b"x\0a",
        b"x\x7fa",
        b"",
        b" x",
        b"x-\xe9",
        b"x-a\nauthorization",
        b"transfer-encoding\x0b",
    ] {
        all.push(refused("P36 name", &[(name, b"v")]));
    }
}

fn pseudo(all: &mut Vec<Case>) {
    const P35: &str = "P35 pseudo-header";
    for further in [
        (&b":path"[..], &b"/b"[..]),
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"evil.example"),
        (b":status", b"200"),
        (b":protocol", b"websocket"),
        (b":evil", b"x"),
        (b":", b"x"),
        (b":Path", b"/x"),
    ] {
        let mut fields = head(&[]);
        fields.insert(2, further);
        all.push(case(P35, fields, Refused));
        // And behind the others.
        let mut fields = head(&[(b"x-a", b"b")]);
        fields.push(further);
        all.push(case(P35, fields, Refused));
    }
    for missing in [&b":method"[..], b":scheme", b":path"] {
        let fields = head(&[]).into_iter().filter(|(name, _)| *name != missing).collect();
        all.push(case(P35, fields, Refused));
    }
    all.push(case(P35, Vec::new(), Refused));
    all.push(case(P35, vec![(b"host", b"localhost")], Refused));
}

fn targets(all: &mut Vec<Case>) {
    for authority in [
        &b"evil.example"[..],
        b"localhost.evil.example",
        b"evil@localhost",
        b"localhost@evil.example",
        b"localhost:80@evil.example",
        b"localhost/x",
        b"localhost#",
        b"localhost,evil.example",
        b"127.1",
        b"0.0.0.0",
        b"[::1%25lo]",
        b"",
        b"http://localhost",
    ] {
        all.push(refused("S4 authority", &[(b":authority", authority)]));
    }
    for host in [&b"evil.example"[..], b"localhost:81", b"", b"localhost, localhost"] {
        all.push(refused("P35 authority and host", &[(b"host", host)]));
    }
    let two: &[(&[u8], &[u8])] = &[(b"host", b"localhost"), (b"host", b"evil.example")];
    all.push(refused("P5 hosts", two));
    for path in
        [&b""[..], b"x", b"*", b"http://evil.example/", b"//evil\\x", b"/%00", b"/%zz", b"/a\\b"]
    {
        all.push(refused("S19 path", &[(b":path", path)]));
    }
    for method in [&b"CONNECT"[..], b"TRACE"] {
        all.push(refused("S9 S10 method", &[(b":method", method)]));
    }
    let tunnel: Fields = vec![(b":method", b"CONNECT"), (b":authority", b"localhost:80")];
    all.push(case("S10 tunnel", tunnel, Refused));
    let extended: &[(&[u8], &[u8])] = &[(b":method", b"CONNECT"), (b":protocol", b"websocket")];
    all.push(refused("P35 extended CONNECT", extended));
    for (path, start) in [
        (&b"//x/../%2e?a=%0d%0a"[..], "GET //x/../%2e?a=%0d%0a HTTP/1.1"),
        (b"/?", "GET /? HTTP/1.1"),
        // The library reads this as if it had a slash; what is judged is what is sent.
        (b"?x", "GET /?x HTTP/1.1"),
        (b"/%0d%0aX-Evil:%20y", "GET /%0d%0aX-Evil:%20y HTTP/1.1"),
    ] {
        all.push(case("P7 path", head(&[(b":path", path)]), Sent(start, &[])));
    }
    let asterisk: &[(&[u8], &[u8])] = &[(b":method", b"OPTIONS"), (b":path", b"*")];
    all.push(case("P6 asterisk", head(asterisk), Sent("OPTIONS * HTTP/1.1", &[])));
    for own in [&b"LocalHost:1"[..], b"127.0.0.1", b"[::1]:9", b"localhost."] {
        all.push(case("S4 own", head(&[(b":authority", own)]), Sent("GET / HTTP/1.1", &[])));
    }
}

fn fields(all: &mut Vec<Case>) {
    for (name, value) in [
        (&b"connection"[..], &b"authorization"[..]),
        (b"connection", b""),
        (b"keep-alive", b"5"),
        (b"proxy-connection", b"x"),
        (b"transfer-encoding", b"chunked"),
        (b"transfer-encoding", b"identity"),
        (b"upgrade", b"h2c"),
        (b"te", b"gzip"),
        (b"te", b"trailers, gzip"),
        (b"content-length", b"5"),
        (b"content-length", b"-1"),
        (b"content-length", b"x"),
        (b"content-length", b"1, 2"),
    ] {
        all.push(refused("P35 field", &[(name, value)]));
    }
    for (name, value) in [
        (&b"origin"[..], &b"http://evil.example"[..]),
        (b"origin", b"null"),
        (b"sec-fetch-site", b"cross-site"),
        (b"referer", b"http://evil.example/"),
        (b"expect", b"the-unexpected"),
    ] {
        all.push(refused("S2 S3 P17", &[(name, value)]));
    }
    for other in [
        &[(&b"authorization"[..], &b"Bearer evil"[..]), (b"authorization", b"Bearer evil2")][..],
        &[(b"organization", b"evil"), (b"organization_", b"x"), (b"x_organization", b"x")],
        &[(b"proxy-authorization", b"evil"), (b"proxy_authorization", b"evil")],
        &[(b"x-forwarded-for", b"1.2.3.4"), (b"forwarded", b"for=evil"), (b"x_real_ip", b"1")],
        &[(b"content_length", b"9"), (b"transfer_encoding", b"chunked")],
        &[(b"http2-settings", b"AAMAAABk"), (b"proxy", b"evil")],
    ] {
        all.push(case("S15 S16 S18", head(other), Sent("GET / HTTP/1.1", &[])));
    }
    let crumbs: &[(&[u8], &[u8])] = &[(b"cookie", b"a=1"), (b"cookie", b"b=2")];
    all.push(case("P36 crumbs", head(crumbs), Sent("GET / HTTP/1.1", &["cookie: a=1; b=2"])));
    let trailers: &[(&[u8], &[u8])] = &[(b"te", b"trailers")];
    all.push(case(
        "P14",
        head(trailers),
        Sent("GET / HTTP/1.1", &["te: trailers", "connection: te"]),
    ));
    let bytes: &[(&[u8], &[u8])] = &[(b"x-a", b"caf\xc3\xa9"), (b"x-b", b"a\tb")];
    all.push(case("P8", head(bytes), Sent("GET / HTTP/1.1", &["x-b: a\tb"])));
}

fn bodies(all: &mut Vec<Case>) {
    let post: &[(&[u8], &[u8])] = &[(b":method", b"POST")];
    let with = |length: &'static [u8]| head(&[post[0], (b"content-length", length)]);
    let body = |fields: Fields, body: &'static [u8], trailers: Fields, expect: Expect| Case {
        rule: "P35 S12 S17 body",
        fields,
        body: Some(body),
        trailers,
        expect,
    };
    // The length is wrong: too short, too long, by far.
    for length in [&b"1"[..], b"3", b"0", b"99999999999"] {
        all.push(body(with(length), b"ab", Vec::new(), Refused));
    }
    let inner = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunked = Sent("POST / HTTP/1.1", &["transfer-encoding: chunked"]);
    all.push(body(head(post), inner, Vec::new(), chunked));
    all.push(body(with(b"2"), b"ab", Vec::new(), Sent("POST / HTTP/1.1", &["content-length: 2"])));
    for trailers in [
        vec![(&b"connection"[..], &b"close"[..])],
        vec![(&b"x-a"[..], &b"a\r\nX-Evil: y"[..])],
        vec![(&b"X-A"[..], &b"b"[..])],
        vec![(&b"transfer-encoding"[..], &b"chunked"[..])],
    ] {
        all.push(body(head(post), b"ab", trailers, Refused));
    }
    for trailers in [
        vec![(&b"authorization"[..], &b"Bearer evil"[..]), (b"organization", b"evil")],
        vec![(&b"content-length"[..], &b"9"[..]), (b"host", b"evil.example")],
        vec![(&b"x_organization"[..], &b"x"[..]), (b"cookie", b"evil")],
        // The library drops it.
        vec![(&b":path"[..], &b"/evil"[..])],
    ] {
        let chunked = Sent("POST / HTTP/1.1", &["transfer-encoding: chunked"]);
        all.push(body(head(post), b"ab", trailers, chunked));
    }
}

fn judge(case: &Case, program: &Program, upstream: &Upstream) -> Result<(), String> {
    let mut client = Http2::connect(program.proxy);
    client.send(&request(&case.fields, case.body, &case.trailers));
    let outcome = client.outcome();
    drop(client);
    talk(program.proxy, b"GET /marker HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut requests = upstream.take();
    let marked = requests.iter().position(|request| request.starts_with(b"GET /marker "));
    requests.remove(marked.ok_or("the program does not serve any more")?);
    let texts: Vec<_> =
        requests.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    match (&case.expect, outcome) {
        (Refused, Outcome::Answered(..400)) => Err(format!("{outcome:?}, sent {texts:?}")),
        (Refused, _) if requests.is_empty() => Ok(()),
        (Refused, _) => Err(format!("{outcome:?}, and reached the upstream: {texts:?}")),
        (Sent(start, lines), Outcome::Answered(200)) => {
            let [text] = texts.as_slice() else { return Err(format!("sent {texts:?}")) };
            let head = text.split("\r\n\r\n").next().unwrap_or_default();
            let own = |name: &str, value: &str| {
                let all: Vec<&str> =
                    head.split("\r\n").filter_map(|line| line.strip_prefix(name)).collect();
                all == [value]
            };
            let is_ours = own("authorization: ", OURS) && own("organization: ", ORGANIZATION);
            let has = |line: &&str| head.split("\r\n").any(|own| own == *line);
            let is_clean = !text.contains("evil") || start.contains("evil");
            let fine = head.split("\r\n").next() == Some(*start)
                && is_ours
                && is_clean
                && lines.iter().all(has)
                && !head.contains("1.2.3.4");
            if fine { Ok(()) } else { Err(format!("sent {text:?}")) }
        }
        (Sent(..), _) => Err(format!("{outcome:?}, sent {texts:?}")),
    }
}

#[test]
fn every_http2_request_is_refused_in_silence_or_arrives_as_what_it_is_p35_p36() {
    let upstream = Upstream::ok();
    let mut program = Program::run("http2", &plain(&upstream));
    let corpus = corpus();
    assert!(corpus.len() >= 130, "only {}", corpus.len());
    let mut wrong = Vec::new();
    for case in &corpus {
        if let Err(what) = judge(case, &program, &upstream) {
            let shown: Vec<String> = case
                .fields
                .iter()
                .chain(&case.trailers)
                .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
                .collect();
            wrong.push(format!("{}: {what}\n    {}", case.rule, shown.join(" ")));
        }
    }
    assert!(program.is_alive());
    assert!(!program.output().contains("panicked"), "{}", program.output());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), corpus.len(), wrong.join("\n"));
}

#[test]
fn frames_that_make_no_sense_end_the_connection_and_reach_nobody_s39() {
    let upstream = Upstream::ok();
    let mut program = Program::run("http2-frames", &plain(&upstream));
    let sound = request(&head(&[]), None, &[]);
    let open = request(&head(&[(b":method", b"POST")]), None, &[])
        .into_iter()
        .enumerate()
        .map(|(at, byte)| if at == 4 { 4 } else { byte })
        .collect::<Vec<_>>();
    for (what, frames) in [
        ("DATA on an idle stream", frame(0, 1, 1, b"x")),
        ("an even stream", frame(1, 5, 2, &sound[9..])),
        ("stream 0 for HEADERS", frame(1, 5, 0, &sound[9..])),
        ("SETTINGS on a stream", frame(4, 0, 1, &[])),
        ("SETTINGS of an odd length", frame(4, 0, 0, &[0; 5])),
        ("a window of zero", frame(8, 0, 0, &[0; 4])),
        ("a window that overflows", frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("PING of a wrong length", frame(6, 0, 0, &[0; 7])),
        ("PUSH_PROMISE from a client", frame(5, 4, 1, &[0; 8])),
        ("CONTINUATION of nothing", frame(9, 4, 1, &[])),
        ("a frame that is too large", frame(0, 0, 1, &vec![0; 20_000])),
        ("HEADERS that is not HPACK", frame(1, 5, 1, &[0xff; 30])),
        ("padding longer than the frame", frame(1, 5 | 8, 1, &[200, 0, 0])),
        ("a dependency on itself", frame(1, 5 | 0x20, 1, &[0, 0, 0, 1, 0])),
        ("trailers that do not end", [&open[..], &frame(1, 4, 1, &sound[9..])].concat()),
        (
            "another frame within a head",
            [&frame(1, 1, 1, &sound[9..])[..], &frame(6, 0, 0, &[0; 8])].concat(),
        ),
        ("garbage", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
    ] {
        let mut client = Http2::connect(program.proxy);
        client.send(&frames);
        let outcome = client.outcome();
        assert!(matches!(outcome, Outcome::Ended(_) | Outcome::Reset(_)), "{what}: {outcome:?}");
        assert!(program.is_alive(), "{what}");
    }
    let mut client = Http2::connect(program.proxy);
    client.send(&sound);
    assert_eq!(client.outcome(), Outcome::Answered(200));
    let requests = upstream.take();
    assert_eq!(requests.len(), 1);
    assert!(find(&requests[0], b"GET / HTTP/1.1").is_some());
}
